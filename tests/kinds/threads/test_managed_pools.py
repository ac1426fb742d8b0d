"""Pools of threads that are set up before their first call, and whose threads come and go."""

import asyncio
import contextvars
import threading
import time

import pytest

from supervisor import Ask, EscalationPolicy, Supervisor, SupervisorError, WorkerTimeout, current_context

from ... import inside
from ...stepper import Halt
from ...waiting import until

BRIEF = EscalationPolicy(Ask(0.01))

request = contextvars.ContextVar("request", default=None)


def here():
    return threading.current_thread()


class SetUp:
    """An initializer, which blocks while it is told to, and fails at the times that it is told, from 1.

    From the time `blocked_from` on it blocks until it is let, however soon that time comes.
    """

    def __init__(self, fail=(), blocked=False, blocked_from=1):
        self.local = threading.local()
        self.begun = []
        self.fail = fail
        self.go = threading.Event()
        self.blocked_from = blocked_from
        if not (blocked or blocked_from > 1):
            self.go.set()

    def __call__(self):
        self.begun.append(here())
        if len(self.begun) >= self.blocked_from:
            self.go.wait(20)
        if len(self.begun) in self.fail:
            raise ValueError("no model")
        self.local.ready = here()

    def thread(self):
        """A call, in a thread that was set up."""
        assert self.local.ready is here()
        return here()


def size(sup, pool):
    return inside.pool_of(sup, pool).size


# ------------------------------------------------------------------------------------------------ initializer


async def test_each_thread_is_set_up_once_before_its_first_call_and_in_no_context_of_a_request():
    seen = []
    set_up = SetUp()

    def initializer():
        set_up()
        seen.append((request.get(), current_context().name))

    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=3, initializer=initializer)
        request.set("of somebody")
        both = threading.Barrier(3)

        def call():
            both.wait(20)
            return set_up.thread(), request.get()

        for _ in range(3):
            results = await asyncio.gather(*(lane.run(call) for _ in range(3)))
            assert {thread for thread, _ in results} == set(set_up.begun)
            assert {value for _, value in results} == {"of somebody"}
    assert len(set_up.begun) == len(set(set_up.begun)) == 3
    assert [value for value, _ in seen] == [None] * 3
    assert all(name.startswith("lane-initializer-") for _, name in seen)


async def test_calls_that_wait_fail_with_what_an_initializer_raises_and_only_the_next_one_tries_again(events):
    set_up = SetUp(fail=(1, 2))
    async with Supervisor("app") as sup:
        lane = sup.pool("lane", kind="thread", size=1, initializer=set_up)
        for times in (1, 2):
            set_up.go.clear()
            calls = [asyncio.create_task(lane.run(set_up.thread)) for _ in range(3)]
            await until(lambda: sup.statistics().queued == 3)
            set_up.go.set()
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(error) for error in errors] == [SupervisorError] * 3
            assert len({id(error) for error in errors}) == 3
            assert all(isinstance(error.__cause__, ValueError) for error in errors)
            assert "the initializer of pool 'lane' has failed: ValueError: no model" in str(errors[0])
            await asyncio.sleep(0.05)
            assert len(set_up.begun) == times, "it is not tried again by itself"
            assert isinstance(inside.pool_of(sup, "lane").readiness.fault.__cause__, ValueError)
        assert await lane.run(set_up.thread) is set_up.begun[2]
        assert inside.pool_of(sup, "lane").readiness.fault is None
    told = [event for event in events if event["event"] == "supervisor.pool_not_ready"]
    assert [(event["pool"], event["level"]) for event in told] == [("lane", "error")], "once, until one succeeds"


async def test_a_thread_more_that_cannot_be_set_up_costs_no_call_where_others_are():
    set_up = SetUp()
    gate = threading.Event()
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=2, initializer=set_up)
        first = await lane.run(set_up.thread)
        set_up.fail = (2,)
        held = asyncio.create_task(lane.run(gate.wait))
        await until(lambda: sup.statistics().workers.get("running") == 1)
        waiting = asyncio.create_task(lane.run(set_up.thread))
        await until(lambda: len(set_up.begun) == 2 and size(sup, "lane") == 1)
        assert inside.pool_of(sup, "lane").readiness.ready == 1
        gate.set()
        assert await held
        assert await waiting is first


async def test_an_initializer_that_exits_with_success_has_succeeded():
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=1, initializer=lambda: exec("raise SystemExit"))
        assert await lane.run(abs, -1) == 1


async def test_the_time_in_which_nobody_is_set_up_counts_to_no_timeout_but_to_all_that_a_call_has(ladder_time):
    set_up = SetUp(blocked=True)
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=1, initializer=set_up)
        waiting = asyncio.create_task(lane.run(set_up.thread, timeout=0.1))
        bounded = asyncio.create_task(lane.run(set_up.thread, timeout=0.2, within=0.4))
        await until(lambda: set_up.begun)
        await ladder_time.advance(0.4)
        with pytest.raises(WorkerTimeout):
            await bounded
        await ladder_time.advance(10)
        assert not waiting.done()
        set_up.go.set()
        assert await waiting is set_up.begun[0]
        gate = threading.Event()
        held = asyncio.create_task(lane.run(gate.wait))
        await until(lambda: sup.statistics().workers.get("running") == 1)
        waiting = asyncio.create_task(lane.run(set_up.thread, timeout=0.1))
        await ladder_time.advance(0.09)
        assert not waiting.done()
        await ladder_time.advance(0.01)  # from here on, all counts
        with pytest.raises(WorkerTimeout):
            await waiting
        gate.set()
        await held


@pytest.mark.parametrize("waits", ["for its stop", "deaf"])
async def test_an_initializer_that_blocks_holds_up_no_shutdown_and_is_named(waits, leftovers):
    entered = threading.Event()

    def initializer():
        entered.set()
        current_context().stop.wait() if waits == "for its stop" else leftovers.block()

    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=1, initializer=initializer)
        call = asyncio.create_task(lane.run(abs, -1))
        await until(entered.is_set)
        assert any(worker.name.startswith("lane-initializer-") for worker in sup.workers())
        began = time.monotonic()
        report = await sup.shutdown(timeout=20 if waits == "for its stop" else 0.3)
        assert time.monotonic() - began < 5
    (outcome,) = report.outcomes
    assert outcome.worker.startswith("lane-initializer-")
    assert outcome.ended == ("stopped" if waits == "for its stop" else "abandoned")
    assert report.counts()["cancelled"] == 1
    if waits == "deaf":
        assert "initialization.py" not in outcome.stack
    with pytest.raises(SupervisorError):
        await call


async def test_an_initializer_that_is_about_to_begin_as_a_shutdown_does_never_begins(monkeypatch):
    set_up = SetUp()
    stopped = inside.stops(monkeypatch)
    with Halt(inside.SETS_A_THREAD_UP) as halt:
        async with Supervisor() as sup:
            lane = sup.pool("lane", kind="thread", size=1, initializer=set_up)
            gate, asked = threading.Event(), threading.Event()

            def hold():
                with current_context().on_stop(asked.set):
                    gate.wait(20)

            held, call = asyncio.create_task(sup.run(hold)), asyncio.create_task(lane.run(set_up.thread))
            await until(lambda: halt.stands.is_set() and sup.statistics().workers.get("running") == 1)
            shutdown = asyncio.create_task(sup.shutdown(timeout=20))
            await until(asked.is_set)
            halt.go.set()
            await until(lambda: size(sup, "lane") == 0)
            gate.set()
            began = time.monotonic()
            report = await shutdown
            assert time.monotonic() - began < 5
            await asyncio.gather(held, call, return_exceptions=True)
    assert not set_up.begun
    assert [outcome.ended for outcome in report.outcomes] == ["stopped"]
    assert len(stopped) == 1, "the loop goes in circles"


# ------------------------------------------------------------------------------------------------ warm, idle_timeout


async def test_warm_threads_are_there_before_any_call_and_stay():
    set_up = SetUp(blocked=True)
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=4, initializer=set_up, warm=2, idle_timeout=0.05)
        ready = asyncio.create_task(lane.ready())
        await until(lambda: len(set_up.begun) == 2)
        assert not ready.done()
        set_up.go.set()
        await ready
        all_four = threading.Barrier(5)
        calls = [asyncio.create_task(lane.run(all_four.wait, 20)) for _ in range(4)]
        await until(lambda: all_four.n_waiting == 4)
        assert size(sup, "lane") == 4
        await asyncio.to_thread(all_four.wait, 20)
        await asyncio.gather(*calls)
        await until(lambda: size(sup, "lane") == 2)
        await asyncio.sleep(0.2)
        assert size(sup, "lane") == 2
        await asyncio.gather(*(lane.run(set_up.thread) for _ in range(20)))
        await until(lambda: not [t for t in set_up.begun if t.is_alive()][2:])
        await until(lambda: inside.pool_of(sup, "lane").readiness.ready == 2)


async def test_warm_threads_that_cannot_be_set_up_make_ready_fail():
    set_up = SetUp(fail=(1,))
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=1, initializer=set_up, warm=1)
        time.sleep(0.05)  # noqa: ASYNC251  # it has failed before the loop goes on
        with pytest.raises(SupervisorError, match="no model") as caught:
            await lane.ready()
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(SupervisorError, match="no model"):
            await lane.ready()
        assert await lane.run(set_up.thread) is set_up.begun[1]
        await lane.ready()


async def test_the_default_pool_of_threads_can_be_kept_warm_too():
    async with Supervisor() as sup:
        lane = sup.pool("thread", kind="thread", size=3, warm=2, idle_timeout=0.05)
        await lane.ready()
        assert size(sup, "thread") == 2
        assert await sup.run(abs, -1) == 1


async def test_a_call_that_comes_as_a_thread_has_been_idle_for_long_enough_is_carried_out():
    """The thread stands between its look at the time and its leave; then, between the leave and the second look."""
    for line in (inside.LEAVES_WHEN_IDLE, inside.LOOKS_FOR_CALLS_AS_IT_LEAVES):
        with Halt(line) as halt:
            async with Supervisor() as sup:
                lane = sup.pool("lane", kind="thread", size=1, idle_timeout=0.05)
                assert await lane.run(abs, -1) == 1
                await until(halt.stands.is_set)
                call = asyncio.create_task(asyncio.to_thread(lane.executor().submit, abs, -2))
                await until(lambda: len(inside.runs(sup)) == 1)
                halt.go.set()
                assert await asyncio.wrap_future(await call) == 2
                assert size(sup, "lane") == 1


# ------------------------------------------------------------------------------------------------ replaced


@pytest.mark.parametrize("slow", [True, False], ids=["set up", "not set up"])
async def test_no_thread_carries_out_more_calls_than_it_may(slow):
    set_up = SetUp()

    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=2, max_tasks=3, initializer=set_up if slow else None)
        threads = await asyncio.gather(*(lane.run(here) for _ in range(60)))
        assert max(threads.count(thread) for thread in threads) == 3
        assert len(set(threads)) in (20, 21), "the last two may not have been used up"
        await until(lambda: size(sup, "lane") == 2)


async def test_the_next_thread_is_set_up_while_the_last_call_of_a_used_up_one_runs():
    set_up = SetUp()
    gate = threading.Event()
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=1, max_tasks=1, initializer=set_up)
        first = asyncio.create_task(lane.run(lambda: gate.wait(20) and here()))
        await until(lambda: len(set_up.begun) == 2)
        second = asyncio.create_task(lane.run(set_up.thread))
        await asyncio.sleep(0.05)
        assert not second.done(), "one at a time"
        gate.set()
        assert (await first, await second) == tuple(set_up.begun[:2])


async def test_a_used_up_thread_waits_for_the_next_one_and_goes_on_where_that_cannot_be_set_up(ladder_time):
    set_up = SetUp(fail=(2,))
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=1, max_tasks=1, initializer=set_up, warm=1)
        await lane.ready()
        (first,) = set_up.begun
        set_up.go.clear()
        assert await lane.run(set_up.thread) is first
        await until(lambda: len(set_up.begun) == 2 and not inside.pool_of(sup, "lane").readiness.ready)
        waiting = asyncio.create_task(lane.run(set_up.thread, timeout=0.05))
        await ladder_time.advance(0.3)
        assert not waiting.done(), "while nobody takes calls, no timeout counts"
        set_up.go.set()
        assert await waiting is first
        assert inside.pool_of(sup, "lane").readiness.fault is None, "others take its calls"
        await until(lambda: inside.may_try_again(sup, "lane"))
        assert await lane.run(set_up.thread) is first
        assert await lane.run(set_up.thread) is set_up.begun[2]


async def test_a_thread_whose_lifetime_is_over_is_replaced_also_without_work_and_goes_on_until_then():
    set_up = SetUp(blocked_from=2)
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=1, max_lifetime=0.1, initializer=set_up)
        first = await lane.run(set_up.thread)
        await until(lambda: len(set_up.begun) == 2)
        for _ in range(10):
            assert await lane.run(set_up.thread) is first
        set_up.go.set()
        await until(lambda: not first.is_alive())
        assert await lane.run(set_up.thread) is not first
        await until(lambda: size(sup, "lane") == 1)


@pytest.mark.parametrize("at_once", [False, True])
async def test_threads_whose_lifetimes_are_over_go_one_after_the_other(at_once, monkeypatch):
    """Also where all of them have seen that no other is to be replaced, before one has its heir."""
    set_up = SetUp(blocked_from=5)
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=4, max_lifetime=1000, initializer=set_up, warm=4)
        await lane.ready()
        inside.end_lifetimes(sup, "lane")
        if at_once:
            inside.make_heirs_meet(monkeypatch, 4)
        for _ in range(2):  # after a call, each looks whether it is to be replaced
            all_four = threading.Barrier(4)
            await asyncio.gather(*(lane.run(all_four.wait, 20) for _ in range(4)))
        await until(lambda: len(set_up.begun) == 5)
        assert inside.heirs(sup, "lane") == 1
        assert inside.pool_of(sup, "lane").readiness.ready == 4
        set_up.go.set()
        await until(lambda: not any(thread.is_alive() for thread in set_up.begun[:4]))


async def test_the_place_of_a_thread_that_is_abandoned_goes_to_the_one_that_was_to_take_it(leftovers, ladder_time):
    set_up = SetUp()
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=1, max_tasks=1, initializer=set_up)
        call = asyncio.create_task(lane.run(leftovers.block, timeout=0.5, policy=BRIEF))
        await until(lambda: leftovers.entered)
        await ladder_time.advance(0.6)
        with pytest.raises(WorkerTimeout):
            await call
        assert await lane.run(set_up.thread) is set_up.begun[1]
        leftovers.release.set()


# ------------------------------------------------------------------------------------------------ another size


async def test_a_pool_that_grows_takes_the_calls_that_wait_at_once():
    gate = threading.Event()
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=1)
        calls = [asyncio.create_task(lane.run(gate.wait)) for _ in range(5)]
        await until(lambda: sup.statistics().workers.get("running") == 1)
        lane.resize(4)
        await until(lambda: sup.statistics().workers.get("running") == 4)
        gate.set()
        assert all(await asyncio.gather(*calls))


@pytest.mark.parametrize("settings", [{}, {"idle_timeout": 30}], ids=["plain", "managed"])
async def test_a_pool_that_shrinks_ends_what_is_too_much_after_the_present_calls_and_loses_none(settings):
    gates = [threading.Event() for _ in range(12)]
    async with Supervisor() as sup:
        lane = sup.pool("lane", kind="thread", size=4, **settings)
        calls = [asyncio.create_task(lane.run(gate.wait)) for gate in gates]
        await until(lambda: sup.statistics().workers.get("running") == 4)
        lane.resize(1)
        for gate in gates[:3]:
            gate.set()
        await until(lambda: size(sup, "lane") == 1)
        assert [gate.is_set() for gate in gates].count(True) == 3
        for gate in gates:
            gate.set()
            await asyncio.sleep(0)
        assert all(await asyncio.gather(*calls))
        lane.resize(3)
        three = threading.Barrier(3)
        await asyncio.gather(*(lane.run(three.wait, 20) for _ in range(3)))
        lane.resize(2)
        await until(lambda: size(sup, "lane") == 2)  # they are idle
        assert await lane.run(abs, -1) == 1


async def test_calls_return_while_sizes_change_and_threads_come_and_go():
    running, most = 0, 0
    lock = threading.Lock()

    def call(number):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.0002)
        with lock:
            running -= 1
        return number

    async with Supervisor() as sup:
        lane = sup.pool(
            "lane", kind="thread", size=4, max_tasks=7, max_lifetime=0.02, idle_timeout=0.003, initializer=SetUp()
        )
        executor = lane.executor()
        for round_ in range(40):
            lane.resize(1 + round_ % 5)
            calls = [lane.run(call, n) for n in range(20)]
            others = [asyncio.wrap_future(executor.submit(call, n)) for n in range(20)]
            assert await asyncio.wait_for(asyncio.gather(*calls, *others), 60) == [*range(20), *range(20)]
            await asyncio.sleep(0.004 * (round_ % 3))
        assert most <= 5
        await until(lambda: size(sup, "lane") == 0)
