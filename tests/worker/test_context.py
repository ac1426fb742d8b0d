"""What a worker sees: the stop Event, check, sleep, on_stop, shield, remaining and extend."""

import asyncio
import math
import threading

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    StopEvent,
    StopInjected,
    Supervisor,
)

from .. import inside
from ..waiting import until


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
        thread.join(20)
        assert not thread.is_alive()
    assert len(left) == 300


def test_callbacks_run_once_in_order_on_a_helper_thread_before_an_injection(virtual):
    order, ready = [], threading.Event()

    def work(ctx):
        ctx.on_stop(lambda: order.append(("first", threading.current_thread().name)))
        with ctx.on_stop(lambda: order.append(("second", ctx.reason))):
            try:
                ready.set()
                spin()
            except StopInjected:
                order.append("injected")

    async def main(time):
        async with Supervisor(policy=EscalationPolicy(Ask(1), Inject(20))) as sup:
            worker = await sup.start(work)
            await until(ready.is_set)
            stopping = asyncio.create_task(worker.stop("why"))
            await until(lambda: len(order) == 2)
            await time.advance(1)
            await stopping

    virtual(main)
    (first, name), second, injected = order
    assert first == "first"
    assert name.endswith("/on_stop")
    assert second == ("second", "why")
    assert injected == "injected"


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
                    go_on.wait(20)
                    go_on.clear()
            except StopInjected:
                caught.append(1)

    async def entered(event):
        await until(event.is_set)
        event.clear()

    within, go_on = threading.Event(), threading.Event()

    async def main(loop):
        sup = Supervisor(policy=EscalationPolicy(Ask(1), Inject(10, every=2)))
        worker = await sup.start(stubborn)
        stopping = asyncio.create_task(worker.stop())
        await loop.advance(0)
        for seconds in (1, 2, 2):  # Ask's grace, then twice `every`
            await entered(within)
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

    outcome = await stopped(work, policy=EscalationPolicy(Inject(20)), reason="why", after=ready)
    assert (outcome.ended, outcome.step, seen) == ("injected", "inject", ["why"])
    assert [event["event"] for event in events if event.get("step")] == ["worker.stopping", "worker.ended"]
