"""How soon threads let each other have the interpreter, while a supervisor shuts down.

Each time the event loop, or a worker that is to end, waits for the interpreter, a thread that computes in Python lets
it wait for the switch interval: 5 ms by default, for each such thread. A few of them would make hundreds of workers
late that obey. The interval belongs to the process, so all supervisors share this.
"""

from __future__ import annotations

import sys
import weakref
from _thread import RLock

__all__ = ["FAST", "hold", "release"]

FAST = 0.0001
"""Seconds of the switch interval during a shutdown; switching costs a few per cent of the time then."""

_lock = RLock()  # event loops of several threads may shut down; a signal handler or a finalizer may come in between
_holders: set[int] = set()
_before = 0.0


def hold(holder: object) -> None:
    """Lowers the interval until the last holder has released it, or is gone. Idempotent. Any thread."""
    global _before  # noqa: PLW0603  # there is one interval in a process
    with _lock:
        if id(holder) in _holders:
            return
        weakref.finalize(holder, _release, id(holder)).atexit = False  # first: an interrupt here does no harm
        if not _holders:
            _before = sys.getswitchinterval()
        _holders.add(id(holder))
        if _before > FAST:
            sys.setswitchinterval(FAST)


def release(holder: object) -> None:
    """Puts the interval back where nobody else holds it. Idempotent. Any thread."""
    _release(id(holder))


def _release(number: int) -> None:
    with _lock:
        if number not in _holders:
            return
        # What the application has set meanwhile stays.
        if len(_holders) == 1 and _before > FAST and abs(sys.getswitchinterval() - FAST) < FAST / 2:
            sys.setswitchinterval(_before)
        _holders.discard(number)  # last: an interrupt before that has all of it done again
