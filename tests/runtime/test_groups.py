"""Groups: supervisors in the tree of another one, with real threads."""

import asyncio
import threading

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Restart,
    RestartLimitExceeded,
    Supervisor,
    SupervisorClosed,
    WorkerStopped,
    current_context,
)

from ..waiting import until

LADDER = EscalationPolicy(Ask(20), Inject(2))  # who obeys has all the time it needs, on any machine
NO_PATIENCE = Restart("failure", max_restarts=0)
PATIENT = Restart("always", backoff=0, max_restarts=3)
LIMIT = 20


def wait(ctx):
    ctx.stop.wait(LIMIT)


def sleep_on(entered):
    entered.set()
    current_context().sleep(LIMIT)


class Failing:
    """Workers that wait until they are told to fail."""

    def __init__(self):
        self.told = {}
        self.entered = []

    def __call__(self, ctx):
        told = self.told[ctx.name] = threading.Event()
        self.entered.append(ctx.name)
        with ctx.on_stop(told.set):
            told.wait(LIMIT)
        if not ctx.stop.is_set():
            raise ValueError(ctx.name)

    async def fail(self, name):
        while name not in self.told:
            await asyncio.sleep(0.001)
        self.told.pop(name).set()


def named(sup, name):
    return next((worker for worker in sup.workers() if worker.name == name), None)


# ------------------------------------------------------------------------------------------------ names, what is there


async def test_a_group_is_a_supervisor_whose_workers_bear_its_name(events):
    async with Supervisor("app", policy=LADDER) as sup:
        feeds = sup.group("feeds")
        assert isinstance(feeds, Supervisor)
        fast = feeds.group("fast")
        workers = [
            await sup.start(wait, name="a"),
            await feeds.start(wait, name="a"),
            await fast.start(wait),
        ]
        assert [worker.name for worker in workers] == ["a", "feeds/a", "feeds/fast/wait-5"]
        assert await feeds.run(lambda: current_context().name, name="call") == "feeds/call"
        assert (await fast.run(lambda: current_context().name)).startswith("feeds/fast/")
        assert sup.workers() == tuple(workers)
        assert feeds.workers() == tuple(workers[1:])
        assert fast.workers() == tuple(workers[2:])
        assert (feeds.name, fast.name) == ("feeds", "feeds/fast")
        assert feeds.statistics().workers == {"running": 2}
        await until(lambda: set(feeds.stacks()) == {"feeds/a", "feeds/fast/wait-5"})  # they may not stand there yet
        assert "group 'feeds': 2 workers" in repr(feeds)
    assert {outcome.worker for outcome in sup.report.outcomes} == {"a", "feeds/a", "feeds/fast/wait-5"}
    assert all(event["supervisor"] == "app" for event in events)


@pytest.mark.parametrize("name", ["", "a/b"])
async def test_names_that_cannot_be_are_refused(name):
    async with Supervisor() as sup:
        with pytest.raises(ValueError, match="name="):
            sup.group(name)


async def test_a_name_is_taken_once():
    async with Supervisor() as sup:
        sup.group("feeds")
        with pytest.raises(ValueError, match="'feeds'"):
            sup.group("feeds")
        with pytest.raises(ValueError, match="'feeds'"):
            await sup.start(wait, name="feeds")


async def test_transitions_of_a_group_are_its_own():
    async with Supervisor(policy=LADDER) as sup:
        feeds = sup.group("feeds")
        seen = feeds.transitions()
        await sup.run(int)
        await feeds.run(int, name="mine")
    assert {transition.worker async for transition in seen} == {"feeds/mine"}


async def test_a_policy_of_a_group_holds_for_its_workers_and_calls():
    def spin(entered):
        entered.set()
        while True:
            pass

    async with Supervisor(policy=EscalationPolicy(Ask(LIMIT))) as sup:
        inner = sup.group("outer", policy=EscalationPolicy(Ask(0.01), Inject(LIMIT))).group("inner")
        worker = await inner.start(lambda ctx: spin(threading.Event()))
        assert (await worker.stop()).ended == "injected"
        entered = threading.Event()
        call = asyncio.ensure_future(inner.run(spin, entered))
        await asyncio.to_thread(entered.wait, LIMIT)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


# ------------------------------------------------------------------------------------------------ failing


async def test_a_worker_that_is_given_up_has_its_group_begin_anew_with_all_it_consisted_of():
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        feeds = sup.group("feeds", restart=PATIENT)
        outside = await sup.start(wait, name="outside")
        a = await feeds.start(failing, name="a", restart=NO_PATIENCE)
        b = await feeds.start(wait, name="b")
        await failing.fail("feeds/a")
        assert isinstance((await a.wait()).error, RestartLimitExceeded)
        assert (await b.wait()).ended == "stopped"
        await until(lambda: len(failing.entered) == 2 and named(sup, "feeds/b") is not None)
        fresh = named(sup, "feeds/b")
        await fresh.ready()
        assert fresh is not b
        assert outside.attempt == 1
        assert outside.state == "running"


async def test_a_group_that_fails_too_often_is_given_up_and_the_others_go_on(events):
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        feeds = sup.group("feeds", restart=Restart("always", backoff=0, max_restarts=2, within=600))
        outside = await sup.start(wait, name="outside")
        await feeds.start(failing, name="a", restart=NO_PATIENCE)
        for _ in range(3):
            await failing.fail("feeds/a")
        await until(lambda: feeds.workers() == () and "ended" in repr(feeds))
        assert len(failing.entered) == 3
        assert outside.state == "running"
        with pytest.raises(SupervisorClosed, match="'feeds'"):
            await feeds.start(wait)
        again = sup.group("feeds")
        await again.start(wait, name="a")
    told = [event["event"] for event in events if event["event"].startswith("supervisor.group")]
    assert told == ["supervisor.group_restarting"] * 2 + ["supervisor.group_given_up"]


async def test_escalation_climbs_from_group_to_group_to_the_root():
    failing = Failing()
    with pytest.raises(RestartLimitExceeded, match="'outer'") as caught:
        async with Supervisor(policy=LADDER, on_exhausted="escalate") as sup:
            outer = sup.group("outer", restart=Restart("always", max_restarts=0))
            inner = outer.group("inner", restart=Restart("always", max_restarts=0))
            await inner.start(failing, name="a", restart=NO_PATIENCE)
            await failing.fail("outer/inner/a")
            await sup.wait_closed()
    causes, error = [], caught.value
    while error is not None:
        causes.append(str(error).split("'")[1] if isinstance(error, RestartLimitExceeded) else type(error).__name__)
        error = error.__cause__
    assert causes == ["outer", "outer/inner", "outer/inner/a", "ValueError"]


async def test_a_nested_group_that_fails_is_started_again_with_its_own_groups():
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        outer = sup.group("outer", restart=PATIENT)
        inner = outer.group("inner", restart=Restart("always", max_restarts=0))
        await inner.start(wait, name="calm")
        await inner.start(failing, name="a", restart=NO_PATIENCE)
        await failing.fail("outer/inner/a")
        await until(lambda: len(failing.entered) == 2)
        await until(lambda: [worker.name for worker in outer.workers()] == ["outer/inner/calm", "outer/inner/a"])
        await inner.start(wait, name="later")


async def test_members_that_wait_for_their_turn_can_be_seen_from_any_thread():
    async with Supervisor(policy=LADDER) as sup:
        failing, comes_up, slow = Failing(), threading.Event(), threading.Event()

        def first(ctx):
            if ctx.attempt == 1 and not failing.entered:  # that of the group which begins anew comes up late
                ctx.ready()
            else:
                comes_up.set()
                slow.wait(LIMIT)
                ctx.ready()
            ctx.stop.wait()

        feeds = sup.group("feeds")
        before = await feeds.start(first, name="first", ready_timeout=LIMIT)
        await feeds.start(failing, name="second", restart=NO_PATIENCE)
        await failing.fail("feeds/second")
        await until(lambda: named(sup, "feeds/first") not in (None, before))
        await until(comes_up.is_set)

        def look():
            return (
                sup.stacks(),
                sup.statistics(),
                [(worker.state, worker.ident, repr(worker)) for worker in sup.workers()],
            )

        stacks, statistics, workers = await asyncio.to_thread(look)
        assert "feeds/first" in stacks
        assert statistics.workers["backing_off"] == 1
        assert [state for state, _, _ in workers].count("backing_off") == 1
        slow.set()
        await until(lambda: len(failing.entered) == 2)


async def test_give_up_in_a_group_ends_that_worker_alone():
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        feeds = sup.group("feeds", on_exhausted="give_up")
        a = await feeds.start(failing, name="a", restart=NO_PATIENCE)
        b = await feeds.start(wait, name="b")
        await failing.fail("feeds/a")
        await a.wait()
        assert feeds.workers() == (b,)


async def test_a_strategy_of_a_group_stays_in_it():
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        feeds = sup.group("feeds", strategy="one_for_all")
        outside = await sup.start(wait, name="outside")
        a = await feeds.start(failing, name="a", restart=PATIENT)
        b = await feeds.start(wait, name="b", restart=PATIENT)
        await failing.fail("feeds/a")
        await until(lambda: a.attempt == 2 and b.attempt == 2 and b.state == "running")
        assert outside.attempt == 1


async def test_one_for_all_above_restarts_a_group_as_a_whole():
    async with Supervisor(policy=LADDER, strategy="one_for_all") as sup:
        failing = Failing()
        feeds = sup.group("feeds")
        inside = await feeds.start(wait, name="inside")
        a = await sup.start(failing, name="a", restart=PATIENT)
        await failing.fail("a")
        assert (await inside.wait()).ended == "stopped"
        await until(lambda: a.attempt == 2 and named(sup, "feeds/inside") is not None)
        await named(sup, "feeds/inside").ready()


async def test_a_worker_that_was_stopped_by_hand_does_not_come_back_with_its_group():
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        feeds = sup.group("feeds", restart=PATIENT)
        await feeds.start(failing, name="a", restart=NO_PATIENCE)
        b = await feeds.start(wait, name="b")
        done = await feeds.start(lambda ctx: None, name="done")
        await b.stop()
        await done.wait()
        await failing.fail("feeds/a")
        await until(lambda: len(failing.entered) == 2)
        assert [worker.name for worker in feeds.workers()] == ["feeds/a"]


# ------------------------------------------------------------------------------------------------ ending


async def test_a_groups_shutdown_ends_its_own_alone_and_reports_them():
    async with Supervisor(policy=LADDER) as sup:
        outside = await sup.start(wait, name="outside")
        async with sup.group("feeds") as feeds:
            await feeds.start(wait, name="a")
            await feeds.group("inner").start(wait, name="b")
            entered = threading.Event()
            call = asyncio.ensure_future(feeds.run(sleep_on, entered, name="call"))
            await asyncio.to_thread(entered.wait, LIMIT)
        assert {outcome.worker: outcome.ended for outcome in feeds.report.outcomes} == {
            "feeds/a": "stopped",
            "feeds/inner/b": "stopped",
            "feeds/call": "stopped",
        }
        with pytest.raises(WorkerStopped):
            await call
        assert outside.state == "running"
        assert sup.statistics().stopping is False
        with pytest.raises(SupervisorClosed):
            await feeds.run(int)
        assert await feeds.shutdown() is feeds.report
        sup.group("feeds")  # the name is free again


async def test_a_groups_shutdown_keeps_its_deadline(leftovers):
    async with Supervisor(policy=EscalationPolicy(Ask(600)), shutdown_timeout=600) as sup:
        feeds = sup.group("feeds")
        await feeds.start(leftovers.block, name="deaf")
        report = await asyncio.wait_for(feeds.shutdown(timeout=0.1), LIMIT)
        assert report.counts() == {"abandoned": 1}
        leftovers.release.set()


@pytest.mark.parametrize("how", ["run", "executor", "inner"])
async def test_a_groups_shutdown_keeps_its_deadline_for_calls(leftovers, how):
    async with Supervisor(policy=EscalationPolicy(Ask(600)), shutdown_timeout=600) as sup:
        feeds = sup.group("feeds")
        if how == "executor":
            call = asyncio.wrap_future(feeds.executor().submit(leftovers.block))
        else:
            group = feeds.group("inner") if how == "inner" else feeds
            call = asyncio.ensure_future(group.run(leftovers.block))
        await until(lambda: any(worker.state == "running" for worker in sup.workers()))
        report = await asyncio.wait_for(feeds.shutdown(timeout=0.1), LIMIT)
        assert report.counts() == {"abandoned": 1}
        with pytest.raises(WorkerStopped):
            await call
        leftovers.release.set()


async def test_a_second_call_shortens_a_groups_shutdown(leftovers):
    async with Supervisor(policy=EscalationPolicy(Ask(600)), shutdown_timeout=600) as sup:
        feeds = sup.group("feeds")
        await feeds.start(leftovers.block, name="deaf")
        first = asyncio.ensure_future(feeds.shutdown(reason="enough"))
        await until(lambda: feeds.statistics().stopping)
        second = await asyncio.wait_for(feeds.shutdown(timeout=0.1), LIMIT)
        assert await first is second
        assert second.reason == "enough"
        leftovers.release.set()


async def test_a_groups_shutdown_shortens_that_of_the_supervisor_for_its_own(leftovers):
    sup = Supervisor(policy=EscalationPolicy(Ask(600)))
    outside = await sup.start(leftovers.block, name="outside")
    feeds = sup.group("feeds")
    await feeds.group("inner").start(leftovers.block, name="deaf")
    whole = asyncio.ensure_future(sup.shutdown(timeout=600))
    await until(lambda: outside.state == "stopping")
    report = await asyncio.wait_for(feeds.shutdown(timeout=0.1), LIMIT)
    assert report.counts() == {"abandoned": 1}
    assert outside.state == "stopping"
    leftovers.release.set()
    assert (await whole).counts() == {"abandoned": 1, "stopped": 1}


async def test_a_shutdown_of_the_supervisor_ends_its_groups_and_whoever_waits_for_them():
    async with Supervisor(policy=LADDER) as sup:
        feeds = sup.group("feeds")
        await feeds.start(wait, name="a")
        waiting = asyncio.ensure_future(feeds.wait_closed())
        await asyncio.sleep(0)
    assert (await waiting).counts() == {"stopped": 1}
    assert feeds.report.counts() == {"stopped": 1}


async def test_request_shutdown_of_a_group_from_a_thread():
    async with Supervisor(policy=LADDER) as sup:
        feeds = sup.group("feeds")
        worker = await feeds.start(wait, name="a")
        await asyncio.to_thread(feeds.request_shutdown, "enough")
        assert (await feeds.wait_closed()).reason == "enough"
        assert worker.outcome.ended == "stopped"


async def test_a_shutdown_beats_a_group_that_is_about_to_begin_anew():
    async with Supervisor(policy=LADDER, shutdown_timeout=60) as sup:
        failing = Failing()
        feeds = sup.group("feeds", restart=Restart("always", backoff=600, max_backoff=600))
        await feeds.start(failing, name="a", restart=NO_PATIENCE)
        await failing.fail("feeds/a")
        await until(lambda: feeds.workers() == ())
    assert len(failing.entered) == 1
    assert sup.report.seconds < LIMIT


async def test_a_groups_own_shutdown_beats_its_restart():
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        feeds = sup.group("feeds", restart=Restart("always", backoff=600, max_backoff=600))
        await feeds.start(failing, name="a", restart=NO_PATIENCE)
        await failing.fail("feeds/a")
        await until(lambda: feeds.workers() == ())
        assert (await asyncio.wait_for(feeds.shutdown(), LIMIT)).counts() == {}


# ------------------------------------------------------------------------------------------------ order


async def test_groups_and_workers_come_after_one_another():
    order = []

    def noting(ctx):
        ctx.stop.wait(LIMIT)
        order.append(ctx.name)

    async with Supervisor(policy=EscalationPolicy(Ask(5))) as sup:
        await sup.start(noting, name="db")
        feeds = sup.group("feeds", after=("db",))
        await feeds.start(noting, name="reader")
        await sup.start(noting, name="web", after=("feeds",))
        with pytest.raises(ValueError, match="after='web'"):
            await feeds.start(noting, after=("web",))
    assert order == ["web", "feeds/reader", "db"]


async def test_within_a_group_its_own_shutdown_keeps_the_order():
    order = []

    def noting(ctx):
        ctx.stop.wait(LIMIT)
        order.append(ctx.name)

    async with Supervisor(policy=EscalationPolicy(Ask(5))) as sup:
        feeds = sup.group("feeds")
        await feeds.start(noting, name="store")
        await feeds.start(noting, name="reader", after=("store",))
        await feeds.shutdown()
        assert order == ["feeds/reader", "feeds/store"]


async def test_the_order_survives_a_restart_of_the_group():
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        order = []
        feeds = sup.group("feeds", restart=PATIENT)

        def noting(ctx):
            order.append("up " + ctx.name)
            ctx.ready()
            ctx.stop.wait(LIMIT)
            order.append("down " + ctx.name)

        await feeds.start(noting, name="store", ready_timeout=LIMIT)
        await feeds.start(noting, name="reader", after=("store",), ready_timeout=LIMIT)
        await feeds.start(failing, name="a", restart=NO_PATIENCE)
        await until(lambda: len(order) == 2)
        await failing.fail("feeds/a")
        await until(lambda: len(order) == 6)
    assert order == [
        *("up feeds/store", "up feeds/reader", "down feeds/reader", "down feeds/store"),
        *("up feeds/store", "up feeds/reader", "down feeds/reader", "down feeds/store"),
    ]


@pytest.mark.parametrize("what", ["empty", "in between", "nested", "backing off"])
async def test_a_group_without_workers_holds_up_nobody_who_must_end_after_it(what):
    failing = Failing()
    async with Supervisor(policy=EscalationPolicy(Ask(600)), shutdown_timeout=600) as sup:
        await sup.start(wait, name="db")
        feeds = sup.group("feeds", after=("db",), restart=Restart("always", backoff=600, max_backoff=600))
        if what == "in between":
            await sup.start(wait, name="web", after=("feeds",))
        elif what == "nested":
            await feeds.group("inner").start(wait)
        elif what == "backing off":
            await feeds.start(failing, name="a", restart=NO_PATIENCE)
            await failing.fail("feeds/a")
            await until(lambda: feeds.workers() == ())
        await asyncio.wait_for(sup.shutdown(), LIMIT)
    assert "db" in {outcome.worker for outcome in sup.report.outcomes}


# ------------------------------------------------------------------------------------------------ beginning anew


def second_time(first, second):
    """A worker whose second run, in whichever generation, does something else."""
    runs = []

    def work(ctx):
        runs.append(ctx.attempt)
        (second if len(runs) == 2 else first)(ctx)

    return work, runs


def be_ready(ctx):
    ctx.ready()
    ctx.stop.wait(LIMIT)


def fail(ctx):
    raise OSError(ctx.name)


async def test_a_group_comes_up_though_one_fails_on_the_way():
    work, runs = second_time(be_ready, fail)
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        feeds = sup.group("feeds", restart=PATIENT)
        await feeds.start(failing, name="a", restart=NO_PATIENCE)
        await feeds.start(work, name="b", restart=PATIENT, ready_timeout=LIMIT)
        await feeds.start(wait, name="c")
        await failing.fail("feeds/a")
        await until(lambda: len(runs) == 3 and [worker.state for worker in feeds.workers()] == ["running"] * 3)


async def test_a_worker_that_is_restarted_by_hand_on_its_way_up_comes_up():
    work, runs = second_time(be_ready, wait)
    async with Supervisor(policy=LADDER, strategy="one_for_all") as sup:
        failing = Failing()
        await sup.start(failing, name="a", restart=PATIENT)
        b = await sup.start(work, name="b", restart=PATIENT, ready_timeout=LIMIT)
        c = await sup.start(wait, name="c", restart=PATIENT)
        await failing.fail("a")
        await until(lambda: len(runs) == 2)
        await asyncio.wait_for(b.restart(), LIMIT)
        await until(lambda: c.attempt == 2 and c.state == "running")


async def test_who_has_never_become_ready_does_not_come_back_with_its_group():
    entered = []
    async with Supervisor(policy=LADDER) as sup:
        failing = Failing()
        feeds = sup.group("feeds", restart=PATIENT)
        await feeds.start(failing, name="a", restart=NO_PATIENCE)
        starting = asyncio.ensure_future(
            feeds.start(lambda ctx: entered.append(1) or wait(ctx), name="b", ready_timeout=LIMIT)
        )
        await until(lambda: entered)
        await failing.fail("feeds/a")
        with pytest.raises(WorkerStopped):
            await starting
        await until(lambda: len(failing.entered) == 2)
        assert named(sup, "feeds/b") is None


async def test_a_group_that_is_being_shut_down_does_not_come_back_with_the_one_around_it():
    hold = threading.Event()
    async with Supervisor(policy=EscalationPolicy(Ask(LIMIT))) as sup:
        failing = Failing()
        outer = sup.group("outer", restart=PATIENT)
        await outer.start(failing, name="a", restart=NO_PATIENCE)
        inner = outer.group("inner")
        await inner.start(lambda ctx: hold.wait(LIMIT), name="b")
        ending = asyncio.ensure_future(inner.shutdown())
        await failing.fail("outer/a")
        await until(lambda: named(sup, "outer/a") is None)
        hold.set()
        await ending
        await until(lambda: len(failing.entered) == 2)
        assert named(sup, "outer/inner/b") is None


async def test_who_takes_the_place_of_one_that_was_given_up_comes_back_with_the_group():
    async with Supervisor(policy=LADDER, strategy="one_for_all") as sup:
        failing = Failing()
        feeds = sup.group("feeds", on_exhausted="give_up")
        old = await feeds.start(failing, name="x", restart=NO_PATIENCE)
        await failing.fail("feeds/x")
        await old.wait()
        fresh = await feeds.start(wait, name="x")
        a = await sup.start(failing, name="a", restart=PATIENT)
        await failing.fail("a")
        await until(lambda: a.attempt == 2 and named(sup, "feeds/x") not in (None, fresh))
        assert failing.entered.count("feeds/x") == 1


async def test_a_group_that_had_to_abandon_a_worker_is_given_up_rather_than_run_it_twice(leftovers):
    runs = []
    async with Supervisor(policy=EscalationPolicy(Ask(0.05)), shutdown_timeout=2) as sup:
        failing = Failing()
        feeds = sup.group("feeds", restart=PATIENT)
        await feeds.start(lambda ctx: runs.append(1) or leftovers.block(), name="deaf")
        await feeds.start(failing, name="a", restart=NO_PATIENCE)
        await failing.fail("feeds/a")
        await until(lambda: "ended" in repr(feeds))
        assert len(runs) == 1
        leftovers.release.set()
