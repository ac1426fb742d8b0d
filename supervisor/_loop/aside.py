"""Registers what the supervisor does by itself, for nobody in particular: it runs in an empty context.

An event loop runs a callback in the context in which it was registered, and holds that context for as long. Much of
ours is registered on the way of a request that happens to come first: the reader of a process that serves many, the one
timer of all alarms. In the context of that request, its variables would be in the log events of others, and what they
hold would live as long as the process. So nothing here goes to the loop by another way; a test looks at the code.
"""

from __future__ import annotations

import sys
from contextvars import Context
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from threading import Thread
    from typing import Any

    from _typeshed import FileDescriptorLike

__all__ = [
    "add_reader",
    "add_writer",
    "call_at",
    "call_later",
    "call_soon",
    "call_soon_threadsafe",
    "run",
    "start",
    "when_done",
]

T = TypeVar("T")


def run(function: Callable[..., T], *args: Any) -> T:
    """Calls something that is not for whoever runs at the moment."""
    return Context().run(function, *args)


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: Any) -> None:
    loop.call_soon(callback, *args, context=Context())


def call_soon_threadsafe(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: Any) -> None:
    loop.call_soon_threadsafe(callback, *args, context=Context())


def call_later(
    loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[..., object], *args: Any
) -> asyncio.TimerHandle:
    return loop.call_later(seconds, callback, *args, context=Context())


def call_at(
    loop: asyncio.AbstractEventLoop, at: float, callback: Callable[..., object], *args: Any
) -> asyncio.TimerHandle:
    return loop.call_at(at, callback, *args, context=Context())


def add_reader(
    loop: asyncio.AbstractEventLoop, file: FileDescriptorLike, callback: Callable[..., object], *args: Any
) -> None:
    run(loop.add_reader, file, callback, *args)


def add_writer(
    loop: asyncio.AbstractEventLoop, file: FileDescriptorLike, callback: Callable[..., object], *args: Any
) -> None:
    run(loop.add_writer, file, callback, *args)


def when_done(future: asyncio.Future[Any], callback: Callable[[Any], object]) -> None:
    future.add_done_callback(callback, context=Context())


def start(thread: Thread) -> None:
    """Starts a thread. Python 3.14 can have it inherit the context of who starts it.

    Who is struck while he waits until it is up, by Ctrl-C say, may get a RuntimeError of the wait's in place of that:
    "release unlocked lock". It would pass for one of a system that has no more threads, and the interrupt be lost.

    Raises:
        RuntimeError: It cannot be started.
    """
    handled = sys.exception()
    try:
        run(thread.start)
    except RuntimeError as error:
        struck = error.__context__
        if struck is None or struck is handled:
            raise
        raise struck from None
