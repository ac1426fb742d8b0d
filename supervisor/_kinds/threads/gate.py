"""The injection gate: an exception raised in a thread from outside, and only inside the function it is meant for.

CPython can be asked to raise an exception in another thread, but not when, nor in which frame. So a worker's thread is
masked by default: it owns the gate of its run, except while the user's function runs. Who injects needs the gate for an
instant and never waits for it; while it is taken, the exception is left at the gate and raised when the gate opens.

What follows looks odd in places. Each oddity stands for a way in which simpler code was broken, on one of CPython 3.11
to 3.13: the interpreter delivers after a C call, at a function's entry and on a loop's back edge; 3.13 one check later;
and not every instruction of a `try` statement is covered by its handler.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from _thread import RLock, get_ident
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..._core.errors import StopInjected
from ..._worker.locks import ScopedLock
from .sections import strike
from .tracers import anybody_traces

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["MISSING", "Gate", "Injection", "Shield", "UserShield", "injection_missing"]

Injection: TypeAlias = Literal["unstarted", "deferred", "waiting", "taken", "injected", "gone"]

MISSING: Any = object()
"""Stands where a function has returned nothing yet."""

_set_pending: Callable[[int, type[BaseException]], int]
_clear_pending: Callable[[int, None], int]

try:
    # Prototypes of our own: setting `argtypes` on `ctypes.pythonapi`'s function would change it for everybody else.
    _symbol = ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
    _set_pending = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(_symbol)
    _clear_pending = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(_symbol)
    _has_api = True
except (AttributeError, ValueError):  # PyPy
    _has_api = False
    _set_pending = lambda ident, exception: 0  # noqa: ARG005, E731
    _clear_pending = lambda ident, nothing: 0  # noqa: ARG005, E731


CLEARING_SIGNALS = sys.version_info < (3, 13)
"""Before 3.13, setting and clearing alike have all threads look for an exception, until one is delivered.

So what was only cleared would have every thread of the process look for nothing at each check, for ever: calling an
empty function takes half as long again on 3.12, and a traced function's entry never ends on 3.11.
"""


_injecting = ScopedLock()
"""Between injectors, of all gates; workers never touch it."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_injecting._at_fork_reinit)  # type: ignore[attr-defined]


def injection_missing() -> str | None:
    """Says why no exception can be injected at present; None where one can."""
    if not _has_api:
        return "this interpreter has no PyThreadState_SetAsyncExc"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "without the GIL an injected exception cannot be kept out of foreign code"
    if sys.version_info < (3, 12) and anybody_traces():
        # While an exception waits for a thread that is blocked, a traced function's entry never ends on 3.11.
        return "a tracer or profiler is active, and Python 3.11 would hang under it"
    return None


class Gate:
    """Lets injected exceptions through to one run, and only while the run's function is unshielded.

    A gate serves a single call of `run`, whose thread is its worker. `inject` may be called by any other thread, at
    any time, before and after as well.
    """

    __slots__ = ("_aimed", "_deferred", "_lock", "depth", "exception", "ident", "unused")

    def __init__(self, exception: type[BaseException] = StopInjected) -> None:
        self.exception = exception
        self.ident = 0
        self.depth = 0
        self.unused = 0  # shields that the function has asked for and not entered
        self._lock = RLock()  # owned by the worker: masked. Owned by an injector: for a few bytecodes.
        self._deferred: list[type[BaseException]] = []  # one at most: appended to by injectors alone
        self._aimed = False  # written by who owns the lock: something may be pending

    def inject(
        self, wake: Callable[[int], object] | None = None, exception: type[BaseException] | None = None
    ) -> Injection:
        """Raises the exception in the worker: now, on leaving its shield, or never where it is past its end.

        `wake` is called once it has been raised, with the worker's thread, which is alive meanwhile. It is the gate's
        own exception, where no other is named; one that waits already goes before it.

        "waiting": it stands where it must not be struck; the next shield that it leaves raises the exception, or the
        next attempt. Never blocks for longer than another injector's few bytecodes.
        """
        with _injecting:
            if not self.ident:
                return "unstarted"
            # The exception lies at the gate before the gate is tried: a worker that opens it in between finds it.
            if not self._deferred:
                self._deferred.append(exception or self.exception)
            try:
                if not self._lock.acquire(False):
                    return "deferred"
                try:
                    aimed = self._deferred.pop()
                except IndexError:
                    return "taken"
                self._aimed = True
                struck = strike(self.ident, _set_pending, aimed)
                if struck is None:
                    self._deferred.append(aimed)
                    return "waiting"
                if struck and wake is not None:
                    wake(self.ident)
                return "injected" if struck else "gone"
            finally:
                if self._lock._is_owned():  # type: ignore[attr-defined]  # typeshed leaves it out
                    self._lock.release()

    def raise_deferred(self) -> None:
        """Raises what was left at the gate, in the worker that has opened it; an injector may have taken it back."""
        try:
            exception = self._deferred.pop()
        except IndexError:
            return
        raise exception

    def run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
        """Calls the function unmasked; returns its value or MISSING, and what it raised or None.

        Masked on return, for good: nothing that was injected is raised in the caller, and nothing is left pending. A
        value that had been computed wins over an exception that came too late.
        """
        close, open_, deferred = self._lock.acquire, self._lock.release, self._deferred
        value: Any = MISSING
        error: BaseException | None = None
        late: BaseException | None = None
        close()
        ident = self.ident = get_ident()
        try:
            try:
                try:
                    open_()
                    if deferred:
                        self.raise_deferred()
                    value = function(*args)
                finally:
                    # A handler's first instruction is not covered by the handler, but that of a `try` does nothing. The
                    # gate is closed twice because the first call may raise what is in flight before or after it has
                    # taken the lock; a second time is free. It is never opened again.
                    try:
                        close()
                    finally:
                        close()
            except BaseException as caught:
                error = caught
            if self._aimed:
                _clear_pending(ident, None)
        except BaseException as caught:
            late = caught
        if self._aimed:
            _clear_pending(ident, None)
            if CLEARING_SIGNALS:
                _unsignal(ident)
        self.ident = 0  # what is left of the run, a context that somebody kept, meets a gate that is nobody's
        deferred.clear()
        if value is not MISSING:
            return value, None
        if error is None:
            error = late
        if error is not None and error.__traceback__ is not None:
            # Without this frame, which is of no use to the reader. Set past the error's own class, which may refuse.
            BaseException.with_traceback(error, error.__traceback__.tb_next)
        try:
            return value, error
        finally:
            error = late = None  # the frame of the function, which the error's traceback holds, still knows this one
            del function, args


def _unsignal(ident: int) -> None:
    """Takes back the signal that clearing gave: by an exception of our own, which is delivered at once, here.

    3.12 runs a collection that is due at the same check, and before it delivers: the exception would strike a finalizer
    of somebody else's. So what is due is collected at the end of the call that keeps more from becoming due.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        _set_pending(ident, _Unsignal)
    except _Unsignal:
        pass
    if collecting:
        gc.enable()


class _Unsignal(BaseException):
    pass


class Shield:
    """Holds injected exceptions back inside a `with` block of the worker's own thread; nests.

    A class, not a generator: a generator's frames have more places at which an exception can strike.
    """

    __slots__ = ("_gate",)

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        gate = self._gate
        if get_ident() != gate.ident:
            raise RuntimeError("shield(): only the worker's own thread can shield itself")
        lock = gate._lock
        try:
            lock.acquire()
            # What was pending before the gate closed is delivered after one of these calls, outside the block.
            lock._is_owned()  # type: ignore[attr-defined]
            lock._is_owned()  # type: ignore[attr-defined]
        except BaseException:
            lock.release()
            raise
        gate.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        gate = self._gate
        gate.depth -= 1
        gate._lock.release()
        if gate.depth == 0 and gate._deferred:
            gate.raise_deferred()


class UserShield(Shield):
    """The same, for a function that asks for one: the gate counts those that are never entered."""

    __slots__ = ()

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate)
        gate.unused += 1

    def __enter__(self) -> None:
        self._gate.unused -= 1
        super().__enter__()
