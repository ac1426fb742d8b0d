"""How soon threads let each other have the interpreter, while somebody needs that to be soon.

Each time the event loop, or a worker that is to end, waits for the interpreter, a thread that computes in Python lets
it wait for the switch interval: 5 ms by default, for each such thread. A few of them would make hundreds of workers
late that obey a shutdown. The interval belongs to the process, so all supervisors share this.
"""

from __future__ import annotations

import sys
import weakref

from .._worker.locks import ScopedLock

__all__ = ["FAST", "hold", "release"]

FAST = 0.0001
"""Seconds of the switch interval during a shutdown; switching costs a few per cent of the time then."""

ROUNDING = 0.000002
"""The interpreter rounds what is set to microseconds."""

_lock = ScopedLock()  # loops of several threads may shut down; a signal handler or finalizer may come in between
_holders: dict[int, float] = {}
_before = 0.0
_lowered = _lowering = 0.0


def hold(holder: object, interval: float = FAST) -> None:
    """Lowers the interval until the last holder has released it, or is gone. Idempotent. Any thread."""
    global _before, _lowered, _lowering  # noqa: PLW0603  # there is one interval in a process
    with _lock:
        if id(holder) in _holders:
            return
        weakref.finalize(holder, _release, id(holder)).atexit = False  # first: an interrupt here does no harm
        if not _holders:
            _before = _lowered = _lowering = sys.getswitchinterval()
        _holders[id(holder)] = interval
        _lower()


def release(holder: object) -> None:
    """Puts the interval back where nobody else holds it. Idempotent. Any thread."""
    _release(id(holder))


def _release(number: int) -> None:
    with _lock:
        if number not in _holders:
            return
        _lower(without=number)
        _holders.pop(number, None)  # last: an interrupt before that has all of it done again


def _lower(without: int | None = None) -> None:
    """Sets the least interval that anybody holds; none longer than before, nor over what the application has set."""
    global _lowered, _lowering  # noqa: PLW0603
    now = sys.getswitchinterval()
    if not any(abs(now - ours) < ROUNDING for ours in (_lowered, _lowering)):
        return
    # An interrupt in between leaves one of the two true.
    _lowering = min([_before, *(interval for number, interval in _holders.items() if number != without)])
    if abs(now - _lowering) > ROUNDING:
        sys.setswitchinterval(_lowering)
    _lowered = _lowering
