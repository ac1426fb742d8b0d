"""A few of the tests on a cluster, each time: all of them are a long campaign."""

import importlib.util
import sys

import pytest

from ..programs import run_program

FEW = [
    "test_runs.py::test_a_call_runs_on_a_node",
    "test_runs.py::test_an_error_comes_as_it_is_with_the_traceback_of_the_node",
    "test_runs.py::test_a_spin_is_ended_by_its_ladder_on_the_node",
    "test_runs.py::test_a_process_that_dies_there_is_said_to_have_died",
    "test_loop_calls.py::test_a_stop_by_the_owner_lets_clean_up_call",
    "test_pools.py::test_it_is_not_ready_where_an_initializer_fails_and_says_why",
    "test_pools.py::test_its_size_holds_over_all_nodes_and_can_be_changed",
]


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")
@pytest.mark.timeout(300)
def test_a_few_on_a_real_cluster():
    """In a process of their own: Dask changes how errors are pickled, and the cluster's processes are its children."""
    few = [f"tests/cluster/{each}" for each in FEW]
    options = ["-q", "-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider"]
    done = run_program(sys.executable, "-m", "pytest", *options, *few, timeout=280, PYTEST_ADDOPTS="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 passed" in done.stdout
