"""A supervisor that is never shut down, and that nobody holds any more: it says so, and goes."""

import asyncio
import contextlib
import gc
import os
import threading
import warnings

import pytest
import uvloop

from supervisor import Supervisor

from .. import inside
from ..waiting import LIMIT, until

NEVER_SHUT_DOWN = r"supervisor 'lost' was never shut down: use it as `async with Supervisor"


@contextlib.contextmanager
def warnings_heard():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield heard


def threads_since(before):
    """Those that have begun since, and have not ended; those of earlier tests may end meanwhile."""
    return set(threading.enumerate()) - before


def end_all_since(before):
    for thread in threads_since(before):
        thread.join(LIMIT)
    assert not threads_since(before)


def open_files():
    return len(os.listdir("/proc/self/fd"))


async def in_a_thread(sup):
    await sup.run(int)


async def in_an_executor(sup):
    await asyncio.get_running_loop().run_in_executor(sup.executor(), int)


async def in_a_group(sup):
    await sup.group("group").run(int)


async def in_a_process(sup):
    await sup.run(int, kind="process")


async def with_transitions(sup):
    transitions = sup.transitions()
    await sup.run(int)
    await transitions.__anext__()


async def with_a_worker_that_ended(sup):
    await (await sup.start(lambda ctx: None)).wait()


USES = [in_a_thread, in_an_executor, in_a_group, in_a_process, with_transitions, with_a_worker_that_ended]
each_use = pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)


@each_use
async def test_in_a_loop_that_goes_on_its_threads_and_files_go(use, quiet):
    threads, files = set(threading.enumerate()), open_files()
    with pytest.warns(ResourceWarning, match=NEVER_SHUT_DOWN) as heard:  # noqa: PT031
        await use(Supervisor("lost"))
        await until(lambda: len(heard))  # the thread that has run its call may hold it for a moment longer
    await until(lambda: not threads_since(threads) and open_files() == files)


@each_use
@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_with_its_loop_its_threads_and_files_go(use, factory, quiet):
    gc.collect()
    threads, files = set(threading.enumerate()), open_files()
    with warnings_heard() as heard, asyncio.Runner(loop_factory=factory) as runner:
        for _ in range(3):
            runner.run(use(Supervisor("lost")))
    gc.collect()
    assert [warning.category for warning in heard] == [ResourceWarning] * 3
    end_all_since(threads)
    gc.collect()
    assert open_files() == files


@each_use
def test_one_that_outlives_its_loop_goes_when_it_is_dropped(use, quiet):
    gc.collect()
    threads, files = set(threading.enumerate()), open_files()
    sup = Supervisor("lost")
    asyncio.run(use(sup))
    with pytest.warns(ResourceWarning, match=NEVER_SHUT_DOWN):  # noqa: PT031
        del sup
        gc.collect()
    end_all_since(threads)
    gc.collect()
    assert open_files() == files


def test_a_loop_that_is_never_closed_goes_as_well(quiet):
    async def main():
        await Supervisor("lost").run(int)

    threads = set(threading.enumerate())
    loop = asyncio.new_event_loop()
    with pytest.warns(ResourceWarning, match=NEVER_SHUT_DOWN):
        loop.run_until_complete(main())
    end_all_since(threads)
    loop.close()


async def test_what_is_under_way_goes_on(monkeypatch, quiet):
    inside.patch(monkeypatch, LOOK_FOR_WORK=0.01)
    threads = set(threading.enumerate())
    with pytest.warns(ResourceWarning, match=NEVER_SHUT_DOWN):
        worker = await Supervisor("lost").start(lambda ctx: ctx.stop.wait())
    await asyncio.sleep(0.1)
    assert worker.state == "running"
    assert (await worker.stop()).ended == "stopped"
    await until(lambda: not threads_since(threads))


def test_a_worker_that_is_left_when_the_loop_is_closed_is_asked(quiet):
    reasons = []

    def poll(ctx, called):
        with ctx.on_stop(called.set):
            ctx.stop.wait()
            reasons.append(ctx.reason)
            assert called.wait(LIMIT)

    async def main():
        await Supervisor("lost").start(poll, threading.Event())

    threads = set(threading.enumerate())
    with pytest.warns(ResourceWarning, match=NEVER_SHUT_DOWN):
        asyncio.run(main())
    end_all_since(threads)
    assert reasons == ["the event loop is gone"]


async def test_whoever_holds_a_part_of_it_can_go_on_using_it():
    sup = Supervisor("held")
    executor, group = sup.executor(), sup.group("group")
    del sup
    gc.collect()
    assert await asyncio.wrap_future(executor.submit(int, "5")) == 5
    del executor
    assert await group.run(int, "5") == 5
    parent = group
    del group
    await parent.shutdown()
    with pytest.warns(ResourceWarning):
        del parent


async def test_nothing_is_said_of_one_that_was_shut_down_or_never_used():
    Supervisor("unused")
    async with Supervisor("used") as sup:
        await sup.run(int)
    del sup
    sup = Supervisor("asked")
    await sup.run(int)
    sup.request_shutdown()
    closed = asyncio.ensure_future(sup.wait_closed())
    del sup
    await closed
    gc.collect()


async def test_a_filter_that_makes_it_an_error_keeps_nothing_from_going(monkeypatch, quiet):
    unraisable = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: unraisable.append(args.exc_type))
    threads = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await Supervisor("lost").run(int)
    assert unraisable == [ResourceWarning]
    await until(lambda: not threads_since(threads))
