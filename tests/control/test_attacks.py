"""Clients that say nothing, or garbage, or too much, or go away: each harms nobody."""

import asyncio
import contextlib
import os
import socket
import time

import pytest

from supervisor import Supervisor

from ..inside import patch
from ..inside_shown import tries_to_accept
from ..waiting import until
from .asking import ask, beside, line_of, lines_of, only_socket, request


@pytest.fixture
async def path():
    async with Supervisor("app", control=True) as sup:
        await sup.start(lambda ctx: ctx.stop.wait(), name="waiter")
        yield only_socket()
        assert (await beside(ask, "survey"))["unended"] == 1  # it still answers


async def test_garbage_is_answered_and_what_comes_after_it_too(path, raw):
    connection = raw(path)
    connection.sendall(os.urandom(1000).replace(b"\n", b"") + b"\n\n\0\n" + request("hello"))
    answers = [await beside(line_of, connection) for _ in range(4)]
    assert [answer["ok"] for answer in answers] == [False, False, False, True]
    assert {answer["error"]["code"] for answer in answers[:3]} == {"bad_request"}


async def test_a_line_that_comes_in_pieces_is_one(path, raw):
    connection = raw(path)
    for byte in request("hello"):
        connection.sendall(bytes([byte]))
        await asyncio.sleep(0)
    assert (await beside(line_of, connection))["ok"]


async def test_a_line_without_an_end_is_refused_and_its_client_let_go(path, raw):
    connection = raw(path)
    with contextlib.suppress(OSError):
        await beside(connection.sendall, b"x" * 200_000)
    (answer,) = await beside(lines_of_one_that_is_reset, connection)
    assert answer["error"]["code"] == "too_large"


def lines_of_one_that_is_reset(connection):
    lines = []
    with contextlib.suppress(ConnectionResetError):
        lines.append(line_of(connection))
        assert connection.recv(10) == b""
    return lines


async def test_who_goes_away_half_way_is_forgotten(path, raw):
    for text in (b"", b'{"v":1', request("watch"), request("survey") * 50, request("hello")[:-1]):
        connection = raw(path)
        connection.sendall(text)
        connection.close()
    for _ in range(20):
        assert (await beside(ask, "hello"))["pid"] == os.getpid()


async def test_who_has_said_all_and_closes_his_half_gets_his_answers(path, raw):
    connection = raw(path)
    connection.sendall(request("hello") * 100)
    connection.shutdown(socket.SHUT_WR)
    assert len(await beside(lines_of, connection)) == 100


async def test_who_does_not_read_is_not_read_from_and_holds_nobody_up(path, raw):
    connection = raw(path)
    connection.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 64 << 20:
            sent += connection.send(request("survey") * 100)
            await asyncio.sleep(0.001)
    assert sent < 64 << 20  # nobody takes it any more
    assert (await beside(ask, "hello"))["pid"] == os.getpid()


async def test_who_says_nothing_is_let_go_after_a_while(path, raw, monkeypatch):
    patch(monkeypatch, LOOK=0.01, IDLE=600)
    silent, dripping, deaf, watching = (raw(path) for _ in range(4))
    dripping.sendall(b'{"v"')
    watching.sendall(request("watch"))
    deaf.sendall(request("survey") * 3000)
    await beside(line_of, watching)
    patch(monkeypatch, IDLE=0.2)
    assert await beside(silent.recv, 1) == b""
    with contextlib.suppress(ConnectionResetError):
        assert await beside(dripping.recv, 1) == b""
    watching.settimeout(0.5)
    with pytest.raises(TimeoutError):
        await beside(watching.recv, 1)


async def test_one_client_too_many_is_told_so(path, raw):
    for _ in range(20):
        raw(path).close()  # does not count
    connections = [raw(path) for _ in range(16)]
    for connection in connections:
        connection.sendall(request("hello"))
        await beside(line_of, connection)
    (answer,) = await beside(lines_of, raw(path))
    assert answer["error"]["code"] == "busy"
    for connection in connections:
        connection.sendall(request("hello"))
        assert (await beside(line_of, connection))["ok"]
        connection.close()
    await until(lambda: is_admitted(raw(path)))


def is_admitted(connection):
    connection.sendall(request("hello"))
    answer = line_of(connection)
    connection.close()
    return answer["ok"]


async def test_thousands_connect_in_a_row(path):
    def knock():
        for number in range(3000):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                if number % 3 == 0:
                    with contextlib.suppress(BrokenPipeError):  # one too many is let go before it has said anything
                        connection.sendall(request("hello"))

    await beside(knock)
    await until_asked()


async def until_asked():
    """The last of them may still be among the clients."""
    for _ in range(200):
        with contextlib.suppress(Exception):
            await beside(ask, "hello")
            return
        await asyncio.sleep(0.05)
    pytest.fail("it does not answer any more")


async def test_a_process_without_files_accepts_nobody_for_a_moment_and_does_not_spin(path, raw, monkeypatch):
    import resource

    patch(monkeypatch, NO_FILES=0.05)
    tried = tries_to_accept(monkeypatch)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connection = raw(path)
    connection.sendall(request("hello"))
    await beside(line_of, connection)
    late = socket.socket(socket.AF_UNIX)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(highest, *held), hard))
    try:
        late.connect(str(path))
        began = time.monotonic()
        await asyncio.sleep(0.2)
        connection.sendall(request("hello"))
        assert line_of(connection)["ok"]  # who is connected is answered
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for file in held:
            os.close(file)
    assert len(tried) < 50 + 40 * (time.monotonic() - began)
    late.settimeout(20)
    late.sendall(request("hello"))
    assert (await beside(line_of, late))["ok"]
    late.close()
