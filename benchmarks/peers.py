"""Other ways to run a blocking function in a thread and await it, each as a function that gives an awaitable."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from supervisor import Supervisor
    from supervisor._api.view import LoopView

__all__ = [
    "ANYIO",
    "EXECUTOR",
    "FLOOR",
    "NO_EVENTFD",
    "PEBBLE",
    "RIE",
    "RUN",
    "TIMEOUT",
    "TO_THREAD",
    "VIEW",
    "Call",
    "PebblePool",
    "noop",
    "optional",
    "peers",
    "view_of",
]


def optional(module: str, name: str) -> Any:
    """Returns what a peer offers; None where it is not installed."""
    try:
        return getattr(import_module(module), name)
    except ImportError:
        return None


sync_to_async = optional("asgiref.sync", "sync_to_async")
PebblePool = optional("pebble", "ThreadPool")

Call: TypeAlias = "Callable[[], Awaitable[Any]]"

FLOOR = "floor: a thread, a queue, `call_soon_threadsafe`"
RIE = "`run_in_executor(None)`"
TO_THREAD = "`asyncio.to_thread`"
ANYIO = "`anyio.to_thread`"
ASGIREF = "asgiref"
PEBBLE = "pebble"

RUN = "**`sup.run`**"
TIMEOUT = "`sup.run` with a timeout"
NO_EVENTFD = "`sup.run` without eventfd"
VIEW = "`run_in_executor` with the pool's internal view"
EXECUTOR = "`run_in_executor(sup.executor())`"


def noop() -> None:
    """The work: none, so that what remains is the way there and back."""


def view_of(sup: Supervisor) -> LoopView:
    """Returns what `sup.run` gives its calls to."""
    return sup._view_of("thread")


class Floor:
    """The least that can be done: one thread, one queue, one wake-up of the loop for each result."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], object]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def call(self, fn: Callable[[], object] = noop) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        self._queue.put((future, fn))
        return future

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _serve(self) -> None:
        for future, fn in iter(self._queue.get, None):
            self._loop.call_soon_threadsafe(future.set_result, fn())


@contextmanager
def peers(threads: int) -> Iterator[dict[str, Call]]:
    """Gives the floor and the peers by their names, with `threads` threads each; some, where they are installed."""
    loop = asyncio.get_running_loop()
    stock = ThreadPoolExecutor(threads)
    loop.set_default_executor(stock)
    limiter = anyio.CapacityLimiter(threads)
    floor = Floor(loop)
    asgiref_pool = ThreadPoolExecutor(threads)  # its own would be the loop's, which others use
    pebble: Any = None if PebblePool is None else PebblePool(max_workers=threads)
    calls: dict[str, Call] = {
        FLOOR: floor.call,
        RIE: lambda: loop.run_in_executor(None, noop),
        TO_THREAD: lambda: asyncio.to_thread(noop),
        ANYIO: lambda: anyio.to_thread.run_sync(noop, limiter=limiter),
    }
    if sync_to_async is not None:
        calls[ASGIREF] = sync_to_async(noop, thread_sensitive=False, executor=asgiref_pool)
    if pebble is not None:
        calls[PEBBLE] = lambda: asyncio.wrap_future(pebble.schedule(noop))
    try:
        yield calls
    finally:
        floor.close()
        asgiref_pool.shutdown()
        if pebble is not None:
            pebble.close()
            pebble.join()
