"""Random deaths of nodes, schedulers, owners and workers: no call is left unresolved, and none is run twice."""

import pytest

from ..programs import found_by

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.mark.slow
@pytest.mark.parametrize("ten", range(20))
def test_no_call_is_unresolved_none_is_run_twice_and_no_process_is_left(ten):
    pytest.importorskip("distributed")
    found, errors = found_by("tests.campaigns.deaths", ten, ten + 1)
    assert found["deaths"] >= 5, errors
    assert not found["wrong"], errors
