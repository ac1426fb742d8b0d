"""In a worker process: the gate that lets injections through to the function, and only to it."""

from __future__ import annotations

import _thread

from ...._core.errors import StopInjected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any

__all__ = ["MAIN_THREAD", "Gate", "NoShield", "Shield", "UserShield"]


class Gate:
    """Lets the injection signal through to the function that runs, and only while it is unshielded.

    Its handler runs in the main thread, between two bytecodes of whatever frame is there: so what is asked is whether
    that is the frame of the user's function, or below it.
    """

    __slots__ = ("deferred", "depth", "running", "struck", "unused")

    def __init__(self) -> None:
        self.running = False
        self.depth = 0
        self.deferred: type[BaseException] | None = None
        self.struck = False  # a signal has come for this call
        self.unused = 0  # shields that the function has asked for and not entered

    def on_signal(self, _: int, frame: FrameType | None) -> None:
        self.strike(frame, StopInjected)

    def strike(self, frame: FrameType | None, exception: type[BaseException]) -> None:
        """Raises an exception in the function that runs, now or when it leaves its shield; for handlers of signals."""
        if not self.running or frame is None:
            return
        self.struck = True
        if self.depth or frame.f_code in OWN_FRAMES:  # in the latter case, for the next shield that is left
            self.deferred = exception
            return
        raise exception

    def run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
        """Calls the function; returns its value, and what it raised or None. Nothing is raised in this frame."""
        value = error = None
        self.depth = self.unused = 0
        self.deferred = None
        self.struck = False
        self.running = True
        try:
            value = _call(function, args)
        except BaseException as caught:
            error = caught
        self.running = False
        try:
            return value, error
        finally:
            value = error = None  # the error's traceback holds this frame, which would hold the error


def _call(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """A frame in which an injection is raised where the function is C code, which has none."""
    return function(*args)


class Shield:
    """Holds an injection back inside a `with` block of the main thread; nests."""

    __slots__ = ("_gate",)

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        if _thread.get_ident() != MAIN_THREAD:
            raise RuntimeError("shield(): only the worker's own thread can shield itself")
        self._gate.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        gate = self._gate
        gate.depth -= 1
        exception = gate.deferred
        if exception is not None and not gate.depth:
            gate.deferred = None
            raise exception


class UserShield(Shield):
    """The same, for a function that asks for one: the gate counts those that are never entered."""

    __slots__ = ()

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate)
        gate.unused += 1

    def __enter__(self) -> None:
        self._gate.unused -= 1
        super().__enter__()


class NoShield:
    """Stands in for one in the other threads of a worker."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


OWN_FRAMES = {
    Gate.run.__code__,
    Gate.on_signal.__code__,
    Gate.strike.__code__,
    Shield.__enter__.__code__,
    Shield.__exit__.__code__,
}
MAIN_THREAD = _thread.get_ident()
