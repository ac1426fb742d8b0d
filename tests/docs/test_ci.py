"""What CI gets for the tests: the script installs what is missing where it may, and goes on where it may not."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEBIAN = "\nID=debian\n" in "\n" + (Path("/etc/os-release").read_text() if os.path.exists("/etc/os-release") else "")
TOOLS = ("bash", "grep", "timeout", "cat", "env", "ln", "chmod")

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")


@pytest.fixture
def machine(tmp_path):
    """A machine that has only a few programs: a function that runs the script there, and what was asked of apt-get."""
    programs, asked = tmp_path / "bin", tmp_path / "asked"
    programs.mkdir()
    asked.touch()
    for tool in TOOLS:
        (programs / tool).symlink_to(shutil.which(tool))

    def program(name, text):
        (programs / name).write_text(f"#!{shutil.which('bash')}\n{text}\n")
        (programs / name).chmod(0o755)

    def run(user, *, has=(), apt=f'echo "$@" >>{asked}', script="browser"):
        program("id", f"echo {user}")
        program("apt-get", apt)
        for name in has:
            program(name, "")
        done = subprocess.run(
            [ROOT / ".ci" / script],
            env={"PATH": str(programs)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        return done.stderr, asked.read_text()

    return run


def test_a_machine_that_has_all_is_left_alone(machine):
    assert machine(0, has=("chromium", "tmux", "valgrind")) == ("", "")


def test_who_is_not_root_is_told_what_is_missing(machine):
    said, asked = machine(1000, has=("tmux",))
    assert "going on without chromium" in said
    assert "tmux" not in said
    assert asked == ""


@pytest.mark.skipif(not DEBIAN, reason="needs Debian")
def test_root_on_debian_gets_what_is_missing_and_nothing_else(machine):
    said, asked = machine(0, has=("tmux",))
    assert asked.splitlines()[0] == "update -qq"
    assert asked.splitlines()[1].endswith("fonts-dejavu-core chromium valgrind")
    assert "installing chromium" in said


@pytest.mark.skipif(not DEBIAN, reason="needs Debian")
def test_an_installation_that_fails_ends_nothing(machine):
    said, _ = machine(0, apt="exit 100")
    assert "that has failed" in said
    assert "going on without chromium tmux valgrind" in said


@pytest.mark.parametrize("script", ["browser", "broker"])
def test_ci_calls_it_and_it_names_no_place_to_get_things_from(script):
    assert f"\n.ci/{script}\n" in (ROOT / ".ci" / "run").read_text()
    assert "://" not in (ROOT / ".ci" / script).read_text()


def test_a_machine_that_has_a_broker_is_left_alone(machine):
    assert machine(0, has=("redis-server",), script="broker") == ("", "")


def test_who_is_not_root_is_told_that_the_broker_is_missing(machine):
    said, asked = machine(1000, script="broker")
    assert "going on without redis-server" in said
    assert asked == ""


@pytest.mark.skipif(not DEBIAN, reason="needs Debian")
def test_root_on_debian_gets_the_broker(machine):
    said, asked = machine(0, script="broker")
    assert asked.splitlines()[1].endswith("redis-server")
    assert "installing redis-server" in said
