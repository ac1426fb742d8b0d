"""What the tests of runs on a cluster share: one cluster of three nodes, in one process of the tests alone."""

import pytest

from .fixtures import import_dask
from .nodes import Nodes


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/cluster/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture
def nodes():
    """A cluster of the test's own, without nodes."""
    import_dask()
    with Nodes() as own:
        yield own


@pytest.fixture(params=["thread", "process"])
def kind(request):
    return request.param
