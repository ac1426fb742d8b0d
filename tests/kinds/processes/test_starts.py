"""How processes come up, or do not: start timeouts, what they wrote, and the owner's main module."""

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from supervisor import Supervisor, SupervisorError, WorkerDied

from ... import inside
from ...contract import functions as f
from . import tasks
from .faults import children, sound, until
from .test_deaths import call
from .test_main_module import DEFINITIONS

ROOT = Path(__file__).parents[3]


def program(tmp_path, text):
    """A stand-in for the interpreter."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_a_process_starts_with_no_more_of_our_modules_than_it_needs():
    """Each one more costs its start a tenth of a millisecond."""
    async with Supervisor() as sup:
        loaded = await sup.run(eval, "list(__import__('sys').modules)", kind="process")
    ours = {name for name in loaded if name.partition(".")[0] == "supervisor"}
    assert ours == inside.MODULES_OF_A_CHILD
    assert not {"multiprocessing", "runpy", "socket", "threading"} & set(loaded)


async def both_fail(sup, match):
    for awaitable in (
        sup.run(int, kind="process"),
        sup.start(f.wait_for_stop, kind="process", name="w"),
        asyncio.wrap_future(sup.executor("process").submit(int)),
    ):
        with pytest.raises(SupervisorError, match=match):
            await awaitable
    assert sup.workers() == ()


async def test_a_process_that_dies_before_it_is_ready_says_what_it_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", program(tmp_path, "echo no such module >&2\nexit 3"))
    async with sound(), Supervisor("app") as sup:
        await both_fail(sup, r"(?s)'app': a worker process ended with exit code 3.*it wrote:\nno such module")
        monkeypatch.undo()
        assert await sup.run(int, "5", kind="process") == 5


async def test_all_calls_that_wait_fail_where_no_process_comes_up(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", program(tmp_path, "exit 3"))
    async with sound() as calls, Supervisor(max_processes=3) as sup:
        calls += [call(sup, int) for _ in range(10)]
        await asyncio.wait(calls)
        assert all(isinstance(task.exception(), SupervisorError) for task in calls)


@pytest.mark.parametrize("executable", ["/nowhere/python", "", None])
async def test_an_interpreter_that_cannot_be_launched(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    async with sound(), Supervisor() as sup:
        await both_fail(sup, "a worker process cannot be launched")
        monkeypatch.undo()
        assert await sup.run(int, "5", kind="process") == 5


async def test_a_process_that_does_not_come_up_in_its_time_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", program(tmp_path, "sleep 3600"))
    async with sound(), Supervisor(process_start_timeout=0.05) as sup:
        await both_fail(sup, r"was not ready within 0\.05 s")


async def test_starting_is_not_tried_without_end_while_others_work(tmp_path, monkeypatch, board):
    """A call that waits behind a long one, where no more processes come up."""
    others = children()  # such as a resource tracker of this process
    async with sound() as calls, Supervisor(max_processes=2) as sup:
        calls.append(call(sup, f.hold, board))
        await board.posted("entered")
        launched = inside.tries_to_launch(monkeypatch, sup)
        monkeypatch.setattr(sys, "executable", program(tmp_path, "exit 3"))
        calls.append(call(sup, int, "5"))
        await until(lambda: len(launched) == 3)
        began = time.monotonic()
        assert len(children() - others) <= 2
        board.post("release")
        assert await asyncio.gather(*calls) == ["value", 5]
        assert len(launched) < 8 + 10 * (time.monotonic() - began)  # a pause of 0.2 s goes before each


async def test_what_a_process_writes_while_it_starts_is_not_lost(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", program(tmp_path, f'echo a warning >&2\nexec {sys.executable} "$@"'))
    async with sound(), Supervisor() as sup:
        assert await sup.run(int, "5", kind="process") == 5
    assert "a warning" in capsys.readouterr().err


async def test_a_stderr_that_raises_keeps_no_process_from_its_calls(tmp_path, monkeypatch):
    class Broken:
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "executable", program(tmp_path, f'echo a warning >&2\nexec {sys.executable} "$@"'))
    monkeypatch.setattr(sys, "stderr", Broken())
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with sound(), Supervisor() as sup:
        assert await sup.run(int, "5", kind="process") == 5


# ------------------------------------------------------------------------------------------------ the main module


def ran(tmp_path, text, *options, name="script.py"):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, *(options or (str(path),))],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=tmp_path,
    )


GUARDED = (
    DEFINITIONS
    + """
    def worker(ctx):
        return ctx.stop.wait()

    async def main():
        async with Supervisor() as sup:
            print(await sup.run(double, Point(4), kind="process"), sys.argv[1:])
            try:
                await sup.run(fails, kind="process")
            except Mine as error:
                print(type(error).__name__, error)
            await sup.start(worker, kind="process")
        print(sup.report.counts())

    if __name__ == "__main__":
        asyncio.run(main())
"""
)


@pytest.mark.parametrize("how", ["script", "module"])
def test_functions_and_classes_of_the_main_module_work(tmp_path, how):
    if how == "script":
        done = ran(tmp_path, GUARDED)
    else:
        done = ran(tmp_path, GUARDED, "-m", "pkg.mod", name="pkg/mod.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Point(x=8) []", "Mine mine", "{'stopped': 1}"]


def test_a_script_without_the_guard_is_told_of_it(tmp_path):
    text = textwrap.dedent(GUARDED).replace(
        'if __name__ == "__main__":\n    asyncio.run(main())', "asyncio.run(main())"
    )
    done = ran(tmp_path, text)
    assert done.returncode != 0
    assert 'if __name__ == "__main__":' in done.stderr


def test_a_main_module_that_fails_at_its_import_fails_its_calls_and_says_why(tmp_path):
    text = textwrap.dedent("""
        import asyncio
        from supervisor import Supervisor

        if __name__ != "__main__":
            raise RuntimeError("not to be imported")

        def mine():
            pass

        async def main():
            async with Supervisor() as sup:
                for _ in range(2):
                    try:
                        await sup.run(mine, kind="process")
                    except Exception as error:
                        print(type(error).__name__, error)
                print(await sup.run(int, "5", kind="process"))

        asyncio.run(main())
    """)
    done = ran(tmp_path, text)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[-1] == "5"
    assert len(lines) == 3
    assert all("RemoteError" in line and "not to be imported" in line for line in lines[:2])


async def test_a_worker_may_have_a_supervisor_of_its_own():
    async with sound(), Supervisor() as sup:
        assert await sup.run(tasks.attempts_a_supervisor, kind="process") == await sup.run(tasks.pid_of, kind="process")


@pytest.mark.parametrize("refused", [1, 2, 3])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
async def test_a_loop_that_does_not_take_the_files_of_a_process_leaves_no_child(monkeypatch, refused, error):
    async with sound() as calls, Supervisor() as sup:
        await sup.run(int)
        loop = asyncio.get_running_loop()
        add_reader, times = loop.add_reader, []

        def refusing(*args):
            times.append(1)
            if len(times) == refused:
                raise error
            return add_reader(*args)

        monkeypatch.setattr(loop, "add_reader", refusing)
        before = children()
        calls.append(call(sup, int))
        with pytest.raises(SupervisorError, match="cannot be launched"):
            await calls[0]
        assert children() == before
        monkeypatch.undo()
        assert await sup.run(int, "5", kind="process") == 5


@pytest.mark.parametrize("name", ["pipe", "memfd_create", "dup", "get_inheritable"])
async def test_a_file_that_cannot_be_made_for_a_process_leaves_none_open(monkeypatch, name):
    def failing(*args):
        raise MemoryError("on purpose")

    async with sound() as calls, Supervisor() as sup:
        with monkeypatch.context() as patched:
            patched.setattr(os, name, failing)
            calls.append(call(sup, int))
            with pytest.raises(SupervisorError, match="cannot be launched: MemoryError"):
                await calls[0]
        assert await sup.run(int, "5", kind="process") == 5


async def test_a_file_of_a_process_that_fails_as_it_is_closed_leaves_no_other_open(monkeypatch, quiet):
    close = socket.socket.close

    def failing(self):
        close(self)
        raise OSError(5, "Input/output error, on purpose")

    async with sound() as calls, Supervisor() as sup:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        assert await sup.run(int, "5", kind="process") == 5
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "close", failing)
            calls.append(call(sup, os._exit, 3))
            with pytest.raises(WorkerDied):
                await calls[0]
