"""One shutdown: of a supervisor, or of one of its groups. Why, by when, and what it met."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from .._core.report import ShutdownReport
from .._core.stop_order import drain_within

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from .._core.outcome import Outcome

__all__ = ["OnAbandoned", "Shutdown"]

OnAbandoned: TypeAlias = Literal["report", "exit"]


class Shutdown:
    """The shutdown of one scope, from the moment at which the scope is made. On the loop's thread.

    Other threads may read `asked`, `begun` and `report`.

    Attributes:
        asked: Why somebody has called `request_shutdown`; None where nobody has. Any thread.
        begun: Somebody has begun it.
        reason: Why, as the first caller said.
        deadline: When all ladders must have ended, on the loop's clock; `inf` until it begins.
        draining: It has begun, and calls still go on, those included that wait.
        drains_until: When they are stopped at the latest, on the loop's clock, where there is a drain.
        all_asked: Everybody who is to stop has been asked.
        closed: Done when the report is there; made when it begins.
        report: What it met, once it has ended. A group that ends otherwise has one too.
    """

    __slots__ = (
        "_began_at",
        "_outcomes",
        "_withdrawn",
        "all_asked",
        "asked",
        "begun",
        "closed",
        "deadline",
        "draining",
        "drains_until",
        "reason",
        "report",
    )

    closed: asyncio.Future[None]

    def __init__(self) -> None:
        self.asked: str | None = None
        self.begun = False
        self.reason = ""
        self.deadline = math.inf
        self.draining = False
        self.drains_until = -math.inf
        self.all_asked = False
        self.report: ShutdownReport | None = None
        self._began_at = 0.0
        self._outcomes: dict[int, Outcome] = {}
        self._withdrawn: set[int] = set()

    def begin(self, now: float, seconds: float, drain: float, closed: asyncio.Future[None], reason: str) -> None:
        """Begins it; of its seconds, calls go on for `drain`, as far as these leave the ladders their share."""
        self._began_at = now
        self.deadline = now + seconds
        self.drains_until = now + drain_within(seconds, drain)
        self.draining = self.drains_until > now
        self.closed = closed
        self.reason = reason
        self.begun = True  # last: whoever sees this sees the rest

    def shorten(self, now: float, seconds: float | None, drain: float | None) -> bool:
        """Brings the deadline nearer, and the end of the drain; returns whether either is.

        A nearer deadline ends the drain, unless it is said how much of that is left.
        """
        before = self.deadline, self.drains_until
        if seconds is not None and now + seconds < self.deadline:
            self.deadline = now + seconds
            drain = drain_within(seconds, drain or 0.0)
        if drain is not None:
            self.drains_until = min(self.drains_until, now + drain)
        return (self.deadline, self.drains_until) != before

    def seconds_of_drain(self) -> float:
        """Returns for how long calls go on in all, at most; 0.0 where they are stopped at once."""
        return self.drains_until - self._began_at if self.draining else 0.0

    def seconds_since(self, now: float) -> float:
        """Returns how long ago it has begun."""
        return now - self._began_at

    def note(self, number: int, outcome: Outcome) -> None:
        """Takes the outcome of a worker, or of a call, into the report."""
        self._outcomes[number] = outcome

    def note_withdrawn(self, number: int) -> None:
        """Takes into the report that a call never started."""
        self._withdrawn.add(number)

    def has_reported(self, number: int) -> bool:
        """Whether its report is made, and has that worker or call: what is noted again then has been interrupted."""
        return self.report is not None and (number in self._outcomes or number in self._withdrawn)

    def forget(self) -> None:
        """Leaves out what was noted up to now: it was stopped for a restart of the group."""
        self._outcomes.clear()

    def make_report(self, now: float, lost: Mapping[int, Outcome], forgotten: int) -> ShutdownReport:
        """Returns the report of what was noted.

        Args:
            now: On the loop's clock.
            lost: What the scope has lost, by number. What was noted is no part of what was lost earlier.
            forgotten: How much more it has lost.
        """
        return ShutdownReport(
            self.reason,
            tuple(self._outcomes.values()),
            now - self._began_at if self.begun else 0.0,
            never_started=len(self._withdrawn),
            earlier=tuple(outcome for number, outcome in lost.items() if number not in self._outcomes),
            forgotten=forgotten,
        )

    def __repr__(self) -> str:
        how = "ended" if self.report is not None else "under way" if self.begun else "not begun"
        return f"<Shutdown: {how}>"
