"""An exception from outside at any line of a thread's own code: no call and no thread of the pool is lost."""

import asyncio
import linecache
import sys
import threading
from concurrent.futures import wait

import pytest

from supervisor import Supervisor

from ... import inside
from ...waiting import LIMIT


class Foreign(BaseException):
    pass


class Striker:
    """Raises an exception at the n-th line that a thread of a pool executes in some functions, once."""

    def __init__(self, strike_at, codes):
        self.left = strike_at
        self.codes = codes
        self.struck = None

    def trace(self, frame, event, arg):
        return self.line if frame.f_code in self.codes else None

    def line(self, frame, event, arg):
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and self.struck is None and not text.startswith(("try:", "with ", "except ", "finally:")):
            self.left -= 1
            if self.left == 0:
                self.struck = f"{frame.f_code.co_name}: {text}"
                raise Foreign
        return self.line


async def two_calls(striker):
    """Makes two calls, the first on a thread that is traced; returns which of them are not resolved."""
    async with Supervisor("s", max_threads=1) as sup:
        if striker.codes is inside.OF_A_MANAGED_THREAD:
            sup.pool("thread", kind="thread", max_tasks=1, max_lifetime=0.05, idle_timeout=0.03, initializer=bool)
        threading.settrace(striker.trace)
        try:
            executor = sup.executor()
            first = executor.submit(pow, 2, 3)
            await asyncio.to_thread(wait, [first], LIMIT)
        finally:
            threading.settrace(None)
        second = executor.submit(pow, 2, 4)
        await asyncio.to_thread(wait, [second], LIMIT)
        return [name for name, call in (("first", first), ("second", second)) if not call.done()]


def strike_everywhere(scenario, codes):
    """Runs a scenario, struck at the next line each time; returns where it went wrong, and where it was struck."""
    strike_at, found, struck = 0, {}, set()
    while True:
        strike_at += 1
        striker = Striker(strike_at, codes)
        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(lambda loop, context: None)
            if wrong := runner.run(scenario(striker)):
                found[striker.struck] = wrong
        if striker.struck is None:
            return found, struck
        struck.add(striker.struck)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # past its last line
@pytest.mark.parametrize("codes", inside.OF_A_THREAD, ids=lambda codes: codes[0].co_name)
def test_both_calls_are_resolved(quiet, codes):
    found, struck = strike_everywhere(two_calls, codes)
    assert len(struck) >= 2, "nothing was struck"
    assert not found


async def a_call_whose_caller_is_struck(striker):
    """Makes a call, in which this thread is struck as it starts one; returns what is wrong with the next calls."""
    async with Supervisor("s", max_threads=2) as sup:
        executor = sup.executor()
        before, heard = sys.getswitchinterval(), False
        sys.setswitchinterval(LIMIT)  # the new thread comes up as this one waits for it, and not before
        sys.settrace(striker.trace)
        try:
            executor.submit(pow, 2, 3)
        except Foreign:
            heard = True
        finally:
            sys.settrace(None)
            sys.setswitchinterval(before)
        if striker.struck is not None and not heard:
            return "what has struck was taken for something else"
        both = threading.Barrier(2)
        calls = [executor.submit(both.wait, LIMIT) for _ in range(2)]
        await asyncio.to_thread(wait, calls, 2 * LIMIT)
        threads = inside.threads(sup)
        return [repr(call) for call in calls if not call.done() or call.exception() is not None] or (
            threads.size > 2 and threads
        )


@pytest.mark.parametrize(
    ("codes", "lines"),
    [(inside.STARTS_A_THREAD, 15), ((threading.Condition.wait.__code__,), 10)],
    ids=["of ours", "of the wait until it is up"],
)
def test_whoever_is_struck_while_it_starts_a_thread_hears_of_it_and_has_it_started(quiet, codes, lines):
    """And no more than there may be: two calls run at the same time, not three."""
    found, struck = strike_everywhere(a_call_whose_caller_is_struck, codes)
    assert len(struck) >= lines, "nothing was struck"
    assert not found


def test_who_is_told_of_no_more_threads_while_it_handles_an_error_is_told_of_that(monkeypatch):
    """And not of the error that it handles, which is the context of every error that is raised meanwhile."""

    def refuse(*args, **kwargs):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        try:
            raise Foreign
        except Foreign:
            inside.start_thread(threading.Thread())
