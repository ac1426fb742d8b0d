"""Syntax trees in processes, as a process of its own: what explodes is ended, the rest arrives, nothing stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(180)

EXAMPLE = Path(__file__).parents[2] / "examples" / "syntax_trees.py"
FILES = 12
LIMIT = 100.0
MARK = "STOPLADDER_TEST_OF_SYNTAX_TREES"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number in range(FILES):
        (tmp_path / f"d{number % 3}").mkdir(exist_ok=True)
        (tmp_path / f"d{number % 3}" / f"m{number}.py").write_text("def f(x):\n    return x\n" * (number + 1))
    (tmp_path / "not_python.py").write_text("def (:\n")
    return tmp_path


@contextmanager
def started(tree: Path, timeout: str) -> Iterator[subprocess.Popen[str]]:
    """Starts the example, and sees to it that none of its processes outlives it."""
    command = [sys.executable, EXAMPLE, tree, "--timeout", timeout]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, MARK: str(tree), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
    until = time.monotonic() + LIMIT
    while (left := offspring(tree)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not left, f"left behind: {left}"


def offspring(tree: Path) -> dict[int, str]:
    """Returns the processes that have inherited this run's environment, with their command lines."""
    mark = f"{MARK}={tree}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode()
        except OSError:  # it has ended, or is another user's
            continue
    return found


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def busy(tree: Path, of: int) -> int:
    """Returns how many processes of a run work on what explodes: to come up takes less."""
    found = 0
    for pid in offspring(tree).keys() - {of}:
        with suppress(OSError):
            user_time = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
            found += user_time / os.sysconf("SC_CLK_TCK") > 1.5
    return found


def wait_for(process: subprocess.Popen[str], pattern: str) -> str:
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if re.search(pattern, line):
            return output
    raise AssertionError(f"ended without {pattern!r}:\n{output}")


def test_what_explodes_is_ended_and_named_and_the_others_have_results(tree: Path) -> None:
    with started(tree, "5") as process:  # far more than any that does not explode takes, on a busy machine too
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert re.search(r"^  backtrack\(a+b\): (injected|terminated) after 5 s and the ladder$", output, re.MULTILINE)
    assert re.search(r"^  power\(9\): (injected|terminated) after 5 s and the ladder$", output, re.MULTILINE)
    assert re.search(r"^  add_up\(10{13}\): (terminated|killed) after 5 s and the ladder$", output, re.MULTILINE)
    assert re.search(r"^  analyse\(.*not_python\.py\): SyntaxError: ", output, re.MULTILINE)
    assert re.search(rf"^{FILES} analysed, 4 not, 0 left$", output, re.MULTILINE)
    assert re.search(r"^ +24 +73 +12  .*m11\.py$", output, re.MULTILINE)
    assert "nothing was running" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_all", [False, True], ids=["to it alone", "to every process of its"])
def test_a_signal_while_inputs_explode_ends_it_with_a_report(tree: Path, number: signal.Signals, to_all: bool) -> None:
    with started(tree, "1000") as process:
        output = wait_for(process, "inputs, 3 of them explode")
        until(lambda: busy(tree, process.pid) >= min(2, len(os.sched_getaffinity(0))))
        if to_all:
            for pid in offspring(tree):
                with suppress(ProcessLookupError):  # it had nothing to do, and has been told to leave
                    os.kill(pid, number)
        else:
            process.send_signal(number)
        began_at = time.monotonic()
        rest, _ = process.communicate(timeout=60)
        took = time.monotonic() - began_at
    output += rest
    assert process.returncode == 128 + number, output
    assert took < 15, output
    assert re.search(rf"^shutdown \({number.name}\) took \d\.\d+ s: ", output, re.MULTILINE)
    assert re.search(r"^  backtrack\(a+b\): (injected|terminated) by the shutdown$", output, re.MULTILINE)
    assert "Traceback" not in output


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_a_signal_while_processes_start_ends_it_with_a_report(tree: Path, moment: float) -> None:
    with started(tree, "1000") as process:
        output = wait_for(process, "inputs, 3 of them explode")
        time.sleep(moment)
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    output += rest
    assert process.returncode == 128 + signal.SIGTERM, output
    assert re.search(r"^shutdown \(SIGTERM\) took \d\.\d+ s: ", output, re.MULTILINE)
    assert "Traceback" not in output


def test_where_it_is_killed_its_processes_end_as_well(tree: Path) -> None:
    with started(tree, "1000") as process:
        wait_for(process, "inputs, 3 of them explode")
        until(lambda: len(offspring(tree)) >= 2)  # itself and at least one worker
        process.kill()
