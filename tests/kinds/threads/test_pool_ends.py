"""The end of a pool of threads: its last thread closes the files by which they are woken, whoever listens by then."""

import asyncio
import contextlib
import ctypes
import gc
import os
import threading

import pytest

from supervisor import Supervisor

from ... import inside
from ...stepper import Halt
from ...waiting import LIMIT, until


class Late(BaseException):
    pass


@pytest.fixture(autouse=True)
def uncollected():
    """Nothing is closed by the garbage collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def links():
    """What the files of this process are: a number may be that of another file by now."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return found


class Files:
    """The files by which the threads of a supervisor are woken."""

    def __init__(self, sup, pool="thread"):
        pipe = inside.files_of(inside.queue_of_threads(sup, pool))
        self._links = {os.readlink(f"/proc/self/fd/{number}") for number in pipe}
        assert self.open

    @property
    def open(self):
        return bool(self._links & links())


def threads_of(sup):
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{sup.name}/")]


def join(threads):
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


async def busy(sup, number):
    """Has so many threads come up."""
    together = threading.Barrier(number)
    await asyncio.gather(*(sup.run(together.wait, LIMIT) for _ in range(number)))


async def shut_down_before_they_leave(halt):
    """Returns the files of a pool of four, and its threads, of which one stands where it is about to leave."""
    async with Supervisor() as sup:
        await busy(sup, 4)
        files, stuck = Files(sup), threads_of(sup)
    assert halt.stands.is_set()
    return files, stuck


@pytest.mark.parametrize("threads", [0, 1, 4])
async def test_they_are_closed_as_a_shutdown_returns(threads):
    async with Supervisor() as sup:
        if threads:
            await busy(sup, threads)
        files = Files(sup)
    join(threads_of(sup))
    assert not files.open


async def test_threads_that_leave_only_once_a_shutdown_has_returned_close_them():
    with Halt(inside.LEAVES_ITS_POOL) as halt:
        files, stuck = await shut_down_before_they_leave(halt)
        assert files.open
    join(stuck)
    assert not files.open


async def test_a_thread_that_is_struck_once_a_shutdown_has_returned_lets_the_others_leave(quiet):
    with Halt(inside.LEAVES_ITS_POOL) as halt:
        files, stuck = await shut_down_before_they_leave(halt)
        for thread in stuck:
            if thread.ident == halt.stands_in:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Late))
    join(stuck)
    assert not files.open


async def test_a_thread_that_cannot_be_started_keeps_them_open_for_no_longer_than_that(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    async with Supervisor() as sup:
        executor = sup.executor()
        files = Files(sup)
        inside.patch_start_of_threads(monkeypatch, start)
        with Halt(inside.SAYS_THAT_NO_THREAD_STARTS) as halt:
            submitting = threading.Thread(target=executor.submit, args=(pow, 2, 3))
            submitting.start()
            await until(halt.stands.is_set)
            await sup.shutdown(timeout=0.5)
            assert files.open
        join([submitting])
    assert not files.open


async def test_a_thread_that_was_abandoned_does_not_keep_them_open(leftovers, quiet):
    async with Supervisor() as sup:
        call = asyncio.ensure_future(sup.run(leftovers.block))
        await until(lambda: leftovers.entered)
        files = Files(sup)
        await sup.shutdown(timeout=0.1)
        assert not files.open
        await asyncio.wait([call])
        assert call.exception() is not None


async def test_those_of_a_pool_whose_threads_are_replaced():
    async with Supervisor() as sup:
        pool = sup.pool("p", kind="thread", size=2, initializer=int, max_tasks=2)
        await asyncio.gather(*(pool.run(pow, 2, n) for n in range(9)))
        files = Files(sup, "p")
        await pool.shutdown()
        await until(lambda: not any("/p-" in thread.name for thread in threads_of(sup)))
        assert not files.open


@pytest.mark.parametrize("wait", [True, False])
def test_those_of_late_calls_of_a_default_executor(wait):
    async def main():
        async with Supervisor() as sup:
            sup.install_as_default_executor()
            before = links()
            assert await asyncio.to_thread(pow, 2, 3) == 8
            executor = inside.default_executor_of(asyncio.get_running_loop())
        assert await asyncio.to_thread(pow, 2, 4) == 16
        threads = [thread for thread in threading.enumerate() if thread.name.startswith(f"{sup.name}-late/")]
        assert threads
        if not wait:
            executor.shutdown(wait=False)
            join(threads)
            late = {link for link in links() - before if link.startswith("pipe:")}
            assert not late
        return threads

    before = links()
    join(asyncio.run(main()))
    assert not {link for link in links() - before if link.startswith("pipe:")}


async def test_those_of_a_supervisor_whose_loop_was_closed_before_it_was_shut_down():
    def elsewhere():
        loop = asyncio.new_event_loop()
        sup = Supervisor()
        loop.run_until_complete(busy(sup, 3))
        files, threads = Files(sup), threads_of(sup)
        loop.close()
        with pytest.warns(ResourceWarning, match="never shut down"):  # noqa: PT031
            del sup
        join(threads)
        assert not files.open

    await asyncio.to_thread(elsewhere)
