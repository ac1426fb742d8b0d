"""What an owner asks the scheduler: to make nodes of all workers, and which there are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .dask import connect, dumps, send_recv
from .plugin import NodePlugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from .channel import Comm

__all__ = ["connected", "follow"]

POLL = 0.5
"""Seconds between two looks at which nodes there are."""


async def connected(address: str, seconds: float, args: dict[str, Any]) -> Comm:
    """Returns a new connection.

    Raises:
        OSError: There is none within so many seconds; a TimeoutError is one.
    """
    # Dask does not limit for how long the other end may say nothing.
    comm: Comm = await asyncio.wait_for(connect(address, timeout=seconds, **args), seconds)
    return comm


async def follow(
    address: str, seconds: float, args: dict[str, Any], found: Callable[[set[str], set[str]], object]
) -> None:
    """Says again and again which workers there are, and which of these take work, by their addresses.

    Raises:
        OSError: The scheduler is lost: it has not answered within so many seconds.
        Exception: It cannot make nodes of its workers.
    """
    comm = await connected(address, seconds, args)
    try:
        plugin = {"plugin": dumps(NodePlugin()), "name": NodePlugin.name, "idempotent": True}
        await _answer(comm, seconds, op="register_worker_plugin", **plugin)
        while True:
            workers = await _answer(comm, seconds, op="ncores")
            running = await _answer(comm, seconds, op="ncores_running")
            found(set(workers), set(running))
            await asyncio.sleep(POLL)
    finally:
        comm.abort()


async def _answer(comm: Comm, seconds: float, **question: Any) -> Any:
    return await asyncio.wait_for(send_recv(comm, **question), seconds)
