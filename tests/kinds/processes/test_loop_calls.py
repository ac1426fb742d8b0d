"""`ctx.call` from processes: what can be sent, and processes that die while the loop works for them."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap

import pytest

from supervisor import Ask, EscalationPolicy, RemoteError, Supervisor, WorkerDied

from ... import inside
from ...contract import loop_functions as e
from . import tasks
from .faults import sound, until

PATIENT = EscalationPolicy(Ask(20))


@pytest.fixture(autouse=True)
async def _prepared():
    e.prepare()


@pytest.fixture
async def run():
    """Calls in one process, which every call must leave in order."""
    async with Supervisor(max_processes=1) as sup:
        pid = await sup.run(tasks.pid_of, kind="process")
        yield lambda fn, *args: sup.run(fn, *args, kind="process")
        assert await sup.run(e.call_raw, e.double, 4, kind="process") == 8
        assert await sup.run(tasks.pid_of, kind="process") == pid


def called():
    return [task for task in asyncio.all_tasks() if "/" in task.get_name()]


# ------------------------------------------------------------------------------------------------ what can be sent


async def test_the_traceback_of_the_supervisors_process_is_the_cause(run):
    error = await run(tasks.cause_of_call, e.refuse, 7, "note")
    assert error.startswith(f"in process {os.getpid()}:\nTraceback")
    assert "in refuse" in error
    assert inside.LOOP_CALL_FILE not in error


async def test_a_function_that_is_in_no_module_is_refused_by_name(run):
    with pytest.raises(TypeError, match=r"call\(fn=call_local.<locals>.local\): cannot be sent") as caught:
        await run(e.call_local)
    assert "Give a function of a module" in str(caught.value)


async def test_an_argument_that_cannot_be_pickled_is_refused(run):
    with pytest.raises(TypeError, match=r"call\(fn=double\): cannot be sent to the supervisor's process"):
        await run(tasks.calls_with_a_lambda, e.double)


async def test_a_function_that_is_not_to_be_found_in_the_supervisors_process(run):
    with pytest.raises(RemoteError, match=r"call\(fn=made_here\): cannot be unpickled in the supervisor's process"):
        await run(tasks.calls_what_is_made_there)


async def test_a_result_that_cannot_be_pickled_fails_its_call_alone(run):
    error = await run(e.call, tasks.returns_a_lambda)
    assert isinstance(error, RemoteError)
    assert str(error).startswith("what returns_a_lambda() returned cannot be pickled: ")


async def test_a_result_that_cannot_be_unpickled_fails_its_call_alone(run):
    error = await run(e.call, tasks.returns_what_loads, tasks.raises, ValueError, "on loading")
    assert isinstance(error, RemoteError)
    assert "what came of returns_what_loads() cannot be unpickled in the worker's process" in str(error)
    assert "on loading" in str(error)


async def test_an_error_that_cannot_be_pickled_comes_as_remote_error(run):
    error = await run(e.call, tasks.raises, tasks.NeedsTwo, 1, 2)
    assert isinstance(error, RemoteError)
    assert "NeedsTwo: 1 and 2" in str(error)


async def test_large_arguments_and_results_come_whole(run):
    assert await run(tasks.call_with_bytes, 30_000_000) == 60_000_000


def test_functions_of_the_main_module_are_those_of_the_running_program(tmp_path):
    """A process imports the main module anew; what it calls by name is what the owner has."""
    script = tmp_path / "app.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, os
            from supervisor import Supervisor, current_context

            owner = []

            class Thing:
                def __init__(self, value):
                    self.value = value

            async def note(thing):
                owner.append(thing.value)
                return Thing(os.getpid())

            def work():
                return current_context().call(note, Thing(os.getpid())).value

            async def main():
                async with Supervisor() as sup:
                    assert await sup.run(work, kind="process") == os.getpid()
                    assert len(owner) == 1 and owner[0] != os.getpid()
                print("fine")

            if __name__ == "__main__":
                asyncio.run(main())
            """
        )
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "fine\n", done.stderr


# ------------------------------------------------------------------------------------------------ deaths


async def test_a_killed_process_takes_its_calls_with_it():
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        calls.append(asyncio.create_task(sup.run(e.call_raw, e.waits, kind="process")))
        await e.loop.begun.wait()
        (worker,) = sup.workers()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await calls[0]
        await until(lambda: not inside.calls_open(sup))
        assert e.loop.log == ["coroutine unwound"]
        assert not called()
        assert await sup.run(e.call_raw, e.double, 4, kind="process") == 8


async def test_a_shutdown_waits_for_the_calls_of_a_process_that_has_died():
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        calls.append(asyncio.create_task(sup.run(e.call_raw, e.waits, kind="process")))
        await e.loop.begun.wait()
        os.kill(sup.workers()[0].pid, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await calls[0]
        await sup.shutdown()
        assert e.loop.log == ["coroutine unwound"]
        assert not called()


async def test_a_worker_that_is_terminated_in_a_call_takes_it_with_it(board):
    policy = EscalationPolicy.from_config({"terminate": 5})
    async with sound(), Supervisor(policy=policy) as sup:
        worker = await sup.start(e.worker, board, e.waits, kind="process")
        await e.loop.begun.wait()
        assert (await worker.stop()).ended == "terminated"
        await until(lambda: not called())


async def test_random_kills_under_calls_lose_nobody_elses_answer():
    choose = random.Random(5)
    async with sound() as calls, Supervisor(max_processes=2, policy=PATIENT) as sup:
        for n in range(40):
            calls.append(asyncio.create_task(sup.run(e.call_many, list(range(n * 50, n * 50 + 50)), kind="process")))
        for _ in range(8):
            seen = len(e.loop.log)
            await until(lambda seen=seen: len(e.loop.log) > seen + 40 or all(call.done() for call in calls))
            busy = [worker.pid for worker in sup.workers() if worker.pid]
            if busy:
                os.kill(choose.choice(busy), signal.SIGKILL)
        ends = await asyncio.gather(*calls, return_exceptions=True)
        for n, end in enumerate(ends):
            if not isinstance(end, WorkerDied):
                assert end == list(range(n * 100, n * 100 + 100, 2))
        assert 1 <= sum(isinstance(end, WorkerDied) for end in ends) <= 8
    assert not inside.calls_open(sup)


async def test_a_process_that_has_gone_before_its_call_is_heard_is_not_answered(board):
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        calls.append(asyncio.create_task(sup.run(tasks.calls_and_dies, e.waits, board, kind="process")))
        with pytest.raises(WorkerDied):
            await calls[0]
        await sup.shutdown()
        assert not called()


async def test_a_helper_thread_of_a_call_that_is_over_cannot_call(board):
    """The process lives on, for other calls; what is left in it of the first has a context that has ended."""
    async with Supervisor(max_processes=1) as sup:
        assert await sup.run(tasks.leaves_a_caller, e.double, board, kind="process") == "left"
        board.post("go")
        assert "its worker has ended" in await board.posted("late")
        assert await sup.run(int, "5", kind="process") == 5
    assert e.loop.log == []
