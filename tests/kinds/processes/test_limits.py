"""`limits=` on real processes: who uses too much is ended and named, and the others go on."""

import asyncio
import os
import resource
import signal
import sys
import time

import pytest

from supervisor import Ask, EscalationPolicy, Kill, Limits, Restart, Supervisor, WorkerDied, WorkerOverLimit

from ... import inside
from ...contract import functions as f
from . import greedy, tasks
from .faults import alive, sound, until
from .usages import MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what processes use is known on Linux alone")

LIMITS = Limits(rss=128 * MIB)

PROMISED = 0.5
"""Seconds after it has passed its limit within which a call is ended."""

BUSY = 10.0
"""Seconds that this may take more where other tests run at the same time; what is not ended goes on for thirty."""


async def over_limit(sup, fn, *args, **limits):
    with pytest.raises(WorkerOverLimit) as caught:
        await sup.run(fn, *args, kind="process", limits=Limits(**limits))
    assert caught.value.outcome.limit == caught.value.limit
    assert caught.value.outcome.used > caught.value.outcome.allowed
    return caught.value


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "fn", [greedy.allocate, greedy.allocate_at_once, greedy.allocate_deaf, greedy.allocate_in_a_child]
)
async def test_whatever_takes_the_memory_the_call_is_ended(fn):
    async with sound(), Supervisor() as sup:
        error = await over_limit(sup, fn, 400, rss=128 * MIB)
        assert error.limit == "rss"
        assert error.outcome.allowed == 128 * MIB
        assert error.outcome.ended in ("stopped", "injected", "terminated", "killed")
        assert await sup.run(greedy.be_quick, 7, kind="process") == 7


async def neighbours(sup, until_done):
    """Makes calls until something is done; returns how many, and how long the slowest took."""
    slowest, number = 0.0, 0
    while not until_done.done():
        began = time.monotonic()
        assert await sup.run(greedy.be_quick, number, kind="process") == number
        slowest, number = max(slowest, time.monotonic() - began), number + 1
    return number, slowest


async def greedy_calls(board, times, mib, limit, allowance):
    """Makes so many calls, one after the other, that take far too much, beside others; nothing is left of them."""
    late = []
    async with sound(600), Supervisor(max_processes=2) as sup:
        await sup.run(greedy.be_quick, 0, kind="process")
        for number in range(times):
            task = asyncio.ensure_future(over_limit(sup, greedy.allocate, mib, board, limit, rss=limit * MIB))
            beside, _ = await neighbours(sup, task)
            error = await task
            late.append(time.monotonic() - float(board.read("passed")))
            assert error.limit == "rss"
            assert beside > 1  # who had to wait for its end would be the only one
            if number == times // 2:
                before = len(os.listdir("/proc/self/fd")), resident()
        assert len(os.listdir("/proc/self/fd")) <= before[0] + 12  # those of a process that is being started
        assert resident() <= before[1] + 16 * MIB
        await until(lambda: sup.statistics().processes <= 3)
    print(f"ended after {max(late):.2f} s at most, {sum(late) / len(late):.2f} s on average")
    assert max(late) < allowance


def resident():
    return inside.rss(os.getpid())


@pytest.mark.usefixtures("quiet")
async def test_a_call_that_takes_far_too_much_is_ended_soon_while_others_go_on(board):
    await greedy_calls(board, 3, 1024, 256, PROMISED + BUSY)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("quiet")
async def test_fifty_such_calls_leak_nothing(board):
    await greedy_calls(board, 50, 2048, 512, PROMISED)


@pytest.mark.usefixtures("quiet")
async def test_memory_that_children_share_is_counted_once():
    async with sound(), Supervisor() as sup:
        limits = Limits(rss=160 * MIB)
        assert await sup.run(greedy.share_with_children, 96, 0.5, kind="process", limits=limits) == 96 * MIB


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("fn", [greedy.spin, greedy.burn_in_a_child])
async def test_whoever_uses_the_cpu_the_call_is_ended(fn):
    async with sound(), Supervisor() as sup:
        error = await over_limit(sup, fn, cpu_seconds=0.3)
        assert error.limit == "cpu_seconds"
        assert 0.3 < error.outcome.used < 0.3 + PROMISED + BUSY


async def test_the_cpu_of_earlier_calls_does_not_count():
    async with sound(), Supervisor(max_processes=1) as sup:
        await sup.run(greedy.be_quick, 1, kind="process")  # what is imported costs CPU, too
        pids = {await sup.run(greedy.pid_after, 0.3, kind="process", limits=Limits(cpu_seconds=0.6)) for _ in range(4)}
        assert len(pids) == 1


async def test_what_another_call_has_left_in_a_process_is_not_the_undoing_of_a_call():
    async with sound(), Supervisor(max_processes=1) as sup:
        first = await sup.run(greedy.keep, 200, kind="process")
        assert await sup.run(tasks.pid_of, kind="process") == first
        second = await sup.run(tasks.pid_of, kind="process", limits=Limits(rss=150 * MIB))
        assert second != first
        again = [sup.run(tasks.pid_of, kind="process", limits=Limits(rss=150 * MIB)) for _ in range(5)]
        assert set(await asyncio.gather(*again)) == {second}


async def test_a_process_that_is_large_from_the_beginning_is_not_replaced_for_ever():
    async with sound(), Supervisor(max_processes=1) as sup:
        error = await over_limit(sup, greedy.allocate, 8, rss=1)
        assert error.limit == "rss"


async def test_a_call_without_limits_is_not_looked_at(monkeypatch):
    measured = inside.measured_runs(monkeypatch)
    async with sound(), Supervisor() as sup:
        await sup.run(greedy.be_quick, 1, kind="process")
        assert not measured
        await sup.run(greedy.be_quick, 1, kind="process", limits=Limits(rss=1 << 40))
        assert len(measured) == 1


# ------------------------------------------------------------------------------------------------ the kernel's limit


async def test_the_kernels_limit_is_set_around_the_call_alone():
    async with sound(), Supervisor(max_processes=1, policy=EscalationPolicy(Ask(4), Kill(2))) as sup:
        before = await sup.run(greedy.soft_limit, kind="process")
        soft, hard = await sup.run(greedy.soft_limit, kind="process", limits=Limits(cpu_seconds=10))
        assert 16 <= soft <= 20  # 10, and the ladder, and a second; rounded, and what was used before
        assert hard == before[1]
        assert await sup.run(greedy.soft_limit, kind="process", limits=Limits(rss=1 << 40)) == before
        assert await sup.run(greedy.soft_limit, kind="process") == before
        with pytest.raises(ValueError, match="no"):
            await sup.run(f.fail, ValueError("no"), kind="process", limits=Limits(cpu_seconds=10))
        assert await sup.run(greedy.soft_limit, kind="process") == before


async def test_what_a_call_leaves_behind_is_not_limited_any_more():
    async with sound(), Supervisor(max_processes=1) as sup:
        before = await sup.run(greedy.soft_limit, kind="process")
        pid = await sup.run(greedy.leave_a_child, kind="process", limits=Limits(cpu_seconds=10))
        assert await sup.run(greedy.limit_of, pid, kind="process") == before
        await until(lambda: not alive(pid))


async def test_a_limit_that_the_function_sets_stays():
    async with sound(), Supervisor(max_processes=1) as sup:
        await sup.run(greedy.set_own_limit, 1000, kind="process", limits=Limits(cpu_seconds=10))
        assert (await sup.run(greedy.soft_limit, kind="process"))[0] == 1000
        nearer = await sup.run(greedy.soft_limit, kind="process", limits=Limits(cpu_seconds=2000))
        assert nearer[0] == 1000


async def test_a_ladder_without_end_has_no_limit_behind_it():
    async with sound(), Supervisor(max_processes=1) as sup:
        before = await sup.run(greedy.soft_limit, kind="process")
        policy = EscalationPolicy(Ask(float("inf")))
        options = {"kind": "process", "limits": Limits(cpu_seconds=10), "policy": policy}
        assert await sup.run(greedy.soft_limit, **options) == before


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("quiet")
async def test_where_the_loop_is_blocked_the_kernel_ends_the_call():
    async with sound(150), Supervisor(max_processes=1, policy=EscalationPolicy(Kill(0.1))) as sup:
        call = asyncio.ensure_future(sup.run(greedy.spin, kind="process", limits=Limits(cpu_seconds=0.2)))
        await until(lambda: sup.statistics().processes and inside.processes(sup) and any_run(sup))
        [process] = [each for each in inside.processes(sup) if each.run is not None]
        blocked_until = time.monotonic() + 100  # of seconds on a processor, it needs two
        while not is_dead(process.pid) and time.monotonic() < blocked_until:
            time.sleep(0.01)  # the loop is blocked
        with pytest.raises(WorkerOverLimit) as caught:
            await call
        outcome = caught.value.outcome
        assert (outcome.ended, outcome.exit_code, outcome.limit) == ("died", -signal.SIGXCPU, "cpu_seconds")
        assert outcome.allowed == 0.2
        assert 1 < outcome.used < 5
        assert "SIGXCPU" in str(caught.value)


@pytest.mark.usefixtures("quiet")
async def test_a_limit_of_its_own_that_ends_a_process_is_not_that_of_the_call():
    async with sound(), Supervisor(max_processes=1) as sup:
        with pytest.raises(WorkerDied, match="SIGXCPU") as caught:
            await sup.run(greedy.spin_within_own_limit, kind="process", limits=Limits(cpu_seconds=100))
        assert caught.value.outcome.limit is None


def any_run(sup):
    return any(process.run is not None and process.run.handle is not None for process in inside.processes(sup))


def is_dead(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "Z"


async def test_a_death_of_another_kind_is_no_excess():
    async with sound(), Supervisor() as sup:
        with pytest.raises(WorkerDied) as caught:
            await sup.run(
                tasks.kills_itself, signal.SIGSEGV, kind="process", limits=Limits(cpu_seconds=10, rss=1 << 40)
            )
        assert caught.value.outcome.limit is None


# ------------------------------------------------------------------------------------------------ workers


@pytest.mark.usefixtures("quiet")
async def test_a_worker_that_uses_too_much_is_started_again(board):
    async with sound(), Supervisor() as sup:
        restart = Restart("failure", max_restarts=10, backoff=0)
        worker = await sup.start(
            greedy.allocate_for_a_worker, 400, board, kind="process", limits=Limits(rss=128 * MIB), restart=restart
        )
        await board.posted("runs", lines=3)
        assert worker.last_outcome.limit == "rss"
        assert worker.restarts >= 2
        assert worker.outcome is None


def test_this_process_has_no_limit_itself():
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] == resource.RLIM_INFINITY


@pytest.mark.usefixtures("quiet")
async def test_a_generator_that_uses_too_much_is_ended():
    async with sound(), Supervisor() as sup:
        got = []
        with pytest.raises(WorkerOverLimit) as caught:
            async for number in sup.iterate(greedy.allocate_on_the_way, 400, kind="process", limits=LIMITS):
                got.append(number)  # noqa: PERF401  # those that came before the error
        assert caught.value.limit == "rss"
        assert got[:3] == [0, 1, 2]


# ------------------------------------------------------------------------------------------------ pools


@pytest.mark.usefixtures("quiet")
async def test_a_pool_has_limits_for_all_of_its_calls():
    async with sound(), Supervisor() as sup:
        lane = sup.pool("lane", kind="process", size=1, limits=Limits(rss=128 * MIB))
        with pytest.raises(WorkerOverLimit):
            await lane.run(greedy.allocate, 400)
        with pytest.raises(WorkerOverLimit):
            await asyncio.get_running_loop().run_in_executor(lane.executor(), greedy.allocate, 400)
        with pytest.raises(WorkerOverLimit):
            await asyncio.to_thread(lane.executor().submit(greedy.allocate, 400).result)
        with pytest.raises(WorkerOverLimit) as caught:
            await sup.run(greedy.allocate, 400, pool="lane", limits=Limits(rss=64 * MIB))
        assert caught.value.outcome.allowed == 64 * MIB
        assert await lane.run(greedy.hold_some, 200, limits=Limits()) == 200 * MIB
        assert await sup.run(greedy.hold_some, 200, kind="process") == 200 * MIB
