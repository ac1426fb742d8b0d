"""The service that drains, as a process of its own: it loses no job that it has taken, unless a second signal comes."""

import re
import subprocess
import sys

import pytest

from tests.examples.servers import EXAMPLES, example

SIGNALLED = """
import signal

run, taken = supervisor.Supervisor.run, []

async def counted(sup, *args, **options):
    taken.append(None)
    if len(taken) == {jobs}:
        os.kill(os.getpid(), signal.SIGTERM)
    return await run(sup, *args, **options)

supervisor.Supervisor.run = counted
"""
"""Has it send itself a signal when it has taken so many jobs: after some seconds it is chance how many there are."""

AGAIN = """
import threading

def again(logger, method, event):
    if event["event"] == "supervisor.stopping":
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    return event

structlog.configure(processors=[again, structlog.dev.ConsoleRenderer()])
"""
"""And a second one soon after the shutdown has begun."""


def stopped(jobs: int, more: str = "") -> tuple[int, int, str]:
    """Runs it until it has taken so many jobs; returns how many it took and did, and what it printed."""
    command = [sys.executable, *example(EXAMPLES / "job_queue.py", before=SIGNALLED.format(jobs=jobs) + more)]
    service = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    out = service.stdout
    assert service.returncode == 0
    found = re.search(r"(\d+) jobs taken, (\d+) done", out)
    assert found is not None, out
    return int(found[1]), int(found[2]), out


@pytest.mark.timeout(90)
def test_it_ends_all_jobs_that_it_has_taken() -> None:
    taken, done, out = stopped(60)
    assert done == taken > 0
    assert "cancelled" not in out


@pytest.mark.timeout(90)
def test_a_second_signal_withdraws_those_that_wait() -> None:
    taken, done, out = stopped(120, AGAIN)
    assert 0 < done < taken
    assert "cancelled" in out
