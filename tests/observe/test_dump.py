"""At a signal, what there is to see of a process goes to its standard error, whatever it is about."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor import Supervisor

from ..waiting import until

ROOT = Path(__file__).parents[2]
END = "=== end of the dump ===\n"


class Service:
    def __init__(self, process):
        self.process = process
        self.pid = process.pid
        self.worker = 0
        self.errors = ""

    def up(self):
        word, pid = self.process.stdout.readline().split()
        assert word == "up"
        self.worker = int(pid)
        return self

    def signal(self):
        os.kill(self.pid, signal.SIGUSR1)

    def read(self, awaited, within):
        """Reads its standard error until something has come; returns all of it."""
        begun = time.monotonic()
        while awaited not in self.errors and (left := begun + within - time.monotonic()) > 0:
            if select.select([self.process.stderr], [], [], left)[0]:
                more = os.read(self.process.stderr.fileno(), 1 << 16).decode()
                assert more, self.errors
                self.errors += more
        assert awaited in self.errors, self.errors
        return self.errors

    def end(self):
        out, errors = self.process.communicate("", timeout=60)
        return out.splitlines(), self.errors + (errors or "")


@contextmanager
def service(scene, stderr=subprocess.PIPE):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.observe.dumped", scene],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    try:
        yield Service(process).up()
    finally:
        process.kill()
        process.communicate()


def test_a_dump_has_the_workers_their_stacks_and_those_of_all_else_and_leaves_nothing_behind():
    with service("idle") as it:
        it.signal()
        text = it.read(END, 60)
        for word in (
            "supervisor service: running",
            "worker deaf <one>",
            "in deaf\n",
            "call crunch",
            "in in_a_process\n",
        ):
            assert word in text
        assert "MainThread): the event loop of service" in text
        assert text.count(END) == 1
        out, errors = it.end()
        assert out == ["still True", "default True True", "threads []"]
        assert errors.count(END) == 1


@pytest.mark.parametrize("scene", ["sleep", "lock", "python", "c"])
def test_it_comes_while_the_loop_is_blocked(scene):
    with service(scene) as it:
        it.signal()
        text = it.read(END, 60)
        assert not select.select([it.process.stdout], [], [], 0)[0], "it is blocked no longer"
        assert "in_c" in text or scene != "c"
        it.process.stdin.write("go on\n")
        assert it.end()[0][:2] == ["over", "still True"]


def test_where_c_code_holds_the_interpreter_it_comes_when_that_returns():
    with service("gil") as it:
        it.signal()
        it.read(END, 60)
        assert it.end()[0][:2] == ["over", "still True"]


def test_it_shows_a_shutdown_as_it_climbs():
    with service("stopping") as it:
        it.signal()
        text = it.read(END, 60)
        assert "shutdown (deploy): begun" in text
        assert "abandon in" in text


def test_a_signal_to_everybody_kills_no_worker_process():
    with service("idle") as it:
        for _ in range(5):
            os.kill(it.worker, signal.SIGUSR1)
        it.signal()
        it.read(END, 20)
        assert it.end()[0][0] == "still True"


@pytest.mark.parametrize("scene", ["idle", "threads"])
def test_a_storm_of_signals_is_bounded_and_harms_nothing(scene):
    with service(scene) as it:
        for _ in range(300):
            it.signal()
            time.sleep(0.001)  # or they are one signal
        it.read(END, 60)
        out, errors = it.end()
        assert out[0] == "still True"
        assert errors.count(END) <= 300


def test_a_closed_standard_error_harms_nothing():
    with service("closed") as it:  # whose number another file of the service has by now
        it.signal()
        time.sleep(0.2)
        assert it.end()[0] == ["theirs 0", "still True", "default True True", "threads []"]


@contextmanager
def errors_to(kind, path):
    """Gives what a service gets as its standard error, and what to read of it: a file, or the other end."""
    if kind == "file":
        with open(path / "errors", "wb") as writer, open(path / "errors", "rb") as reader:
            yield writer, reader
        return
    if kind == "terminal":
        ends = os.openpty()
        tty.setraw(ends[1])
    elif kind == "socket":  # as systemd's journal gives it
        ends = tuple(end.detach() for end in socket.socketpair())
    else:
        ends = os.pipe()
    with open(ends[1], "wb", buffering=0) as writer, open(ends[0], "rb", buffering=0) as reader:
        yield writer, reader


@pytest.mark.parametrize("kind", ["file", "terminal", "socket"])
def test_it_goes_to_whatever_the_standard_error_is(kind, tmp_path):
    with errors_to(kind, tmp_path) as (writer, reader), service("idle", stderr=writer) as it:
        text = b""
        for count in (1, 2):
            it.signal()
            until = time.monotonic() + 20
            while text.count(END.encode()) < count and time.monotonic() < until:
                if select.select([reader], [], [], 1)[0]:
                    text += os.read(reader.fileno(), 1 << 16)
            assert text.count(END.encode()) == count
        assert it.end()[0] == ["still True", "default True True", "threads []"]


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
def test_whoever_reads_nothing_holds_nothing_up(kind, tmp_path):
    with errors_to(kind, tmp_path) as (writer, _), service("idle", stderr=writer) as it:
        os.set_blocking(writer.fileno(), False)
        while writer.write(b"x" * 4096) is not None:
            pass
        while writer.write(b"x") is not None:
            pass
        os.set_blocking(writer.fileno(), True)
        it.signal()
        time.sleep(0.2)
        begun = time.monotonic()
        assert it.end()[0] == ["still True", "default True True", "threads []"]
        assert time.monotonic() - begun < 20


@pytest.fixture
def handled():
    """A signal that the application handles itself."""
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: heard.append(number))
    yield heard
    signal.signal(signal.SIGUSR2, before)


async def test_a_handler_of_the_application_stays_and_the_log_says_what_is_missing(handled, events):
    theirs = signal.getsignal(signal.SIGUSR2)
    async with Supervisor(dump_signal=signal.SIGUSR2):
        assert signal.getsignal(signal.SIGUSR2) is theirs
        os.kill(os.getpid(), signal.SIGUSR2)
        await until(lambda: handled)
    assert signal.getsignal(signal.SIGUSR2) is theirs
    missing = [event for event in events if event["event"] == "supervisor.dump_signal_missing"]
    assert len(missing) == 1
    assert "the application handles or ignores it itself" in missing[0]["reason"]


async def test_of_two_supervisors_the_last_one_puts_the_handler_back():
    first, second = (Supervisor(name, dump_signal=signal.SIGUSR2) for name in ("first", "second"))
    await first.run(int)
    await second.run(int)
    ours = signal.getsignal(signal.SIGUSR2)
    assert callable(ours)
    await first.shutdown()
    assert signal.getsignal(signal.SIGUSR2) == ours
    await second.shutdown()
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL


def test_outside_the_main_thread_the_log_says_what_is_missing(events):
    async def used():
        async with Supervisor(dump_signal=signal.SIGUSR2) as sup:
            await sup.run(int)

    thread = threading.Thread(target=asyncio.run, args=(used(),))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    missing = [event for event in events if event["event"] == "supervisor.dump_signal_missing"]
    assert len(missing) == 1
    assert "does not run in the main thread" in missing[0]["reason"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # raised from 3.15 on
async def test_nothing_of_it_is_in_a_copy_of_the_process():
    async with Supervisor(dump_signal=signal.SIGUSR2) as sup:
        await sup.run(int)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writer, b"1" if signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL else b"0")
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(reader, 1) == b"1"
        os.close(reader)
        os.close(writer)
        assert callable(signal.getsignal(signal.SIGUSR2))
