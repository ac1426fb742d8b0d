"""A worker that waits in a Condition is woken where it is injected, and nobody else is."""

import asyncio
import concurrent.futures
import gc
import inspect
import queue
import sys
import threading
from pathlib import Path

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor

from ...inside import Gate, leaving_thread, thread_of_ours
from ...programs import found_by
from .waiting_storm import KINDS, Derived, Own

ROOT = Path(__file__).parents[3]
POLICY = EscalationPolicy(Ask(0.01), Inject(20, every=20))


def full_queue():
    full = queue.Queue(1)
    full.put(1)
    return full


WAITS = {
    "Event.wait": lambda: threading.Event().wait(),
    "Event.wait, with a timeout": lambda: threading.Event().wait(60),
    "Condition.wait": lambda: wait_in(threading.Condition()),
    "Condition.wait, over a lock of somebody's own": lambda: wait_in(threading.Condition(Own())),
    "Condition.wait, of a class derived from it": lambda: wait_in(Derived()),
    "Condition.wait_for": lambda: wait_in(threading.Condition(), lambda: False),
    "Queue.get": lambda: queue.Queue().get(),
    "Queue.put": lambda: full_queue().put(2),
    "Queue.join": lambda: full_queue().join(),
    "PriorityQueue.get": lambda: queue.PriorityQueue().get(timeout=60),
    "Semaphore.acquire": lambda: threading.Semaphore(0).acquire(),
    "Barrier.wait": lambda: threading.Barrier(2).wait(),
    "Future.result": lambda: concurrent.futures.Future().result(),
    "futures.wait": lambda: concurrent.futures.wait([concurrent.futures.Future()]),
    "as_completed": lambda: list(concurrent.futures.as_completed([concurrent.futures.Future()])),
}


def wait_in(condition, *predicate):
    with condition:
        if predicate:
            condition.wait_for(*predicate)
        else:
            condition.wait()


def in_a_wait(worker):
    stack = worker.stack()
    return stack is not None and "in wait" in stack and "waiter.acquire" in stack


async def until_it_waits(worker):
    while not in_a_wait(worker):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
async def test_the_wait_ends_at_once(wait, quiet):
    async with asyncio.timeout(30), Supervisor(policy=POLICY) as sup:
        worker = await sup.start(lambda _: wait())
        await until_it_waits(worker)
        outcome = await worker.stop()
    assert outcome.ended == "injected"


async def test_a_wait_in_a_shield_goes_on(quiet):
    event = threading.Event()

    def work(ctx):
        with ctx.shield():
            assert event.wait(60)
            reached.append(1)

    reached = []
    async with Supervisor(policy=EscalationPolicy(Ask(0.01), Inject(20, every=0.01))) as sup:
        worker = await sup.start(work)
        await until_it_waits(worker)
        stopping = asyncio.ensure_future(worker.stop())
        await asyncio.sleep(0.1)
        event.set()
        assert (await stopping).ended == "injected"
    assert reached


async def test_a_cancelled_call_is_woken_only_if_a_policy_is_named(quiet):
    """By default an exception is not thrown into what a service goes on with, wherever it waits."""
    event = threading.Event()

    def wait():
        return event.wait(60)

    async with Supervisor() as sup:
        call = asyncio.ensure_future(sup.run(wait, within=1))
        with pytest.raises(TimeoutError) as caught:
            await call
        assert caught.value.outcome.ended == "abandoned"
        with pytest.raises(TimeoutError) as caught:
            await sup.run(wait, timeout=0.5, policy=POLICY)
        assert caught.value.outcome.ended == "injected"
        event.set()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="there, a collection begins only at a check of the interpreter")
def test_nothing_is_collected_between_the_look_and_the_injection():
    """A finalizer would let other threads in, and the worker would be struck somewhere else."""

    def work():
        thread_of_ours()
        try:
            return gate.run(lock.acquire, (True, 20))  # nothing wakes it there
        finally:
            leaving_thread()

    def collected(phase, _):
        places.append(inspect.currentframe().f_back.f_code.co_name)

    gate, lock, places = Gate(), threading.Lock(), []
    lock.acquire()
    thread = threading.Thread(target=work)
    thread.start()
    while gate.inject() != "injected":  # it does not wait yet
        pass
    threshold = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(1)
    try:
        for _ in range(20):
            gate.inject()
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(collected)
        lock.release()
        thread.join()
    assert gc.isenabled()
    assert places
    assert "_all_at_once" not in places


def storm(kind, runs, switch_interval):
    return found_by("tests.kinds.threads.waiting_storm", kind, runs, switch_interval)[0]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_the_storm(kind):
    report = storm(kind, 500, 1e-5)
    assert report["bad"] == {}
    assert report["seen"]["injected"] > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("switch_interval", [1e-6, 1e-4])
@pytest.mark.parametrize("kind", KINDS)
def test_the_long_storm(kind, switch_interval):
    assert storm(kind, 10_000, switch_interval)["bad"] == {}
