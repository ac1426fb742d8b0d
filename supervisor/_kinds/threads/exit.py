"""At the interpreter's exit: what an abandoned thread has taken makes the exit neither hang nor abort.

A buffered file has a lock. A thread that is blocked in `input()` has it, and so has one whose write a full pipe holds
up. At its exit the interpreter closes all files, and aborts where it cannot get such a lock; and `logging`, which
flushes its handlers, waits for ever. So those files are never closed, and those handlers are left out. What has not
been written to them is lost, which nobody can help.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import logging
import sys
from _thread import get_ident
from typing import TYPE_CHECKING, Any

from .sections import others

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["spare_what_is_taken"]

PATIENCE = 0.1
"""Seconds that the lock of a handler may take: whoever has it for longer is stuck."""

BUFFERED: tuple[type[Any], ...] = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
TEXT: tuple[type[Any], ...] = (io.TextIOWrapper,)
PAIRS: tuple[type[Any], ...] = (io.BufferedRWPair,)  # of what they consist of is not to be seen


class _Raw(io.RawIOBase):
    """Calls a function while the file above it has taken its lock."""

    def __init__(self, within: Callable[[], None]) -> None:
        self._within = within

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._within()
        return len(data)


def _words(file: object) -> Any:
    return (ctypes.c_size_t * (type(file).__basicsize__ // ctypes.sizeof(ctypes.c_size_t))).from_address(id(file))


def _find_owner() -> int | None:
    """Returns which word of a buffered file says what thread has its lock; None where the interpreter has no such."""
    found: list[int] = []
    me = get_ident()
    file = io.BufferedWriter(_Raw(lambda: found.extend(n for n, word in enumerate(_words(file)) if word == me)))
    file.write(b"x")
    file.flush()
    return found[0] if len(found) == 1 and _words(file)[found[0]] == 0 else None


def _keep(thing: object) -> None:
    """Has something never be deleted, and so never be closed."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _taken_files(things: list[object]) -> list[object]:
    """Returns the files whose lock another thread has."""
    owner = _find_owner()
    if owner is None:
        return []
    me = get_ident()
    return [thing for thing in things if isinstance(thing, BUFFERED) and _words(thing)[owner] not in (0, me)]


def spare_what_is_taken() -> None:
    """Has the exit leave out whatever another thread has taken. Does nothing where none of ours is left."""
    if sys.implementation.name != "cpython" or not others():
        return
    things: list[object] = gc.get_objects()
    taken = _taken_files(things)
    for thing in things:
        if isinstance(thing, PAIRS) or (isinstance(thing, TEXT) and _is_taken(thing, taken)):
            _keep(thing)
    for file in taken:
        _keep(file)
    for name in ("stdin", "stdout", "stderr"):
        for stream in (name, f"__{name}__"):
            if _is_taken(getattr(sys, stream, None), taken):
                setattr(sys, stream, None)
    _leave_handlers_out(taken)


def _is_taken(stream: object, taken: list[object]) -> bool:
    return any(stream is file or getattr(stream, "buffer", None) is file for file in taken)


def _leave_handlers_out(taken: list[object]) -> None:
    handlers: list[Callable[[], logging.Handler | None]] = getattr(logging, "_handlerList", [])
    for reference in tuple(handlers):
        handler = reference()
        if handler is None:
            continue
        free = handler.lock is None or handler.lock.acquire(timeout=PATIENCE)
        if free and handler.lock is not None:
            handler.lock.release()
        if not free or _is_taken(getattr(handler, "stream", None), taken):
            handlers.remove(reference)
            _keep(handler)


atexit.register(spare_what_is_taken)  # after that of `logging`, and so called before it
