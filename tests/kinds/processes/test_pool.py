"""Which process carries out what: reuse, `max_tasks`, the spare one, and a campaign of random deaths."""

import asyncio
import os
import random
import signal
from collections import Counter

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Kill, Supervisor, Terminate, WorkerDied, WorkerStopped

from ... import inside
from ...contract import functions as f
from . import tasks
from .faults import alive, files, sound, until
from .test_deaths import call


async def test_processes_are_used_again():
    async with sound(), Supervisor(max_processes=1) as sup:
        assert len({await sup.run(tasks.pid_of, kind="process") for _ in range(20)}) == 1


async def test_no_more_processes_run_calls_than_may():
    async with sound() as calls, Supervisor(max_processes=2) as sup:
        calls += [call(sup, tasks.pid_of) for _ in range(30)]
        assert len(set(await asyncio.gather(*calls))) <= 2


async def test_after_max_tasks_a_process_is_replaced():
    async with sound(), Supervisor(max_processes=1, max_tasks=2) as sup:
        pids = [await sup.run(tasks.pid_of, kind="process") for _ in range(6)]
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]
        await until(lambda: not any(map(alive, pids[:4])))


async def test_calls_that_wait_go_on_over_max_tasks():
    async with sound() as calls, Supervisor(max_processes=2, max_tasks=1) as sup:
        calls += [call(sup, tasks.pid_of) for _ in range(8)]
        assert len(set(await asyncio.gather(*calls))) == 8


async def test_one_more_is_kept_warm_and_takes_the_place_of_a_lost_one(board):
    async with sound(), Supervisor(max_processes=1) as sup:
        pid = await sup.run(tasks.pid_of, kind="process")
        await until(lambda: inside.spare_process(sup))
        spare = inside.spare_process(sup)
        await until(lambda: spare.ready)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))
        assert await sup.run(tasks.pid_of, kind="process") == spare.pid
        await until(lambda: inside.spare_process(sup) is not None and inside.spare_process(sup).ready)
        worker = await sup.start(f.wait_for_stop, board, kind="process")
        assert worker.pid != spare.pid
        assert sup.statistics().processes <= 3


async def test_what_was_withdrawn_while_its_process_started_leaves_the_process_to_others():
    async with sound() as calls, Supervisor() as sup:
        starting = asyncio.create_task(sup.start(f.wait_for_stop, kind="process"))
        await asyncio.sleep(0)
        (process,) = inside.processes(sup)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        calls.append(call(sup, tasks.pid_of))
        assert await calls[0] in {process.pid for process in inside.processes(sup)}
        await until(lambda: process.ready or process.reaped)


async def test_a_result_of_one_call_is_never_that_of_another():
    async with sound(), Supervisor(max_processes=2) as sup:

        async def one(n):
            assert (await sup.run(tasks.name_and_pid, kind="process", name=f"call {n}"))[0] == f"call {n}"

        await asyncio.gather(*(one(n) for n in range(300)))


QUICK = EscalationPolicy(Ask(0.01), Inject(0.02, every=0.01), Terminate(0.05), Kill(5))


async def campaign(kills, seed, seconds):
    """Calls without end, while processes die and calls are stopped, cancelled and time out at random.

    It is over after so many deaths. Between them calls come to their ends, most by themselves: on a slow machine the
    campaign takes longer, and shows the same.
    """
    chance = random.Random(seed)
    before = files()
    async with sound(seconds) as calls, Supervisor(max_processes=3, policy=QUICK) as sup:
        ends = Counter()

        async def one(n):
            try:
                timeout = chance.choice([None, None, 0.02])
                value = await sup.run(f.same, (n, bytes(chance.choice([0, 300_000]))), kind="process", timeout=timeout)
                assert value[0] == n
                ends["returned"] += 1
            except (WorkerDied, WorkerStopped) as error:
                ends[type(error).__name__] += 1

        running, n, struck = set(), 0, 0
        while struck < kills:
            while len(running) < 8:
                n += 1
                running.add(asyncio.create_task(one(n)))
            calls[:] = running
            await asyncio.sleep(chance.random() * 0.004)
            processes = inside.processes(sup)
            if processes and chance.random() < 0.7:
                process = chance.choice(processes)
                it_is_time = ends.total() >= struck and ends["returned"] >= struck // 4
                if it_is_time and process.ready and not process.reaped:
                    process.signal(chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV]))
                    struck += 1
            elif chance.random() < 0.3 and (workers := sup.workers()):
                running.add(asyncio.create_task(chance.choice(workers).stop()))
            for task in [task for task in running if task.done()]:
                running.discard(task)
                assert not task.cancelled()
                task.result()
        for task in running:
            await task
        assert await sup.run(int, "5", kind="process") == 5
        assert sup.workers() == ()
    assert files() <= before
    assert ends.total() == n, "each call has come to one end"
    assert ends["WorkerDied"] > 0


@pytest.mark.timeout(180)
async def test_random_deaths_under_load():
    await campaign(kills=25, seed=1, seconds=150)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
async def test_a_thousand_random_deaths_under_load(seed):
    await campaign(kills=200, seed=seed, seconds=800)
