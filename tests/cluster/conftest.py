"""What the tests of runs on a cluster share: one cluster of three nodes, in one process of the tests alone."""

import pytest

from .fixtures import import_dask
from .nodes import Nodes

QUICK = {
    "test_cancelled.py",
    "test_channel.py",
    "test_in_short.py",
    "test_placing.py",
    "test_questions.py",
    "test_sessions.py",
    "test_struck_owners.py",
}
"""What needs no cluster, or has one of its own. All else is slow: each of its processes takes a second to start."""


@pytest.hookimpl(tryfirst=True)  # before those that are slow are left out
def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/cluster/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("cluster"))
            if item.path.name not in QUICK:
                item.add_marker(pytest.mark.slow)


@pytest.fixture
def nodes():
    """A cluster of the test's own, without nodes."""
    import_dask()
    with Nodes() as own:
        yield own


@pytest.fixture(params=["thread", "process"])
def kind(request):
    return request.param
