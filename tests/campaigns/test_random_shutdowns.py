"""Random populations that are shut down in random ways: in time, and with a report that is true."""

import asyncio
import time

import pytest
import structlog

from ..waiting import LIMIT
from .populations import contended, one_shutdown


@pytest.fixture
def given_up_at():
    """When each worker was abandoned, by its name."""
    moments = {}

    def note(logger, method, event):
        if event.get("ended") == "abandoned":
            moments[event["worker"]] = time.monotonic()
        raise structlog.DropEvent

    structlog.configure(processors=[note])
    return moments


@pytest.mark.slow
@pytest.mark.supervisor(may_leak=True)  # threads that are abandoned end a moment later
@pytest.mark.parametrize("hundred", range(3))
def test_no_shutdown_is_late_and_no_report_untrue(given_up_at, hundred):
    wrong = {}
    for seed in range(100 * hundred, 100 * hundred + 100):
        late, found, report = asyncio.run(one_shutdown(seed, given_up_at, is_exact=True))
        if late > 0.25 and not contended():
            found.append(f"it was {late:.3f} s late")
        if found:
            wrong[seed] = [*found, report]
        time.sleep(0.05)  # abandoned threads end
    assert not wrong


@pytest.mark.parametrize("seed", [4, 32, 53])
def test_some_of_them(given_up_at, seed):
    late, found, report = asyncio.run(one_shutdown(seed, given_up_at))
    assert not found, report
    assert late < LIMIT
