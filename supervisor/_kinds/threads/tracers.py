"""On Python 3.11: whether any thread has a tracer or profiler, which only that thread itself can be asked for."""

from __future__ import annotations

import ctypes
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["anybody_traces"]

AS_NOW = 0.01
"""Seconds for which an answer holds: many are injected at once, and there may be many threads."""

_FIRST: Final = 64
"""Where the record of a thread has its profiler's function, and after it its tracer's: the same in all of 3.11."""

_head: Callable[[int | None], int | None]
_next: Callable[[int], int | None]

try:
    _interpreter = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyInterpreterState_Get", ctypes.pythonapi))
    _head = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(("PyInterpreterState_ThreadHead", ctypes.pythonapi))
    _next = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(("PyThreadState_Next", ctypes.pythonapi))
    _readable = sys.version_info[:2] == (3, 11) and ctypes.sizeof(ctypes.c_void_p) == 8
except (AttributeError, ValueError):  # PyPy
    _readable = False

_asked_at = -1.0
_answer = False


def anybody_traces() -> bool:
    """Returns whether a tracer or profiler is active in any thread, or will be in new ones."""
    global _asked_at, _answer  # noqa: PLW0603
    if any((sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile())):
        return True
    if _readable and monotonic() - _asked_at > AS_NOW:
        _answer = _some_thread_traces()
        _asked_at = monotonic()
    return _answer


def _some_thread_traces() -> bool:
    thread = _head(_interpreter())
    while thread:
        if any((ctypes.c_void_p * 2).from_address(thread + _FIRST)):
            return True
        thread = _next(thread)
    return False
