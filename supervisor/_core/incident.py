"""Pure: a failure or a stop that is kept for whoever asks later what has gone wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .failures import WorkerDied, WorkerOverLimit
from .outcome import text_to_keep
from .records import fields_of

if TYPE_CHECKING:
    from .ladder import Cause
    from .outcome import Ended, Outcome
    from .policy import Kind, StepName

__all__ = ["Incident", "error_text", "is_incident", "stack_to_keep"]

LONGEST_STACK = 8000
"""Characters of a stack that is kept."""

LINE_END = "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A run that has failed, or that somebody or something has stopped: what `Supervisor.incidents` returns.

    Each run of a worker counts for itself, those that another one follows included. These are no incidents: a return;
    a call that its caller has cancelled, and what a shutdown stops, where that ends when it is asked, or has not begun.
    Where one of these needs a further step of its ladder, or is abandoned, it is one.

    It is text and numbers only, and holds nothing of what the worker was given or has raised. Long texts are cut.

    Attributes:
        worker: The worker's name.
        kind: "thread" or "process".
        role: "worker" for those of `start()`, "call" for all others.
        pool: The pool of a call; None for a worker.
        group: The group that it was in; None: none.
        attempt: Which run of the worker, from 1.
        ended: How it ended, as in `Outcome`: "failed", "died", "stopped", "injected", "terminated", "killed",
            "abandoned", or "cancelled" where it was stopped before it had started.
        reason: Why it was stopped; None where it was not.
        step: The highest step that had begun: "ask", "inject", "terminate", "kill", or None.
        error: What it raised, or how its process died, as "Type: text"; None where there is neither.
        stack: Where it stood at the first step past `Ask`, or when it was abandoned, else None.
        elapsed: Seconds from its submission to its end.
        at: When it ended, or was abandoned, in seconds since the epoch.
        late_end: When one that was abandoned has ended after all, in seconds since the epoch; None: it has not.
        submitted_from: Where it was submitted, as "path:line"; None without `Supervisor(origins=True)`.
        node: The name of the node of a cluster that had it; None where it ran here.

    Example:
        >>> incident = Incident(worker="load-1", kind="thread", role="call", ended="failed", error="ValueError: no")
        >>> incident.to_dict()["error"]
        'ValueError: no'
    """

    worker: str
    kind: Kind
    role: Literal["worker", "call"]
    ended: Ended
    pool: str | None = None
    group: str | None = None
    attempt: int = 1
    reason: str | None = None
    step: StepName | None = None
    error: str | None = None
    stack: str | None = None
    elapsed: float = 0.0
    at: float = 0.0
    late_end: float | None = None
    submitted_from: str | None = None
    node: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON-ready data."""
        return fields_of(self)


def is_incident(ended: Ended, cause: Cause | None) -> bool:
    """Whether a run that has ended so is worth remembering.

    Args:
        ended: How it has ended.
        cause: Why it was stopped; None where it was not.
    """
    if ended in ("stopped", "cancelled"):  # it has obeyed, or never began
        return cause not in (None, "cancel", "shutdown")
    return ended != "returned"


def error_text(outcome: Outcome) -> str | None:
    """Returns what a run has raised, as text that can be kept; or how its process died, or what it used too much of."""
    error = outcome.error
    if error is None and outcome.limit is not None:
        error = WorkerOverLimit(outcome)
    elif error is None and outcome.ended == "died":
        error = WorkerDied(outcome)
    return None if error is None else text_to_keep(error)


def stack_to_keep(stack: str | None) -> str | None:
    """Returns a stack that can be kept: of a long one the last lines, which say where it stood."""
    if stack is None or len(stack) <= LONGEST_STACK:
        return stack
    last = stack[-LONGEST_STACK:]
    return f"…\n{last.partition(LINE_END)[2] or last}"
