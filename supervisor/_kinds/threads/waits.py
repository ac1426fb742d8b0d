"""How a thread that waits in a `threading.Condition` is woken, so that what is pending for it is raised.

Whatever waits in Python code waits there: `Event.wait`, `Queue.get` and `put`, `Semaphore`, `Barrier`, `Future.result`.
The thread stands in `Condition.wait`, blocked in a lock of its own, a waiter, which `notify` would release and forget.
The same is done here. So nobody else is woken, the Condition forgets the waiter, and no later `notify` is spent on it.

A thread that has been notified is left alone while others wait in the same Condition: what it was notified of would be
lost with it, and nobody else would be notified in its place. It leaves the wait by itself, and is struck after that.
"""

from __future__ import annotations

import threading
from _thread import LockType, RLock
from collections import deque
from itertools import chain, starmap
from operator import contains, not_
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

__all__ = ["WAIT", "waking"]

WAIT: Final = threading.Condition.wait.__code__

_LOCKS: Final = (LockType, RLock)


def waking(frame: FrameType) -> tuple[Iterable[Any], Iterable[Any]]:
    """Returns conditions under which a thread may be struck in this frame of `Condition.wait`, and what wakes it then.

    Both are to be consumed by C code, in which nobody else gets the interpreter, the latter once it has been struck.
    Each item is true, or the rest must not be consumed. Where the frame is not what it seems, both are empty.
    """
    variables = frame.f_locals
    waiter, condition = variables.get("waiter"), variables.get("self")
    if type(waiter) is not LockType or not issubclass(type(condition), threading.Condition):
        return (), ()
    inside = vars(condition)
    waiters: deque[Any] | None = inside.get("_waiters")
    lock: object = inside.get("_lock")
    if waiters is None or type(waiters) is not deque:
        return (), ()
    if waiter not in waiters:  # it has been notified, and is about to leave
        return map(not_, (waiters,)), ()
    waits = chain(starmap(contains, ((waiters, waiter),)), starmap(waiter.locked, ((),)))
    if isinstance(lock, _LOCKS) and any(type(lock).acquire is each.acquire for each in _LOCKS):
        # While somebody has it, he may have released the waiter and not forgotten it yet.
        waits = chain(waits, starmap(lock.acquire, ((False,),)), _done(lock.release))
    return waits, chain(_done(waiters.remove, waiter), _done(waiter.release))


def _done(function: Callable[..., None], *args: Any) -> Iterable[bool]:
    """Calls a function that returns None, when it is consumed."""
    return map(not_, starmap(function, (args,)))
