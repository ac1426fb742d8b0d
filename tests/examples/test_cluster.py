"""The example on a cluster, as a process of its own: its worker goes on on another node, and signals leave nothing."""

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
    from collections.abc import Iterator

pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.xdist_group("cluster")]

ROOT = Path(__file__).parents[2]
LIMIT = 60.0
MARK = "STOPLADDER_TEST_OF_CLUSTER"


@contextmanager
def started(mark: str) -> Iterator[subprocess.Popen[str]]:
    """Starts the example, and sees to it that none of its processes outlives it."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", ROOT / "examples" / "cluster.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, MARK: mark, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()
    until = time.monotonic() + LIMIT
    while (left := offspring(mark)) and time.monotonic() < until:
        time.sleep(0.02)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"left behind: {left}"


def offspring(mark: str) -> dict[int, str]:
    """Returns the processes that have inherited this run's environment, with their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if f"{MARK}={mark}\0".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def test_a_worker_goes_on_when_its_node_is_killed_and_a_call_does_not(tmp_path: Path) -> None:
    with started(tmp_path.name) as service:
        out = service.communicate(timeout=LIMIT)[0]
    assert service.returncode == 0, out
    assert "pi is about 3.1" in out
    assert "as expected: worker 'waiter' died with its node" in out
    assert "the follower goes on" in out
    assert re.search(r"^spinner +thread +injected", out, re.MULTILINE), out
    assert "worker.irreplaceable" not in out, "the ladder on the node has what ends it"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("pause", [0.5, 1, 1.5, 2, 3])
def test_a_signal_ends_it_at_any_moment_and_leaves_nothing(tmp_path: Path, number: int, pause: float) -> None:
    with started(tmp_path.name) as service:
        assert service.stdout is not None
        if pause >= 1:
            while not service.stdout.readline().startswith("running"):
                assert service.poll() is None
        time.sleep(pause)
        service.send_signal(number)
        out = service.communicate(timeout=LIMIT)[0]
    if pause >= 1 and "stopped by a signal" not in out:
        assert "the follower goes on" in out, out  # it had done all before the signal came
