"""Hosts that make it hard: signals ignored, children reaped by others, odd loops, no pidfd, files that are missing."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import uvloop

from supervisor import Ask, EscalationPolicy, Supervisor, SupervisorError, WorkerDied

from ... import inside
from ...contract import functions as f
from . import tasks
from .faults import alive, children, files, look, sound, until, wait_until
from .test_deaths import QUICK, SLOWLY, call

ROOT = Path(__file__).parents[3]
PATIENT = EscalationPolicy(Ask(20))


async def everything(board, sup):
    """A call, a death, a kill, and a worker that is asked."""
    assert await sup.run(int, "5", kind="process") == 5
    doomed = call(sup, tasks.sleeps, board)
    pid = int(await board.posted("entered"))
    (board.path / "entered").unlink()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied) as caught:
        await doomed
    stuck = call(sup, tasks.blocks_signals, board)
    await board.posted("entered")
    killed = await next(worker for worker in sup.workers() if worker.state == "running").stop()
    await asyncio.wait([stuck])
    stuck.exception()
    worker = await sup.start(f.wait_for_stop, kind="process", policy=PATIENT)
    assert (await worker.stop()).ended == "stopped"
    assert killed.ended == "killed"
    return caught.value.outcome.exit_code, killed.exit_code


async def test_the_host_ignores_sigchld(board):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        async with sound() as _, Supervisor(policy=QUICK) as sup:
            assert await everything(board, sup) == (None, None)
    finally:
        signal.signal(signal.SIGCHLD, before)


async def test_the_host_reaps_what_is_not_its_own(board):
    over = threading.Event()

    def reap():
        while not over.is_set():
            try:
                reaped, _ = os.waitpid(-1, os.WNOHANG)  # another test's server may be a child that lives on
            except ChildProcessError:
                reaped = 0
            if not reaped:
                over.wait(0.0005)

    reaper = threading.Thread(target=reap, daemon=True)
    reaper.start()
    try:
        async with sound(), Supervisor(policy=QUICK) as sup:
            for code in await everything(board, sup):
                assert code in (None, -9)  # never 0
    finally:
        over.set()
        reaper.join(5)


async def test_pidfd_is_denied(board, monkeypatch):
    def denied(pid, flags=0):
        raise PermissionError(1, "denied")

    monkeypatch.setattr(os, "pidfd_open", denied)
    async with sound(), Supervisor(policy=QUICK) as sup:
        assert await everything(board, sup) == (-9, -9)


async def test_there_is_no_pidfd_and_the_host_ignores_sigchld(board, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        async with sound(), Supervisor(policy=QUICK) as sup:
            assert await everything(board, sup) == (None, None)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_uvloop(board):
    async def main():
        async with sound(), Supervisor(policy=QUICK) as sup:
            assert await everything(board, sup) == (-9, -9)
            assert await sup.run(tasks.length, bytes(5_000_000), kind="process") == 5_000_000
            assert len(await sup.run(tasks.returns_bytes, 5_000_000, kind="process")) == 5_000_000

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_loop_in_a_thread_that_is_not_the_main_one(board):
    results = []

    async def main():
        async with sound(), Supervisor(policy=QUICK) as sup:
            results.append(await everything(board, sup))

    def run():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # which processes would inherit
        asyncio.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert results == [(-9, -9)]


async def test_the_thread_that_started_a_process_ends_and_the_process_lives():
    async with sound(), Supervisor() as sup:
        pid = await sup.run(tasks.pid_of, kind="process")
        await asyncio.to_thread(int)
        assert alive(pid)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # raised from 3.15 on
async def test_a_fork_of_the_host_touches_nothing(board):
    async with sound(), Supervisor() as sup:
        worker = await sup.start(f.wait_for_stop, kind="process")
        child = os.fork()
        if child == 0:
            try:
                del sup, worker
                import gc

                gc.collect()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert alive(worker.pid)
        assert await sup.run(int, "5", kind="process") == 5


async def test_too_few_files_is_an_error_that_leaves_nothing_open(monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with sound() as calls, Supervisor() as sup:
        await sup.run(int)
        before = files()
        for more in range(14):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + more, hard))
            try:
                calls.append(call(sup, int, "5"))
                await asyncio.wait(calls[-1:], timeout=20)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            if calls[-1].exception() is None:
                break
            assert isinstance(calls[-1].exception(), SupervisorError)
            await until(lambda: files() <= before)
        assert sup.workers() == ()
        assert await sup.run(int, "5", kind="process") == 5
        assert (await (await sup.start(f.wait_for_stop, kind="process")).stop()).ended == "stopped"


async def test_the_current_directory_is_gone(tmp_path, monkeypatch):
    home = Path.cwd()
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    before = children()
    async with sound() as calls, Supervisor() as sup:
        monkeypatch.syspath_prepend("")
        os.chdir(nowhere)
        nowhere.rmdir()
        try:
            calls.append(call(sup, int, "5"))
            await asyncio.wait(calls)
            assert calls[0].exception() is None or isinstance(calls[0].exception(), SupervisorError)
        finally:
            os.chdir(home)
        await until(lambda: len(children() - before) <= 2)
        assert await sup.run(int, "5", kind="process") == 5


# ------------------------------------------------------------------------------------------------ output


def script(body, *args, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body), *args],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=ROOT,
        **options,
    )


PRINTING = """
    import asyncio
    from supervisor import Supervisor
    from tests.kinds.processes import tasks

    async def main():
        async with Supervisor(max_processes=1) as sup:
            for text in ("one", "two"):
                assert await sup.run(tasks.prints, text, kind="process") == text
                assert await sup.run(tasks.prints_from_c, f"c {text}", kind="process") == f"c {text}"
            print("the owner has both", flush=True)

    asyncio.run(main())
"""


def test_what_workers_print_is_seen_when_their_call_is_over():
    done = script(PRINTING)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "the owner has both"
    for text in ("one", "two"):
        assert {text, f"raw {text}", f"program {text}", f"c {text}"} <= set(lines)
        assert f"err {text}" in done.stderr


@pytest.mark.parametrize("closed", ["0", "1", "2", "1 2", "0 1 2"])
def test_a_host_without_its_standard_files(tmp_path, closed):
    """As a daemon: these numbers then go to the next files that are opened, ours among them."""
    code = """
        import asyncio, os, sys
        from supervisor import Supervisor
        from tests.kinds.processes import tasks

        async def main():
            async with Supervisor(max_processes=2) as sup:
                await sup.run(int)
                for fd in map(int, sys.argv[2].split()):
                    os.close(fd)
                for _ in range(2):
                    assert await sup.run(tasks.length, "abc", kind="process") == 3
                    await sup.run(print, "text", kind="process")

        asyncio.run(main())
        open(sys.argv[1], "w").write("done")
        os._exit(0)
    """
    result = tmp_path / "result"
    script(code, str(result), closed)
    assert result.exists()


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_a_host_that_began_without_its_standard_files(tmp_path, closed):
    """The numbers are those of files that it has opened since, of the loop's own: nobody else may write into these."""
    code = """
        import asyncio, os, sys
        from supervisor import Supervisor
        from tests.kinds.processes import tasks

        async def main():
            async with Supervisor(max_processes=2) as sup:
                await asyncio.sleep(0)
                for _ in range(2):
                    await sup.run(print, "text", kind="process")
                got = await sup.run(tasks.writes_to_its_standard_files, kind="process")
            open(sys.argv[1], "w").write(repr(got))

        asyncio.run(main())
    """
    result = tmp_path / "result"

    def close():
        for fd in map(int, closed.split()):
            os.close(fd)

    command = [sys.executable, "-c", textwrap.dedent(code), str(result)]
    subprocess.run(command, timeout=50, check=False, cwd=ROOT, preexec_fn=close)
    files = eval(result.read_text())
    for fd in {1, 2} & set(map(int, closed.split())):
        assert files[fd] == "/dev/null"


@pytest.mark.parametrize("fn", [tasks.closes_its_output, tasks.closes_sys_stdout])
async def test_a_task_that_closes_its_output(fn):
    async with sound(), Supervisor(max_processes=1) as sup:
        assert await sup.run(fn, kind="process") == "closed"
        assert await sup.run(int, "5", kind="process") == 5


# ------------------------------------------------------------------------------------------------ without a shutdown


def test_a_loop_that_ends_without_a_shutdown_and_a_host_that_goes_on():
    done = script("""
        import asyncio, gc, os, time
        from supervisor import Supervisor
        from tests import inside
        from tests.kinds.processes import tasks
        from tests.kinds.processes.faults import alive

        async def main():
            sup = Supervisor()
            pid = await sup.run(tasks.pid_of, kind="process")
            return pid, [process.pid for process in inside.processes(sup)]

        pid, pids = asyncio.run(main())
        gc.collect()
        until = time.monotonic() + 20
        while any(map(alive, pids)) and time.monotonic() < until:
            time.sleep(0.01)
        print("alive" if any(map(alive, pids)) else "gone")
    """)
    assert (done.returncode, done.stdout) == (0, "gone\n"), done.stderr


async def test_shutdowns_concurrent_cancelled_and_during_a_start(board):
    async with sound() as calls:
        sup = Supervisor(policy=QUICK)
        calls.append(call(sup, tasks.blocks_signals, board))
        await board.posted("entered")
        calls += [call(sup, int, "5"), asyncio.create_task(sup.start(f.wait_for_stop, kind="process"))]
        await asyncio.sleep(0)
        closing = [asyncio.create_task(sup.shutdown()) for _ in range(5)]
        await asyncio.sleep(0)
        for task in closing[:3]:
            task.cancel()
        await asyncio.wait([*closing, *calls])
        assert [task.cancelled() for task in closing] == [True] * 3 + [False] * 2
        assert sup.report.abandoned == ()
        assert await sup.shutdown() is sup.report


async def test_a_shutdown_while_everything_starts_takes_no_time(monkeypatch):
    inside.boot_after(monkeypatch, SLOWLY.format(60))
    async with sound() as calls:
        sup = Supervisor(max_processes=3)
        calls += [call(sup, int, "5") for _ in range(5)]
        calls += [asyncio.create_task(sup.start(f.wait_for_stop, kind="process")) for _ in range(2)]
        await asyncio.sleep(0)
        assert len(inside.processes(sup)) == 5
        report = await sup.shutdown()
        assert report.seconds < 5
        assert report.counts() == {"cancelled": 7}
        await asyncio.wait(calls)


def test_nothing_of_all_this_has_left_a_zombie():
    wait_until(lambda: not [pid for pid in children() if look(pid)[0] == "Z"])
