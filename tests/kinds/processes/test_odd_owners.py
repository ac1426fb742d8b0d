"""What an owner may be at the moment: one with many files, few rights, one CPU, ignored signals, an odd path."""

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from supervisor import Ask, EscalationPolicy, Kill, Supervisor, Terminate, WorkerTimeout

from ... import inside
from ...programs import run_program
from . import tasks
from .faults import alive, children, sound, until

ROOT = Path(__file__).parents[3]
PR_SET_CHILD_SUBREAPER = 36


def double(number):
    return 2 * number


def exit_code_of_a_program():
    return subprocess.run(["sh", "-c", "exit 3"], check=False).returncode


def leaves_a_program():
    return subprocess.Popen(["sleep", "3600"]).pid


def waits_for_a_program():
    subprocess.run(["sleep", "3600"], check=False)


def is_deaf(ctx):
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(3600)


def becomes_another_program(board):
    tasks.note(board)
    os.execvp("sleep", ["sleep", "3600"])


def owner(body, *args):
    """Runs a program that owns worker processes; returns its lines."""
    text = textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", text, *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_more_than_1024_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this host allows too few files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        async with sound(), Supervisor(max_processes=1) as sup:
            assert await sup.run(double, 2, kind="process") == 4
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_memfd_is_denied(monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "memfd_create", denied)
    async with sound(), Supervisor(max_processes=1) as sup:
        assert await sup.run(double, 2, kind="process") == 4


async def test_there_is_no_main_module_and_no_command_line(monkeypatch):
    monkeypatch.delitem(sys.modules, "__main__")
    monkeypatch.delattr(sys, "argv")
    async with sound(), Supervisor(max_processes=1) as sup:
        assert await sup.run(double, 2, kind="process") == 4


async def test_no_folder_can_be_written_to(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    monkeypatch.setenv("TMPDIR", "/nowhere")
    async with sound(), Supervisor(max_processes=1) as sup:
        assert await sup.run(double, 2, kind="process") == 4


def runs_programs():
    """Of each kind: with a function of Python in between, and by a fork of its own."""
    first = subprocess.run(["sh", "-c", "exit 3"], check=False, preexec_fn=lambda: os.setpgid(0, 0))
    pid = os.fork()
    if pid == 0:
        os.execvp("sh", ["sh", "-c", "exit 4"])
    return first.returncode, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def test_a_worker_starts_programs_by_any_fork():
    async with sound(), Supervisor(max_processes=1) as sup:
        for _ in range(2):
            assert await sup.run(runs_programs, kind="process") == (3, 4)


async def test_by_default_as_many_calls_as_the_affinity_allows():
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        async with Supervisor() as sup:
            await asyncio.gather(*(sup.run(double, 2, kind="process") for _ in range(4)))
            assert len(inside.processes(sup)) <= 2  # with the spare one
    finally:
        os.sched_setaffinity(0, cpus)


async def test_a_worker_whose_owner_ignores_sigchld_has_the_exit_codes_of_its_programs():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        async with sound(), Supervisor(max_processes=1) as sup:
            assert await sup.run(exit_code_of_a_program, kind="process") == 3
    finally:
        signal.signal(signal.SIGCHLD, before)


def paths():
    return sys.path


async def test_what_is_not_a_folder_in_the_import_path_is_passed_on_as_it_is(monkeypatch):
    odd = ["__editable__.hook", b"/tmp/bytes", Path("/tmp/path"), "/tmp/absolute"]
    monkeypatch.setattr(sys, "path", [*sys.path, "tests", *odd])
    async with sound(), Supervisor(max_processes=1) as sup:
        got = await sup.run(paths, kind="process")
    assert got[-3:] == [str(Path("tests").absolute()), "__editable__.hook", "/tmp/absolute"]


async def test_what_workers_leave_behind_is_reaped_where_its_owner_inherits_it():
    prctl = ctypes.CDLL(None).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        async with sound():
            before = children()
            async with Supervisor(policy=EscalationPolicy(Ask(0.05), Terminate(0.3), Kill(1))) as sup:
                with pytest.raises(WorkerTimeout):
                    await sup.run(waits_for_a_program, kind="process", timeout=0.5)
                await sup.run(leaves_a_program, kind="process")
            await until(lambda: not children() - before)
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root has privileges to drop")
def test_an_owner_that_has_dropped_its_privileges_ends_its_workers_in_time():
    lines = owner("""
        import asyncio, os, time
        from supervisor import Ask, EscalationPolicy, Inject, Kill, Supervisor, Terminate
        from tests.kinds.processes import test_odd_owners

        async def main():
            errors = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
            policy = EscalationPolicy(Ask(0.2), Inject(0.2), Terminate(0.2), Kill(2))
            sup = Supervisor("app", policy=policy, shutdown_timeout=5)
            worker = await sup.start(test_odd_owners.is_deaf, kind="process")
            pid = worker.pid
            os.setgid(65534)
            os.setuid(65534)
            began = time.monotonic()
            report = await sup.shutdown()
            print(time.monotonic() - began < 5.25, errors, report.counts())
            print(pid)

        asyncio.run(main())
    """)
    assert lines[-2] == "True [] {'killed': 1}"
    assert not alive(int(lines[-1]))


def test_a_worker_that_has_become_another_program_ends_with_its_owner(board):
    lines = owner(
        """
        import asyncio, os, sys
        from pathlib import Path
        from supervisor import Supervisor
        from tests.contract.functions import Board
        from tests.kinds.processes import test_odd_owners

        async def main():
            sup = Supervisor()
            board = Board(Path(sys.argv[1]))
            call = asyncio.ensure_future(sup.run(test_odd_owners.becomes_another_program, board, kind="process"))
            pid = int(await board.posted("entered"))
            while b"sleep" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                await asyncio.sleep(0.01)
            print(pid, flush=True)
            os._exit(0)

        asyncio.run(main())
        """,
        str(board.path),
    )
    asyncio.run(until(lambda: not alive(int(lines[0]))))


def prints_in_c():
    ctypes.CDLL(None).printf(b"from C\n")


def test_what_c_code_prints_into_a_pipe_is_there_when_its_call_is_over():
    lines = owner("""
        import asyncio
        from supervisor import Supervisor
        from tests.kinds.processes import test_odd_owners

        async def main():
            async with Supervisor(max_processes=1) as sup:
                await sup.run(test_odd_owners.prints_in_c, kind="process")
                print("the call is over", flush=True)

        asyncio.run(main())
    """)
    assert lines == ["from C", "the call is over"]


NESTED = """
    import asyncio, multiprocessing
    from supervisor import Supervisor

    def leaf(x):
        return x + 1

    async def inner():
        async with Supervisor("inner", max_processes=1) as sup:
            return await sup.run(leaf, 1, kind="process")

    def nested():
        return asyncio.run(inner())

    def in_spawned(conn):
        conn.send(nested())

    async def outer():
        async with Supervisor("outer", max_processes=1) as sup:
            return await sup.run(nested, kind="process")

    if __name__ == "__main__":
        print("GOT", asyncio.run(outer()))
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=in_spawned, args=(theirs,))
        process.start()
        theirs.close()
        print("GOT", ours.recv())
        process.join()
"""


def test_functions_of_the_main_module_in_an_owner_that_is_a_worker_itself(tmp_path):
    script = tmp_path / "nested.py"
    script.write_text(textwrap.dedent(NESTED))
    done = run_program(sys.executable, script)
    assert [line for line in done.stdout.splitlines() if "GOT" in line] == ["GOT 2", "GOT 2"], done.stderr
