"""The six ways to end a thread, as a process of its own: each ends as it says, and the process by itself."""

import subprocess
import sys

import pytest

from tests.examples.servers import EXAMPLES, example

EXAMPLE = example(EXAMPLES / "six_ways.py")


@pytest.mark.timeout(180)
def test_each_way_is_told_in_a_line_and_the_one_that_sleeps_on_does_not_hold_the_exit() -> None:
    done = subprocess.run([sys.executable, *EXAMPLE], capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(maxsplit=2) for line in done.stdout.splitlines()] == [
        ["flag", "stopped", "after ask"],
        ["event", "stopped", "after ask"],
        ["daemon_thread", "abandoned", "after inject"],
        ["sys_exit", "returned", "by itself"],
        ["exception_by_ctypes", "injected", "after inject"],
        ["terminate", "terminated", "after terminate"],
    ]
