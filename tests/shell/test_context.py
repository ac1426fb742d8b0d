"""What a worker sees: the stop Event, check, sleep, on_stop, shield, remaining and extend."""

import asyncio
import math
import socket
import sys
import threading
import time

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    StopEvent,
    StopInjected,
    StopRequested,
    Supervisor,
    current_context,
)

from .. import inside


def spin():
    while True:
        pass


def about(seconds):
    return pytest.approx(seconds, abs=0.001)  # the virtual clock moves by a little more than it is told


async def stopped(fn, *args, policy=None, reason="", after=None):
    """Starts a worker, stops it (after an event), and returns its outcome."""
    async with Supervisor(policy=policy) as sup:
        worker = await sup.start(fn, *args)
        while after is not None and not after.is_set():
            await asyncio.sleep(0)
        return await worker.stop(reason)


async def test_check_raises_once_a_stop_is_asked():
    turns, checked = [], threading.Event()

    def work(ctx):
        ctx.check()
        checked.set()
        try:
            while True:
                turns.append(1)
                ctx.check()
        finally:
            turns.append("unwound")

    outcome = await stopped(work, after=checked)
    assert (outcome.ended, outcome.step, outcome.value, outcome.error) == ("stopped", "ask", None, None)
    assert turns[-1] == "unwound"


async def test_sleep_is_ended_by_a_stop():
    def work(ctx):
        ctx.sleep(0.001)
        ctx.sleep(3600)

    outcome = await stopped(work)
    assert outcome.ended == "stopped"
    assert outcome.stop_seconds < 2


async def test_wait_returns_whether_a_stop_was_asked():
    seen, looked = [], threading.Event()

    def work(ctx):
        seen.extend([ctx.stop.is_set(), ctx.stop.wait(0), ctx.stop.wait(0.001), ctx.stop.wait(-1)])
        looked.set()
        seen.extend([ctx.stop.wait(), ctx.stop.wait(0), ctx.stop.is_set()])

    await stopped(work, after=looked)
    assert seen == [False] * 4 + [True] * 3


@pytest.mark.parametrize(("seconds", "error"), [(-1, ValueError), (math.nan, ValueError), ("1", TypeError)])
@pytest.mark.parametrize("method", ["sleep", "extend"])
async def test_seconds_that_are_none_are_refused_by_name(method, seconds, error):
    async with Supervisor() as sup:
        with pytest.raises(error, match=rf"{method}\(seconds="):
            await sup.run(lambda: getattr(current_context(), method)(seconds))


async def test_many_threads_can_wait_for_one_stop():
    def work(ctx):
        results = []
        helpers = [threading.Thread(target=lambda: results.append(ctx.stop.wait(10))) for _ in range(10)]
        for helper in helpers:
            helper.start()
        ctx.stop.wait()
        for helper in helpers:
            helper.join(10)
        return results

    assert (await stopped(work)).value == [True] * 10


def test_a_stop_event_is_set_without_a_lock_that_a_signal_could_find_taken():
    event = StopEvent()
    assert repr(event) == "<StopEvent: not set>"
    event.set()
    event.set()
    assert event.wait(), "no waiter, no chain"
    assert repr(event) == "<StopEvent: set>"


def test_the_chain_reaches_every_waiter_though_links_break():
    chain = inside.Chain()
    events = [StopEvent(chain) for _ in range(300)]
    left = []
    started = threading.Barrier(301)

    def wait(event, timeout):
        started.wait()
        left.append(event.wait(timeout))

    threads = [
        threading.Thread(target=wait, args=(event, None if number % 3 else 0.0)) for number, event in enumerate(events)
    ]
    for thread in threads:
        thread.start()
    started.wait()
    for event in events:
        event.set()
    chain.start()
    chain.release_all()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(left) == 300


async def test_on_stop_wakes_a_blocked_socket():
    ours, theirs = socket.socketpair()

    def work(ctx):
        with ctx.on_stop(lambda: ours.shutdown(socket.SHUT_RDWR)):
            return ours.recv(100)

    with ours, theirs:
        outcome = await stopped(work)
    assert (outcome.ended, outcome.value) == ("stopped", b"")
    assert outcome.stop_seconds < 2


async def test_callbacks_run_once_in_order_on_a_helper_thread_before_an_injection():
    order, ready = [], threading.Event()

    def work(ctx):
        ctx.on_stop(lambda: order.append(("first", threading.current_thread().name)))
        with ctx.on_stop(lambda: order.append(("second", ctx.reason))):
            try:
                ready.set()
                spin()
            except StopInjected:
                order.append("injected")

    await stopped(work, policy=EscalationPolicy(Ask(0.1), Inject(5)), reason="why", after=ready)
    (first, name), second, injected = order
    assert first == "first"
    assert name.endswith("/on_stop")
    assert second == ("second", "why")
    assert injected == "injected"


async def test_a_callback_whose_block_was_left_does_not_run():
    ran, left = [], threading.Event()

    def work(ctx):
        with ctx.on_stop(lambda: ran.append("left before")):
            pass
        left.set()
        ctx.stop.wait()

    await stopped(work, after=left)
    assert ran == []


async def test_a_late_registration_runs_at_once_here():
    ran = []

    def work(ctx):
        ctx.stop.wait()
        with ctx.on_stop(lambda: ran.append(threading.get_ident())):
            return ran == [threading.get_ident()]

    assert (await stopped(work)).value is True


async def test_leaving_the_block_waits_for_a_running_callback():
    begun, go_on, log = threading.Event(), threading.Event(), []

    def callback():
        begun.set()
        go_on.wait(10)
        log.append("callback done")

    def work(ctx):
        with ctx.on_stop(callback):
            registered.set()
            begun.wait(10)
            threading.Timer(0.02, go_on.set).start()
        log.append("block left")

    registered = threading.Event()
    await stopped(work, after=registered)
    assert log == ["callback done", "block left"]


async def test_a_callback_that_leaves_its_own_block_does_not_wait_for_itself():
    def work(ctx):
        def callback():
            registration.__exit__(None, None, None)

        registration = ctx.on_stop(callback)
        registered.set()
        ctx.stop.wait()
        registration.__exit__(None, None, None)
        return "no deadlock"

    registered = threading.Event()
    assert (await stopped(work, after=registered)).value == "no deadlock"


async def test_errors_of_callbacks_are_logged_and_stop_nothing(events):
    ran = []

    def broken():
        raise ValueError("broken callback")

    def exits():
        raise SystemExit(3)

    def work(ctx):
        ctx.on_stop(broken)
        ctx.on_stop(exits)
        ctx.on_stop(lambda: ran.append("the next"))
        registered.set()
        ctx.stop.wait()
        ctx.on_stop(broken)  # late
        ctx.on_stop(exits)
        return "went on"

    registered = threading.Event()
    async with Supervisor() as sup:
        worker = await sup.start(work, name="w")
        while not registered.is_set():
            await asyncio.sleep(0)
        assert (await worker.stop()).value == "went on"
        while len(failed := [event for event in events if event["event"] == "worker.callback_failed"]) < 4:
            await asyncio.sleep(0.001)
        while not ran:
            await asyncio.sleep(0.001)
    assert {str(event["exc_info"]) for event in failed} == {"broken callback", "3"}
    assert all((event["worker"], event["level"]) == ("w", "error") for event in failed)


async def test_a_callback_that_blocks_is_logged_and_the_ladder_goes_on(events, leftovers):
    ready = threading.Event()

    def work(ctx):
        ctx.on_stop(leftovers.block)
        ready.set()
        spin()

    outcome = await stopped(work, policy=EscalationPolicy(Ask(0.05), Inject(5)), after=ready)
    assert outcome.ended == "injected"
    (blocked,) = (event for event in events if event["event"] == "worker.callback_blocked")
    assert "block" in blocked["callback"]


async def test_a_callback_without_a_decent_repr_harms_nobody(events):
    class Broken:
        def __repr__(self):
            raise RuntimeError("no repr")

        def __call__(self):
            raise ValueError

        def method(self):
            raise ValueError

    def work(ctx):
        ctx.on_stop(Broken())
        ctx.on_stop(Broken().method)
        registered.set()
        ctx.stop.wait()

    registered = threading.Event()
    assert (await stopped(work, after=registered)).ended == "stopped"
    names = {event["callback"].rpartition(".")[2] for event in events if event["event"] == "worker.callback_failed"}
    assert names <= {"Broken", "method"}


async def test_on_stop_wants_a_callable():
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=r"on_stop\(callback=5\)"):
            await sup.run(lambda: current_context().on_stop(5))  # type: ignore[arg-type]


async def test_a_shield_holds_an_injection_back():
    log, ready = [], threading.Event()

    def work(ctx):
        try:
            with ctx.shield():
                ready.set()
                ctx.stop.wait()
                time.sleep(0.15)
                log.append("stored")
            log.append("not reached")
        except StopInjected:
            log.append("raised on leaving")

    outcome = await stopped(work, policy=EscalationPolicy(Ask(0.02), Inject(5)), after=ready)
    assert log == ["stored", "raised on leaving"]
    assert outcome.ended == "injected"


async def test_a_shield_belongs_to_the_workers_own_thread():
    def work(ctx):
        errors = []

        def elsewhere():
            try:
                with ctx.shield():
                    pass
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return errors

    async with Supervisor() as sup:
        worker = await sup.start(work)
        (error,) = (await worker.wait()).value
        assert "own thread" in str(error)


async def test_a_worker_is_stuck_in_its_callbacks_block_under_injection_and_nothing_breaks():
    """Registering and leaving blocks in a storm of injections: the registry stays whole."""

    hits = []

    def work(ctx):
        sys.settrace(None)  # coverage's tracer has locks of its own, which this storm would leave locked
        until = len(hits) + 100
        while len(hits) < until:
            try:
                for _ in range(20):
                    with ctx.on_stop(int), ctx.shield():
                        pass
                    ctx.extend(0)
                    ctx.remaining()
                    ctx.stop.wait(0)
            except StopInjected:
                hits.append(1)  # the next may strike here, and ends it then

    ended = [await stopped(work, policy=EscalationPolicy(Ask(0), Inject(30, every=0.001))) for _ in range(10)]
    assert {(outcome.ended, outcome.error) for outcome in ended} == {("injected", None)}
    assert len(hits) >= 10


def test_remaining_and_extend_on_the_clock_of_the_ladder(virtual):
    ask, answer = threading.Event(), []

    def work(ctx):
        while not ctx.stop.is_set():
            question, reply = questions.get()
            reply(question(ctx))
        while True:
            question, reply = questions.get()
            if question is None:
                return
            reply(question(ctx))

    import queue

    questions = queue.SimpleQueue()

    async def asked(question):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        questions.put((question, lambda value: loop.call_soon_threadsafe(future.set_result, value)))
        return await future

    async def main(time):
        sup = Supervisor(policy=EscalationPolicy(Ask(5), Inject(2, every=100)), shutdown_timeout=20)
        worker = await sup.start(work)
        assert await asked(lambda ctx: ctx.remaining()) == math.inf
        assert await asked(lambda ctx: ctx.extend(5)) == 0.0
        stopping = asyncio.create_task(worker.stop())
        await time.advance(0)
        assert await asked(lambda ctx: ctx.remaining()) == about(5)
        await time.advance(2)
        assert await asked(lambda ctx: ctx.remaining()) == about(3)
        assert await asked(lambda ctx: ctx.extend(4)) == about(4)
        assert await asked(lambda ctx: ctx.remaining()) == about(7)
        await time.advance(6)  # the first end of Ask has passed
        assert worker.state == "stopping"
        assert inside.steps_of(inside.runs(sup)[0])[0] == Ask(5)
        assert await asked(lambda ctx: ctx.extend(1000)) == about(20 - 8 - 1 - 2)
        closing = asyncio.create_task(sup.shutdown(timeout=8))
        await time.advance(0)
        left = await asked(lambda ctx: ctx.remaining())
        assert left == about(8 * 10 / 12)
        assert await asked(lambda ctx: ctx.extend(1000)) == about(0)
        questions.put((None, None))
        await stopping
        await closing
        return worker.outcome

    outcome = virtual(main)
    assert outcome.ended == "stopped"
    assert not ask.is_set()
    assert answer == []


def test_injection_is_repeated_while_the_grace_lasts(virtual):
    caught = []

    def stubborn(ctx):
        for _ in range(3):
            try:
                with ctx.shield():
                    within.set()
                    go_on.wait(10)
                    go_on.clear()
            except StopInjected:
                caught.append(1)

    async def until(event):
        while not event.is_set():
            await asyncio.sleep(0)
        event.clear()

    within, go_on = threading.Event(), threading.Event()

    async def main(loop):
        sup = Supervisor(policy=EscalationPolicy(Ask(1), Inject(10, every=2)))
        worker = await sup.start(stubborn)
        stopping = asyncio.create_task(worker.stop())
        await loop.advance(0)
        for seconds in (1, 2, 2):  # Ask's grace, then twice `every`
            await until(within)
            await loop.advance(seconds)
            go_on.set()
        outcome = await stopping
        await sup.shutdown()
        return outcome

    outcome = virtual(main)
    assert len(caught) == 3
    assert outcome.ended == "injected"


async def test_a_worker_without_a_step_to_ask_it_still_hears_why(events):
    seen, ready = [], threading.Event()

    def work(ctx):
        try:
            ready.set()
            spin()
        finally:
            seen.append(ctx.reason)

    outcome = await stopped(work, policy=EscalationPolicy(Inject(5)), reason="why", after=ready)
    assert (outcome.ended, outcome.step, seen) == ("injected", "inject", ["why"])
    assert [event["event"] for event in events if event.get("step")] == ["worker.stopping", "worker.ended"]


async def test_stop_requested_that_nobody_asked_for_is_a_failure():
    def work(ctx):
        raise StopRequested

    async with Supervisor() as sup:
        outcome = await (await sup.start(work)).wait()
    assert outcome.ended == "failed"


async def test_the_repr_says_who_and_whether():
    seen = []

    def work(ctx):
        seen.append(repr(ctx))
        ctx.stop.wait()
        seen.append(repr(ctx))

    async with Supervisor() as sup:
        worker = await sup.start(work, name="w")
        while not seen:
            await asyncio.sleep(0)
        await worker.stop("why")
    assert seen == [
        "<WorkerContext of thread worker 'w', run 1>",
        "<WorkerContext of thread worker 'w', run 1, stopping: why>",
    ]
