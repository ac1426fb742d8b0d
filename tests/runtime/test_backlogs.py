"""What grows with a backlog is linear, and is taken in short turns."""

import asyncio
import threading

import pytest

from supervisor import Supervisor, current_context

from .work import LINEAR, counted, each


def wait(ctx):
    ctx.stop.wait()


def wait_in_a_call():
    current_context().stop.wait()


async def queued(of, number):
    """Has all threads of a supervisor wait, and so many calls in the queue behind them."""
    entered = threading.Semaphore(0)

    def busy():
        entered.release()
        wait_in_a_call()

    calls = [asyncio.ensure_future(of.run(busy)) for _ in range(2)]
    while not entered.acquire(False):
        await asyncio.sleep(0)
    calls += [asyncio.ensure_future(of.run(int)) for _ in range(number)]
    while of.statistics().queued < number:
        await asyncio.sleep(0)
    return calls


@pytest.mark.parametrize("which", ["group", "supervisor"])
@pytest.mark.parametrize("where", ["group", "supervisor", "deep in groups"])
async def test_each_of_many_queued_calls_costs_as_much_at_a_shutdown(where, which):
    async def cost(number):
        async with Supervisor(max_threads=2) as sup:
            of = sup if where == "supervisor" else sup.group("group")
            inner = of.group("inner").group("innermost") if where == "deep in groups" else of
            calls = await queued(inner, number)
            with counted() as work:
                report = await (sup if which == "supervisor" else of).shutdown()
            assert report.never_started == number
            await asyncio.gather(*calls, return_exceptions=True)
        return work

    assert await each(cost) < LINEAR


async def test_each_call_that_ends_in_a_group_that_goes_down_costs_as_much():
    async def cost(number):
        async with Supervisor(max_threads=number) as sup:
            group = sup.group("group")
            calls = [asyncio.ensure_future(group.run(wait_in_a_call)) for _ in range(number)]
            while sup.statistics().workers.get("running") != number:
                await asyncio.sleep(0)
            with counted() as work:
                await sup.shutdown()
            await asyncio.gather(*calls, return_exceptions=True)
        return work

    assert await each(cost, few=10) < LINEAR


@pytest.mark.parametrize("which", ["each of them", "supervisor"])
async def test_each_of_many_groups_costs_as_much_at_a_shutdown(which):
    async def cost(number):
        async with Supervisor() as sup:
            groups = [sup.group(f"group{n}") for n in range(number)]
            for group in groups[::2]:
                group.group("inner")
            await groups[-1].start(wait)
            with counted() as work:
                if which == "each of them":
                    await asyncio.gather(*(group.shutdown() for group in groups))
                else:
                    await sup.shutdown()
            assert all(group.report is not None for group in groups)
        return work

    assert await each(cost) < LINEAR
