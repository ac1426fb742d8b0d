"""Processes that die: every call resolves, what was finished is kept, and nobody else notices."""

import asyncio
import os
import signal
import time

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Kill,
    Supervisor,
    SupervisorError,
    Terminate,
    WorkerDied,
    WorkerStopped,
)

from ... import inside
from ...contract import functions as f
from . import tasks
from .faults import alive, look, sound, until

QUICK = EscalationPolicy(Ask(0.02), Inject(0.05), Terminate(0.05), Kill(10))


def call(sup, fn, *args, **options):
    return asyncio.create_task(sup.run(fn, *args, kind="process", **options))


async def test_killed_while_idle():
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        for _ in range(3):
            pid = await sup.run(tasks.pid_of, kind="process")
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: look(pid) is None)
            calls.append(call(sup, int, "5"))
            assert await calls[-1] == 5


async def test_killed_while_idle_and_given_a_call_before_anybody_has_heard():
    """The call has never begun, so nothing of it is lost: another process takes it."""
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        for _ in range(5):
            pid = await sup.run(tasks.pid_of, kind="process")
            os.kill(pid, signal.SIGKILL)
            while alive(pid):
                pass
            calls.append(call(sup, int, "5"))
            assert await calls[-1] == 5


async def test_the_spare_one_is_killed():
    async with sound(), Supervisor(max_processes=1) as sup:
        pid = await sup.run(tasks.pid_of, kind="process")
        await until(lambda: inside.spare_process(sup))
        spare = inside.spare_process(sup)
        await until(lambda: spare.ready)
        assert spare.pid != pid
        os.kill(spare.pid, signal.SIGKILL)
        await until(lambda: spare.reaped)
        assert await sup.run(tasks.pid_of, kind="process") == pid


SLOWLY = "__import__('time').sleep({});"
"""What a process does before all else, so that a test meets it there."""


async def killed_while_it_starts(sup):
    await until(lambda: inside.processes(sup))
    (process,) = inside.processes(sup)
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: process.reaped)


async def test_a_call_whose_process_is_killed_while_it_starts_goes_to_the_next(monkeypatch):
    inside.boot_after(monkeypatch, SLOWLY.format(60))
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        calls += [call(sup, int, "5"), call(sup, int, "6")]
        await killed_while_it_starts(sup)
        monkeypatch.undo()
        assert await asyncio.gather(*calls) == [5, 6]


async def test_a_call_whose_processes_are_killed_again_and_again_while_they_start_fails(monkeypatch):
    inside.boot_after(monkeypatch, SLOWLY.format(60))
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        calls.append(call(sup, int, "5"))
        for _ in range(3):
            await killed_while_it_starts(sup)
        with pytest.raises(SupervisorError, match=r"ended with exit code -9 before it was ready; it wrote nothing"):
            await calls[0]
        monkeypatch.undo()
        assert await sup.run(int, "6", kind="process") == 6


async def test_one_of_two_is_killed_while_both_start_and_the_other_serves_both_calls(monkeypatch):
    inside.boot_after(monkeypatch, SLOWLY.format(0.5))
    async with sound() as calls, Supervisor(max_processes=2) as sup:
        calls += [call(sup, int, "5"), call(sup, int, "6")]
        await until(lambda: len(inside.processes(sup)) == 2)
        os.kill(inside.processes_for_calls(sup)[0].pid, signal.SIGKILL)
        assert await asyncio.gather(*calls) == [5, 6]


async def test_another_is_started_where_one_was_killed_while_it_started_and_its_call_waits_for_a_long_one(
    board, monkeypatch
):
    async with sound() as calls, Supervisor(max_processes=2) as sup:
        first = call(sup, f.hold, board)
        await board.posted("entered")
        with monkeypatch.context() as patched:
            inside.boot_after(patched, SLOWLY.format(60))
            calls += [first, call(sup, int, "6")]
            await until(lambda: len(inside.processes_for_calls(sup)) == 2)
        (starting,) = (process for process in inside.processes_for_calls(sup) if not process.ready)
        os.kill(starting.pid, signal.SIGKILL)
        assert await calls[1] == 6
        board.post("release")
        assert await first == "value"


async def test_a_worker_whose_process_is_killed_while_it_starts(monkeypatch):
    inside.boot_after(monkeypatch, SLOWLY.format(60))
    async with sound() as calls, Supervisor() as sup:
        calls.append(asyncio.create_task(sup.start(f.wait_for_stop, kind="process", name="w")))
        await killed_while_it_starts(sup)
        monkeypatch.undo()
        assert (await calls[0]).state == "running"  # another has taken it


async def test_a_worker_whose_process_is_killed_while_it_starts_and_that_is_stopped_meanwhile(monkeypatch):
    inside.boot_after(monkeypatch, SLOWLY.format(60))
    async with sound() as calls, Supervisor() as sup:
        calls.append(asyncio.create_task(sup.start(f.wait_for_stop, kind="process", name="w")))
        await killed_while_it_starts(sup)
        calls[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        assert sup.workers() == ()


async def test_processes_that_are_killed_together_while_they_start_count_as_one(monkeypatch):
    inside.boot_after(monkeypatch, SLOWLY.format(60))
    async with sound() as calls, Supervisor(max_processes=4) as sup:
        calls += [call(sup, int, "5") for _ in range(4)]
        await until(lambda: len(inside.processes(sup)) == 4)
        monkeypatch.undo()
        for process in inside.processes(sup):
            os.kill(process.pid, signal.SIGKILL)
        assert await asyncio.gather(*calls) == [5, 5, 5, 5]


async def test_workers_whose_processes_are_killed_together_while_they_start(monkeypatch):
    inside.boot_after(monkeypatch, SLOWLY.format(60))
    async with sound() as calls, Supervisor() as sup:
        calls += [asyncio.create_task(sup.start(f.wait_for_stop, kind="process")) for _ in range(4)]
        await until(lambda: len(inside.processes(sup)) == 4)
        monkeypatch.undo()
        for process in inside.processes(sup):
            os.kill(process.pid, signal.SIGKILL)
        assert {worker.state for worker in await asyncio.gather(*calls)} == {"running"}


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_worker_whose_process_was_dead_before_it_had_read_it(stopped):
    async with sound() as calls, Supervisor() as sup:
        assert await sup.run(int, kind="process") == 0
        await until(lambda: inside.spare_process(sup) and inside.spare_process(sup).ready)
        spare = inside.spare_process(sup)
        os.kill(spare.pid, signal.SIGSTOP)  # it reads nothing
        calls.append(asyncio.create_task(sup.start(f.wait_for_stop, kind="process", name="w")))
        await until(lambda: spare.run is not None)
        os.kill(spare.pid, signal.SIGKILL)
        if stopped:
            calls[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await calls[0]
            assert sup.workers() == ()
        else:
            worker = await calls[0]
            assert worker.state == "running"
            assert worker.pid != spare.pid


@pytest.mark.parametrize("fn", [tasks.sleeps, tasks.spins, tasks.sums, tasks.backtracks, tasks.waits_for_a_program])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_killed_while_it_works(board, events, fn, number):
    async with sound() as calls, Supervisor() as sup:
        calls.append(call(sup, fn, board, name="w"))
        pid = int(await board.posted("entered"))
        os.kill(pid, number)
        with pytest.raises(WorkerDied) as caught:
            await calls[0]
        outcome = caught.value.outcome
        assert (outcome.ended, outcome.exit_code, outcome.step, outcome.error) == ("died", -number, None, None)
        assert number.name in str(caught.value)
        assert await sup.run(int, "5", kind="process") == 5
    (ended,) = (event for event in events if event["event"] == "worker.ended" and event["worker"] == "w")
    assert (ended["level"], ended["ended"], ended["pid"]) == ("error", "died", pid)


@pytest.mark.parametrize("code", [0, 3])
async def test_a_task_that_leaves_the_process(code):
    async with sound() as calls, Supervisor() as sup:
        calls.append(call(sup, tasks.exits_hard, code))
        with pytest.raises(WorkerDied, match=f"exited with code {code}") as caught:
            await calls[0]
        assert caught.value.outcome.exit_code == code
        assert await sup.run(int, "5", kind="process") == 5


async def test_a_segfault(capfd):
    async with sound(), Supervisor() as sup:
        with pytest.raises(WorkerDied, match="SIGSEGV"):
            await sup.run(tasks.segfaults, kind="process")
        assert await sup.run(int, "5", kind="process") == 5


async def test_a_long_lived_worker_that_dies_is_in_its_outcome(board):
    async with sound(), Supervisor() as sup:
        worker = await sup.start(f.stands_here, board, kind="process")
        os.kill(worker.pid, signal.SIGKILL)
        outcome = await worker.wait()
        assert (outcome.ended, outcome.exit_code) == ("died", -9)


async def test_killed_while_its_argument_is_on_the_way():
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        pid = await sup.run(tasks.pid_of, kind="process")
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: look(pid)[0] == "T")
        calls.append(call(sup, tasks.length, bytes(50_000_000)))
        await until(lambda: any(map(inside.is_sending, inside.processes(sup))))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDied) as caught:  # a small one would be given to another: it has not begun
            await calls[0]
        assert caught.value.outcome.exit_code == -9
        assert await sup.run(int, "5", kind="process") == 5


async def test_killed_while_its_result_is_on_the_way(board):
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        calls.append(call(sup, tasks.dies_within_its_answer, 50_000_000))
        with pytest.raises(WorkerDied) as caught:
            await calls[0]
        assert caught.value.outcome.exit_code == 7
        assert await sup.run(int, "5", kind="process") == 5


@pytest.mark.parametrize("size", [3, 100_000])
async def test_a_result_that_was_sent_before_an_instant_death_is_kept(size):
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        for _ in range(5):
            calls += [call(sup, tasks.dies_after_its_answer, b"x" * size), call(sup, tasks.length, bytes(size))]
            assert await calls[-2] == b"x" * size
            assert await calls[-1] == size  # which was next in line for the process that was dying


async def test_a_worker_that_dies_while_it_is_being_stopped(board):
    async with sound(), Supervisor(policy=EscalationPolicy(Ask(20))) as sup:
        task = call(sup, f.obey_late, board)
        pid = int((await board.posted("entered")) or sup.workers()[0].pid)
        stopping = asyncio.create_task(sup.workers()[0].stop())
        await board.posted("asked")
        os.kill(pid, signal.SIGKILL)
        outcome = await stopping
        assert (outcome.ended, outcome.exit_code) == ("stopped", -9)
        with pytest.raises(WorkerStopped):
            await task


async def test_killed_then_shut_down(board):
    async with sound() as calls:
        sup = Supervisor()
        calls += [call(sup, tasks.sleeps, board), call(sup, int, "5")]
        os.kill(int(await board.posted("entered")), signal.SIGKILL)
        await sup.shutdown()
        await asyncio.wait(calls)
        assert sup.report.abandoned == ()


async def test_a_grandchild_that_holds_the_files_of_a_dead_worker_delays_nothing(board):
    """Death is what the kernel says of the worker itself; its sockets never come to their end."""
    async with sound() as calls, Supervisor() as sup:
        calls.append(call(sup, tasks.has_grandchildren, board))
        pid = int(await board.posted("entered"))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDied):  # where it had to wait for the sockets, it would wait for ever
            await calls[0]
        for grandchild in map(int, board.read("grandchildren").split()):
            await until(lambda grandchild=grandchild: not alive(grandchild))


async def test_a_grandchild_that_a_call_has_left_ends_with_the_process():
    async with sound(), Supervisor() as sup:
        value, grandchild = await sup.run(tasks.leaves_a_grandchild, "value", kind="process")
        assert value == "value"
        assert alive(grandchild)
        assert await sup.run(int, "5", kind="process") == 5
    await until(lambda: not alive(grandchild))


async def test_killing_a_worker_that_ignores_sigterm_delays_its_neighbours_by_nothing(board, ladder_time):
    policy = EscalationPolicy(Ask(1), Inject(1), Terminate(10), Kill(10))
    async with sound() as calls, Supervisor(policy=policy, max_processes=2) as sup:
        calls.append(call(sup, tasks.ignores_sigterm, board))
        await board.posted("entered")
        (worker,) = sup.workers()
        stopping = asyncio.create_task(worker.stop())
        for step in ("ask", "inject"):
            await until(lambda step=step: worker.step == step)
            for _ in range(10):  # the clock stands: who waited for the next step would do so for ever
                await sup.run(int, kind="process")
            assert worker.step == step
            await ladder_time.advance(1)
        await sup.run(int, kind="process")
        assert (await stopping).ended == "terminated"
        await asyncio.wait(calls)


def test_one_that_takes_its_time_to_die_is_reaped_though_the_loop_is_gone(monkeypatch):
    """The system is busy, and the shutdown's time is over before the kernel has buried what was killed."""
    inside.patch(monkeypatch, QUIET_SLACK=0.0, JOIN_SLACK=0.0)

    async def main():
        async with Supervisor(max_processes=2) as sup:
            await sup.run(tasks.pid_of, kind="process")
            return [process.pid for process in inside.processes(sup)]

    for _ in range(5):
        for pid in asyncio.run(main()):
            limit = time.monotonic() + 20
            while look(pid) is not None:
                assert time.monotonic() < limit, "nobody has reaped it"
                time.sleep(0.001)


@pytest.mark.parametrize("part", inside.PARTS_OF_A_DEATH, ids=lambda part: f"{part[0].__name__}.{part[1]}")
async def test_whatever_part_of_an_end_fails_once_the_call_ends_and_nothing_is_left(monkeypatch, part):
    owner, name = part
    real, failed = getattr(owner, name), []

    def failing(self, *args):
        if not failed:
            failed.append(1)
            raise MemoryError("on purpose")
        return real(self, *args)

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with sound() as calls, Supervisor() as sup:
        assert await sup.run(int, "5", kind="process") == 5
        monkeypatch.setattr(owner, name, failing)
        calls.append(call(sup, os._exit, 3))
        with pytest.raises(WorkerDied):
            await calls[0]
    assert failed
