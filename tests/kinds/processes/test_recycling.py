"""Processes of a pool come and go: another size, idle ones, and those that have served their time."""

import asyncio
import collections
import functools
import itertools
import os
import signal
import time

import pytest

from supervisor import Supervisor

from ... import inside
from ...contract import functions as f
from .faults import alive, sound, until
from .light import keeps, naps

HEAVY = 64 << 20


def notes(board):
    board.add("initialized", os.getpid())


def working(sup, pool):
    return {process.pid for process in inside.processes_for_calls(sup, pool)}


# ------------------------------------------------------------------------------------------------ size


async def test_it_grows_while_calls_wait(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=1)
        calls = [asyncio.create_task(pool.run(f.hold, board)), asyncio.create_task(pool.run(int, "5"))]
        await board.posted("entered")
        pool.resize(2)
        assert pool.size == 2
        assert await calls[1] == 5
        board.post("release")
        await calls[0]


async def test_who_is_one_too_many_leaves_after_its_call_and_who_is_idle_at_once(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=3)
        await asyncio.gather(*(pool.run(naps, 0.3) for _ in range(3)))
        assert len(working(sup, "p")) == 3
        held = asyncio.create_task(pool.run(f.hold, board))
        await board.posted("entered")
        busy = next(process.pid for process in inside.processes_for_calls(sup, "p") if process.run)
        pool.resize(2)
        await until(lambda: len(working(sup, "p")) == 2)
        assert busy in working(sup, "p")
        pool.resize(1)
        assert working(sup, "p") == {busy}
        calls = [asyncio.create_task(pool.run(os.getpid)) for _ in range(5)]
        board.post("release")
        await held
        assert set(await asyncio.gather(*calls)) == {busy}


async def test_one_that_starts_and_is_one_too_many_ends_at_once(board, monkeypatch):
    inside.boot_after(monkeypatch, "__import__('time').sleep(60);")
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=3)
        calls = [asyncio.create_task(pool.run(int, "5")) for _ in range(3)]
        await until(lambda: len(working(sup, "p")) == 3)
        monkeypatch.undo()
        pool.resize(1)
        (left,) = working(sup, "p")
        await until(lambda: len(inside.processes(sup, "p")) == 1)
        os.kill(left, signal.SIGKILL)  # it would take a minute
        assert await asyncio.gather(*calls) == [5, 5, 5]


async def test_size_goes_up_and_down_under_load(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=2)
        calls = [asyncio.create_task(pool.run(naps, 0.002)) for _ in range(300)]
        for size in itertools.islice(itertools.cycle([1, 3, 2]), 15):
            pool.resize(size)
            await asyncio.sleep(0.02)
            assert sum(process.run is not None for process in inside.processes_for_calls(sup, "p")) <= 3
        await asyncio.gather(*calls)
        await until(lambda: len(working(sup, "p")) <= 2)


async def test_fewer_than_are_kept_warm_where_that_is_wanted_and_as_many_again_later():
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=3, warm=3)
        await pool.ready()
        inside.resize_below_warm(sup, "p", 1)
        await until(lambda: len(working(sup, "p")) == 1)
        assert await pool.run(int, "5") == 5
        pool.resize(3)
        await pool.ready()
        assert len(working(sup, "p")) == 3


async def test_all_are_replaced_each_once_it_has_nothing_to_do(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=3, warm=3)
        await pool.ready()
        held = asyncio.create_task(pool.run(f.hold, board))
        await board.posted("entered")
        before = working(sup, "p")
        busy = next(process.pid for process in inside.processes_for_calls(sup, "p") if process.run)
        inside.renew(sup, "p")
        await until(lambda: working(sup, "p") & before == {busy} and len(working(sup, "p")) == 3)
        assert await pool.run(os.getpid) not in before
        board.post("release")
        await held
        await until(lambda: not working(sup, "p") & before and len(working(sup, "p")) == 3)


async def test_who_wants_to_know_hears_which_process_has_taken_a_call():
    async with sound(), Supervisor() as sup:
        executor = sup.pool("p", kind="process", size=1).executor()
        taken = []
        futures = [executor.submit(os.getpid) for _ in range(3)]
        for future in futures:
            inside.note_when_taken(future, taken)
        assert [await asyncio.wrap_future(future) for future in futures] == taken


# ------------------------------------------------------------------------------------------------ idle ones


@pytest.mark.parametrize("warm", [0, 1])
async def test_idle_ones_retire_down_to_those_that_are_kept_warm(warm):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=3, idle_timeout=0.2, warm=warm)
        calls = [asyncio.create_task(pool.run(naps, 0.05)) for _ in range(6)]
        await until(lambda: len(working(sup, "p")) > warm)
        await asyncio.gather(*calls)
        await until(lambda: len(inside.processes(sup, "p")) == warm)  # the spare one, too
        await asyncio.sleep(0.5)
        assert len(inside.processes(sup, "p")) == warm
        assert await pool.run(int, "5") == 5


async def test_one_that_works_now_and_then_is_not_idle(ladder_time):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=1, idle_timeout=2)
        pids = set()
        for _ in range(10):
            pids.add(await pool.run(os.getpid))
            await ladder_time.advance(0.7)
        assert len(pids) == 1
        while inside.processes(sup, "p"):  # and then it is
            await ladder_time.advance(1)


async def test_many_idle_ones_have_one_timer(monkeypatch):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=4, idle_timeout=30, max_lifetime=60, warm=4)
        await pool.ready()
        assert len(inside.timers_of_idle_processes(asyncio.get_running_loop())) == 1


# ------------------------------------------------------------------------------------------------ recycling


RULES = {
    "max_tasks": {"max_tasks": 40},
    "max_lifetime": {"max_lifetime": 1.0},
    "max_rss": {"max_rss": HEAVY},
}


async def test_max_tasks_is_exact():
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=1, max_tasks=3)
        pids = [await pool.run(os.getpid) for _ in range(9)]
        assert [len(list(group)) for _, group in itertools.groupby(pids)] == [3, 3, 3]


async def test_none_carries_out_more_calls_than_max_tasks():
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=3, max_tasks=10)
        pids = await asyncio.gather(*(pool.run(os.getpid) for _ in range(200)))
        assert max(collections.Counter(pids).values()) <= 10


async def test_one_that_is_too_old_is_replaced_while_it_is_idle_and_the_other_one_is_there_before():
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=1, max_lifetime=0.5)
        pid = await pool.run(os.getpid)
        least = 1
        began = time.monotonic()
        while alive(pid):
            assert time.monotonic() - began < 20
            least = min(least, inside.ready_for_calls(sup, "p"))
            await asyncio.sleep(0.001)
        assert least == 1
        assert await pool.run(os.getpid) != pid


async def test_one_that_has_too_much_memory_is_replaced_after_its_call():
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=1, max_rss=HEAVY)
        pid = await pool.run(keeps, 1000)
        assert await pool.run(keeps, HEAVY) == pid
        assert await pool.run(keeps, 1000) != pid
        await until(lambda: not alive(pid))


async def test_each_carries_out_one_call_at_least_however_much_memory_it_begins_with():
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=1, max_rss=1, max_lifetime=0.001)
        pids = [await pool.run(os.getpid) for _ in range(4)]
        assert len(set(pids)) == 4


async def test_of_several_that_have_too_much_memory_one_leaves_at_a_time(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=4, warm=4, max_rss=HEAVY, initializer=functools.partial(notes, board))
        await pool.ready()
        first = working(sup, "p")
        ends = [asyncio.create_task(pool.run(keeps, HEAVY)) for _ in range(4)]
        least, began = 4, time.monotonic()
        while not all(end.done() for end in ends) or first & working(sup, "p"):
            assert time.monotonic() - began < 40
            least = min(least, inside.ready_for_calls(sup, "p"))
            if all(end.done() for end in ends):
                await pool.run(int)
            await asyncio.sleep(0)
        assert least >= 3


async def test_those_that_began_together_do_not_leave_together():
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=4, warm=4, max_tasks=100, max_lifetime=1000)
        await pool.ready()
        services = [process.service for process in inside.processes_for_calls(sup, "p")]
        assert sorted(service.max_tasks for service in services) == [25, 50, 75, 100]
        now = inside.clock_of(sup)()
        times = sorted(service.expires_at - now for service in services)
        # Shares of quarters, each shortened by up to a fifth: 50 s apart at least, less what the starts took.
        assert all(later - earlier > 25 for earlier, later in itertools.pairwise(times))
        assert times[-1] <= 1000


async def test_the_next_one_calls_the_initializer_before_the_last_call_of_the_old_one_has_ended(board):
    async with sound(), Supervisor() as sup:
        pool = sup.pool("p", kind="process", size=1, max_tasks=2, initializer=functools.partial(notes, board))
        pid = await pool.run(os.getpid)
        held = asyncio.create_task(pool.run(f.hold, board))
        await board.posted("initialized", lines=2)
        await until(lambda: inside.spare_process(sup, "p").ready)
        spare = inside.spare_process(sup, "p")
        board.post("release")
        await held
        assert await pool.run(os.getpid) == spare.pid != pid


async def test_one_that_is_due_goes_on_where_no_other_comes_up(board):
    def count():
        return len(board.lines("initialized"))

    async with sound(), Supervisor() as sup:
        initializer = functools.partial(fails_from_the_second_on, board)
        pool = sup.pool("p", kind="process", size=1, max_lifetime=0.2, initializer=initializer)
        pid = await pool.run(os.getpid)
        await until(lambda: count() > 1)
        began = time.monotonic()
        for _ in range(20):
            assert await pool.run(os.getpid) == pid
        assert count() < 10 + 10 * (time.monotonic() - began)


def fails_from_the_second_on(board):
    notes(board)
    if len(board.lines("initialized")) > 1:
        raise ValueError("on purpose")


async def test_calls_that_still_wait_at_a_drain_go_on_over_processes_that_are_replaced(board):
    async with sound():
        sup = Supervisor()
        async with sup:
            pool = sup.pool("p", kind="process", size=2, max_tasks=2, initializer=functools.partial(notes, board))
            calls = [asyncio.create_task(pool.run(naps, 0.01)) for _ in range(20)]
            await board.posted("initialized", lines=1)
            await sup.shutdown(timeout=100, drain=90)
            assert len(set(await asyncio.gather(*calls))) >= 10


async def campaign(rules, calls, clients, call):
    """So many calls over processes that are replaced by a rule; returns how many processes there were.

    No call is lost, none takes longer than it would take to start a process for it, and there is never more than one
    process less than there is room for, unless by `max_tasks`.
    """
    async with sound(600), Supervisor() as sup:
        began = time.monotonic()
        await sup.run(int, kind="process")
        start = time.monotonic() - began  # with what it takes on this machine at the moment
        pool = sup.pool("p", kind="process", size=3, warm=3, **rules)
        await pool.ready()
        pids, slowest, least, left = [], 0.0, 3, iter(range(calls))

        async def client():
            nonlocal slowest
            for _ in left:
                began = time.monotonic()
                pids.append(await pool.run(*call))
                slowest = max(slowest, time.monotonic() - began)

        clients = [asyncio.create_task(client()) for _ in range(clients)]
        while not all(client.done() for client in clients):
            least = min(least, inside.ready_for_calls(sup, "p"))
            await asyncio.sleep(0.001)
        await asyncio.gather(*clients)
        assert len(pids) == calls
        assert least >= 2 or "max_tasks" in rules  # one is kept to its letter, though others may still be starting
        assert slowest < 10 * max(start, 0.5)
        return len(set(pids))


@pytest.mark.parametrize("rule", RULES)
async def test_calls_go_on_while_processes_are_replaced(rule):
    call = (keeps, 2 << 20) if rule == "max_rss" else (naps, 0.01)
    assert await campaign(RULES[rule], 400, 4, call) > 3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rule", RULES)
async def test_ten_thousand_calls_over_processes_that_are_replaced(rule):
    rules = {"max_tasks": {"max_tasks": 200}}.get(rule, RULES[rule])
    call = (keeps, 1 << 20) if rule == "max_rss" else (naps, 0.003)
    assert await campaign(rules, 10_000, 4, call) > 10
