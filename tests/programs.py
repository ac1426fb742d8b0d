"""Runs programs beside the tests: scripts, and modules that print what they have found."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["found_by", "run_program"]

ROOT = Path(__file__).parents[1]


def run_program(
    *command: object, cwd: Path = ROOT, text: str | None = None, timeout: float = 120, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Runs a program that finds the library as the tests do; returns how it ended, and what it printed.

    Args:
        *command: The program, and its arguments.
        cwd: Its folder.
        text: What it reads from its standard input; None: that of the tests.
        timeout: Seconds that it has.
        **environ: What its environment has besides that of the tests.
    """
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def found_by(module: str, *args: object, timeout: float = 3000) -> tuple[dict[str, Any], str]:
    """Runs a module of the tests; returns the JSON of the last line that it printed, and what it wrote as errors."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.stdout, (done.returncode, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(found)
    return found, done.stderr
