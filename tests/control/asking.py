"""Asks a service from a thread beside its loop, as another process would."""

import asyncio
import json
import socket

from ..inside import Connection, sockets


async def beside(function, *args):
    """Calls a function in a thread beside the loop, and waits for it."""
    return await asyncio.to_thread(function, *args)


def ask(do, path=None, **arguments):
    with Connection(path or only_socket()) as service:
        return service.ask(do, **arguments)


def only_socket():
    (path,) = sockets()
    return path


def lines_of(connection):
    """Reads all lines until the other end closes."""
    with connection.makefile("rb") as file:
        return [json.loads(line) for line in file]


def line_of(connection):
    text = b""
    while not text.endswith(b"\n"):
        chunk = connection.recv(1 << 16, socket.MSG_PEEK)
        assert chunk, text
        text += connection.recv(chunk.find(b"\n") + 1 or len(chunk))
    return json.loads(text)


def request(do, **arguments):
    return json.dumps({"v": 1, "id": 1, "do": do, **arguments}).encode() + b"\n"
