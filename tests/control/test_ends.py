"""However a supervisor ends, its socket is gone, and so is the thread."""

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest
import uvloop

from supervisor import Supervisor
from supervisor.testing import LeakCheck

from ..inside import Connection, ControlError, patch, sockets
from ..inside_shown import (
    PATIENT_SERVER,
    before_removing,
    break_accepting,
    fail_to_start,
    files_of_server,
    hold_turns,
)
from ..programs import ROOT
from ..waiting import until
from .asking import ask, beside, line_of, lines_of, only_socket, request


def control_threads():
    return [thread for thread in threading.enumerate() if thread.name.endswith("-control")]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_socket_is_gone_with_the_report_and_nobody_delays_that(new_loop, raw):
    async def main():
        async with Supervisor("app", control=True):
            path = only_socket()
            deaf, silent = raw(path), raw(path)
            deaf.sendall(request("watch") + request("survey") * 3000)
            silent.sendall(request("hello"))
            await beside(silent.recv, 1)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 10
        assert not os.path.exists(path)
        assert os.listdir(path.parent) == []
        await until(lambda: not control_threads())

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


async def test_who_is_connected_at_the_end_gets_what_waits(raw):
    async with Supervisor("app", control=True) as sup:
        connection = raw(only_socket())
        connection.sendall(request("watch"))
        await until(lambda: connection.recv(1, socket.MSG_PEEK))
        report = await sup.shutdown(reason="deploy")
    lines = await beside(lines_of, connection)
    assert lines[-1]["report"]["text"] == str(report)
    assert "supervisor.stopping" in [line["event"]["event"] for line in lines if "event" in line]


async def test_who_watches_gets_the_report_although_the_supervisor_is_forgotten_at_once(raw, monkeypatch):
    hold = threading.Event()
    sup = Supervisor("app", control=True)
    await sup.run(int)
    connection = raw(only_socket())
    connection.sendall(request("watch"))
    await until(lambda: connection.recv(1, socket.MSG_PEEK))
    hold_turns(monkeypatch, hold)
    await sup.shutdown()
    del sup
    gc.collect()
    hold.set()
    assert "report" in (await beside(lines_of, connection))[-1]


async def test_nobody_has_the_report_while_the_socket_is_still_there(raw, monkeypatch):
    kinds = []

    def watch_on():
        for _ in range(2):  # what the server does in the turn of the first answer is there before the second one
            connection.sendall(request("hello"))
            while "ok" not in (line := line_of(connection)):
                kinds.extend(line)

    async with Supervisor("app", control=True) as sup:
        connection = raw(only_socket())
        connection.sendall(request("watch"))
        assert "ok" in await beside(line_of, connection)
        before_removing(monkeypatch, watch_on)
        await sup.shutdown()
    assert "event" in kinds
    assert "report" not in kinds
    assert "report" in (await beside(lines_of, connection))[-1]


def test_a_supervisor_that_is_forgotten_takes_its_socket_along():
    async def main():
        sup = Supervisor("app", control=True)
        await sup.run(int)
        path = only_socket()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            del sup
            gc.collect()
            await until(lambda: not os.path.exists(path) and not control_threads())
        await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.supervisor(may_leak=True)
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_is_closed_early_ends_it(new_loop, monkeypatch):
    patch(monkeypatch, LOOK=0.05)
    sup = Supervisor("app", control="write")
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(sup.run(int))
        connection = Connection(only_socket())
        lines = connection.watch()
        got = []
        thread = threading.Thread(target=lambda: got.extend(lines))
        thread.start()
    thread.join(20)
    assert got[-1] == {"report": None}
    connection.close()
    asyncio.run(until(lambda: not control_threads()))
    assert sockets() == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del sup
        gc.collect()


async def test_a_check_for_leaks_does_not_blame_the_socket_of_a_supervisor_that_was_there_before():
    sup = Supervisor("app", control=True)
    with LeakCheck() as check:
        check.look()  # it is there, and not used yet
        await sup.run(int)
        assert control_threads()
        assert not [text for text in check.left() if "control" in text]
        await sup.shutdown()


PROGRAM = f"""
import asyncio, os, sys, time
from supervisor import Supervisor
{PATIENT_SERVER}

async def main():
    sup = Supervisor("app", control="write")
    await sup.start(lambda ctx: ctx.stop.wait(), name="waiter")
    print("up", flush=True)
    {{rest}}

if __name__ == "__main__":
    asyncio.run(main())
"""


def run(rest, *, also=None):
    """Runs a program until it ends; asks it meanwhile, where that is wanted."""
    code = PROGRAM.format(rest=textwrap.indent(textwrap.dedent(rest), "    ").lstrip())
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    ) as process:
        assert process.stdout.readline() == "up\n"
        try:
            return process, also(process) if also is not None else process.wait(60)
        finally:
            process.kill()


@pytest.mark.parametrize("rest", ["sys.exit(3)", "raise KeyboardInterrupt", "return"])
def test_an_interpreter_that_exits_without_a_shutdown_leaves_no_file(rest, runtime_folder):
    run(rest)
    assert os.listdir(f"{runtime_folder}/stopladder") == []


def test_a_process_that_exits_at_once_has_told_who_watches(runtime_folder):
    def watch(process):
        with Connection(only_socket()) as service:
            lines = service.watch()
            ask("shutdown", reason="over")
            return list(lines)

    _, lines = run("await sup.wait_closed()\nreturn", also=watch)
    assert lines[-1]["report"]["reason"] == "over"
    assert os.listdir(f"{runtime_folder}/stopladder") == []


def test_what_a_killed_process_leaves_is_no_socket_to_anybody(runtime_folder):
    run("os.kill(os.getpid(), 9)")
    assert len(os.listdir(f"{runtime_folder}/stopladder")) == 1
    assert sockets() == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_a_forked_child_closes_its_copies_and_leaves_the_socket(raw):
    async with Supervisor("app", control=True):
        path = only_socket()
        connection = raw(path)
        connection.sendall(request("hello"))
        await beside(connection.recv, 1 << 16)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                left = [
                    link
                    for fd in os.listdir("/proc/self/fd")
                    if (link := _link(fd)).startswith("socket:") and link != _link(connection.fileno())
                ]
                known = os.read(reading, 1 << 16).decode().split()
                os._exit(len([link for link in left if link in known]) if left else 0)
            finally:
                os._exit(99)
        os.write(writing, " ".join(map(_link, files_of_server())).encode())
        _, status = os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)
        assert os.waitstatus_to_exitcode(status) == 0
        assert os.path.exists(path)
        assert (await beside(ask, "hello"))["pid"] == os.getpid()
        connection.sendall(request("hello"))
        assert await beside(connection.recv, 1 << 16)


def _link(fd):
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{fd}")
    return ""


async def test_worker_processes_inherit_nothing():
    async with Supervisor("app", control=True) as sup:
        path = only_socket()
        with Connection(path) as service:
            service.ask("hello")
            files = set(map(_link, files_of_server()))
            there = await sup.run(open_links, kind="process")
        assert files
        assert not files & set(there)


def open_links():
    import os

    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    return links


async def test_a_server_that_fails_says_so_and_is_gone(monkeypatch, events, tmp_path):
    path = tmp_path / "sock"
    break_accepting(monkeypatch)
    async with Supervisor("app", control=str(path)) as sup:
        await sup.run(int)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            await until(lambda: not control_threads())
        assert not path.exists()
        await until(lambda: any(event["event"] == "supervisor.control_failed" for event in events))
        assert await sup.run(sum, [1, 2]) == 3
    with pytest.raises(ControlError):
        Connection(path)


async def test_without_a_thread_for_it_the_service_goes_on(monkeypatch, events):
    fail_to_start(monkeypatch, RuntimeError("can't start new thread"))
    async with Supervisor("app", control=True) as sup:
        assert await sup.run(sum, [1, 2]) == 3
        assert sockets() == []
    assert [event["reason"] for event in events if event["event"] == "supervisor.control_failed"] == [
        "it could not be served: can't start new thread"
    ]
