"""In a worker process: what a call does for its context."""

from __future__ import annotations

import _thread

from ...._core.errors import SupervisorMisused, type_name
from ...._core.values import printable
from ...._worker.context import WorkerContext
from ...._worker.remote_errors import traced
from ...._worker.stop_event import StopEvent
from . import FOLDER
from .gate import MAIN_THREAD, NoShield, Shield, UserShield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, Protocol

    from ...._worker.backend import Answer
    from ...._worker.context import Registration
    from .gate import Gate
    from .produce import Outlet

    class Owner(Protocol):
        """The process, as far as a call needs it. Any thread."""

        gate: Gate
        lock: _thread.LockType

        def say(self, *parts: Any) -> None:
            """Sends the owner a message."""
            ...

        def pass_on(self, parts: list[Any]) -> None:
            """Sends the owner a part of what the call makes."""
            ...

        def ask_for_more(self, backend: ChildBackend, seconds: float) -> float:
            """Asks the owner for more time on the present step; returns the seconds."""
            ...

        def call_loop(
            self, backend: ChildBackend, fn: Callable[..., Any], args: tuple[Any, ...], cleanup: bool
        ) -> Answer:
            """Has the owner's event loop call a function; returns what came of it."""
            ...


__all__ = ["ChildBackend", "name_of"]

BEAT_INTERVAL = 0.02
"""Seconds within which further heartbeats are not sent."""

INFINITY = float("inf")


class ChildBackend:
    """One call, and what it can ask of its supervisor.

    Attributes:
        asked: Why it was asked to stop; None where it was not.
        ends_at: When the grace of the present step ends, on the monotonic clock, which all processes share.
        ctx: Its context, once that was asked for.
        blocked: The callbacks of `on_stop` that were reported as blocked.
        outlet: Where the items leave that it makes, if it is one of `iterate`.
    """

    kind = "process"

    # Of the class, as most calls need none of them.
    asked: str | None = None
    ends_at = INFINITY
    beat_at = 0.0
    ctx: WorkerContext | None = None
    blocked: tuple[Registration, ...] = ()
    outlet: Outlet | None = None

    def __init__(self, owner: Owner, number: int, name: str, attempt: int) -> None:
        self._owner = owner
        self.number = number
        self.name = name
        self.attempt = attempt

    def worker_context(self) -> WorkerContext:
        """Returns the call's context, made when it is first asked for."""
        if self.ctx is None:
            with self.own_shield(), self._owner.lock:
                if self.ctx is None:
                    self.ctx = WorkerContext(self, self, StopEvent())  # type: ignore[arg-type]
                    if self.asked is not None:
                        self.ctx.stop.set()
        return self.ctx

    def let_go(self) -> None:
        """The call is over: nothing of it waits for the garbage collector."""
        with self._owner.lock:
            ctx, self.ctx = self.ctx, None
        if ctx is not None:
            ctx.registrations.clear()
        self.blocked = ()
        if self.outlet is not None:
            self.outlet.close()
            self.outlet = None

    @property
    def reason(self) -> str | None:
        return self.asked

    def shield(self) -> Shield:
        return UserShield(self._owner.gate)

    def own_shield(self) -> Shield | NoShield:
        return Shield(self._owner.gate) if _thread.get_ident() == MAIN_THREAD else NoShield()

    def ready(self) -> None:
        self._owner.say("readied", self.number)

    def heartbeat(self) -> None:
        from time import monotonic  # noqa: PLC0415  # lean

        now = monotonic()
        if now >= self.beat_at + BEAT_INTERVAL:
            self.beat_at = now
            self._owner.say("beat", self.number)

    def extend(self, seconds: float) -> float:
        return self._owner.ask_for_more(self, seconds)

    def remaining(self) -> float:
        from time import monotonic  # noqa: PLC0415  # lean

        return max(0.0, self.ends_at - monotonic())

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], cleanup: bool) -> Answer:
        return self._owner.call_loop(self, fn, args, cleanup)

    def iterate(self, items: object, buffer: int) -> NoReturn:
        raise SupervisorMisused(
            f"worker {self.name!r}: iterate() needs a worker in a thread, as an async iterator cannot leave the "
            "process of its event loop: use call(), whose function can return many items at a time"
        )

    def taken(self, number: int, count: int) -> None:
        """The owner has taken so many of the items that a call has made."""
        outlet = self.outlet
        if number == self.number and outlet is not None:
            outlet.taken(count)

    def pass_on(self, parts: list[Any]) -> None:
        """Sends a part of what the call makes: a whole frame; the main thread must be shielded."""
        self._owner.pass_on(parts)

    def callback_failed(self, callback: Callable[[], object], error: BaseException) -> None:
        with self.own_shield():  # half a message must not be sent
            self._owner.say("callback_failed", self.name, self.attempt, name_of(callback), traced(error, FOLDER))


def name_of(callback: Callable[..., object]) -> str:
    """Returns how a function is called in messages."""
    try:
        name = getattr(callback, "__qualname__", None)
    except Exception:  # what a user's object does there is its own affair
        name = None
    return printable(name) if isinstance(name, str) else type_name(callback)
