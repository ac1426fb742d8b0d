"""Groups under attack: what once went wrong in them, each as it should be."""

import asyncio
import gc
import pickle
import threading

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Restart,
    RestartLimitExceeded,
    Supervisor,
    SupervisorClosed,
    WorkerStopped,
)

from .. import inside
from .test_groups import LADDER, LIMIT, NO_PATIENCE, PATIENT, Failing, named, until, wait


async def hear(events, name, **fields):
    def heard():
        return any(event["event"] == name and fields.items() <= event.items() for event in events)

    await until(heard)


# ------------------------------------------------------------------------------------------------ never two of one


async def test_who_is_abandoned_by_a_restart_of_the_group_exhausts_it(leftovers, events):
    """Began it anew, the one that still runs would run twice, also where its own Restart is "never"."""
    async with Supervisor(policy=EscalationPolicy(Ask(0.05))) as sup:
        failing = Failing()
        feeds = sup.group("feeds", strategy="one_for_all")
        await feeds.start(leftovers.block, name="stuck")
        await feeds.start(failing, name="failing", restart=PATIENT)
        await failing.fail("feeds/failing")
        await hear(events, "supervisor.group_given_up")
        report = await feeds.wait_closed()
        assert {outcome.worker: outcome.ended for outcome in report.outcomes} == {
            "feeds/stuck": "abandoned",
            "feeds/failing": "stopped",
        }
        assert failing.entered == ["feeds/failing"]
        leftovers.release.set()
        await until(lambda: sup.statistics().abandoned == 0)
    (given_up,) = (event for event in events if event["event"] == "supervisor.group_given_up")
    assert given_up["reason"] == "group 'feeds' is given up, as a worker of it could not be ended: it would run twice"
    (stuck,) = (outcome for outcome in report.outcomes if outcome.worker == "feeds/stuck")
    assert "its last run could not be ended" in str(stuck.error)


@pytest.mark.parametrize("name", [None, "helper"])
async def test_who_was_started_anew_by_hand_comes_back_once(name):
    async with Supervisor(policy=LADDER) as sup:
        failing, helpers = Failing(), []

        def helper(ctx):
            helpers.append(ctx.name)
            with ctx.on_stop(lambda: None):
                ctx.stop.wait(LIMIT)
            helpers.remove(ctx.name)

        feeds = sup.group("feeds", strategy="one_for_all")
        worker = await feeds.start(
            failing, name="failing", restart=Restart("failure", max_restarts=3, backoff=0, within=60)
        )
        for attempt in (2, 3, 4):
            await feeds.start(helper, name=name)  # the strategy stops it for good
            await failing.fail("feeds/failing")
            await until(lambda attempt=attempt: (worker.attempt, worker.state) == (attempt, "running"))
            await until(lambda: helpers == [])
        await feeds.start(helper, name=name)
        await failing.fail("feeds/failing")  # once too often: the group begins anew
        await until(lambda: len(failing.entered) == 5)
        await until(lambda: len(helpers) == 1)
        assert len(inside.begun_with(feeds)) == 2


async def test_a_replacement_that_was_stopped_by_hand_stays_away():
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        feeds = sup.group("feeds", strategy="one_for_all")
        await feeds.start(wait, name="helper")
        worker = await feeds.start(
            failing, name="failing", restart=Restart("failure", max_restarts=1, backoff=0, within=600)
        )
        await failing.fail("feeds/failing")
        await until(lambda: (worker.attempt, worker.state) == (2, "running"))
        await (await feeds.start(wait, name="helper")).stop()
        await failing.fail("feeds/failing")
        await until(lambda: len(failing.entered) == 3)
        assert [worker.name for worker in feeds.workers()] == ["feeds/failing"]


# ------------------------------------------------------------------------------------------------ nobody waits for ever


async def test_a_start_that_waits_for_a_group_ends_with_the_shutdown():
    sup = Supervisor(policy=LADDER)
    failing = Failing()
    feeds = sup.group("feeds", restart=Restart("always", backoff=600, max_backoff=600))
    await feeds.start(failing, name="a", restart=NO_PATIENCE)
    await failing.fail("feeds/a")
    await until(lambda: feeds.workers() == ())
    waiting = asyncio.ensure_future(sup.start(wait, after=("feeds",)))
    await asyncio.sleep(0)
    await sup.shutdown()
    with pytest.raises(SupervisorClosed):
        await asyncio.wait_for(waiting, LIMIT)


async def test_a_start_after_others_is_refused_at_once_while_the_supervisor_shuts_down(leftovers):
    sup = Supervisor(policy=EscalationPolicy(Ask(600)))
    db = await sup.start(leftovers.block, name="db")
    shutdown = asyncio.ensure_future(sup.shutdown(timeout=600))
    await until(lambda: db.state == "stopping")
    with pytest.raises(SupervisorClosed):
        await sup.start(wait, after=("db",))
    assert not shutdown.done()
    leftovers.release.set()
    await shutdown


async def test_a_taken_name_is_refused_before_the_wait_for_others():
    async with Supervisor(policy=LADDER) as sup:
        await sup.start(wait, name="web")
        db = asyncio.ensure_future(sup.start(wait, name="db", ready_timeout=LIMIT))
        await until(lambda: named(sup, "db") is not None)
        with pytest.raises(ValueError, match="'web'"):
            await sup.start(wait, name="web", after=("db",))
        assert not db.done()
        db.cancel()
        with pytest.raises(asyncio.CancelledError):
            await db


async def test_what_a_group_came_after_and_is_gone_holds_none_of_its_workers_up():
    async with Supervisor(policy=LADDER) as sup:
        db = await sup.start(wait, name="db")
        feeds = sup.group("feeds", after=("db",))
        await db.stop()
        assert (await asyncio.wait_for(feeds.start(wait), LIMIT)).state == "running"


async def test_a_group_that_was_given_up_is_closed_once_its_last_call_has_ended():
    async with Supervisor(policy=LADDER) as sup:
        failing, entered, release = Failing(), threading.Event(), threading.Event()

        def call():
            entered.set()
            release.wait(LIMIT)

        feeds = sup.group("feeds", restart=Restart("always", max_restarts=0))
        await feeds.start(failing, name="a", restart=NO_PATIENCE)
        running = asyncio.ensure_future(feeds.run(call))
        await asyncio.to_thread(entered.wait, LIMIT)
        closed = asyncio.ensure_future(feeds.wait_closed())
        await failing.fail("feeds/a")
        await until(lambda: feeds.statistics().stopping)
        assert not closed.done()
        with pytest.raises(ValueError, match="'feeds'"):
            sup.group("feeds")  # two of one name could not be told apart
        release.set()
        await running
        sup.group("feeds")
        assert (await asyncio.wait_for(closed, LIMIT)).counts() == {"failed": 1}


@pytest.mark.parametrize("ready_timeout", [None, LIMIT])
async def test_a_restart_returns_though_the_new_run_has_ended_already(ready_timeout):
    def quick(ctx):
        ctx.ready()
        if ctx.attempt == 1:
            ctx.stop.wait(LIMIT)

    slowly = Restart("always", backoff=600, max_backoff=600)
    async with Supervisor(policy=LADDER) as sup:
        worker = await sup.start(quick, restart=slowly, ready_timeout=ready_timeout)
        await asyncio.wait_for(worker.restart(), LIMIT)
        assert worker.attempt == 2


async def test_a_sibling_that_fails_does_not_end_a_start_that_waits_for_readiness():
    async with Supervisor(policy=LADDER) as sup:
        failing, entered = Failing(), []

        def slow(ctx):
            entered.append(ctx.attempt)
            if ctx.attempt == 2:
                ctx.ready()
            ctx.stop.wait(LIMIT)

        feeds = sup.group("feeds", strategy="one_for_all")
        await feeds.start(failing, name="failing", restart=PATIENT)
        starting = asyncio.ensure_future(feeds.start(slow, ready_timeout=LIMIT, restart=PATIENT))
        await until(lambda: entered == [1])
        await failing.fail("feeds/failing")
        assert (await asyncio.wait_for(starting, LIMIT)).attempt == 2


async def test_waits_that_were_cancelled_leave_nothing_behind():
    async with Supervisor(policy=LADDER) as sup:
        feeds = sup.group("feeds")
        await feeds.start(wait)
        starting = asyncio.ensure_future(feeds.start(wait, name="slow", ready_timeout=LIMIT))
        await until(lambda: named(sup, "feeds/slow") is not None)
        for waiting in (feeds.wait_closed, lambda: sup.start(wait, after=("feeds",)), lambda: feeds.wait_for_signal()):
            task = asyncio.ensure_future(waiting())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert inside.waits_for(feeds)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not inside.waits_for(feeds)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting


async def test_restarts_by_hand_leave_neither_runs_nor_alarms_behind():
    def ready(ctx):
        ctx.ready()
        ctx.stop.wait(LIMIT)

    async with Supervisor(policy=LADDER) as sup:
        worker = await sup.start(ready, ready_timeout=3600, heartbeat=3600)
        for _ in range(600):
            await worker.restart()
        gc.collect()
        assert inside.alarms_set(sup) < 400


# ------------------------------------------------------------------------------------------------ whose is what


async def test_the_executor_of_a_group_is_the_groups():
    async with Supervisor(policy=LADDER) as sup:
        feeds = sup.group("feeds")
        executor, entered, release = feeds.executor(), threading.Event(), threading.Event()

        def call():
            entered.set()
            release.wait(LIMIT)

        future = executor.submit(call)
        await asyncio.to_thread(entered.wait, LIMIT)
        (worker,) = feeds.workers()
        assert worker.name.startswith("feeds/")
        closing = asyncio.ensure_future(feeds.shutdown())
        await until(lambda: worker.state == "stopping")
        with pytest.raises(SupervisorClosed):
            executor.submit(int)
        release.set()
        assert (await closing).counts() == {"stopped": 1}
        assert future.done()
        assert await asyncio.get_running_loop().run_in_executor(sup.executor(), int, "5") == 5


async def test_an_executors_call_that_ends_by_itself_closes_its_group():
    async with Supervisor(policy=EscalationPolicy(Ask(600)), shutdown_timeout=600) as sup:
        feeds = sup.group("feeds")
        for _ in range(50):
            feeds.executor().submit(int)
        assert (await asyncio.wait_for(feeds.shutdown(), LIMIT)).clean


async def test_a_group_with_the_name_of_one_that_has_ended_is_another_one():
    async with Supervisor(policy=LADDER) as sup:
        old = sup.group("feeds")
        heard = old.transitions()
        signalled = asyncio.ensure_future(old.wait_for_signal())
        await old.start(wait, name="a")
        await old.shutdown()
        new = sup.group("feeds")
        await new.start(wait, name="b")
        assert (old.workers(), old.statistics().stopping) == ((), True)
        assert [worker.name for worker in new.workers()] == ["feeds/b"]
        assert {transition.worker async for transition in heard} == {"feeds/a"}
        assert await asyncio.wait_for(signalled, LIMIT) is None


async def test_the_report_of_a_group_that_is_stopped_in_its_pause_is_empty():
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        feeds = sup.group("feeds", restart=Restart("always", backoff=600, max_backoff=600))
        await feeds.start(wait, name="b")
        await feeds.start(failing, name="a", restart=NO_PATIENCE)
        await failing.fail("feeds/a")
        await until(lambda: feeds.workers() == ())
    assert feeds.report.counts() == sup.report.counts() == {}


async def test_a_group_that_is_never_restarted_says_that_it_is_given_up(events):
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        feeds = sup.group("feeds", restart=Restart("never"))
        await feeds.start(wait, name="b")
        await feeds.start(failing, name="a", restart=NO_PATIENCE)
        await failing.fail("feeds/a")
        report = await asyncio.wait_for(feeds.wait_closed(), LIMIT)
        assert report.counts() == {"failed": 1, "stopped": 1}
        assert not report.clean
    (given_up,) = (event for event in events if event["event"] == "supervisor.group_given_up")
    assert given_up["reason"].startswith("worker 'feeds/a' is given up after 0 restarts")


def test_an_error_of_exhaustion_keeps_its_cause_in_a_pickle():
    error = RestartLimitExceeded("feeds", 3, 5.0, kind="group", still_runs=True)
    error.__cause__ = ValueError("first")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), repr(copy.__cause__)) == (str(error), "ValueError('first')")
    error.__cause__ = ValueError(lambda: None)  # which cannot be pickled
    assert pickle.loads(pickle.dumps(error)).__cause__ is None


# ------------------------------------------------------------------------------------------------ cost


def members(group, number, after=()):
    return [inside.worker_node(group, after) for _ in range(number)]


def test_who_comes_after_a_group_comes_after_all_that_is_in_it():
    root = inside.group_node()
    base = inside.group_node(root)
    web = inside.group_node(root, after=(base,))
    lives = members(base, 500) + members(web, 500)
    found = inside.stop_deadlines(dict.fromkeys(lives, 1.0), 0.0, 10.0)
    assert {found[node] for node in lives[:500]} == {10.0}
    assert {found[node] for node in lives[500:]} == {9.0}


def test_an_order_may_be_as_long_as_it_likes():
    root = inside.group_node()
    lives = members(root, 1)
    for _ in range(5000):
        lives += members(root, 1, after=(lives[-1],))
    found = inside.stop_deadlines(dict.fromkeys(reversed(lives), 1.0), 0.0, 5001.0)
    assert (found[lives[0]], found[lives[-1]]) == (5001.0, 1.0)


async def test_a_start_that_waits_for_one_that_is_stopped_says_so():
    async with Supervisor(policy=LADDER) as sup:
        db = asyncio.ensure_future(sup.start(wait, name="db", ready_timeout=LIMIT))
        await until(lambda: named(sup, "db") is not None)
        web = asyncio.ensure_future(sup.start(wait, after=("db",)))
        await asyncio.sleep(0)
        await named(sup, "db").stop()
        for task in (db, web):
            with pytest.raises(WorkerStopped):
                await task
