"""An injection leaves nothing taken or half done that others need: it waits for its worker to be elsewhere."""

import _imp
import asyncio
import logging
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor import Ask, EscalationPolicy, Inject, StopInjected, Supervisor

from ...programs import found_by
from ...waiting import LIMIT, until
from .spinning import USED

ROOT = Path(__file__).parents[3]


def spinning(name, rounds):
    return found_by("tests.kinds.threads.spinning", name, rounds)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", USED)
def test_what_a_worker_used_can_be_used_by_others(name):
    found, errors = spinning(name, 10)
    assert found["ended"] == {"injected": 10}
    assert found["broken"] == 0
    assert found["switching"] == pytest.approx(0.005)
    assert "thread started by" not in errors, "a thread of somebody else's was struck"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", USED)
def test_what_a_worker_used_can_be_used_by_others_many_times(name):
    found, errors = spinning(name, 300)
    assert found["broken"] == 0
    assert "thread started by" not in errors, "a thread of somebody else's was struck"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="who is struck there is struck within the `with`")
async def test_a_worker_that_looks_for_a_module_is_struck_once_it_has_found_it(monkeypatch, quiet):
    """Until then it has the lock of all imports, and would be struck as it is about to give it back."""
    looks, struck = threading.Event(), []

    class Finder:
        @staticmethod
        def find_spec(name, path, target=None):
            if name != "a_module_that_is_nowhere":
                return
            looks.set()
            until = time.monotonic() + 0.5
            try:
                while time.monotonic() < until:
                    pass
            except BaseException as error:
                struck.append(error)
                raise

    def work(_):
        with suppress(ImportError):
            import a_module_that_is_nowhere  # noqa: F401, PLC0415

        def endless():
            while True:
                pass

        endless()

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    async with Supervisor(policy=EscalationPolicy(Ask(0.01), Inject(LIMIT, every=0.01))) as sup:
        worker = await sup.start(work)
        await until(looks.is_set)
        outcome = await worker.stop()
    assert outcome.ended == "injected"
    assert struck == []
    assert not _imp.lock_held()


async def test_a_worker_that_waits_for_a_lock_of_such_code_is_struck_once_it_has_given_it_back(events, leftovers):
    """Until then it is not injectable: the log says so, with its stack."""
    handler = logging.Handler()
    handler.acquire()

    def work(ctx):
        handler.acquire()  # what is struck at the end of it has the lock for ever
        try:
            leftovers.release.wait(0)
        finally:
            handler.release()
            endless()

    def endless():
        while True:
            pass

    async with Supervisor(policy=EscalationPolicy(Ask(0.2), Inject(0.2))) as sup:
        worker = await sup.start(work, name="writer")
        await until(lambda: "handler.acquire" in worker.stack())
    assert sup.report.outcomes[0].ended == "abandoned"
    waiting = [event for event in events if event["event"] == "worker.injection_waits"]
    assert [event["worker"] for event in waiting] == ["writer"]
    assert "handler.acquire" in waiting[0]["stack"]
    assert waiting[0]["blocked_in"].startswith("waiting for a lock at ")
    assert "acquire(timeout=...)" in waiting[0]["freed_by"]
    ended = next(event for event in events if event["event"] == "worker.ended")
    assert ended["blocked_in"] == waiting[0]["blocked_in"]
    assert f"{ended['blocked_in']}; what would end it: {ended['freed_by']}" in str(sup.report)
    handler.release()
    await until(lambda: any(event["event"] == "worker.late_end" for event in events))
    assert handler.lock.acquire(timeout=5)
    handler.lock.release()


async def test_a_worker_that_waits_for_its_condition_is_struck_there(events, leftovers):
    """What it had pending is raised when the wait is over, as in any C call; nothing is left in the Condition."""
    condition = threading.Condition()
    waits = threading.Event()

    def work(ctx):
        with condition:
            waits.set()
            condition.wait(20)
            waits.clear()

    async with Supervisor(policy=EscalationPolicy(Ask(0.01), Inject(LIMIT))) as sup:
        worker = await sup.start(work)
        assert waits.wait(LIMIT)
        stopping = asyncio.ensure_future(worker.stop())
        await until(lambda: any(event.get("step") == "inject" for event in events))
        with condition:
            condition.notify_all()
        outcome = await stopping
    assert outcome.ended == "injected"
    assert waits.is_set()
    assert condition.acquire(timeout=5)
    condition.release()
    assert not any(event["event"] == "worker.injection_waits" for event in events)


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock])
async def test_a_worker_that_waits_in_a_with_for_its_lock_gives_it_back(make, events):
    lock, waits = make(), threading.Event()

    def work(_):
        waits.set()
        with lock:
            endless()

    def endless():
        while True:
            pass

    async with Supervisor(policy=EscalationPolicy(Ask(0.01), Inject(LIMIT))) as sup:
        with lock:
            worker = await sup.start(work)
            assert waits.wait(LIMIT)
            stopping = asyncio.ensure_future(worker.stop())
            await until(lambda: any(event.get("step") == "inject" for event in events))
        assert (await stopping).ended == "injected"
    assert lock.acquire(timeout=5)
    lock.release()


async def test_an_injection_that_a_finalizer_swallows_comes_again(quiet, monkeypatch):
    swallowed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: swallowed.append(unraisable.exc_type))

    def compute():
        for number in range(2000):
            str(number)

    class Finalized:
        def __del__(self):
            compute()

    def work(ctx):
        def endless():
            while True:
                Finalized()
                compute()  # for as long: else the finalizer would swallow nearly all, for as long as the ladder lasts

        endless()

    swallowers = 0
    while not swallowers:
        async with Supervisor(policy=EscalationPolicy(Ask(0.01), Inject(20, every=0.01))) as sup:
            await sup.start(work)
        assert sup.report.outcomes[0].ended == "injected"
        swallowers = len(swallowed)
    assert set(swallowed) == {StopInjected}


@pytest.mark.timeout(300)
def test_clearing_what_is_pending_strikes_no_finalizer():
    """The collector may run them at any check, in any thread."""
    script = """if True:
        import gc, sys, threading
        from tests.inside import Gate
        struck = []
        sys.unraisablehook = lambda unraisable: struck.append(unraisable.exc_type.__name__)

        class Garbage:
            def __init__(self):
                self.me = self
            def __del__(self):
                for _ in range(3):
                    str(1)

        def function():
            entered.set()
            endless()

        def endless():
            while True:
                pass

        for _ in range(300):
            gate, entered = Gate(), threading.Event()
            thread = threading.Thread(target=gate.run, args=(function, ()))
            thread.start()
            entered.wait()
            gc.set_threshold(1)
            kept = [Garbage() for _ in range(5)]
            del kept
            gate.inject()
            thread.join()
            gc.set_threshold(700)
        assert gc.isenabled()
        print(struck.count("_Unsignal"))
    """
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout == "0\n", done.stderr
