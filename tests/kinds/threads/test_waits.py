"""A worker that waits in a Condition is woken where it is injected, and nobody else is."""

import asyncio
import concurrent.futures
import gc
import inspect
import queue
import sys
import threading
import time
from pathlib import Path

import pytest

from supervisor import Ask, EscalationPolicy, Inject, StopInjected, Supervisor

from ...inside import MISSING, Gate, leaving_thread, thread_of_ours
from ...programs import found_by
from ...stepper import GivesWay
from ...waiting import until
from .waiting_storm import KINDS, Derived, InPython, Own

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
    "Condition.wait, over a lock in Python code": lambda: wait_in(threading.Condition(InPython())),
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


async def test_a_cancelled_call_is_woken_only_if_a_policy_is_named(quiet, ladder_time):
    """By default an exception is not thrown into what a service goes on with, wherever it waits."""
    event = threading.Event()

    def wait():
        return event.wait(60)

    async with Supervisor() as sup:
        call = asyncio.ensure_future(sup.run(wait, within=1))
        await until(lambda: sup.workers() and in_a_wait(sup.workers()[0]))
        await ladder_time.advance(1)
        with pytest.raises(TimeoutError) as caught:
            await call
        assert caught.value.outcome.ended == "abandoned"
        call = asyncio.ensure_future(sup.run(wait, timeout=0.5, policy=POLICY))
        await until(lambda: sup.workers() and in_a_wait(sup.workers()[0]))
        await ladder_time.advance(0.6)
        with pytest.raises(TimeoutError) as caught:
            await call
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


# ------------------------------------------------------------------------------------------------ waits that are over


def over_a_lock():
    return threading.Condition(threading.Lock())


def wait_for(seconds, condition):
    with condition:
        return condition.wait(seconds)


def got_when_it_comes():
    taken = queue.Queue()
    once_it_waits(taken.not_empty, taken.put, 1)
    return taken.get


def notified(condition):
    once_it_waits(condition, notify, condition)
    return lambda: wait_for(None, condition)


def notify(condition):
    with condition:
        condition.notify()


def once_it_waits(condition, function, *args):
    """Has this called in another thread once somebody waits there; itself it must wait in no Condition."""

    def call():
        while not vars(condition)["_waiters"]:
            time.sleep(0.001)
        function(*args)

    threading.Thread(target=call).start()


OVER = {
    "Queue.get": (4, lambda: lambda: queue.Queue().get(timeout=0.1)),
    "Event.wait": (4, lambda: lambda: threading.Event().wait(0.1)),
    "Condition.wait": (6, lambda: lambda: wait_for(0.1, threading.Condition())),
    "Condition.wait, over a Lock": (4, lambda: lambda: wait_for(0.1, over_a_lock())),
    "Condition.wait(0), over a Lock": (4, lambda: lambda: wait_for(0, over_a_lock())),
    "Condition.wait, over a lock of somebody's own": (4, lambda: lambda: wait_for(0.1, threading.Condition(Own()))),
    "Queue.get, notified": (4, got_when_it_comes),
    "Condition.wait, notified": (6, lambda: notified(threading.Condition())),
}
"""What prepares a wait, each with the number of the call of C code in it that is the wait itself."""

needs_monitoring = pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no sys.monitoring")


def injected_when_over(number, prepare):
    """What an injection answers, and how the wait ends, where its thread has not come further than its check."""

    def work():
        thread_of_ours()
        try:
            started.acquire()  # the start of this thread, too, is a wait
            with way:
                ends.append(gate.run(wait, ()))
        finally:
            leaving_thread()

    gate, ends, started, way = Gate(), [], threading.Lock(), GivesWay(threading.Condition.wait.__code__, number)
    wait = prepare()
    started.acquire()
    thread = threading.Thread(target=work)
    thread.start()
    started.release()
    assert way.there.acquire(timeout=20)
    answer = gate.inject()
    thread.join()
    return answer, *ends.pop()


@needs_monitoring
@pytest.mark.parametrize(("number", "prepare"), OVER.values(), ids=OVER)
def test_a_wait_that_is_over_has_its_lock_again_when_it_is_struck(number, prepare):
    """It would release one that it does not have, or one that somebody else has."""
    answer, _, error = injected_when_over(number, prepare)
    assert answer == "injected"
    assert type(error) is StopInjected


@needs_monitoring
@pytest.mark.parametrize("prepare", [lambda it: lambda: wait_for(0.1, it), notified], ids=["its time", "notified"])
def test_a_wait_that_may_be_over_is_left_alone_where_its_lock_is_python_code(prepare):
    answer, value, error = injected_when_over(4, lambda: prepare(threading.Condition(InPython())))
    if sys.version_info < (3, 13):
        assert answer == "injected"
        assert type(error) is StopInjected
    else:
        assert answer == "waiting"
        assert error is None
        assert value is not MISSING


def test_a_condition_in_which_a_wait_was_struck_is_as_before():
    """Also for those that wait in it later, and for those that have waited."""

    def work():
        thread_of_ours()
        try:
            errors.append(gate.run(wait_in, (condition,))[1])
        finally:
            leaving_thread()

    gate, errors, condition = Gate(), [], over_a_lock()
    thread = threading.Thread(target=work)
    thread.start()
    while gate.inject() != "injected":
        pass
    thread.join()
    assert type(errors.pop()) is StopInjected
    assert wait_for(0.01, condition) is False
    once_it_waits(condition, notify, condition)
    assert wait_for(20, condition) is True
    assert condition.acquire(False)


# ------------------------------------------------------------------------------------------------ storms


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
