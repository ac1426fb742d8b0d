"""`supervisor.metrics`, as real scrapes over HTTP see it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Kill,
    Restart,
    RestartLimitExceeded,
    Supervisor,
    WorkerDied,
    WorkerStopped,
    WorkerTimeout,
)
from supervisor.metrics import METRICS, STOP_BUCKETS, register

from .. import inside
from ..waiting import LIMIT, until
from .scraping import OPENMETRICS, dies, fail, fail_as_worker, obey, scrape, scraped, spin, wait


@pytest.fixture
def registry():
    return CollectorRegistry()


# ------------------------------------------------------------------------------------------------ what is told


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_a_scrape_has_each_metric_with_its_type_its_help_and_its_labels(registry, accept):
    register(Supervisor("app"), registry=registry)
    got = scrape(registry, accept)
    assert {family.removesuffix("_total") for family in got.families} == {
        metric.name.removesuffix("_total") for metric in METRICS
    }
    for metric in METRICS:
        family = got.families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.type, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == {"supervisor", *metric.labels}
            assert all(sample.labels[label] in values for label, values in metric.labels.items())
            assert sample.value == 0 or metric.name == "supervisor_call_capacity"


def test_each_value_of_a_label_that_is_listed_can_occur(registry):
    register(Supervisor("app"), registry=registry)
    got = scrape(registry)
    for metric in METRICS:
        for label, values in metric.labels.items():
            seen = {sample.labels[label] for sample in got.families[metric.name.removesuffix("_total")].samples}
            assert seen == set(values), f"{metric.name}: {label}"


def test_names_have_their_unit_and_counters_end_in_total():
    for metric in METRICS:
        assert metric.name.startswith("supervisor_")
        assert metric.name.endswith("_total") == (metric.type == "counter")
        assert ("_seconds" in metric.name) == metric.help.startswith("Seconds ")


async def test_workers_are_there_by_kind_role_and_state_and_calls_that_wait(registry, leftovers):
    async with Supervisor("app", max_threads=1, max_processes=3) as sup:
        register(sup, registry=registry)
        await sup.start(wait, name="waiter")
        entered = threading.Event()
        calls = [asyncio.ensure_future(sup.run(lambda: entered.set() or leftovers.block()))]
        await asyncio.to_thread(entered.wait)
        calls += [asyncio.ensure_future(sup.run(int)) for _ in range(3)]
        await asyncio.sleep(0)
        got = await scraped(registry)
        assert got("supervisor_workers", kind="thread", role="worker", state="running") == 1
        assert got("supervisor_workers", kind="thread", role="call", state="running") == 1
        assert got("supervisor_workers", kind="thread", role="call", state="queued") == 3
        assert got.nonzero("supervisor_workers", "kind") == {"thread": 5}
        assert got("supervisor_queued_calls", kind="thread") == 3
        assert got("supervisor_call_capacity", kind="thread") == 1
        assert got("supervisor_call_capacity", kind="process") == 3
        assert got("supervisor_threads") == 2
        assert got("supervisor_stopping") == 0
        leftovers.release.set()
        await asyncio.gather(*calls)
    got = await scraped(registry)
    assert got.nonzero("supervisor_workers", "state") == {}
    assert (got("supervisor_threads"), got("supervisor_stopping")) == (0, 1)


async def test_the_oldest_call_that_runs_and_that_waits_is_there_by_pool(registry, leftovers):
    async with Supervisor("app", max_threads=1) as sup:
        register(sup, registry=registry)
        mail = sup.pool("mail", kind="thread")
        assert (await scraped(registry)).nonzero("supervisor_oldest_running_seconds", "pool") == {}
        entered = threading.Event()
        calls = [asyncio.ensure_future(sup.run(lambda: entered.set() or leftovers.block()))]
        await asyncio.to_thread(entered.wait)
        await asyncio.sleep(0.1)
        calls.append(asyncio.ensure_future(sup.run(int)))
        await asyncio.sleep(0.1)
        calls.append(asyncio.ensure_future(sup.run(int)))
        await mail.run(int)
        got = await scraped(registry)
        running = got("supervisor_oldest_running_seconds", pool="thread")
        waiting = got("supervisor_oldest_queued_seconds", pool="thread")
        assert 0.1 <= waiting <= running - 0.1 < LIMIT
        assert got("supervisor_oldest_running_seconds", pool="mail") == 0
        leftovers.release.set()
        await asyncio.gather(*calls)
    got = await scraped(registry)
    assert got.nonzero("supervisor_oldest_running_seconds", "pool") == {}
    assert got.nonzero("supervisor_oldest_queued_seconds", "pool") == {}


async def test_stalls_of_the_loop_are_counted_and_their_seconds_grow_meanwhile(registry, quiet):
    async with Supervisor("app", stall_after=0.1) as sup:
        register(sup, registry=registry)
        seconds, stalls = [0.0], []
        until_then = time.monotonic() + LIMIT
        while len(seconds) < 5 and time.monotonic() < until_then:  # the loop is blocked all the time
            time.sleep(0.05)
            got = scrape(registry)
            if got("supervisor_loop_stalls_total"):
                seconds.append(got("supervisor_loop_stalled_seconds_total"))
                stalls.append(got("supervisor_loop_stalls_total"))
        assert len(stalls) == 4
        assert len(set(stalls)) == 1
        assert seconds == sorted(set(seconds))
        await asyncio.sleep(0.3)
        got = await scraped(registry)
        assert seconds[-1] <= got("supervisor_loop_stalled_seconds_total") < LIMIT


async def test_workers_that_have_failed_for_good_are_counted_until_they_are_replaced(registry, quiet):
    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        await (await sup.start(lambda ctx: 1 / 0, name="poller")).wait()
        assert (await scraped(registry))("supervisor_failed_workers") == 1
        await sup.start(wait, name="poller")
        assert (await scraped(registry))("supervisor_failed_workers") == 0


async def test_each_end_is_counted_by_how_it_came(registry):
    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        loop = asyncio.get_running_loop()
        await sup.run(int)
        await loop.run_in_executor(sup.executor(), int)
        for failing in (sup.run(fail), loop.run_in_executor(sup.executor(), fail)):
            with pytest.raises(ValueError, match="no"):
                await failing
        with pytest.raises(WorkerTimeout):
            await sup.run(int, timeout=0)
        await stopped(sup)
        await (await sup.start(int, name="short")).wait()
        await (await sup.start(wait)).stop()
        got = await scraped(registry)
    calls = got.nonzero("supervisor_exits_total", "ended", role="call")
    assert calls == {"returned": 2, "failed": 2, "cancelled": 1, "stopped": 1}
    workers = got.nonzero("supervisor_exits_total", "ended", role="worker")
    assert workers == {"failed": 1, "stopped": 1}  # int(ctx) is a TypeError
    assert got.nonzero("supervisor_escalations_total", "step") == {"ask": 2}
    assert got("supervisor_stop_seconds_count", kind="thread") == 2


async def test_a_call_that_a_future_withdraws_is_counted(registry, leftovers):
    async with Supervisor("app", max_threads=1) as sup:
        register(sup, registry=registry)
        executor = sup.executor()
        entered = threading.Event()
        blocking = executor.submit(lambda: entered.set() or leftovers.block())
        await asyncio.to_thread(entered.wait)
        assert executor.submit(int).cancel()
        got = await scraped(registry)
        assert got.nonzero("supervisor_exits_total", "ended") == {"cancelled": 1}
        assert got.nonzero("supervisor_transitions_total", "state") == {"queued": 1, "ended": 1}
        leftovers.release.set()
        await asyncio.wrap_future(blocking)


async def stopped(sup):
    """A call that is stopped while it runs."""
    entered = threading.Event()
    call = asyncio.ensure_future(sup.run(lambda: entered.set() or obey()))
    await until(entered.is_set)
    await sup.workers()[-1].stop()
    with pytest.raises(WorkerStopped):
        await call


async def everything(sup):
    """Calls and workers that end in many ways."""
    loop = asyncio.get_running_loop()
    await sup.run(int)
    await loop.run_in_executor(sup.executor(), int)
    await asyncio.gather(sup.run(fail), loop.run_in_executor(sup.executor(), fail), return_exceptions=True)
    await stopped(sup)
    await asyncio.gather(sup.run(obey, timeout=0), return_exceptions=True)
    worker = await sup.start(wait)
    await worker.restart()
    await worker.stop()
    entered = threading.Event()
    worker = await sup.start(spin, entered, policy=EscalationPolicy(Ask(0.05), Inject(20)))
    await asyncio.to_thread(entered.wait)
    await worker.stop()
    await (await sup.start(fail_as_worker, restart=Restart("failure", max_restarts=2, backoff=0, within=600))).wait()


async def test_the_changes_of_calls_that_nobody_watches_are_those_that_a_watcher_sees(registry):
    async with Supervisor("app") as sup, Supervisor("watched") as watched:
        register(sup, registry=registry)
        register(watched, registry=registry)
        seen = watched.transitions()
        await everything(sup)
        await everything(watched)
        got = await scraped(registry)
    told = Counter([transition.new async for transition in seen if transition.old != transition.new])
    for name in ("app", "watched"):
        assert got.nonzero("supervisor_transitions_total", "state", supervisor=name) == told
    for metric in METRICS:
        if metric.type == "counter" and metric.labels:
            label = next(iter(metric.labels))
            ours, theirs = (got.nonzero(metric.name, label, supervisor=name) for name in ("app", "watched"))
            assert ours == theirs, metric.name
    assert told["running"] > 7


async def test_counting_has_no_call_watched(registry):
    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        call = asyncio.get_running_loop().run_in_executor(inside.loop_view(sup), int)
        assert not inside.is_watched(inside.run_of_call(call))
        await call


async def test_restarts_and_those_that_were_given_up_are_counted(registry):
    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        again = Restart("failure", max_restarts=2, backoff=0, within=600)
        await (await sup.start(fail_as_worker, restart=again)).wait()
        group = sup.group("feeds", restart=Restart("always", max_restarts=1, backoff=0, within=600))
        await group.start(fail_as_worker, restart=again)
        await until(lambda: group.report is not None)
        got = await scraped(registry)
    assert got("supervisor_restarts_total", role="worker") == 2 + 2 + 2
    assert got("supervisor_exhausted_total", role="worker") == 1  # the group's went with the group
    assert got("supervisor_restarts_total", role="group") == 1
    assert got("supervisor_exhausted_total", role="group") == 1
    assert got.nonzero("supervisor_exits_total", "ended") == {"failed": 3 + 3 + 3}


async def test_a_group_that_begins_anew_for_a_worker_leaves_nobody_given_up(registry):
    runs = []

    def fails_twice(ctx):
        runs.append(ctx)
        if len(runs) <= 2:
            fail()
        wait(ctx)

    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        group = sup.group("feeds", restart=Restart("always", backoff=0))
        await group.start(fails_twice, restart=Restart("failure", max_restarts=1, backoff=0, within=600))
        await until(lambda: len(runs) == 3)
        got = await scraped(registry)
    assert got("supervisor_restarts_total", role="group") == 1
    assert got.nonzero("supervisor_exhausted_total", "role") == {}


async def test_a_group_that_is_never_restarted_is_given_up_once(registry):
    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        group = sup.group("feeds", restart=Restart("never"))
        await group.start(fail_as_worker, restart=Restart("failure", max_restarts=0))
        await until(lambda: group.report is not None)
        got = await scraped(registry)
    assert got.nonzero("supervisor_exhausted_total", "role") == {"group": 1}


async def test_a_worker_that_takes_the_supervisor_with_it_is_given_up_once(registry):
    with pytest.raises(RestartLimitExceeded):
        async with Supervisor("app", on_exhausted="escalate") as sup:
            register(sup, registry=registry)
            await sup.start(fail_as_worker, restart=Restart("failure", max_restarts=0))
            await sup.wait_closed()
    assert (await scraped(registry)).nonzero("supervisor_exhausted_total", "role") == {"worker": 1}


async def test_the_last_run_of_a_worker_that_is_given_up_is_counted_as_it_ended(registry):
    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        restart = Restart("failure", max_restarts=1, backoff=0, within=600)
        worker = await sup.start(dies, kind="process", restart=restart)
        assert (await worker.wait()).ended == "failed"  # the worker, by its limit
        got = await scraped(registry)
    assert got.nonzero("supervisor_exits_total", "ended") == {"died": 2}


async def test_a_worker_that_is_stopped_between_two_runs_has_ended_once(registry):
    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        worker = await sup.start(fail_as_worker, restart=Restart("failure", backoff=30))
        await until(lambda: worker.state == "backing_off")
        await worker.stop()
        got = await scraped(registry)
    assert got.nonzero("supervisor_exits_total", "ended") == {"failed": 1}
    expected = {"running": 1, "backing_off": 1, "ended": 1}
    assert got.nonzero("supervisor_transitions_total", "state") == expected


async def test_what_raises_the_error_of_a_supervisor_within_it_is_not_given_up(registry):
    def raises(*_):
        raise RestartLimitExceeded("inner", 3, 5.0)

    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        await (await sup.start(raises)).wait()
        with pytest.raises(RestartLimitExceeded):
            await sup.run(raises)
        assert (await scraped(registry)).nonzero("supervisor_exhausted_total", "role") == {}


def test_steps_the_time_to_stop_and_abandoned_workers_are_counted(virtual, registry, leftovers):
    async def main(time):
        async with Supervisor("app", policy=EscalationPolicy(Ask(0.2), Inject(0.2))) as sup:
            register(sup, registry=registry)
            stopping = asyncio.ensure_future((await sup.start(leftovers.block)).stop())
            await time.advance(0.4)
            await stopping
            got = await scraped(registry)
            assert got.nonzero("supervisor_escalations_total", "step") == {"ask": 1, "inject": 1}
            assert got("supervisor_abandoned_workers", kind="thread") == 1
            assert got("supervisor_exits_total", kind="thread", role="worker", ended="abandoned") == 1
            assert got("supervisor_stop_seconds_sum", kind="thread") == pytest.approx(0.4, abs=0.001)
            assert got("supervisor_stop_seconds_bucket", kind="thread", le="0.25") == 0
            assert got("supervisor_stop_seconds_bucket", kind="thread", le="60.0") == 1
            assert got("supervisor_stop_seconds_bucket", kind="thread", le="+Inf") == 1
            leftovers.release.set()
            await until(lambda: not sup.statistics().abandoned)
            assert (await scraped(registry))("supervisor_abandoned_workers", kind="thread") == 0

    virtual(main)


async def test_processes_are_told_apart_from_threads(registry):
    async with Supervisor("app", max_processes=1) as sup:
        register(sup, registry=registry)
        await sup.run(int, kind="process")
        assert (await scraped(registry))("supervisor_processes") >= 1
        with pytest.raises(WorkerDied):
            await sup.run(os._exit, 3, kind="process")
        policy = EscalationPolicy(Ask(0.1), Kill(LIMIT))
        call = asyncio.ensure_future(sup.run(time.sleep, 60, kind="process", policy=policy))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        await sup.workers()[0].stop()
        with pytest.raises(WorkerStopped):
            await call
        got = await scraped(registry)
    assert got.nonzero("supervisor_exits_total", "ended", kind="process") == {"returned": 1, "died": 1, "killed": 1}
    assert got.nonzero("supervisor_escalations_total", "step", kind="process") == {"ask": 1, "kill": 1}
    assert got.nonzero("supervisor_exits_total", "ended", kind="thread") == {}


async def test_workers_and_calls_of_groups_count_for_their_supervisor(registry):
    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        async with sup.group("feeds") as feeds:
            await feeds.start(wait)
            await feeds.run(int)
            got = await scraped(registry)
            assert got("supervisor_workers", kind="thread", role="worker", state="running") == 1
            assert got("supervisor_exits_total", kind="thread", role="call", ended="returned") == 1


async def test_names_of_workers_are_in_no_label(registry):
    async with Supervisor("app") as sup:
        register(sup, registry=registry)
        await sup.run(int)  # the pool that it uses has labels of its own
        before = set((await scraped(registry)).samples)
        for number in range(20):
            await sup.run(int, name=f"call {number}")
            await (await sup.start(wait, name=f"worker {number}")).stop()
        assert set((await scraped(registry)).samples) == before


async def test_buckets_are_those_that_were_given(registry):
    async with Supervisor("app") as sup:
        register(sup, registry=registry, buckets=[30, 60.5])
        await (await sup.start(wait)).stop()
        got = await scraped(registry)
    assert got.nonzero("supervisor_stop_seconds_bucket", "le", kind="thread") == {"30.0": 1, "60.5": 1, "+Inf": 1}
    assert list(STOP_BUCKETS) == sorted(STOP_BUCKETS)


# ------------------------------------------------------------------------------------------------ from many threads


async def test_counts_are_exact_while_threads_submit_and_scrapes_run(registry):
    async with Supervisor("app", max_threads=4) as sup:
        register(sup, registry=registry)
        over = threading.Event()
        totals = []

        def scrapes():
            while not over.is_set():
                (exits,) = (family for family in registry.collect() if family.name == "supervisor_exits")
                totals.append(sum(sample.value for sample in exits.samples))

        def submits(executor):
            for future in [executor.submit(int) for _ in range(500)]:
                future.result(30)

        scraping = asyncio.create_task(asyncio.to_thread(scrapes))
        await asyncio.gather(*(asyncio.to_thread(submits, sup.executor()) for _ in range(3)))
        await asyncio.gather(*(sup.run(int) for _ in range(500)))
        over.set()
        await scraping
        got = await scraped(registry)
    assert got.nonzero("supervisor_exits_total", "ended") == {"returned": 2000}
    assert got.nonzero("supervisor_transitions_total", "state") == dict.fromkeys(("queued", "running", "ended"), 2000)
    assert totals == sorted(totals)
    assert totals


async def test_calls_that_a_shutdown_ends_are_counted(registry, leftovers):
    async with Supervisor("app", max_threads=1) as sup:
        register(sup, registry=registry)
        entered = threading.Event()
        calls = [asyncio.ensure_future(sup.run(lambda: entered.set() or obey()))]
        await asyncio.to_thread(entered.wait)
        calls += [asyncio.ensure_future(sup.run(int)) for _ in range(3)]
        await asyncio.sleep(0)
    assert all(isinstance(call.exception(), WorkerStopped) for call in calls)
    got = await scraped(registry)
    assert got.nonzero("supervisor_exits_total", "ended") == {"stopped": 1, "cancelled": 3}
    expected = {"queued": 4, "running": 1, "stopping": 1, "ended": 4}
    assert got.nonzero("supervisor_transitions_total", "state") == expected


async def test_what_cannot_be_counted_is_logged_once_and_harms_nobody(registry, events):
    async with Supervisor("app") as sup, Supervisor("other") as other:
        register(sup, registry=registry)
        register(other, registry=registry)
        inside.break_counters(sup, other)
        worker = await sup.start(wait)
        assert (await worker.stop()).ended == "stopped"
        assert await sup.run(int) == 0
        executor = other.executor()
        assert [await asyncio.get_running_loop().run_in_executor(executor, int) for _ in range(3)] == [0, 0, 0]
    failed = [event for event in events if event["event"] == "supervisor.counting_failed"]
    assert {event["supervisor"] for event in failed} == {"app", "other"}
    assert len(failed) == 2
    for event in failed:
        event["exc_info"] = type(event["exc_info"])  # its frames hold files open
    assert {event["exc_info"] for event in failed} == {TypeError}


async def test_a_call_that_nobody_logs_and_that_cannot_be_counted_is_resolved(registry):
    async with Supervisor("app", logger=Silent()) as sup:
        register(sup, registry=registry)
        inside.break_counters(sup)
        assert await sup.run(int) == 0
        assert not inside.counters(sup)
        assert await sup.run(int) == 0


class Silent:
    """A logger that wants errors alone."""

    def isEnabledFor(self, level):  # noqa: N802
        return level >= 40

    def error(self, *_, **__):
        pass

    debug = info = warning = error


async def test_each_pool_has_its_numbers_by_its_name(registry, leftovers):
    def value(name, pool="mail", **labels):
        return registry.get_sample_value(f"supervisor_pool_{name}", {"supervisor": "app", "pool": pool, **labels})

    def of_threads(name, **labels):
        return registry.get_sample_value(f"supervisor_{name}", {"supervisor": "app", "kind": "thread", **labels})

    sup = Supervisor("app", max_threads=3)
    register(sup, registry=registry)
    lane = sup.pool("mail", kind="thread", size=1)
    assert (value("call_capacity"), value("call_capacity", pool="thread")) == (1, None)
    assert (value("exits_total", ended="returned"), value("running_calls", pool="process")) == (0, 0)
    async with sup:
        await lane.run(abs, -1)
        await sup.run(abs, -1)
        calls = [asyncio.create_task(lane.run(leftovers.block)) for _ in range(3)]
        await until(lambda: lane.statistics().running == 1)
        assert (value("running_calls"), value("queued_calls"), value("alive"), value("unready")) == (1, 2, 1, 0)
        assert (value("exits_total", ended="returned"), value("queued_calls", pool="thread")) == (1, 0)
        assert (of_threads("queued_calls"), of_threads("call_capacity")) == (2, 4)
        assert of_threads("exits_total", role="call", ended="returned") == 2
        leftovers.release.set()
        await asyncio.gather(*calls)
    assert value("exits_total", ended="returned") == 4
