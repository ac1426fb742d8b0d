"""How a thread that waits in a `threading.Condition` is woken, so that what is pending for it is raised.

Whatever waits in Python code waits there: `Event.wait`, `Queue.get` and `put`, `Semaphore`, `Barrier`, `Future.result`.
The thread stands in `Condition.wait`, blocked in a lock of its own, a waiter, which `notify` would release and forget.
The same is done here. So nobody else is woken, the Condition forgets the waiter, and no later `notify` is spent on it.

A thread that has been notified is left alone while others wait in the same Condition: what it was notified of would be
lost with it, and nobody else would be notified in its place. It leaves the wait by itself, and is struck after that.

Nobody can tell a thread that is blocked from one whose wait is over, its time being up, and which has not come further
than that yet. From Python 3.13 on, the latter is struck only as it takes the Condition's lock again. In
`Condition._acquire_restore`, which is Python code, that would be before it has it, and the caller would release a lock
that is not its own. So such a Condition gets a function in C for it, as it has over an RLock: what is pending is raised
at the end of that. Where the lock is Python code itself, there is none: a wait that may be over is then left alone.
"""

from __future__ import annotations

import sys
import threading
from _thread import LockType, RLock
from collections import deque
from functools import partial
from itertools import chain, repeat, starmap
from operator import contains, not_
from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

__all__ = ["LATE", "WAIT", "waking"]

LATE: Final = sys.version_info >= (3, 13)
"""From there on, who gave the interpreter up at a check is struck at the next one only: not as it enters a function,
but at the end of the first call in it, which may have taken a lock; not within a `with`, but as it enters that one's
`__exit__`, which then gives nothing back; not in a wait that is over, but as its `finally` enters what takes the lock
again."""

WAIT: Final = threading.Condition.wait.__code__

_RELOCK: Final = "_acquire_restore"
_IN_PYTHON: Final = getattr(threading.Condition, _RELOCK)

_LOCKS: Final = (LockType, RLock)

_NOT_NOW: Final = ((False,), ())
_AS_IT_IS: Final = _NOT_NOW if LATE else ((), ())


def waking(frame: FrameType) -> tuple[Iterable[Any], Iterable[Any]]:
    """Returns conditions under which a thread may be struck in this frame of `Condition.wait`, and what wakes it then.

    Both are to be consumed by C code, in which nobody else gets the interpreter, the latter once it has been struck.
    Each item is true, or the rest must not be consumed. Where the frame is not what it seems, nothing wakes it.
    """
    variables = frame.f_locals
    waiter, condition = variables.get("waiter"), variables.get("self")
    if type(waiter) is not LockType or not issubclass(type(condition), threading.Condition):
        return _AS_IT_IS
    inside = vars(condition)
    waiters: deque[Any] | None = inside.get("_waiters")
    lock: object = inside.get("_lock")
    if waiters is None or type(waiters) is not deque:
        return _AS_IT_IS
    notified = waiter not in waiters  # it is about to leave
    if LATE and (notified or variables.get("timeout") is not None) and not _relocks_in_c(condition, inside):
        return _NOT_NOW
    if notified:
        return map(not_, (waiters,)), ()
    waits = chain(starmap(contains, ((waiters, waiter),)), starmap(waiter.locked, ((),)))
    if isinstance(lock, _LOCKS) and any(type(lock).acquire is each.acquire for each in _LOCKS):
        # While somebody has it, he may have released the waiter and not forgotten it yet.
        waits = chain(waits, starmap(lock.acquire, ((False,),)), _done(lock.release))
    return waits, chain(_done(waiters.remove, waiter), _done(waiter.release))


class _Relock(partial[object]):
    """Takes a lock, whatever it is called with, and enters no Python code."""


def _relocks_in_c(condition: object, inside: dict[str, Any]) -> bool:
    """Has a Condition take its lock again in C code after a wait; returns whether it does."""
    relock, acquire = inside.get(_RELOCK), inside.get("acquire")
    if relock is None and getattr(type(condition), _RELOCK) is _IN_PYTHON and isinstance(acquire, BuiltinMethodType):
        relock = inside[_RELOCK] = _Relock(next, starmap(acquire, repeat(())))
    return isinstance(relock, (BuiltinMethodType, _Relock))


def _done(function: Callable[..., None], *args: Any) -> Iterable[bool]:
    """Calls a function that returns None, when it is consumed."""
    return map(not_, starmap(function, (args,)))
