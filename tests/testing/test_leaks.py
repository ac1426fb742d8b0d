"""The check for what is left behind, without pytest's fixtures."""

import asyncio
import contextlib
import math
import sys
import threading
import time

import pytest

from supervisor import Supervisor
from supervisor.testing import LeakCheck

from .. import inside
from ..waiting import Release, until


def wait_for_stop(ctx):
    ctx.stop.wait()


def stray(leftovers):
    """Begins a thread that is left behind, and waits until it is blocked."""
    thread = threading.Thread(target=leftovers.block, name="stray", daemon=True)
    thread.start()
    while sys._current_frames()[thread.ident].f_code is not Release.wait.__code__:
        time.sleep(0.001)


def test_a_block_that_leaves_nothing():
    with LeakCheck(grace=0):
        asyncio.run(asyncio.sleep(0))


def test_a_thread_is_shown_with_its_stack(leftovers):
    with pytest.raises(AssertionError, match="left behind:\n- thread 'stray'\n") as caught, LeakCheck(grace=0.02):
        stray(leftovers)
    assert "in block\n    while not self.release.wait(30):" in str(caught.value)
    assert "_bootstrap" not in str(caught.value)


def test_the_error_of_the_block_is_raised_and_says_what_was_left(leftovers):
    with pytest.raises(KeyError) as caught, LeakCheck(grace=0):
        threading.Thread(target=leftovers.block, name="stray", daemon=True).start()
        raise KeyError
    assert caught.value.__notes__[0].startswith("left behind:\n- thread 'stray'")


def test_what_is_about_to_end_has_the_time_to(leftovers):
    with LeakCheck(grace=10):
        threading.Thread(target=leftovers.block, daemon=True).start()
        threading.Timer(0.05, leftovers.release.set).start()


def test_time_in_which_everything_stands_still_is_not_taken_from_that(leftovers, monkeypatch):
    moments = iter([0.0])
    monkeypatch.setattr("supervisor.testing.leaks.monotonic", lambda: next(moments, 3600.0))
    with LeakCheck(grace=10):
        threading.Thread(target=leftovers.block, daemon=True).start()
        threading.Timer(0.05, leftovers.release.set).start()


def test_patterns_of_the_user(leftovers):
    with LeakCheck(grace=0, ignore=["stray-*"]):
        threading.Thread(target=leftovers.block, name="stray-1", daemon=True).start()


@pytest.mark.parametrize(
    "name", ["asyncio_0", "asyncio-waitpid-1", "AnyIO worker thread", "Trio 1", "pytest_timeout a::b", "pydevd.Reader"]
)
def test_threads_of_others(leftovers, name):
    with LeakCheck(grace=0):
        threading.Thread(target=leftovers.block, name=name, daemon=True).start()


async def test_a_process_that_was_given_up_by_a_supervisor_that_was_there():
    async with Supervisor("there") as sup:
        await sup.run(int)
        with contextlib.ExitStack() as stack:
            with pytest.raises(AssertionError, match=r"- process \d+: .*python") as caught, LeakCheck(grace=0):
                await sup.run(int, kind="process")
                stack.enter_context(inside.given_up(sup))
            assert "worker" not in str(caught.value).splitlines()[1].partition(":")[0]


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_a_supervisor_that_was_there_is_blamed_for_its_workers_alone(kind):
    async with Supervisor("there") as sup:
        with LeakCheck(grace=0):
            assert await sup.run(int, kind=kind) == 0  # its pool stays
        with pytest.raises(AssertionError, match=rf"- worker 'left' \({kind}, running\), of supervisor 'there'"):
            with LeakCheck(grace=0):
                worker = await sup.start(wait_for_stop, name="left", kind=kind)
        with LeakCheck(grace=0):
            assert worker.state == "running"  # it was there


async def test_a_supervisor_that_is_still_open():
    with pytest.raises(AssertionError, match="- supervisor 'open', which was not shut down\n  worker 'poller'"):
        with LeakCheck(grace=0):
            sup = Supervisor("open")
            await sup.start(wait_for_stop, name="poller")
    await sup.shutdown()
    with LeakCheck(grace=0):
        Supervisor("never used")


async def test_the_threads_of_late_calls_are_the_supervisors_own_and_the_calls_are_not(leftovers):
    async with Supervisor("there") as sup:
        sup.install_as_default_executor()
    with LeakCheck(grace=0):
        await asyncio.to_thread(int)
    calls = []
    with pytest.raises(AssertionError, match=r"- worker 'Leftovers.block-2' .*'there'") as caught, LeakCheck(grace=0):
        calls.append(asyncio.ensure_future(asyncio.to_thread(leftovers.block)))
        await until(lambda: leftovers.entered)
    assert "- thread" not in str(caught.value)
    leftovers.release.set()
    await calls[0]


def test_a_supervisor_from_before_whose_loop_was_closed_over_it():
    sup = Supervisor("global")
    with pytest.raises(AssertionError, match="- supervisor 'global', which was not shut down, and whose event loop is"):
        with LeakCheck(grace=0.01):
            asyncio.run(sup.start(wait_for_stop))
    with LeakCheck(grace=0):
        pass  # another test is not blamed for it
    inside.let_go(sup)


@pytest.mark.parametrize("grace", [-1, math.nan, "1"])
def test_a_wrong_grace_is_refused(grace):
    with pytest.raises((TypeError, ValueError), match="grace="):
        LeakCheck(grace=grace)
