"""Each test of this folder runs on threads and in processes, here and on a cluster: what is promised holds for all."""

import asyncio
import time

import pytest

from supervisor.testing import VirtualTime

from .clustered import DIFFERENT, ON_CLUSTER, Clustered
from .functions import Board

KINDS = ["thread", "process"]
CLUSTERED = [pytest.param(where, marks=pytest.mark.xdist_group("cluster")) for where in ON_CLUSTER]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "/contract/" not in str(item.path) or not any(where in item.name for where in ON_CLUSTER):
            continue
        name = item.originalname
        # Set up before what looks whether a test leaves anything behind. The list is that of the tests elsewhere, too.
        item.fixturenames = ["three", *item.fixturenames]
        why = DIFFERENT.get(name) or DIFFERENT.get(item.path.name)
        if why is not None:
            item.add_marker(pytest.mark.skip(reason=why))
        item.add_marker(pytest.mark.slow)


@pytest.fixture(params=[*KINDS, *CLUSTERED])
def where(request):
    """Which kind a test is for, and whether it runs on a cluster."""
    return request.param


@pytest.fixture
def kind(where, request, monkeypatch):
    if where in ON_CLUSTER:
        monkeypatch.setattr(Clustered, "address", request.getfixturevalue("three").address)
        monkeypatch.setattr(request.module, "Supervisor", Clustered)
    return where.removeprefix("cluster-")


class RealTime:
    """Passes by itself."""

    @property
    def now(self):
        return time.monotonic()

    async def advance(self, seconds):
        await asyncio.sleep(seconds)


@pytest.fixture
def ladder_time(where):
    """The time of ladders, which a test moves; on a cluster it is the real one, as nodes climb them."""
    if where in ON_CLUSTER:
        yield RealTime()
    else:
        with VirtualTime() as virtual:
            yield virtual


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)
