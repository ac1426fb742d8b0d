"""What the tests of the default executor share as fixtures."""

import asyncio

import pytest

from .default_executors import FACTORIES


@pytest.fixture(params=FACTORIES)
def runner(request):
    """Runs coroutines on each sort of event loop, and ends it as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=FACTORIES[request.param]) as runner:
        yield runner
