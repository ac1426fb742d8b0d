"""Workers that come after others: the order of starts, of restarts, and of stops; and what many of them cost."""

import asyncio
import threading
import time

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Restart,
    Supervisor,
    SupervisorClosed,
    WorkerStopped,
)

from ..waiting import until
from .restarting import (
    AT_ONCE,
    LIMIT,
    PATIENT,
    SLOWLY,
    OnCommand,
    backing_off,
    fail,
    runs,
    wait_for_stop,
)

pytestmark = pytest.mark.usefixtures("quiet")


def order_of_ends(events):
    return [event["worker"] for event in events if event["event"] == "worker.ended"]


async def test_a_shutdown_stops_a_worker_before_those_that_it_comes_after(events):
    asked = []

    def work(ctx):
        ctx.stop.wait()
        asked.append(ctx.name)
        time.sleep(0.02)

    async with Supervisor() as sup:
        await sup.start(work, name="disk")
        await sup.start(work, name="db", after=["disk"])
        await sup.start(work, name="cache", after=("disk",))
        await sup.start(work, name="web", after=("db", "cache", "db"))
    assert order_of_ends(events)[0] == "web"
    assert set(order_of_ends(events)[1:3]) == {"db", "cache"}
    assert order_of_ends(events)[3] == "disk"
    assert [name for name in asked if name in ("web", "disk")] == ["web", "disk"]
    assert asked.index("web") == 0
    assert asked.index("disk") == 3


async def test_workers_that_do_not_depend_on_each_other_stop_at_the_same_time():
    meeting = threading.Barrier(5, timeout=LIMIT)

    def work(ctx):
        ctx.stop.wait()
        meeting.wait()

    async with Supervisor(policy=PATIENT) as sup:
        await sup.start(wait_for_stop, name="db")
        for _ in range(5):
            await sup.start(work, after=("db",))
        report = await sup.shutdown()
    assert [outcome.ended for outcome in report.outcomes] == ["stopped"] * 6
    assert all(outcome.error is None for outcome in report.outcomes)


async def test_abandoned_dependents_do_not_hold_the_others_up(events, leftovers):
    sup = Supervisor(policy=EscalationPolicy(Ask(0.05)))
    await sup.start(wait_for_stop, name="db", policy=PATIENT)
    await sup.start(leftovers.block, name="web", after=("db",))
    report = await sup.shutdown(timeout=LIMIT)
    assert [(outcome.worker, outcome.ended) for outcome in report.outcomes] == [("web", "abandoned"), ("db", "stopped")]
    assert report.seconds < LIMIT / 2


def test_what_a_later_layer_needs_is_reserved(virtual, leftovers):
    """The dependent gets what the ladder of the other leaves it, though its own grace knows no end."""

    async def main(time):
        sup = Supervisor()
        await sup.start(wait_for_stop, name="db", policy=EscalationPolicy(Ask(10)))
        await sup.start(leftovers.block, name="web", after=("db",), policy=PATIENT)
        closing = asyncio.create_task(sup.shutdown(timeout=10))
        await time.advance(4)
        assert [worker.state for worker in sup.workers()] == ["running", "stopping"]
        await time.advance(2)
        return await closing

    report = virtual(main)
    assert [(outcome.worker, outcome.ended) for outcome in report.outcomes] == [("web", "abandoned"), ("db", "stopped")]
    assert 4 < report.outcomes[0].stop_seconds < 6


async def test_dependents_that_have_ended_by_themselves_hold_nobody_up():
    async with Supervisor(policy=PATIENT) as sup:
        await sup.start(wait_for_stop, name="db")
        await (await sup.start(lambda ctx: None, after=("db",))).wait()
        await (await sup.start(wait_for_stop, after=("db",))).stop()
        with pytest.raises(ValueError, match="mine"):
            await sup.start(lambda ctx: int("mine"), after=("db",), ready_timeout=LIMIT)
        report = await sup.shutdown()
    assert [outcome.worker for outcome in report.outcomes] == ["db"]


def test_a_dependent_between_two_runs_holds_nobody_up(virtual):
    async def main(loop):
        sup = Supervisor(policy=PATIENT)
        db = await sup.start(fail, name="db", restart=SLOWLY)
        await until(backing_off(db))
        await loop.advance(10)
        await until(backing_off(db, 2))
        (report,) = await asyncio.gather(sup.shutdown())
        assert report.clean

        sup = Supervisor(policy=PATIENT)
        await sup.start(wait_for_stop, name="db")
        web = await sup.start(fail, name="web", after=("db",), restart=SLOWLY)
        await until(backing_off(web))
        report = await sup.shutdown()
        assert [outcome.worker for outcome in report.outcomes] == ["web", "db"]

    virtual(main)


async def both_down(sup, db_work, web_work):
    """Starts a worker, and one that comes after it, and has both fail: the latter waits, though it has no pause."""
    db = await sup.start(db_work, name="db", restart=SLOWLY)
    web = await sup.start(web_work, name="web", after=("db",), restart=AT_ONCE)
    db_work.end(ValueError())
    await until(backing_off(db))
    web_work.end(ValueError())
    await until(backing_off(web))
    return db, web


def test_a_restart_waits_for_the_readiness_of_what_it_comes_after(virtual):
    async def main(loop):
        web_work = OnCommand()
        db_work = OnCommand()
        async with Supervisor() as sup:
            db, web = await both_down(sup, db_work, web_work)
            assert web.restarts == 0
            await loop.advance(9)
            assert backing_off(web)()
            await loop.advance(1)
            await until(runs(web, 2))
            assert runs(db, 2)()

    virtual(main)


def test_asking_a_worker_that_waits_for_others_to_restart_asks_for_no_second_run(virtual):
    async def main(loop):
        work, db_work = OnCommand(), OnCommand()
        async with Supervisor() as sup:
            _, web = await both_down(sup, db_work, work)
            restarting = asyncio.create_task(web.restart())
            await asyncio.sleep(0)
            await loop.advance(10)
            await restarting
            assert (web.attempt, web.restarts) == (2, 1)
            work.end()
            assert (await web.wait()).attempt == 2

    virtual(main)


@pytest.mark.parametrize("how", ["stop", "shutdown"])
def test_a_stop_of_a_worker_that_waits_for_others_ends_it_at_once(virtual, how):
    async def main(loop):
        work, db_work = OnCommand(), OnCommand()
        sup = Supervisor()
        db, web = await both_down(sup, db_work, work)
        if how == "stop":
            assert (await web.stop()).ended == "stopped"
            await db.restart()
        await sup.shutdown()
        assert (web.outcome.ended, web.attempt, db.outcome.ended) == ("stopped", 1, "stopped")
        return sup.report

    virtual(main)


def test_a_worker_that_waits_goes_on_where_what_it_comes_after_has_ended_for_good(virtual):
    async def main(loop):
        work, db_work = OnCommand(), OnCommand()
        async with Supervisor() as sup:
            db, web = await both_down(sup, db_work, work)
            await db.stop()
            await until(runs(web, 2))

    virtual(main)


async def test_a_start_after_a_worker_that_ends_meanwhile_is_refused():
    async with Supervisor() as sup:
        first = asyncio.create_task(sup.start(wait_for_stop, name="db", ready_timeout=LIMIT))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        second = asyncio.create_task(sup.start(wait_for_stop, name="web", after=("db",)))
        await asyncio.sleep(0)
        await sup.workers()[0].stop()
        for task in (first, second):
            with pytest.raises(WorkerStopped):
                await task
        assert sup.workers() == ()


async def test_a_shutdown_while_a_start_waits_for_others():
    sup = Supervisor()
    first = asyncio.create_task(sup.start(wait_for_stop, name="db", ready_timeout=LIMIT))
    await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
    second = asyncio.create_task(sup.start(wait_for_stop, name="web", after=("db",)))
    await asyncio.sleep(0)
    report = await sup.shutdown()
    assert [outcome.worker for outcome in report.outcomes] == ["db"]
    for task in (first, second):
        with pytest.raises((WorkerStopped, SupervisorClosed)):
            await task


# ------------------------------------------------------------------------------------------------ shutdown, in numbers


async def test_a_hung_worker_is_listed_and_a_double_failure_still_completes(leftovers):
    sup = Supervisor(policy=EscalationPolicy(Ask(0.05)))
    entered = threading.Event()

    def fails_twice(ctx):
        def callback():
            raise ValueError("first")

        ctx.on_stop(callback)
        entered.set()
        ctx.stop.wait()
        raise ValueError("second")

    await sup.start(leftovers.block, name="hung", restart=Restart("always"))
    restart = Restart("always")
    failing = await sup.start(fails_twice, name="fails", restart=restart, after=("hung",), policy=PATIENT)
    await until(entered.is_set)
    report = await sup.shutdown(timeout=LIMIT)
    assert report.seconds < LIMIT / 2
    assert [outcome.worker for outcome in report.abandoned] == ["hung"]
    assert str(failing.outcome.error) == "second"
    assert failing.attempt == 1


async def many(number, fn):
    async with Supervisor() as sup:
        began = time.process_time()
        workers = [await sup.start(fn) for _ in range(number)]
        for worker in workers:
            if fn is not wait_for_stop:
                await worker.wait()
        report = await sup.shutdown()
        took = time.process_time() - began
    assert len(report.outcomes) == (number if fn is wait_for_stop else 0)
    assert all(worker.outcome is not None for worker in workers)
    return took


@pytest.mark.parametrize("fn", [wait_for_stop, lambda ctx: None], ids=["live", "ended"])
async def test_many_workers_cost_in_proportion_to_their_number(fn):
    await many(50, fn)
    few = min([await many(100, fn) for _ in range(3)])
    assert min([await many(400, fn) for _ in range(3)]) < 10 * few


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fn", "number"), [(wait_for_stop, 2000), (lambda ctx: None, 10_000)], ids=["live", "ended"])
async def test_very_many_workers_cost_in_proportion_to_their_number(fn, number):
    few = min([await many(number // 10, fn) for _ in range(3)])
    assert await many(number, fn) < 20 * few


# ------------------------------------------------------------------------------------------------ chains


async def test_a_long_chain_of_workers_that_end_at_the_same_time():
    """Each comes after the one before; all end while the loop is busy, so that it hears of all of them at once."""
    enough, done, number = threading.Event(), threading.Semaphore(0), 150
    loop, errors = asyncio.get_running_loop(), []

    def work(ctx):
        enough.wait(20 * LIMIT)  # as long as it takes to start all of them: who has ended by then is not in the report
        done.release()

    def last(ctx):
        ctx.stop.wait()
        loop.call_soon_threadsafe(busy)
        enough.wait(LIMIT)  # or the loop could hear of this end before it is busy, and ask the next one

    def busy():
        enough.set()
        for _ in range(number):
            assert done.acquire(timeout=LIMIT)
        while (
            sup.statistics().threads > 1
        ):  # each tells of its end before it goes; the last one may still be on its way
            time.sleep(0.001)

    loop.set_exception_handler(lambda loop, context: errors.append(context))
    sup = Supervisor(policy=PATIENT)
    before = await sup.start(work)
    for _ in range(number - 1):
        before = await sup.start(work, after=(before.name,))
    await sup.start(last, after=(before.name,))
    report = await sup.shutdown(timeout=5 * LIMIT)
    assert errors == []
    assert report.counts()["returned"] == number
    assert report.seconds < 2 * LIMIT
