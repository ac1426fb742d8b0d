"""The interpreter ends with its own status, whatever an abandoned thread has taken."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STUCK = (
    "input", "stdin", "stdin.buffer", "stdout", "stdout.buffer", "stderr", "text", "data", "reading", "logging",
)  # fmt: skip


@pytest.mark.parametrize("what", STUCK)
@pytest.mark.parametrize("how", ["start", "run"])
def test_the_program_ends_with_its_own_status(what, how):
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.kinds.threads.leaving", what, how],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        status = child.wait(50)  # without reading: its pipes fill up
    finally:
        child.kill()
        _, errors = child.communicate()
    assert status == 3, errors.decode()[-1000:]
