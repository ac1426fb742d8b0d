"""Threads that an exception of another library strikes outside of any function: they are replaced, no call hangs."""

import asyncio
import ctypes
import threading

import pytest

from supervisor import Supervisor


class Late(BaseException):
    pass


def strike(ident):
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Late))


@pytest.mark.parametrize("threads", [1, 3])
async def test_threads_that_are_idle(events, threads):
    async with Supervisor(max_threads=threads) as sup:
        together = threading.Barrier(threads)

        def ident():
            together.wait(20)
            return threading.get_ident()

        for ident in await asyncio.gather(*(sup.run(ident) for _ in range(threads))):
            strike(ident)
        results = await asyncio.wait_for(asyncio.gather(*(sup.run(pow, 2, n) for n in range(20))), 20)
        assert results == [2**n for n in range(20)]
        executor = sup.executor()
        assert await asyncio.gather(*(asyncio.wrap_future(executor.submit(pow, 2, n)) for n in range(5))) == results[:5]
        assert sup.statistics().threads <= threads
        assert sup.health().ready
    lost = [event for event in events if event["event"] == "worker.thread_lost"]
    assert len(lost) == threads
    assert all(event["thread"] and "Late" in event["reason"] for event in lost)


@pytest.mark.parametrize("by", ["run", "executor"])
async def test_a_thread_that_has_just_claimed_its_call(monkeypatch, by):
    """The call ends with that: perhaps it has begun."""
    from ... import inside

    with inside.struck_once_it_has_claimed(monkeypatch, Late):
        async with Supervisor(max_threads=1) as sup:
            call = sup.run(pow, 2, 3) if by == "run" else asyncio.wrap_future(await submitted(sup))
            with pytest.raises(Exception, match="Late"):
                await asyncio.wait_for(call, 20)
            assert await asyncio.wait_for(sup.run(pow, 2, 4), 20) == 16


async def submitted(sup):
    await asyncio.sleep(0)
    return sup.executor().submit(pow, 2, 3)


async def test_the_thread_of_a_worker(monkeypatch):
    from ... import inside

    with inside.struck_once_it_has_claimed(monkeypatch, Late):
        async with Supervisor() as sup:
            with pytest.raises(Exception, match="Late"):
                await asyncio.wait_for(sup.start(lambda ctx: ctx.stop.wait(), name="w"), 20)
            assert sup.workers() == ()
