"""Other ways to run a blocking function in a thread and await it, each as a function that gives an awaitable."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
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
    "AIOMISC",
    "ANYIO",
    "EXECUTOR",
    "FLOOR",
    "INTERPRETERS",
    "NO_EVENTFD",
    "PEBBLE",
    "RIE",
    "RUN",
    "TIMEOUT",
    "TO_THREAD",
    "VIEW",
    "Call",
    "InterpreterPool",
    "PebblePool",
    "noop",
    "optional",
    "peers",
    "view_of",
]


def optional(module: str, name: str) -> Any:
    """Returns what a peer offers; None where it is not installed, or this Python does not have it."""
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return None


sync_to_async = optional("asgiref.sync", "sync_to_async")
PebblePool = optional("pebble", "ThreadPool")
AiomiscPool = optional("aiomisc", "ThreadPoolExecutor")
InterpreterPool = optional("concurrent.futures", "InterpreterPoolExecutor")

Call: TypeAlias = "Callable[[], Awaitable[Any]]"

FLOOR = "floor: a thread, a queue, `call_soon_threadsafe`"
RIE = "`run_in_executor(None)`"
TO_THREAD = "`asyncio.to_thread`"
ANYIO = "`anyio.to_thread`"
ASGIREF = "asgiref"
PEBBLE = "pebble"
AIOMISC = "aiomisc"
INTERPRETERS = "`run_in_executor(InterpreterPoolExecutor())`"

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
    loop.set_default_executor(ThreadPoolExecutor(threads))
    limiter = anyio.CapacityLimiter(threads)
    with ExitStack() as stack:
        floor = Floor(loop)
        stack.callback(floor.close)
        calls: dict[str, Call] = {
            FLOOR: floor.call,
            RIE: lambda: loop.run_in_executor(None, noop),
            TO_THREAD: lambda: asyncio.to_thread(noop),
            ANYIO: lambda: anyio.to_thread.run_sync(noop, limiter=limiter),
        }
        if sync_to_async is not None:
            pool = stack.enter_context(ThreadPoolExecutor(threads))  # its own would be the loop's, which others use
            calls[ASGIREF] = sync_to_async(noop, thread_sensitive=False, executor=pool)
        if PebblePool is not None:
            pebble = stack.enter_context(PebblePool(max_workers=threads))
            calls[PEBBLE] = lambda: asyncio.wrap_future(pebble.schedule(noop))
        if AiomiscPool is not None:
            aiomisc = stack.enter_context(AiomiscPool(threads))
            calls[AIOMISC] = lambda: loop.run_in_executor(aiomisc, noop)
        if InterpreterPool is not None:
            interpreters = stack.enter_context(InterpreterPool(threads))
            calls[INTERPRETERS] = lambda: loop.run_in_executor(interpreters, noop)
        yield calls
