"""Other ways to run a blocking function in a thread and await it, each as a function that gives an awaitable."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["Call", "noop", "peers"]

Call: TypeAlias = "Callable[[], Awaitable[Any]]"


def noop() -> None:
    """The work: none, so that what remains is the way there and back."""


class Floor:
    """The least that can be done: one thread, one queue, one wake-up of the loop for each result."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[tuple[asyncio.Future[None], Callable[[], None]] | None] = SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def call(self) -> asyncio.Future[None]:
        future = self._loop.create_future()
        self._queue.put((future, noop))
        return future

    def close(self) -> None:
        self._queue.put(None)

    def _serve(self) -> None:
        for future, fn in iter(self._queue.get, None):
            self._loop.call_soon_threadsafe(future.set_result, fn())


@contextmanager
def peers(threads: int) -> Iterator[dict[str, Call]]:
    """Gives the peers by their names, with `threads` threads each; the optional ones where they are installed."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(threads))
    limiter = anyio.CapacityLimiter(threads)
    floor = Floor(loop)
    calls: dict[str, Call] = {
        "run_in_executor(None)": lambda: loop.run_in_executor(None, noop),
        "asyncio.to_thread": lambda: asyncio.to_thread(noop),
        "anyio.to_thread": lambda: anyio.to_thread.run_sync(noop, limiter=limiter),
        "the floor": floor.call,
    }
    try:
        from asgiref.sync import sync_to_async  # noqa: PLC0415  # optional
    except ImportError:
        pass
    else:
        calls["asgiref"] = sync_to_async(noop, thread_sensitive=False)
    pool: Any = None
    try:
        from pebble import ThreadPool  # noqa: PLC0415  # optional
    except ImportError:
        pass
    else:
        pool = ThreadPool(max_workers=threads)
        calls["pebble"] = lambda: asyncio.wrap_future(pool.schedule(noop))
    try:
        yield calls
    finally:
        floor.close()
        if pool is not None:
            pool.close()
            pool.join()
