"""`supervisor.systemd`: what the service manager is told, at a real socket that stands for its own."""

import asyncio
import configparser
import contextlib
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, current_context
from supervisor.systemd import EXIT_SLACK, MOST_WAITING, RENEWAL, WITHOUT_DEADLINE, notify

from .. import inside

ROOT = Path(__file__).parents[2]
TOO_MANY = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 50  # more than a socket's queue holds
PAGE = ROOT / "docs" / "howto" / "systemd.md"


class Manager:
    """The service manager's end."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.address = address.replace("\0", "@")

    def next(self, seconds=30.0):
        """The next message, as its lines; None where there is none for so long."""
        if not select.select([self.socket], [], [], seconds)[0]:
            return None
        return self.socket.recv(4096).decode().split("\n")

    def all(self):
        """All that has come."""
        messages = []
        while (message := self.next(0)) is not None:
            messages.append(message)
        return messages

    def lines(self):
        return [line for message in self.all() for line in message]


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    address = str(tmp_path / "notify") if request.param == "path" else f"\0supervisor-{secrets.token_hex(8)}"
    manager = Manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    yield manager
    manager.socket.close()


@pytest.fixture
def watched(monkeypatch):
    """A watchdog of 0.2 s."""
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))


def waits(ctx):
    ctx.stop.wait()


def spins(ctx, entered):
    entered.set()
    while True:
        time.sleep(0.001)


def seconds_asked(lines):
    return [int(line.partition("=")[2]) / 1e6 for line in lines if line.startswith("EXTEND_TIMEOUT_USEC=")]


# ------------------------------------------------------------------------------------------------ a service's life


async def test_the_service_is_ready_when_it_says_so(manager):
    async with Supervisor("app") as sup:
        service = notify(sup)
        assert service.active
        assert manager.all() == []
        service.ready("listening\non  8000")
        service.ready("still")
        service.status("3 feeds")
        assert manager.all() == [["READY=1", "STATUS=listening on 8000"], ["STATUS=still"], ["STATUS=3 feeds"]]
    assert not service.active
    assert "not active" in repr(service)


async def test_a_shutdown_says_so_and_for_how_long_and_what_came_of_it(manager):
    async with Supervisor("app", shutdown_timeout=300) as sup:
        service = notify(sup)
        service.ready()
        await sup.start(waits)
        manager.all()
        await sup.shutdown(reason="deploy")
    first, more, *rest, last = manager.all()
    assert first == ["STOPPING=1", "STATUS=stopping: deploy"]
    assert 290 + EXIT_SLACK < seconds_asked(more)[0] <= 300 + EXIT_SLACK
    assert ["stopping: 1 left; ask of waits-1" in line for message in rest for line in message[1:]] == [True]
    assert last[1].startswith("STATUS=shutdown (deploy) took ")
    assert last[1].endswith("1 stopped")


async def test_a_requested_shutdown_says_so_too(manager):
    async with Supervisor("app") as sup:
        notify(sup).ready()
        await sup.start(waits)
        sup.request_shutdown("enough")
        await sup.wait_closed()
    assert "STOPPING=1" in manager.lines()


def test_each_step_asks_for_the_time_until_the_deadline(virtual, manager):
    async def main(time):
        policy = EscalationPolicy(Ask(0.3), Inject(50))
        async with Supervisor("app", policy=policy, shutdown_timeout=100) as sup:
            notify(sup)
            await sup.start(spins, entered := threading.Event(), name="spinner")
            await asyncio.to_thread(entered.wait)
            closing = asyncio.ensure_future(sup.shutdown())
            await time.advance(0.3)
            assert (await closing).counts() == {"injected": 1}

    virtual(main)
    asked = [(lines[-1], seconds_asked(lines)[0]) for lines in manager.all() if seconds_asked(lines)]
    began, ask, inject, _ = [seconds for _, seconds in asked]
    assert [text for text, _ in asked[1:3]] == [
        f"STATUS=stopping: 1 left; {step} of spinner" for step in ("ask", "inject")
    ]
    assert began >= ask > inject + 0.25
    assert inject == pytest.approx(99.7 + EXIT_SLACK, abs=0.001)


def test_a_drain_is_in_the_time_that_is_asked_for(virtual, manager):
    async def main(time):
        async with Supervisor("app", policy=EscalationPolicy(Ask(1)), shutdown_timeout=100, drain=40) as sup:
            notify(sup)
            entered = threading.Event()
            call = asyncio.ensure_future(sup.run(lambda: entered.set() or current_context().stop.wait(), name="call"))
            await asyncio.to_thread(entered.wait)
            closing = asyncio.ensure_future(sup.shutdown(reason="deploy"))
            await time.advance(40)
            assert (await closing).counts() == {"stopped": 1}
            assert await call

    virtual(main)
    lines = manager.lines()
    assert lines[:2] == ["STOPPING=1", "STATUS=stopping: deploy"]
    began, *_, ask, ended = seconds_asked(lines)
    assert began == pytest.approx(100 + EXIT_SLACK, abs=0.001)
    assert ask == pytest.approx(60 + EXIT_SLACK, abs=0.001)
    assert ended <= ask


async def test_stops_outside_a_shutdown_say_nothing(manager):
    async with Supervisor("app") as sup:
        notify(sup)
        worker = await sup.start(waits)
        async with sup.group("feeds") as group:
            await group.start(waits)
        await worker.stop()
        assert manager.all() == []


async def test_a_thousand_workers_do_not_flood_the_service_manager(manager):
    async with Supervisor("app") as sup:
        notify(sup)
        for _ in range(1000):
            await sup.start(waits)
        shutdown = asyncio.ensure_future(sup.shutdown())
        messages = []
        while not shutdown.done():
            await asyncio.sleep(0)
            messages += manager.all()
        messages += manager.all()
    assert 4 <= len(messages) < 500, "not one for each of them"


def test_a_shutdown_without_a_deadline_asks_again_and_again(virtual, manager):
    async def main(loop):
        done = threading.Event()
        sup = Supervisor("app", policy=EscalationPolicy(Ask(float("inf"))), shutdown_timeout=float("inf"))
        notify(sup)
        await sup.start(lambda ctx: done.wait())
        shutdown = asyncio.ensure_future(sup.shutdown())
        await loop.advance(0)
        assert seconds_asked(manager.lines()) == [WITHOUT_DEADLINE] * 2
        for _ in range(5):
            await loop.advance(RENEWAL)
            assert seconds_asked(manager.lines()) == [WITHOUT_DEADLINE]
        done.set()
        await shutdown

    virtual(main)


# ------------------------------------------------------------------------------------------------ the watchdog


def test_the_loop_gives_a_sign_of_life_at_half_the_time(virtual, manager, watched):
    async def main(loop):
        async with Supervisor("app") as sup:
            notify(sup)
            assert manager.all() == [["WATCHDOG=1"]]
            for _ in range(4):
                await loop.advance(0.09)
                assert manager.all() == []
                await loop.advance(0.01)
                assert manager.all() == [["WATCHDOG=1"]]

    virtual(main)


async def test_a_loop_that_is_stuck_gives_none(manager, watched):
    async with Supervisor("app") as sup:
        notify(sup)
        manager.all()
        time.sleep(0.5)
        assert manager.all() == []
        while manager.next(0) != ["WATCHDOG=1"]:
            await asyncio.sleep(0.005)


async def test_a_watchdog_for_another_process_is_not_served(manager, watched, monkeypatch):
    monkeypatch.setenv("WATCHDOG_PID", "1")
    async with Supervisor("app") as sup:
        notify(sup).ready()
        await asyncio.sleep(0.15)
        assert manager.all() == [["READY=1"]]


async def test_a_watchdog_without_a_process_is_for_this_one(manager, watched, monkeypatch):
    monkeypatch.delenv("WATCHDOG_PID")
    async with Supervisor("app") as sup:
        notify(sup)
        assert manager.next() == ["WATCHDOG=1"]


@pytest.mark.parametrize("usec", ["soon", "0", "-5", "1" * 5000])
async def test_a_watchdog_that_cannot_be_understood_is_logged(manager, events, monkeypatch, usec):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    async with Supervisor("app") as sup:
        notify(sup).ready()
        assert manager.all() == [["READY=1"]]
    (failed,) = [event for event in events if event["event"] == "supervisor.notify_failed"]
    assert failed["reason"] == f"WATCHDOG_USEC={usec!r}: must be microseconds, above 0"


async def test_after_the_shutdown_there_is_no_sign_of_life(manager, watched):
    async with Supervisor("app") as sup:
        service = notify(sup)
    manager.all()
    await asyncio.sleep(0.15)
    assert manager.all() == []
    assert inside.sign_of_life(service).cancelled()


# ------------------------------------------------------------------------------------------------ not under systemd


@pytest.fixture
def nobody(monkeypatch):
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)


async def test_elsewhere_nothing_happens(nobody, events):
    async with Supervisor("app") as sup:
        service = notify(sup)
        assert not service.active
        assert not inside.has_subscribers(sup)
        service.ready("listening")
        service.status("3 feeds")
        notify(sup).ready()
    assert not [event for event in events if event["event"] == "supervisor.notify_failed"]


async def test_a_socket_that_is_missing_is_logged_once_and_harms_nothing(nobody, monkeypatch, tmp_path, events):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    async with Supervisor("app") as sup:
        service = notify(sup)
        service.ready()
        service.status("3 feeds")
        assert await sup.run(abs, -1) == 1
    (failed,) = [event for event in events if event["event"] == "supervisor.notify_failed"]
    assert "nobody': [Errno 2] No such file" in failed["reason"]


async def test_an_address_of_another_sort_is_logged(nobody, monkeypatch, events):
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:1234")
    async with Supervisor("app") as sup:
        assert not notify(sup).active
    (failed,) = [event for event in events if event["event"] == "supervisor.notify_failed"]
    assert failed["reason"] == "NOTIFY_SOCKET='vsock:2:1234': must be a path, or begin with @"


# ------------------------------------------------------------------------------------------------ a slow manager


async def test_what_a_slow_service_manager_cannot_take_comes_later_in_order(manager):
    async with Supervisor("app") as sup:
        service = notify(sup)
        service.ready()
        for number in range(TOO_MANY):
            service.status(f"{number}")
        got = []
        until = time.monotonic() + 20
        while len(got) < TOO_MANY + 1:
            assert time.monotonic() < until
            got += manager.lines()
            await asyncio.sleep(0.001)
    assert got == ["READY=1", *(f"STATUS={number}" for number in range(TOO_MANY))]


async def test_where_nobody_reads_what_waits_is_bounded_and_that_is_said_once(manager, events):
    async with Supervisor("app") as sup:
        service = notify(sup)
        for number in range(TOO_MANY):
            service.status(f"{number}")
        service.ready("now")
        for number in range(5000):
            service.status(f"late {number}")
        assert len(inside.notices_unsent(service)) == MOST_WAITING
        got = []
        until = time.monotonic() + 20
        while "STATUS=late 4999" not in got:
            assert time.monotonic() < until
            got += manager.lines()
            await asyncio.sleep(0.001)
        assert "READY=1" in got
        assert got.index("READY=1") + 1 == got.index("STATUS=now") < got.index("STATUS=late 4999")
    (failed,) = [event for event in events if event["event"] == "supervisor.notify_failed"]
    assert failed["reason"].startswith("nobody reads at '")
    assert failed["reason"].endswith("the newest 100 messages wait, older ones are lost")


async def test_a_shutdown_ends_though_nobody_reads(manager):
    async with Supervisor("app") as sup:
        service = notify(sup)
        for number in range(5000):
            service.status(f"{number}")
        await sup.start(waits)
    assert sup.report.counts() == {"stopped": 1}
    assert not service.active


async def test_a_status_is_one_line_that_systemd_takes(manager):
    async with Supervisor("app") as sup:
        service = notify(sup)
        service.ready("a\nREADY=0\x1b[31m\ud800\u2028b")
        service.status("é" * 5000)
        assert manager.all() == [["READY=1", r"STATUS=a READY=0\x1b[31m\ud800 b"], [f"STATUS={'é' * 900}..."]]


async def test_signs_of_life_do_not_pile_up(manager, watched):
    async with Supervisor("app") as sup:
        service = notify(sup)
        for number in range(TOO_MANY):
            service.status(f"{number}")
        before = len(inside.notices_unsent(service))
        assert before > 0
        await asyncio.sleep(0.3)
        assert len(inside.notices_unsent(service)) <= before
        manager.all()


# ------------------------------------------------------------------------------------------------ wrong use


async def test_one_supervisor_speaks_for_a_process(manager, monkeypatch):
    async with Supervisor("first") as first, Supervisor("second") as second:
        notify(first)
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        with pytest.raises(RuntimeError, match=r"'second' cannot speak to systemd: .*'first': active> does already"):
            notify(second)
        await first.shutdown()
        assert notify(second).active


async def test_wrong_arguments_are_refused_at_once(manager):
    with pytest.raises(TypeError, match="supervisor='app'"):
        notify("app")
    async with Supervisor("app") as sup:
        with pytest.raises(ValueError, match="is a group"):
            notify(sup.group("feeds"))
        service = notify(sup)
        with pytest.raises(TypeError, match=r"ready\(status=3\)"):
            service.ready(3)
        with pytest.raises(TypeError, match=r"status\(status=None\)"):
            service.status(None)
        with pytest.raises(RuntimeError):
            await asyncio.to_thread(service.ready)
    service.status("too late, and harmless")


def test_it_needs_the_event_loop(manager):
    with pytest.raises(RuntimeError, match="needs a running asyncio event loop"):
        notify(Supervisor("app"))
    assert os.environ["NOTIFY_SOCKET"]  # nothing was taken


async def test_a_shutdown_that_came_before_is_told_at_once(manager):
    sup = Supervisor("app")
    sup.request_shutdown("early")
    async with sup:
        service = notify(sup)
        service.ready("too late")
        assert await sup.wait_for_signal() is None
        await sup.wait_closed()
        assert not service.active
    assert manager.next() == ["STOPPING=1", "STATUS=stopping: early"]
    assert "NOTIFY_SOCKET" not in os.environ
    assert "READY=1" not in manager.lines()


async def test_a_shutdown_that_goes_on_is_told_at_once(manager):
    async with Supervisor("app") as sup:
        await sup.start(waits)
        shutdown = asyncio.ensure_future(sup.shutdown(reason="why"))
        await asyncio.sleep(0)
        service = notify(sup)
        assert service.active
        assert manager.next() == ["STOPPING=1", "STATUS=stopping: why"]
        await shutdown
    assert any("1 stopped" in line for line in manager.lines())


async def test_no_call_is_watched_for_it_but_those_that_are_stopped_are_told(manager):
    entered = threading.Event()
    async with Supervisor("app", policy=EscalationPolicy(Ask(1), Inject(15))) as sup:
        notify(sup)
        assert not inside.has_subscribers(sup)
        spinning = asyncio.ensure_future(sup.run(spins, None, entered, name="spinner"))
        await asyncio.to_thread(entered.wait)
        await sup.shutdown()
        await asyncio.wait((spinning,))
    assert "STATUS=stopping: 1 left; ask of spinner" in manager.lines()
    assert not inside.has_any_subscriber(sup)


async def test_a_shutdown_that_has_begun_is_never_ready(manager):
    async with Supervisor("app") as sup:
        service = notify(sup)
        await sup.start(waits)
        shutdown = asyncio.ensure_future(sup.shutdown())
        await asyncio.sleep(0)
        service.ready("too late")
        await shutdown
    assert "READY=1" not in manager.lines()


# ------------------------------------------------------------------------------------------------ a real process


@contextlib.contextmanager
def a_service(manager, **environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.observe.service"],
        cwd=ROOT,
        env={**os.environ, "NOTIFY_SOCKET": manager.address, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_service_that_gets_sigterm_stops_and_says_so_all_the_way(manager):
    with a_service(manager) as process:
        assert manager.next(60) == ["READY=1", "STATUS=one worker"]
        process.send_signal(signal.SIGTERM)
        assert manager.next() == ["STOPPING=1", "STATUS=stopping: SIGTERM"]
        assert 5 + EXIT_SLACK < seconds_asked(manager.next())[0] <= 15 + EXIT_SLACK
        assert manager.next()[1] == "STATUS=stopping: 1 left; ask of deaf"
        assert manager.next()[1] == "STATUS=stopping: 1 left; inject of deaf"
        assert manager.next()[1].endswith("1 injected")
        assert process.wait(60) == 0
        assert process.stdout.readline() == "[] []\n"  # the environment, here and in a worker process


def test_the_watchdog_hears_of_a_service_until_it_is_stopped(manager):
    with a_service(manager, WATCHDOG_USEC="100000") as process:
        while manager.next(60) != ["READY=1", "STATUS=one worker"]:
            pass
        assert [manager.next() for _ in range(3)] == [["WATCHDOG=1"]] * 3
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        manager.all()
        assert manager.next(0.5) is None
        process.send_signal(signal.SIGCONT)
        assert manager.next() == ["WATCHDOG=1"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


# ------------------------------------------------------------------------------------------------ the unit in the docs


def unit():
    (text,) = re.findall(r"^```ini\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    parser = configparser.ConfigParser(strict=False, interpolation=None, inline_comment_prefixes=None)
    parser.optionxform = str
    parser.read_string(text)
    return text, parser


def test_the_unit_in_the_docs_says_what_the_page_says():
    _, parser = unit()
    service = parser["Service"]
    assert service["Type"] == "notify"
    assert service["KillMode"] == "mixed"
    assert service["NotifyAccess"] == "main"
    assert float(service["WatchdogSec"].removesuffix("s")) > 0
    assert float(service["TimeoutStopSec"].removesuffix("s")) > 20 + EXIT_SLACK  # the default shutdown_timeout
    assert parser["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit_in_the_docs(tmp_path):
    text, _ = unit()
    file = tmp_path / "ingest.service"
    file.write_text(re.sub(r"^(ExecStart)=.*$", f"ExecStart={sys.executable} -V", text, flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
