"""From Python 3.15 on, a signal ends the system call of a worker that is injected; nobody else notices it."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import uvloop

from supervisor import Ask, EscalationPolicy, Inject, Supervisor

from ... import inside
from ...programs import found_by
from ...waiting import until

ROOT = Path(__file__).parents[3]
POLICY = EscalationPolicy(Ask(0.01), Inject(20, every=1))
"""Not once alone: a signal that comes after the interpreter has looked for one, and before the call, ends nothing."""
SHORT = EscalationPolicy(Ask(0.01), Inject(0.1))

ends_calls = pytest.mark.skipif(sys.version_info < (3, 15), reason="a blocked call goes on when it is interrupted")


@pytest.fixture(autouse=True)
def no_handler():
    inside.take_wake_signals_away()


def caught(number=signal.SIGURG):
    """Whether this process has a handler for a signal, as the system sees it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def receive():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


def accept():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.accept()


def with_a_pipe(function):
    read, write = os.pipe()
    try:
        function(read)
    finally:
        os.close(read)
        os.close(write)


def poll(file):
    polled = select.poll()
    polled.register(file)
    polled.poll()


CALLS = {
    "time.sleep": lambda: time.sleep(60),
    "socket.recv": receive,
    "socket.accept": accept,
    "os.read": lambda: with_a_pipe(lambda file: os.read(file, 1)),
    "select.select": lambda: with_a_pipe(lambda file: select.select([file], [], [])),
    "select.poll": lambda: with_a_pipe(poll),
    "subprocess.run": lambda: subprocess.run(["sleep", "60"], check=False),
}


async def until_it_blocks(worker):
    """The function is entered, and a moment has passed: where it is in C cannot be seen."""
    while "CALLS" in worker.stack() or worker.stack() == "":
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)


@ends_calls
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_the_call_ends_at_once(call, quiet):
    async with asyncio.timeout(30), Supervisor(policy=POLICY) as sup:
        worker = await sup.start(lambda _: call())
        await until_it_blocks(worker)
        outcome = await worker.stop()
    assert outcome.ended == "injected"
    assert not caught()


@ends_calls
async def test_the_last_supervisor_takes_the_handler_away(quiet):
    async with Supervisor(policy=POLICY) as outer:
        async with Supervisor(policy=POLICY) as inner:
            for sup in (outer, inner):
                assert (await (await sup.start(lambda _: time.sleep(60))).stop()).ended == "injected"
            assert caught()
        assert caught()
        assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL
    assert not caught()


@ends_calls
@pytest.mark.parametrize("when", ["before", "since"])
async def test_a_handler_of_the_application_is_left_alone(when, events, leftovers):
    heard = []
    async with Supervisor(policy=SHORT) as sup:
        if when == "since":
            assert (await (await sup.start(lambda _: time.sleep(60), policy=POLICY)).stop()).ended == "injected"
        before = signal.signal(signal.SIGURG, lambda *_: heard.append(1))
        try:
            for _ in range(2):
                assert (await (await sup.start(leftovers.block)).stop()).ended == "abandoned"
            await asyncio.sleep(0)
            assert caught()
            missing = [event for event in events if event["event"] == "supervisor.wake_signal_missing"]
            assert len(missing) == 1
            assert "SIGURG" in missing[0]["reason"]
        finally:
            signal.signal(signal.SIGURG, before)
            leftovers.release.set()
        await until(lambda: not sup.statistics().abandoned)
    assert not heard
    assert not caught()


@ends_calls
async def test_another_signal_can_be_named(quiet):
    async with Supervisor(policy=POLICY, wake_signal=signal.SIGUSR2) as sup:
        assert (await (await sup.start(lambda _: time.sleep(60))).stop()).ended == "injected"
        assert caught(signal.SIGUSR2)
        assert not caught()
    assert not caught(signal.SIGUSR2)


@ends_calls
@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_loop_in_another_thread_has_it_too_and_nobody_is_woken(factory, quiet):
    async def main():
        async with Supervisor(policy=POLICY) as sup:
            ended.append((await (await sup.start(lambda _: time.sleep(60))).stop()).ended)

    def run():
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    ended = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno())
        try:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join(20)
        finally:
            signal.set_wakeup_fd(before)
        with pytest.raises(BlockingIOError):
            ours.recv(1)
    assert ended == ["injected"]


@ends_calls
async def test_the_loops_own_signals_work_on(quiet):
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    try:
        async with Supervisor(policy=POLICY) as sup:
            assert (await (await sup.start(lambda _: time.sleep(60))).stop()).ended == "injected"
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(heard.wait(), 20)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


def in_a_process():
    async def main():
        async with Supervisor(policy=POLICY) as sup:
            return (await (await sup.start(lambda _: time.sleep(60))).stop()).ended

    return asyncio.run(main())


@ends_calls
async def test_threads_of_a_worker_process_have_it_too(quiet):
    async with Supervisor() as sup:
        assert await sup.run(in_a_process, kind="process", timeout=20) == "injected"


async def test_before_none_is_ever_sent(monkeypatch, events, leftovers):
    sent = []
    monkeypatch.setattr(signal, "pthread_kill", lambda *args: sent.append(args))
    async with Supervisor(policy=SHORT, wake_signal=signal.SIGURG if sys.version_info < (3, 15) else None) as sup:
        assert (await (await sup.start(leftovers.block)).stop()).ended == "abandoned"
        assert not caught()
        leftovers.release.set()
        await until(lambda: not sup.statistics().abandoned)
    assert not sent
    assert not any(event["event"] == "supervisor.wake_signal_missing" for event in events)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, ValueError), (signal.SIGKILL, ValueError), ("SIGURG", TypeError)]
)
def test_signals_that_are_needed_are_refused(number, error):
    with pytest.raises(error, match="wake_signal="):
        Supervisor(wake_signal=number)


def storm(runs, switch_interval):
    return found_by("tests.kinds.threads.calls_storm", runs, switch_interval)[0]


@ends_calls
@pytest.mark.timeout(300)
def test_the_storm():
    report = storm(1000, 1e-5)
    assert report["bad"] == {}
    assert report["seen"]["injected"] > 100


@ends_calls
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("switch_interval", [1e-6, 1e-4])
def test_the_long_storm(switch_interval):
    assert storm(100_000, switch_interval)["bad"] == {}
