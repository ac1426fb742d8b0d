"""What the tests of the executors share as fixtures."""

import asyncio

import pytest

from supervisor import Supervisor

from .default_executors import FACTORIES
from .executors import PATIENT, Gatekeeper


@pytest.fixture(params=FACTORIES)
def runner(request):
    """Runs coroutines on each sort of event loop, and ends it as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=FACTORIES[request.param]) as runner:
        yield runner


@pytest.fixture(params=["quiet", "logged", "listened"])
async def sup(request):
    """A supervisor with two threads: with nobody who watches its calls, with debug logs, with a listener."""
    if request.param == "logged":
        request.getfixturevalue("events")
    async with Supervisor("pool", max_threads=2, policy=PATIENT, shutdown_timeout=5) as supervisor:
        listener = supervisor.transitions() if request.param == "listened" else None
        yield supervisor
    del listener


@pytest.fixture
def ex(sup):
    return sup.executor()


@pytest.fixture
def gatekeeper():
    keeper = Gatekeeper()
    yield keeper
    keeper.open.set()
