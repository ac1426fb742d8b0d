"""What the command line imports, and what it is called."""

import sys
import tomllib
from importlib import import_module

from ..inside import COMMANDS
from ..programs import ROOT, run_program


def test_a_command_is_found_in_the_module_of_its_name_and_the_help_names_all():
    said = run_program(sys.executable, "-m", "supervisor", "--help").stdout
    for name in COMMANDS:
        assert f"\n    {name} " in said


def test_what_the_installed_command_calls_is_there():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["stopladder"].partition(":")
    assert callable(getattr(import_module(module), name))


def test_no_command_is_an_error_of_one_line_and_the_usage():
    done = run_program(sys.executable, "-m", "supervisor", "pss")
    assert done.returncode == 2
    assert "invalid choice: 'pss'" in done.stderr
