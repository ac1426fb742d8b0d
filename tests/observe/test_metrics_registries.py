"""`supervisor.metrics` and its registries: who is registered where, under which name, and in several processes."""

from __future__ import annotations

import subprocess
import sys

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry

from supervisor import (
    Supervisor,
)
from supervisor.metrics import register, unregister

from .. import inside
from .scraping import scrape, scraped


@pytest.fixture
def registry():
    return CollectorRegistry()


async def test_several_supervisors_share_a_registry(registry):
    async with Supervisor("app") as one, Supervisor("other") as other:
        register(one, registry=registry)
        register(other, registry=registry)
        await one.run(int)
        for _ in range(2):
            await other.run(int)
        got = await scraped(registry)
        labels = {"kind": "thread", "role": "call", "ended": "returned"}
        assert got("supervisor_exits_total", **labels) == 1
        assert got("supervisor_exits_total", supervisor="other", **labels) == 2
        unregister(other, registry=registry)
        assert (await scraped(registry)).nonzero("supervisor_call_capacity", "supervisor").keys() == {"app"}
        assert not inside.counters(other)


async def test_registering_again_changes_nothing(registry):
    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        await sup.run(int)
        register(sup, registry=registry)
        await sup.run(int)
        assert len(inside.counters(sup)) == 1
        got = await scraped(registry)
        assert got("supervisor_exits_total", kind="thread", role="call", ended="returned") == 2


async def test_two_registries_count_apart(registry):
    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        await sup.run(int)
        later = CollectorRegistry()
        register(sup, registry=later)
        await sup.run(int)
        unregister(sup, registry=registry)
        assert (await scraped(later)).nonzero("supervisor_exits_total", "ended") == {"returned": 1}
    assert (await scraped(registry)).samples == {}


async def test_the_default_registry_is_that_of_prometheus_client():
    sup = Supervisor("in the default registry")
    register(sup)
    try:
        labels = {"supervisor": sup.name}
        assert prometheus_client.REGISTRY.get_sample_value("supervisor_threads", labels) == 0
    finally:
        unregister(sup)
    assert prometheus_client.REGISTRY.get_sample_value("supervisor_threads", labels) is None


async def test_a_name_is_free_again_once_its_supervisor_has_shut_down(registry):
    async with Supervisor("app") as first:
        register(first, registry=registry)
        with pytest.raises(ValueError, match="is registered under this name"):
            register(Supervisor("app"), registry=registry)
        await first.run(int)
    assert (await scraped(registry)).nonzero("supervisor_exits_total", "ended") == {"returned": 1}
    async with Supervisor("app") as second:
        register(second, registry=registry)
        got = await scraped(registry)
        assert got.nonzero("supervisor_exits_total", "ended") == {}
        assert got("supervisor_stopping") == 0
        assert not inside.counters(first)


def test_what_is_not_registered_cannot_be_unregistered(registry):
    sup = Supervisor("app")
    with pytest.raises(KeyError, match="not registered"):
        unregister(sup, registry=registry)
    register(Supervisor("app"), registry=registry)
    with pytest.raises(KeyError, match="not registered"):
        unregister(sup, registry=registry)


async def test_a_group_is_refused_by_name(registry):
    async with Supervisor("app") as sup:
        with pytest.raises(ValueError, match=r"'feeds'.*is a group"):
            register(sup.group("feeds"), registry=registry)


@pytest.mark.parametrize(
    ("arguments", "error", "field"),
    [
        ({"sup": "app"}, TypeError, "sup='app'"),
        ({"registry": {}}, TypeError, "registry={}"),
        ({"buckets": ["1"]}, TypeError, "buckets="),
        ({"buckets": [True]}, TypeError, "buckets="),
        ({"buckets": []}, ValueError, "buckets="),
        ({"buckets": [0, 1]}, ValueError, "buckets="),
        ({"buckets": [2, 1]}, ValueError, "buckets="),
        ({"buckets": [1, float("inf")]}, ValueError, "buckets="),
        ({"buckets": [1, float("nan")]}, ValueError, "buckets="),
    ],
)
def test_bad_arguments_are_refused_by_name(registry, arguments, error, field):
    sup = arguments.pop("sup", None) or Supervisor("app")
    with pytest.raises(error, match=field):
        register(sup, **{"registry": registry, **arguments})
    assert list(registry.collect()) == []


def test_a_name_that_another_metric_has_is_refused_and_nothing_is_registered(registry):
    taken = prometheus_client.Gauge("supervisor_threads", "of somebody else", registry=registry)
    sup = Supervisor("app")
    with pytest.raises(ValueError, match="Duplicated"):
        register(sup, registry=registry)
    assert not inside.counters(sup)
    registry.unregister(taken)
    register(sup, registry=registry)
    assert scrape(registry)("supervisor_threads") == 0


# ------------------------------------------------------------------------------------------------ other processes


def test_multiprocess_mode_needs_a_registry_of_ones_own(registry, monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    sup = Supervisor("app")
    with pytest.raises(RuntimeError, match="PROMETHEUS_MULTIPROC_DIR is set"):
        register(sup)
    assert not inside.counters(sup)
    register(sup, registry=registry)
    assert scrape(registry)("supervisor_threads") == 0


FORKS = """
import asyncio, os
from prometheus_client import REGISTRY
from supervisor import Supervisor
from supervisor.metrics import register

async def main():
    async with Supervisor("app") as sup:
        register(sup)
        assert REGISTRY.get_sample_value("supervisor_stopping", {"supervisor": "app"}) == 0
        child = os.fork()
        if child == 0:
            os._exit(REGISTRY.get_sample_value("supervisor_stopping", {"supervisor": "app"}) is not None)
        print("told of:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

asyncio.run(main())
"""


def test_a_supervisor_that_a_fork_has_copied_is_told_of_where_it_is():
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "told of: 0\n", done.stderr


def test_the_extra_is_named_where_it_is_missing_and_the_library_does_without():
    script = """if True:
        import sys
        import supervisor
        supervisor.Supervisor()
        assert "prometheus_client" not in sys.modules
        sys.modules["prometheus_client"] = None
        import supervisor.metrics
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (
        "ImportError: supervisor.metrics needs prometheus-client: install the extra stopladder[metrics]" in done.stderr
    )
