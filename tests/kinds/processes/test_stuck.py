"""Workers that do not end: what each step of the ladder does to them, and where they are seen to stand."""

import asyncio
import contextlib
import math
import os
import signal
import time

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Kill, Supervisor, Terminate, WorkerStopped, WorkerTimeout

from ... import inside
from ...contract import functions as f
from ...stepper import Stepper
from ...waiting import LIMIT
from . import tasks
from .faults import alive, members, rests, sound, until, wait_until
from .test_deaths import QUICK, call

INJECTING = EscalationPolicy(Ask(0.01), Inject(10, every=1))
"""Not once alone: a signal that comes when the interpreter has looked for one, and has not begun to wait yet, is heard
only after the wait."""
TERMINATING = EscalationPolicy(Ask(0.02), Inject(0.05), Terminate(10), Kill(10))
INTERRUPTIBLE = (
    *(tasks.sleeps, tasks.receives, tasks.locks, tasks.gets, tasks.gets_simply, tasks.selects, tasks.joins),
    *(tasks.waits_for_a_program, tasks.backtracks, tasks.powers, tasks.spins),
)


@pytest.mark.parametrize("fn", INTERRUPTIBLE)
async def test_an_injection_reaches_what_waits_and_what_computes(board, fn):
    async with sound() as calls, Supervisor(policy=INJECTING) as sup:
        calls.append(call(sup, fn, board))
        await board.posted("entered")
        outcome = await sup.workers()[0].stop()
        assert (outcome.ended, outcome.error, outcome.exit_code) == ("injected", None, None)
        assert f"in {fn.__name__}" in outcome.stack or "does not answer" in outcome.stack  # it got no time


@pytest.mark.parametrize(
    ("fn", "ended"),
    [
        (tasks.swallows, "terminated"),
        (tasks.ignores_sigterm, "terminated"),
        (tasks.sums, "terminated"),
        (tasks.counts, "terminated"),
        (tasks.blocks_signals, "killed"),
        (tasks.stops_itself, "killed"),
    ],
)
async def test_what_an_injection_does_not_end_is_ended(board, events, fn, ended):
    policy = EscalationPolicy(Ask(0.5), Inject(0.05), Terminate(10 if ended == "terminated" else 0.5), Kill(10))
    async with sound() as calls, Supervisor(policy=policy) as sup:
        calls.append(call(sup, fn, board, name="w"))
        pid = int(await board.posted("entered"))
        outcome = await sup.workers()[0].stop()
        assert (outcome.ended, outcome.step) == (ended, ended.removesuffix("ed").replace("terminat", "terminate"))
        assert outcome.exit_code < 0
        assert not alive(pid)
        with pytest.raises(WorkerStopped):
            await calls[0]
        assert await sup.run(int, "5", kind="process") == 5
    steps = [(event["step"], event["level"]) for event in events if event["event"] == "worker.escalated"]
    assert steps[:2] == [("inject", "warning"), ("terminate", "warning")]
    assert steps[2:] == [("kill", "error")] * (ended == "killed")


@pytest.mark.parametrize("fn", tasks.STUCK)
async def test_a_shutdown_ends_what_is_stuck_in_its_time(board, fn, monkeypatch):
    inside.patch(monkeypatch, DYING_TIME=LIMIT)
    async with sound() as calls:
        sup = Supervisor()  # the ladder of 12 s is shrunk
        calls.append(call(sup, fn, board))
        await board.posted("entered")
        began = time.monotonic()
        report = await sup.shutdown(timeout=0.5)
        assert time.monotonic() - began < 6
        assert (report.abandoned, report.clean) == ((), False)


async def test_many_that_are_stuck_end_side_by_side(tmp_path, monkeypatch):
    inside.patch(monkeypatch, DYING_TIME=LIMIT)
    async with sound() as calls:
        sup = Supervisor(max_processes=10)
        boards = [f.Board(tmp_path / str(n)) for n in range(10)]
        for n, board in enumerate(boards):
            board.path.mkdir()
            calls.append(call(sup, tasks.STUCK[n % len(tasks.STUCK)], board))
        for board in boards:
            await board.posted("entered")
        began = time.monotonic()
        report = await sup.shutdown(timeout=2)  # of which a sixth is left for the last step
        assert time.monotonic() - began < 10  # one after the other: 20
        assert report.abandoned == ()


async def test_terminate_ends_the_whole_group(board):
    async with sound() as calls, Supervisor(policy=EscalationPolicy(Ask(0), Terminate(5))) as sup:
        calls.append(call(sup, tasks.has_grandchildren, board))
        pid = int(await board.posted("entered"))
        assert len(members(pid)) == 5
        outcome = await sup.workers()[0].stop()
        assert outcome.ended == "terminated"
        await until(lambda: not members(pid))


async def test_a_timeout_climbs_the_whole_ladder_by_default(board):
    """A process is the caller's own: what is injected, or killed, harms nobody else."""
    async with sound() as calls, Supervisor(policy=TERMINATING) as sup:
        await sup.run(int, kind="process")
        calls.append(call(sup, tasks.sums, board, timeout=0.1))
        await asyncio.sleep(0)
        board.wait("entered")  # the loop does not look at its clock meanwhile
        with pytest.raises(WorkerTimeout) as caught:
            await calls[0]
        assert caught.value.outcome.ended == "terminated"


async def test_a_policy_without_kill_is_given_one(board):
    async with sound() as calls, Supervisor(policy=EscalationPolicy(Ask(0.01))) as sup:
        calls.append(call(sup, tasks.blocks_signals, board))
        await board.posted("entered")
        assert (await sup.workers()[0].stop()).ended == "killed"


async def test_a_process_is_not_used_again_after_a_step_past_ask(board):
    async with sound() as calls, Supervisor(policy=INJECTING, max_processes=1) as sup:
        first = await sup.run(tasks.pid_of, kind="process")
        calls.append(call(sup, f.saver, board))
        await board.posted("entered")
        assert (await sup.workers()[0].stop()).ended == "injected"
        assert await calls[0] == "saved"
        assert await sup.run(tasks.pid_of, kind="process") != first


async def test_a_process_is_used_again_after_ask(board):
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        first = await sup.run(tasks.pid_of, kind="process")
        calls.append(call(sup, f.obey_and_return, board))
        await board.posted("entered")
        assert (await sup.workers()[0].stop()).ended == "stopped"
        assert await sup.run(tasks.pid_of, kind="process") == first


async def test_injections_that_race_with_the_end_of_calls_never_strike_the_next(board):
    policy = EscalationPolicy(Ask(0), Inject(10, every=0.001))
    async with sound(), Supervisor(policy=policy, max_processes=2) as sup:
        for n in range(40):
            task = call(sup, sum, range(1000 * n))
            await asyncio.sleep(0.0002 * (n % 10))
            for worker in sup.workers():
                outcome = await worker.stop()
                assert outcome.ended in ("returned", "injected", "stopped", "cancelled")
            await asyncio.wait([task])
            assert await sup.run(sum, range(1000), kind="process") == 499500


async def test_public_signals_to_everybody_do_not_bypass_the_ladder(board):
    """A platform's SIGTERM to the whole control group, and a terminal's Ctrl-C."""
    async with sound() as calls, Supervisor() as sup:
        calls.append(call(sup, f.obey_and_return, board))
        await board.posted("entered")
        pid = sup.workers()[0].pid
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
        assert await sup.run(int, "5", kind="process") == 5
        assert alive(pid)
        await sup.workers()[0].stop()
        assert await calls[0] == "value"


# ------------------------------------------------------------------------------------------------ where they stand


@pytest.mark.parametrize("fn", [tasks.spins, tasks.sums, tasks.counts, tasks.sleeps, tasks.swallows])
async def test_the_stack_of_a_process(board, fn):
    async with sound() as calls, Supervisor(policy=QUICK) as sup:
        calls.append(call(sup, fn, board))
        await board.posted("entered")
        stack = ""

        def answers():
            nonlocal stack
            stack = sup.workers()[0].stack()
            return "does not answer" not in stack  # within some milliseconds, that is, on a busy machine

        await until(answers)
        assert f"in {fn.__name__}" in stack
        assert "tasks.py" in stack
        assert inside.CHILD_FOLDER not in stack


async def test_of_a_deep_stack_the_innermost_frames_are_given(board):
    async with sound() as calls, Supervisor(policy=QUICK) as sup:
        calls.append(call(sup, tasks.dives, board))
        await board.posted("entered")
        stacks = []
        await until(lambda: stacks.append(sup.workers()[0].stack()) or "does not answer" not in stacks[-1])
        lines = stacks[-1].splitlines()
        assert lines[0].strip() == "..."
        assert 90 < len(lines) <= 101
        assert all("in dives" in line for line in lines[1:])


def test_a_stack_of_which_a_part_is_written_is_not_whole():
    """In it a worker executes code whose outermost frame is called as that of the process is."""
    module = '  File "<string>", line 1 in <module>\n'
    ours = (
        f'  File "{inside.CHILD_FOLDER}gate.py", line 5 in run\n  File "{inside.CHILD_FOLDER}main.py", line 9 in main\n'
    )
    theirs = f'  File "/t.py", line 3 in f\n{module}  File "/t.py", line 4 in g\n'
    whole = f"Stack (most recent call first):\n{theirs}{ours}{module}"
    parts = [whole[:end].encode() for end in range(len(whole) + 1)]
    assert [part for part in parts if inside.is_whole_stack(part)] == [whole.encode()]


async def test_a_process_that_answers_both_signals_stands_at_one_place(board, monkeypatch):
    """On a busy machine one that waits is asked in both ways, and may have answered both by the time anybody looks."""
    send = inside.Process.signal

    def send_both(self, number):
        if number == inside.STACK:
            send(self, inside.STACK_IN_C)
        send(self, number)
        time.sleep(0.01)

    async with sound() as calls, Supervisor(policy=QUICK) as sup:
        calls.append(call(sup, tasks.sleeps, board))
        await board.posted("entered")
        monkeypatch.setattr(inside.Process, "signal", send_both)
        stacks = []
        await until(lambda: stacks.append(sup.workers()[0].stack()) or "does not answer" not in stacks[-1])
        assert stacks[-1].count("in sleeps") == 1
        assert inside.CHILD_FOLDER not in stacks[-1]


async def test_a_process_that_answers_while_it_is_looked_at_is_not_asked_again(board, monkeypatch):
    """It waits again by then, which looks as if it had been in C code all the time."""
    asked = []

    def looks(_):
        send(process, asked[0])
        wait_until(lambda: inside.has_written_its_stack(process))
        return True

    async with sound() as calls, Supervisor(policy=QUICK) as sup:
        calls.append(call(sup, tasks.swallows, board))
        await board.posted("entered")
        process, send = inside.process_of(inside.runs(sup)[0]), inside.Process.signal
        with monkeypatch.context() as patched:
            patched.setattr(inside.Process, "signal", lambda _, number: asked.append(number))
            inside.patch_look_into_c(patched, looks)
            assert "in swallows" in sup.workers()[0].stack()
        assert asked == [inside.STACK]


def test_of_what_a_process_has_written_the_last_stack_counts():
    """The others answer an earlier question, and the end of one may come when the file has been emptied."""
    first, second = b'Stack:\n  File "/Stack.py", line 1 in f\n', b"Stack (most recent call first):\n  ...\n"
    for text in (second, first + second, b"  ...\n" + second, first + first + second):
        assert inside.last_stack(text) == second
    assert inside.last_stack(second + b"Stack") == b"Stack"
    assert inside.last_stack(b'  File "/f.py", line 1 in f\n  ...\n') == b""


@pytest.mark.parametrize("fn", [tasks.spins, tasks.sums, tasks.sleeps, tasks.joins])
async def test_only_a_process_in_c_code_is_asked_in_the_way_that_could_crash_it(board, fn, monkeypatch):
    if fn in (tasks.spins, tasks.sleeps):
        inside.patch(monkeypatch, ASKING_TIME=60)  # they answer, however slow the machine
    signals = inside.signals_sent(monkeypatch)
    async with sound() as calls, Supervisor(policy=QUICK) as sup:
        calls.append(call(sup, fn, board))
        pid = int(await board.posted("entered"))
        if fn is tasks.sleeps:  # a signal that comes just before it sleeps is heard only afterwards
            await until(lambda: rests(pid))
        await until(lambda: f"in {fn.__name__}" in sup.workers()[0].stack())
        if fn in (tasks.spins, tasks.sleeps):
            signals.clear()  # on its way there it may have been in C code
            assert f"in {fn.__name__}" in sup.workers()[0].stack()
            assert signals == [inside.STACK]
        else:
            await until(lambda: sup.workers()[0].stack() and inside.STACK_IN_C in signals)
            assert inside.STACK in signals


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_asking_where_a_process_stands_never_harms_it(board, monkeypatch):
    inside.patch(monkeypatch, ASKING_TIME=math.inf)
    async with Supervisor(policy=QUICK) as sup:
        wandering = call(sup, tasks.wanders, board)
        await board.posted("entered")
        for _ in range(20_000):
            await asyncio.to_thread(sup.workers()[0].stack)
            assert not wandering.done()
        wandering.cancel()


async def test_the_stack_of_a_stopped_process_says_what_the_kernel_knows(board):
    async with sound() as calls, Supervisor(policy=QUICK) as sup:
        calls.append(call(sup, tasks.stops_itself, board))
        pid = int(await board.posted("entered"))
        await until(lambda: "T" in (sup.workers()[0].stack()))
        assert f"process {pid} does not answer: state T" in sup.workers()[0].stack()


async def test_the_stack_of_a_call_that_has_not_begun_or_is_over_is_empty(board):
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        calls += [call(sup, f.hold, board), call(sup, int)]
        await board.posted("entered")
        running, queued = sup.workers()
        assert queued.stack() == ""
        board.post("release")
        await asyncio.gather(*calls)
        assert running.stack() == ""


async def test_the_stack_can_be_asked_for_by_many_threads_while_the_process_dies(board):
    async with sound() as calls, Supervisor(policy=EscalationPolicy(Ask(0), Kill(10)), max_processes=1) as sup:
        for n in range(3):
            calls.append(call(sup, tasks.spins, board))
            pid = int(await board.posted("entered"))
            (worker,) = sup.workers()
            answers = []
            asking = [asyncio.create_task(asyncio.to_thread(_ask_often, worker, answers)) for _ in range(3)]
            await until(lambda answers=answers: len(answers) >= 3)
            assert (await worker.stop()).ended == "killed", n
            assert not alive(pid)
            await asyncio.gather(*asking)
            (board.path / "entered").unlink()


async def test_asking_where_a_process_stands_as_it_is_reaped_touches_no_file_of_the_application(board, tmp_path):
    async with Supervisor(policy=QUICK) as sup:
        worker = await sup.start(f.wait_for_stop, kind="process")
        asking = await asyncio.to_thread(Stepper, worker.stack, inside.ASKS_A_PROCESS)
        await asyncio.to_thread(asking.until, inside.ASKS_A_PROCESS)
        os.kill(worker.pid, signal.SIGKILL)
        assert (await worker.wait()).ended == "died"
        file = tmp_path / "file"
        file.write_text("precious")
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(file.open("r+b"))
            await asyncio.to_thread(asking.finish)
        assert file.read_text() == "precious"
    assert asking.error is None


def _ask_often(worker, answers):
    until = time.monotonic() + 10
    while worker.state != "ended" and time.monotonic() < until:
        answers.append(worker.stack())


# ------------------------------------------------------------------------------------------------ not to be killed


async def test_a_process_that_cannot_be_killed_is_abandoned_and_said_so(board, monkeypatch, events):
    """As one that the kernel holds in a device's driver: here nothing that is sent to it arrives."""
    sup = Supervisor(policy=QUICK)
    task = call(sup, tasks.sleeps, board, name="stuck")
    pid = int(await board.posted("entered"))
    process = inside.process_of(inside.runs(sup)[0])
    with monkeypatch.context() as patch:
        inside.deafen(patch, process)
        began = time.monotonic()
        report = await sup.shutdown(timeout=0.5)
        assert time.monotonic() - began < 5
    assert [outcome.worker for outcome in report.abandoned] == ["stuck"]
    assert report.counts() == {"abandoned": 1}
    with pytest.raises(WorkerStopped, match="was abandoned"):
        await task
    assert alive(pid)
    assert sup.statistics().abandoned == 1
    os.kill(pid, signal.SIGKILL)
    await until(lambda: process.reaped)
    assert sup.statistics().abandoned == 0
    assert [event["event"] for event in events if event.get("worker") == "stuck"][-1] == "worker.late_end"


async def test_an_abandoned_process_is_replaced(board, monkeypatch):
    async with sound() as calls:
        sup = Supervisor(policy=EscalationPolicy(Ask(0), Kill(0.05)), max_processes=1)
        task = call(sup, tasks.sleeps, board)
        calls.append(task)
        pid = int(await board.posted("entered"))
        process = inside.process_of(inside.runs(sup)[0])
        with monkeypatch.context() as patch:
            inside.deafen(patch, process, group_only=True)
            assert (await sup.workers()[0].stop()).ended == "abandoned"
            assert await sup.run(int, "5", kind="process") == 5
        os.kill(pid, signal.SIGKILL)
        await until(lambda: process.reaped)
        assert process not in inside.processes(sup)
        await sup.shutdown()


async def test_a_process_is_ended_although_nobody_learns_where_it_stands(monkeypatch, board, events):
    async with sound() as calls, Supervisor(policy=TERMINATING) as sup:
        calls.append(call(sup, tasks.swallows, board, name="w"))
        pid = int(await board.posted("entered"))
        inside.no_stacks(monkeypatch, MemoryError("on purpose"))
        outcome = await sup.workers()[0].stop()
        assert outcome.ended == "terminated"
        assert not alive(pid)
    assert "supervisor.fault" in {event["event"] for event in events}
    events.clear()  # their tracebacks hold the supervisor


async def test_a_process_is_ended_although_it_cannot_be_told(monkeypatch, board, quiet):
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with sound() as calls, Supervisor(policy=TERMINATING) as sup:
        calls.append(call(sup, tasks.swallows, board, name="w"))
        pid = int(await board.posted("entered"))
        inside.no_messages(monkeypatch, MemoryError("on purpose"))
        assert (await sup.workers()[0].stop()).ended == "terminated"
        assert not alive(pid)
