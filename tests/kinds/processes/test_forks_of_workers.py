"""Workers that fork, themselves or through multiprocessing: nothing of the supervisor is left in the copy."""

import multiprocessing
import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from supervisor import Supervisor, current_context

from ...programs import run_program
from .faults import sound

ROOT = Path(__file__).parents[3]
FORK = multiprocessing.get_context("fork")


def square(number):
    return number * number


def uses_a_pool():
    with FORK.Pool(2) as pool:
        return pool.map(square, range(3))


def leaves_a_pool_that_is_busy():
    with FORK.Pool(2) as pool:
        for value in pool.imap_unordered(first_is_quick, [0, 1, 2]):
            return value
    return None


def first_is_quick(number):
    if number:
        time.sleep(3600)
    return number


def terminates(number):
    """Ends children at once, before they have had time for anything; returns what became of them."""
    codes = set()
    for _ in range(number):
        process = FORK.Process(target=time.sleep, args=(3600,))
        process.start()
        process.terminate()
        process.join(10)
        codes.add(process.exitcode)
    return codes


def comes_out_of_the_copy(how):
    """Forks; the child comes out of this function, which returns its exit code in the worker."""
    pid = os.fork()
    if pid == 0:
        match how:
            case "returns":
                return None
            case "raises":
                raise ValueError("the child raises")
            case "exits":
                sys.exit(7)
            case "forks again":
                again = os.fork()
                if again == 0:
                    return None
                os._exit(os.waitstatus_to_exitcode(os.waitpid(again, 0)[1]))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_the_copy(look):
    """Returns what a function finds in a copy."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, repr(look()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as file:
        return file.read()


def files():
    return {
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    }


def what_is_left():
    numbers = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
    handled = {int(number) for number in numbers if callable(signal.getsignal(number))} - {signal.SIGINT}
    blocked = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}
    return handled, blocked, signal.getsignal(signal.SIGINT) is signal.default_int_handler


def finds_nothing_left():
    before = signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    found = in_the_copy(what_is_left)
    assert before == (signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    return found


def finds_no_files():
    ours = {link for link in files() if link.startswith("socket:")}
    return bool(ours), any(link in in_the_copy(files) for link in ours)


def keeps_its_own_handler():
    signal.signal(signal.SIGTERM, own_handler)
    return in_the_copy(handler_of_sigterm)


def own_handler(*_):
    pass


def handler_of_sigterm():
    return signal.getsignal(signal.SIGTERM) is own_handler


def asks_its_supervisor(ctx, ask):
    return in_the_copy(
        lambda: refused(getattr(ctx, ask), *([1.0] if ask == "extend" else [abs] if ask == "call" else []))
    )


def refused(fn, *args):
    try:
        return fn(*args)
    except RuntimeError as error:
        return error


def has_no_context():
    return in_the_copy(lambda: refused_lookup())


def refused_lookup():
    try:
        current_context()
    except LookupError:
        return "none"


async def run(fn, *args):
    async with sound(), Supervisor(max_processes=1) as sup:
        got = await sup.run(fn, *args, kind="process", timeout=60)
        # Nobody else serves this process's socket, and it is still of use.
        assert [await sup.run(square, i, kind="process", timeout=60) for i in range(5)] == [0, 1, 4, 9, 16]
    return got


async def test_a_pool_of_multiprocessing():
    assert await run(uses_a_pool) == [0, 1, 4]


async def test_a_pool_that_is_terminated_while_it_works():
    assert await run(leaves_a_pool_that_is_busy) == 0


async def test_a_child_is_terminated_however_soon():
    assert await run(terminates, 30) == {-signal.SIGTERM}


@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("raises", 1), ("exits", 7), ("forks again", 0)])
async def test_a_copy_that_comes_out_of_the_function_ends_and_serves_nobody(how, code):
    assert await run(comes_out_of_the_copy, how) == code


async def test_signals_are_as_in_a_fresh_program():
    assert await run(finds_nothing_left) == "(set(), set(), True)"


async def test_a_handler_of_the_functions_own_stays():
    assert await run(keeps_its_own_handler) == "True"


async def test_sockets_are_closed():
    assert await run(finds_no_files) == (True, False)


@pytest.mark.parametrize("ask", ["call", "extend", "heartbeat", "ready"])
async def test_its_supervisor_cannot_be_asked(ask):
    async with sound(), Supervisor() as sup:
        worker = await sup.start(asks_its_supervisor, ask, kind="process")
        outcome = await worker.wait()
    assert "was forked by a worker" in outcome.value


async def test_there_is_no_current_context():
    assert await run(has_no_context) == "'none'"


def test_what_a_copy_logs_is_printed(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent("""
        import asyncio, os
        from supervisor import Supervisor

        def logs():
            import structlog
            log = structlog.get_logger()
            log.info("in the worker")
            pid = os.fork()
            if pid == 0:
                log.info("in the copy", number=1)
                return
            os.waitpid(pid, 0)

        async def main():
            async with Supervisor(max_processes=1) as sup:
                await sup.run(logs, kind="process")

        if __name__ == "__main__":
            asyncio.run(main())
        """)
    )
    done = run_program(sys.executable, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("in the copy") == 1
    assert "number=1" in done.stdout
