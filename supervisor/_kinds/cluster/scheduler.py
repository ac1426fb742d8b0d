"""What an owner asks Dask: of the scheduler, which workers there are; of a worker, to become a node."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..._core.errors import described
from .dask import connect, dumps, send_recv
from .plugin import make_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from .channel import Comm

__all__ = ["NoNode", "connected", "follow", "have_node"]

POLL = 0.5
"""Seconds between two looks at which nodes there are."""


GIVEN_UP = 0.25
"""Seconds at most that a connection still has which nobody wants any more; most are there at once."""


class NoNode(Exception):
    """A Dask worker cannot be a node."""


async def connected(address: str, seconds: float, args: dict[str, Any]) -> Comm:
    """Returns a new connection.

    Raises:
        OSError: There is none within so many seconds; a TimeoutError is one.
    """
    connecting: asyncio.Future[Comm] = asyncio.ensure_future(connect(address, timeout=seconds, **args))
    try:
        # Dask does not limit for how long the other end may say nothing.
        async with asyncio.timeout(seconds):
            return await asyncio.shield(connecting)
    except BaseException:
        # One that is cancelled in between would leave its socket open: it is closed once it is there.
        await asyncio.wait({connecting}, timeout=GIVEN_UP)
        if not connecting.done():
            connecting.cancel()
        elif not connecting.cancelled() and connecting.exception() is None:
            connecting.result().abort()
        raise


async def follow(
    address: str, seconds: float, args: dict[str, Any], found: Callable[[set[str], set[str]], object]
) -> None:
    """Says again and again which workers there are, and which of these take work, by their addresses.

    Raises:
        OSError: The scheduler is lost: it has not answered within so many seconds.
    """
    comm = await connected(address, seconds, args)
    try:
        while True:
            workers = await _answer(comm, seconds, op="ncores")
            running = await _answer(comm, seconds, op="ncores_running")
            found(set(workers), set(running))
            await asyncio.sleep(POLL)
    finally:
        comm.abort()


async def have_node(comm: Comm, seconds: float) -> None:
    """Has a Dask worker be a node, over a connection to it.

    The scheduler is not asked to see to that: a worker without the library would not even start, then.

    Raises:
        OSError: It has not answered within so many seconds; a TimeoutError is one.
        NoNode: It cannot be one: the library is not installed there, say.
    """
    try:
        answer = await _answer(comm, seconds, op="run", function=dumps(make_node))
        if answer["status"] != "OK":
            raise answer["exception"]
    except OSError:
        raise
    except Exception as error:
        raise NoNode(f"it cannot be a node, which needs this library: {described(error)}") from error


async def _answer(comm: Comm, seconds: float, **question: Any) -> Any:
    async with asyncio.timeout(seconds):
        return await send_recv(comm, **question)
