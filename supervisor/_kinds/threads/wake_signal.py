"""The signal that ends a system call in which a thread is blocked, on Python 3.15 and later.

From then on the interpreter looks for what is pending for a thread, any thread, when a signal interrupts its call. So
all it takes is a signal with a handler, which may do nothing. It is a function in C that the interpreter knows nothing
of: no Python code runs for it, no event loop is woken by it, and what `signal.getsignal` returns stays true. It can be
installed by any thread.

There is one handler for all supervisors of a process, which the last one takes away.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ..._worker.locks import ScopedLock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WakeSignal"]

ENDS_CALLS: Final = sys.version_info >= (3, 15)
"""Before, a thread that is not the main one goes on with its call when it is interrupted."""


class _Action(ctypes.Structure):
    """`struct sigaction` of Linux: of glibc and musl, on the usual machines."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_char * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_nothing: int | None = None
_sigaction: Callable[[int, Any, Any], int] | None = None

if ENDS_CALLS and sys.platform == "linux":
    try:
        # Without the GIL being given up: nobody installs a handler between a look and what follows from it.
        _libc = ctypes.PyDLL(None)
        _nothing = ctypes.cast(_libc.abs, ctypes.c_void_p).value  # takes an int, and leaves everything as it is
        _sigaction = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(
            ("sigaction", _libc)
        )
    except (AttributeError, OSError):
        pass

_users: dict[int, set[int]] = {}
"""Who uses the handler of each signal."""

_lock = ScopedLock()


def _forget() -> None:
    """In a process that was forked there are no supervisors yet; perhaps a handler, which is found."""
    _lock._at_fork_reinit()  # type: ignore[attr-defined]  # typeshed leaves it out
    _users.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class WakeSignal:
    """One supervisor's use of the signal. Any thread.

    Args:
        number: The signal; None: none is ever sent.
        report: Is told once why it is not sent, where the interpreter would heed it.
    """

    def __init__(self, number: int | None, report: Callable[[str], object]) -> None:
        self._number = number if ENDS_CALLS else None
        self._report = report

    def prepare(self) -> None:
        """Sees to it that there is a handler, unless the application has one of its own."""
        number = self._number
        if number is None:
            return
        with _lock:
            users = _users.setdefault(number, set())
            if id(self) in users:
                return
            missing = None if users else _install(number)
            if missing is None:
                users.add(id(self))
        if missing is not None:
            self._give_up(missing)

    def send(self, ident: int) -> None:
        """Interrupts the system call of a thread, which must be alive until this returns."""
        number = self._number
        if number is None:
            return
        with _lock:  # nobody takes the handler away meanwhile
            if id(self) not in _users.get(number, ()):
                return
            if _is_ours(number):
                with suppress(OSError):
                    signal.pthread_kill(ident, number)
                return
        self._give_up(_taken(number))  # the application has installed one since

    def close(self) -> None:
        """Nothing is sent from here on. The last one takes the handler away."""
        number, self._number = self._number, None
        if number is None:
            return
        with _lock:
            users = _users.get(number, set())
            if id(self) in users:
                users.remove(id(self))
                if not users and _is_ours(number):
                    _set(number, _DEFAULT)

    def _give_up(self, reason: str) -> None:
        self.close()
        self._report(reason)


_DEFAULT: Final = _Action()
"""The action that a signal has as long as nobody says otherwise."""


def _install(number: int) -> str | None:
    """Returns why there can be no handler; None where there is one now."""
    if _sigaction is None or _nothing is None:
        return "blocked system calls are ended on Linux alone"
    before = _Action()
    if _sigaction(number, None, ctypes.addressof(before)) != 0:
        return f"the system has no handlers for the signal {_name(number)}"
    if before.handler not in (None, _nothing):
        return _taken(number)
    _set(number, _Action(handler=_nothing))
    return None


def _set(number: int, action: _Action) -> None:
    assert _sigaction is not None
    _sigaction(number, ctypes.addressof(action), None)


def _is_ours(number: int) -> bool:
    now = _Action()
    return _sigaction is not None and _sigaction(number, None, ctypes.addressof(now)) == 0 and now.handler == _nothing


def _taken(number: int) -> str:
    return (
        f"the application handles or ignores the signal {_name(number)} itself, so blocked system calls are not ended: "
        "name another one with Supervisor(wake_signal=...)"
    )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
