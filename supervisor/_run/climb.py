"""What a run carries while it is being stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._loop.agenda import Agenda
from .._worker.locks import ScopedLock

if TYPE_CHECKING:
    import asyncio

    from .._core.ladder import Cause, Command, Rules, State
    from .._core.outcome import Outcome
    from .._core.policy import Inject

__all__ = ["REASONS", "Climb"]

REASONS: dict[Cause, str] = {
    "cancel": "cancelled",
    "timeout": "timeout",
    "stop": "stop",
    "stuck": "stuck",
    "limit": "over its limit",
    "shutdown": "shutdown",
}
"""What `ctx.reason` says where nobody gave a reason."""


class Climb:
    """What a run carries from the moment at which somebody wants it stopped.

    Attributes:
        state: Where on the ladder it is. Changed under `lock`: by the loop's thread, and by `extend` in the worker's.
        cause: Why, for the machine; the first cause stays.
        reason: Why, for people.
        began_at: When, on the loop's clock.
        rules: What is fixed for the run, for the machine.
        left: The worker's thread has posted its completion and is free. Under `lock`.
        abandoned: The run was given up before that; its thread takes no other work. Under `lock`.
        stack: Where it stood at the first step past Ask.
        injected: The step by which an exception was injected; None where none was.
        agenda: What the machine has commanded and nobody has carried out yet.
        claiming: The loop has begun to claim the run, so that no thread takes it.
        outcome: How the run ended, where it was abandoned.
        waiters: Futures of those who wait for the end of the run, whatever becomes of the call.
    """

    __slots__ = (
        "abandoned",
        "agenda",
        "began_at",
        "cause",
        "claiming",
        "injected",
        "left",
        "lock",
        "outcome",
        "reason",
        "rules",
        "stack",
        "state",
        "waiters",
    )

    def __init__(self, state: State, cause: Cause, reason: str, began_at: float, rules: Rules) -> None:
        self.lock = ScopedLock()
        self.state = state
        self.cause: Cause = cause
        self.reason = reason
        self.began_at = began_at
        self.rules = rules
        self.left = False
        self.abandoned = False
        self.stack: str | None = None
        self.injected: Inject | None = None
        self.claiming = False
        self.outcome: Outcome | None = None
        self.agenda: Agenda[Command] = Agenda()
        self.waiters: list[asyncio.Future[None]] = []
