"""The service that drains, as a process of its own: it loses no job that it has taken, unless a second signal comes."""

import re
import signal
import subprocess
import sys
import time

import pytest

from tests.examples.servers import EXAMPLES, example

EXAMPLE = example(EXAMPLES / "job_queue.py")


def stopped(*pauses: float) -> tuple[int, int, str]:
    """Runs it, and sends SIGTERM after each pause; returns how many jobs it took and did, and what it printed."""
    with subprocess.Popen([sys.executable, *EXAMPLE], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline().startswith("running")
        for pause in pauses:
            time.sleep(pause)
            service.send_signal(signal.SIGTERM)
        out = service.communicate(timeout=60)[0]
    assert service.returncode == 0
    found = re.search(r"(\d+) jobs taken, (\d+) done", out)
    assert found is not None, out
    return int(found[1]), int(found[2]), out


@pytest.mark.timeout(90)
def test_it_ends_all_jobs_that_it_has_taken() -> None:
    taken, done, out = stopped(1)
    assert done == taken > 0
    assert "cancelled" not in out


@pytest.mark.timeout(90)
def test_a_second_signal_withdraws_those_that_wait() -> None:
    taken, done, out = stopped(2, 0.3)
    assert 0 < done < taken
    assert "cancelled" in out
