"""The notices that a supervisor publishes at once: of its runs, and of its shutdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.outcome import Outcome, Transition
    from .._core.report import ShutdownReport
    from .._run.run import Run

__all__ = [
    "GroupEnded",
    "LateReturn",
    "Notice",
    "Refused",
    "RunSubmitted",
    "ShutdownBegun",
    "ShutdownEnded",
    "StateChanged",
    "Subscriber",
]


@dataclass(slots=True)  # not frozen: there are some for each call that is watched
class RunSubmitted:
    """A run is about to be prepared, and has neither thread nor process. Any thread: that of its caller.

    Attributes:
        run: The run.
        before: The run of the same worker that it follows; None where it is the first.
    """

    run: Run
    before: Run | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A submitted run is not carried out, and its caller gets the error. Any thread."""

    run: Run
    error: BaseException


@dataclass(slots=True)
class StateChanged:
    """A run's state has changed, or a further step of its ladder begins; with the outcome, where it has ended."""

    run: Run
    transition: Transition
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class LateReturn:
    """A run that was abandoned has ended after all."""

    run: Run


@dataclass(frozen=True, slots=True)
class ShutdownBegun:
    """A shutdown begins, in the context variables of whoever asked for it.

    Attributes:
        reason: Why.
        deadline: By when all must have ended, on the loop's clock.
        group: The name of the group that is shut down alone; empty for the supervisor itself.
    """

    reason: str
    deadline: float
    group: str = ""


@dataclass(frozen=True, slots=True)
class ShutdownEnded:
    """A shutdown has ended."""

    report: ShutdownReport
    group: str = ""


@dataclass(frozen=True, slots=True)
class GroupEnded:
    """A group has ended for good, shut down or given up, and its report is there."""

    group: str


Notice: TypeAlias = RunSubmitted | Refused | StateChanged | LateReturn | ShutdownBegun | ShutdownEnded | GroupEnded


Subscriber: TypeAlias = "Callable[[Notice], object]"
"""Receives every notice at once, on the loop's thread where the notice does not say otherwise.

While there is one, all runs are watched, unless it has subscribed without that. A subscriber must not block. One that
raises harms nobody: its first error is logged. Where a KeyboardInterrupt strikes, it may receive a notice twice.
"""
