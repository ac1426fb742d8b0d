"""`await pool.shutdown()`: one pool ends alone, with its calls of all groups; the others go on."""

import asyncio
import threading
import time

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Supervisor,
    SupervisorClosed,
    WorkerStopped,
    current_context,
)

from .. import inside
from ..waiting import LIMIT, until

KINDS = ("thread", "process")
CLOSED = "pool 'lane' of supervisor 'app' is shutting down, or has shut down"


@pytest.fixture
def release():
    gate = threading.Event()
    yield gate
    gate.set()


def current_stop():
    return current_context().stop.wait()


def once_begun(begun, number):
    """Returns that once there is a file that says that the shutdown has begun."""
    while not begun.exists():
        time.sleep(0.005)
    return number


def nap(seconds):
    time.sleep(seconds)
    return seconds


@pytest.mark.parametrize("kind", KINDS)
async def test_its_calls_drain_and_those_of_others_never_notice(kind, release, tmp_path):
    begun = tmp_path / "begun"
    async with Supervisor("app", shutdown_timeout=80) as sup:
        lane = sup.pool("lane", kind=kind, size=2)
        inside_group = sup.group("feeds")
        other = asyncio.ensure_future(sup.run(release.wait, 60))
        calls = [asyncio.ensure_future(lane.run(once_begun, begun, 1)) for _ in range(10)]
        calls.append(asyncio.ensure_future(inside_group.run(once_begun, begun, 1, pool="lane")))
        futures = [lane.executor().submit(once_begun, begun, 1) for _ in range(5)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(lane.shutdown(drain=50))
        await asyncio.sleep(0)
        begun.touch()
        report = await closing
        assert await asyncio.gather(*calls) == [1] * 11
        assert [future.result(0) for future in futures] == [1] * 5
        assert report.counts() == {"returned": 16}
        assert report.clean
        assert not other.done()
        release.set()
        assert await other
    assert sup.report.counts() == {}


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_drain_what_waits_is_withdrawn_and_what_runs_climbs_its_ladder(kind):
    async with Supervisor("app", policy=EscalationPolicy(Ask(30))) as sup:
        lane = sup.pool("lane", kind=kind, size=1)
        calls = [asyncio.ensure_future(lane.run(current_stop)) for _ in range(3)]
        await until(lambda: sorted(worker.state for worker in sup.workers()) == ["queued", "queued", "running"])
        report = await lane.shutdown(reason="deploy")
        assert report.counts() == {"stopped": 1, "cancelled": 2}
        assert (report.reason, report.never_started) == ("deploy", 2)
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in ended] == [bool, WorkerStopped, WorkerStopped]


async def test_new_calls_are_refused_by_an_error_that_names_the_pool(release):
    async with Supervisor("app") as sup:
        lane = sup.pool("lane", kind="thread")
        executor = lane.executor()
        call = asyncio.ensure_future(lane.run(release.wait, 10))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(lane.shutdown(drain=10))
        await asyncio.sleep(0)
        for again in (False, True):
            for refused in (
                lambda: lane.run(int),
                lambda: sup.run(int, pool=lane),
                lambda: asyncio.to_thread(executor.submit, int),
                lane.ready,
            ):
                with pytest.raises(SupervisorClosed, match=CLOSED):
                    await refused()
            for refused in (lane.executor, lambda: executor.submit(int), lambda: lane.resize(3)):
                with pytest.raises(SupervisorClosed, match=CLOSED):
                    refused()
            if not again:
                with pytest.raises(SupervisorClosed, match=CLOSED):
                    await sup.run(int, pool="lane")
                with pytest.raises(ValueError, match="has a pool of this name"):
                    sup.pool("lane", kind="thread")
                release.set()
                await closing
        assert await call
        with pytest.raises(ValueError, match="has no pool of this name"):
            await sup.run(int, pool="lane")
        assert "shut down" in repr(lane)
        assert await sup.run(int) == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_its_threads_and_processes_end_and_its_name_is_free_again(kind):
    async with Supervisor("app") as sup:
        before = sup.statistics()
        for size in (1, 2, 3):
            lane = sup.pool("lane", kind=kind, size=size)
            old = lane.executor()
            assert await asyncio.gather(*(lane.run(nap, 0.01) for _ in range(4))) == [0.01] * 4
            assert (await lane.shutdown()).counts() == {}
            assert sup.statistics() == before
            assert lane.size == size
            again = sup.pool("lane", kind="thread")
            assert await again.run(int) == 0
            for refused in (lane.run(int), asyncio.to_thread(old.submit, int)):
                with pytest.raises(SupervisorClosed, match=CLOSED):
                    await refused
            await again.shutdown()
    assert inside.pools_left(sup) == ["thread"]


async def test_one_that_was_never_used_ends_at_once_and_before_a_loop_runs_it_may_be_made():
    sup = Supervisor("app")
    lane = sup.pool("lane", kind="process")
    async with sup:
        report = await lane.shutdown(5, drain=5)
        assert (report.counts(), report.clean) == ({}, True)
        assert await lane.shutdown() is report
        assert await sup.pool("lane", kind="thread").run(int) == 0


async def test_a_second_call_shares_the_report_and_shortens(release):
    async with Supervisor("app", policy=EscalationPolicy(Ask(30))) as sup:
        lane = sup.pool("lane", kind="thread")
        call = asyncio.ensure_future(lane.run(current_stop))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        first = asyncio.ensure_future(lane.shutdown(60, drain=30))
        await asyncio.sleep(0.02)
        assert not call.done()
        report = await lane.shutdown(timeout=5)
        assert await call
        assert await first is report is await lane.shutdown()


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_takes_a_call_that_waits_however_many_wait(kind, tmp_path):
    async with Supervisor("app", policy=EscalationPolicy(Ask(30))) as sup:
        lane = sup.pool("lane", kind=kind, size=1)
        running = asyncio.ensure_future(lane.run(current_stop))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        waiting = [asyncio.ensure_future(lane.run((tmp_path / str(number)).touch)) for number in range(1000)]
        await asyncio.sleep(0)
        report = await lane.shutdown()
        assert await running
        assert report.counts() == {"stopped": 1, "cancelled": 1000}
        assert {type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)} == {WorkerStopped}
        assert not list(tmp_path.iterdir())


def test_the_ladders_of_its_calls_shrink_into_its_time(virtual, events, leftovers):
    async def main(loop):
        async with Supervisor("app", policy=EscalationPolicy(Ask(60), Inject(20, every=100))) as sup:
            lane = sup.pool("lane", kind="thread")
            call = asyncio.ensure_future(lane.run(leftovers.block))
            await until(lambda: leftovers.entered)
            closing = asyncio.ensure_future(lane.shutdown(8))
            await loop.advance(0)
            await loop.advance(5.9)
            assert steps() == ["ask"]
            await loop.advance(0.2)
            assert steps() == ["ask", "inject"]
            await loop.advance(2)
            assert (await closing).counts() == {"abandoned": 1}
            assert isinstance(call.exception(), WorkerStopped)

    def steps():
        return [event["step"] for event in events if event["event"] in ("worker.stopping", "worker.escalated")]

    virtual(main)


@pytest.mark.parametrize("drain", [0, 10])
async def test_the_supervisor_stays_ready_meanwhile(release, drain):
    async with Supervisor("app", policy=EscalationPolicy(Ask(30))) as sup:
        lane = sup.pool("lane", kind="thread")
        call = asyncio.ensure_future(lane.run(release.wait, 10))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        closing = asyncio.ensure_future(lane.shutdown(drain=drain))
        await asyncio.sleep(0.01)
        assert not closing.done()
        assert sup.health().ready
        assert not sup.statistics().stopping
        release.set()
        await closing
        assert sup.health().ready
        assert await call


async def test_its_time_bounds_its_shutdown(leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(30))) as sup:
        lane = sup.pool("lane", kind="thread")
        call = asyncio.ensure_future(lane.run(leftovers.block))
        await until(lambda: leftovers.entered)
        began = time.monotonic()
        report = await lane.shutdown(0.3)
        assert 0.25 <= time.monotonic() - began < LIMIT
        assert report.counts() == {"abandoned": 1}
        with pytest.raises(WorkerStopped):
            await call
        assert sup.statistics().abandoned == 1
        assert sup.statistics().threads == 1
        leftovers.release.set()
        await until(lambda: not (sup.statistics().threads or sup.statistics().abandoned))


async def test_what_was_abandoned_earlier_is_in_its_report_and_in_no_other(leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(0.01))) as sup:
        lane, other = sup.pool("lane", kind="thread"), sup.pool("other", kind="thread")
        call = asyncio.ensure_future(lane.run(leftovers.block, name="stuck"))
        await until(lambda: leftovers.entered)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await other.shutdown()).clean
        report = await lane.shutdown()
        assert [outcome.worker for outcome in report.earlier] == ["stuck"]
        assert not report.clean


@pytest.mark.parametrize("drain", [0.0, 10.0])
async def test_the_shutdown_of_the_supervisor_includes_it(release, drain):
    sup = Supervisor("app", policy=EscalationPolicy(Ask(30)))
    lane = sup.pool("lane", kind="thread")
    call = asyncio.ensure_future(lane.run(current_stop))
    await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
    closing = asyncio.ensure_future(lane.shutdown(60, drain=30))
    await asyncio.sleep(0.01)
    ending = asyncio.ensure_future(sup.shutdown(drain=drain))
    if drain == 0:
        await until(call.done)
    else:
        await asyncio.sleep(0.01)
        assert not call.done()
    await lane.shutdown(drain=0)
    assert await call
    assert (await closing).counts() == (await ending).counts() == {"stopped": 1}


async def test_after_the_supervisor_it_has_nothing_to_do():
    async with Supervisor("app") as sup:
        lane = sup.pool("lane", kind="thread")
        await lane.run(int)
    assert (await lane.shutdown(drain=1)).counts() == {}


async def test_a_cancellation_outlasts_the_ladders(release):
    async with Supervisor("app", policy=EscalationPolicy(Ask(30))) as sup:
        lane = sup.pool("lane", kind="thread")
        call = asyncio.ensure_future(lane.run(release.wait, 10))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(lane.shutdown(drain=10))
        await asyncio.sleep(0.01)
        closing.cancel()
        await asyncio.sleep(0.01)
        assert not closing.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert await call
        assert (await lane.shutdown()).counts() == {"returned": 1}


async def test_what_its_calls_do_in_the_loop_is_waited_for():
    async with Supervisor("app") as sup:
        lane, done = sup.pool("lane", kind="thread"), []

        async def slowly():
            await asyncio.sleep(0.05)
            done.append(True)

        call = asyncio.ensure_future(lane.run(lambda: current_context().call(slowly)))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        await lane.shutdown(drain=10)
        assert done == [True]
        await call


@pytest.mark.parametrize("name", KINDS)
async def test_those_that_are_always_there_end_with_the_supervisor(name):
    async with Supervisor("app") as sup:
        pool = sup.pool(name, kind=name)
        with pytest.raises(RuntimeError, match=f"has the pool '{name}' for as long as it lives"):
            await pool.shutdown()
        assert await pool.run(int) == 0


async def test_many_threads_that_submit_lose_no_call():
    """What an executor has taken has an end, whatever moment it comes at."""
    async with Supervisor("app") as sup:
        for _ in range(10):
            lane = sup.pool("lane", kind="thread", size=2)
            executor, futures, taken = lane.executor(), [], threading.Event()

            def submits(executor=executor, futures=futures, taken=taken):
                while True:
                    try:
                        futures.append(executor.submit(int))
                    except SupervisorClosed:
                        return
                    if len(futures) > 100:
                        taken.set()

            threads = [threading.Thread(target=submits) for _ in range(3)]
            for thread in threads:
                thread.start()
            await until(taken.is_set)
            report = await lane.shutdown()
            for thread in threads:
                thread.join()
            withdrawn = sum(future.exception(LIMIT) is not None for future in futures)
            stopped = report.counts().get("stopped", 0)  # which may still have its value
            assert report.never_started <= withdrawn <= report.never_started + stopped


@pytest.mark.parametrize("which", ["pool", "group", "supervisor"])
async def test_a_call_that_ends_unseen_as_a_drain_begins_does_not_keep_it_waiting(monkeypatch, release, which):
    sup = Supervisor("app")
    held = {"pool": sup.pool("lane", kind="thread"), "group": sup.group("feeds"), "supervisor": sup}[which]
    owner, name = inside.IN_AN_END_THAT_NOBODY_SEES
    real, entered = getattr(owner, name), threading.Event()

    def stand_in(*args):
        entered.set()
        release.wait(10)
        real(*args)

    monkeypatch.setattr(owner, name, stand_in)
    future = held.executor().submit(int)
    await until(entered.is_set)
    closing = asyncio.ensure_future(held.shutdown(drain=15))
    await asyncio.sleep(0.01)
    assert not closing.done()
    release.set()
    assert (await asyncio.wait_for(closing, 10)).counts() == {}
    assert future.result(5) == 0
    await sup.shutdown()


async def test_it_logs_its_beginning_its_drain_and_its_end(events, release):
    async with Supervisor("app") as sup:
        lane = sup.pool("lane", kind="thread")
        call = asyncio.ensure_future(lane.run(release.wait, 10))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(lane.shutdown(drain=5, reason="deploy"))
        await asyncio.sleep(0)
        release.set()
        await closing
        assert await call
    told = [event for event in events if event.get("pool") == "lane" and event["event"].startswith("supervisor.")]
    assert [event["event"] for event in told] == [
        "supervisor.pool_stopping",
        "supervisor.drained",
        "supervisor.pool_stopped",
    ]
    assert (told[0]["reason"], told[0]["drain"]) == ("deploy", 5)
    assert (told[1]["running"], told[1]["queued"]) == (0, 0)
    assert told[2]["counts"] == {"returned": 1}


@pytest.mark.parametrize("part", inside.PARTS_OF_THE_END_OF_A_POOL, ids=lambda part: f"{part[0].__name__}.{part[1]}")
async def test_whatever_part_of_it_fails_it_ends(monkeypatch, quiet, part):
    def fails(*_):
        raise MemoryError("on purpose")

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with Supervisor("app", policy=EscalationPolicy(Ask(0.1))) as sup:
        lane = sup.pool("lane", kind="thread", size=1)
        calls = [asyncio.ensure_future(lane.run(current_stop)) for _ in range(2)]
        await until(lambda: sorted(worker.state for worker in sup.workers()) == ["queued", "running"])
        with monkeypatch.context() as broken:
            broken.setattr(*part, fails)
            report = await asyncio.wait_for(lane.shutdown(0.3, drain=0.1), LIMIT)
        assert sum(report.counts().values()) == 2
        await asyncio.gather(*calls, return_exceptions=True)
        lane = sup.pool("lane", kind="thread")  # its name is free


async def test_an_initializer_is_no_call_that_a_drain_waits_for(leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(0.05))) as sup:
        lane = sup.pool("lane", kind="thread", initializer=leftovers.block, warm=1)
        await until(lambda: leftovers.entered)
        report = await asyncio.wait_for(lane.shutdown(30, drain=20), 10)
        assert report.counts() == {"abandoned": 1}


async def test_calls_that_wait_for_an_initializer_drain_and_it_is_in_no_report(release):
    async with Supervisor("app") as sup:
        lane = sup.pool("lane", kind="thread", initializer=lambda: release.wait(10), size=2)
        calls = [asyncio.ensure_future(lane.run(nap, 0.01)) for _ in range(4)]
        await asyncio.sleep(0.01)
        closing = asyncio.ensure_future(lane.shutdown(drain=10))
        await asyncio.sleep(0.01)
        release.set()
        assert (await closing).counts() == {"returned": 4}
        assert await asyncio.gather(*calls) == [0.01] * 4


@pytest.mark.parametrize("shuts_down", ["pool", "supervisor"])
async def test_who_waits_for_it_to_be_ready_hears_that_it_ends(leftovers, shuts_down):
    sup = Supervisor("app", policy=EscalationPolicy(Ask(0.05)))
    lane = sup.pool("lane", kind="thread", initializer=leftovers.block, warm=1)
    waits = asyncio.ensure_future(lane.ready())
    await until(lambda: leftovers.entered)
    await (lane if shuts_down == "pool" else sup).shutdown()
    with pytest.raises(SupervisorClosed, match="is shutting down"):
        await asyncio.wait_for(waits, LIMIT)
    await sup.shutdown()
