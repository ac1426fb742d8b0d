"""What a thread's run does for its context."""

from __future__ import annotations

from _thread import get_ident
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from ..._run.names import qualname
from .gate import Gate, Shield, UserShield

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable
    from contextlib import AbstractContextManager

    from ..._core.policy import Kind
    from ..._run.run import Run
    from ..._worker.backend import Answer, LoopIterator
    from .copies import Kind as Threads

__all__ = ["ThreadBackend"]


class ThreadBackend:
    """What a thread's run does for its context."""

    __slots__ = ("_gate", "_run", "_threads", "attempt", "kind", "name")

    def __init__(self, run: Run, gate: Gate, threads: Threads) -> None:
        self._threads = threads
        self._run = run
        self._gate = gate
        self.name = run.name
        self.kind: Kind = "thread"
        self.attempt = run.attempt

    @property
    def reason(self) -> str | None:
        asked = self._run.asked
        return None if asked is None else asked.reason

    def shield(self) -> AbstractContextManager[None]:
        return UserShield(self._gate)

    def own_shield(self) -> AbstractContextManager[None]:
        return Shield(self._gate) if self._gate.ident == get_ident() else nullcontext()

    def ready(self) -> None:
        if not self._run.ready:
            self._threads.services.post(partial(self._run.owner.readied, self._run))

    def heartbeat(self) -> None:
        self._run.beat_at = self._threads.services.clock()

    def extend(self, seconds: float) -> float:
        return self._threads.services.extend(self._run, seconds)

    def remaining(self) -> float:
        return self._threads.services.remaining(self._run)

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], cleanup: bool) -> Answer:
        return self._threads.services.call(self._run, fn, args, cleanup)

    def iterate(self, items: AsyncIterable[Any], buffer: int) -> LoopIterator[Any]:
        return self._threads.services.iterate(self._run, items, buffer)

    def callback_failed(self, callback: Callable[[], object], error: BaseException) -> None:
        self._threads.services.callback_failed(self._run, qualname(callback), error)
