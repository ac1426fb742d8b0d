"""What tests of several folders share: one cluster of three nodes, in one process of the tests alone."""

import copyreg

import pytest

from .nodes import Nodes


def import_dask():
    """Skips the test where Dask is not there. It changes how errors are pickled, of which other tests know nothing."""
    before = dict(copyreg.dispatch_table)
    pytest.importorskip("distributed")
    copyreg.dispatch_table.clear()
    copyreg.dispatch_table.update(before)


@pytest.fixture(scope="session")
def three():
    """Three nodes of two threads: "a", with a GPU, "b" and "c". Nobody ends one of them."""
    import_dask()
    with Nodes() as nodes:
        nodes.add("a", resources={"GPU": 1})
        nodes.add("b")
        nodes.add("c")
        nodes.wait()
        yield nodes
