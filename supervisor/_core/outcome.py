"""Pure: how a run ended, and each change of its state on the way."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .errors import RemoteError, RestartLimitExceeded, described, is_a, shown
from .policy import StepEnd
from .records import fields_of, maker
from .values import printable

if TYPE_CHECKING:
    from .policy import Kind, StepName
    from .usage import LimitName

__all__ = [
    "Ended",
    "Outcome",
    "Transition",
    "WorkerState",
    "cut",
    "make_outcome",
    "make_transition",
    "text_to_keep",
    "without_objects",
]

WorkerState: TypeAlias = Literal["queued", "starting", "running", "stopping", "backing_off", "ended"]
Ended: TypeAlias = Literal["returned", "failed", StepEnd, "abandoned", "died", "cancelled"]

CLEAN: frozenset[Ended] = frozenset({"returned", "stopped", "cancelled"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run of a worker ended. Immutable; survives pickling.

    A value or an error that cannot be pickled does not keep the rest from it: the value becomes None, the error a
    `RemoteError` with its type and text.

    Attributes:
        worker: The worker's name.
        kind: "thread" or "process".
        attempt: Which run of the worker this was, from 1.
        ended: "returned" or "failed" by itself; "stopped", "injected", "terminated" or "killed" by the highest step
            that had begun; "abandoned" when it still ran after the last one; "died" when its process ended by itself;
            "cancelled" when it never started.
        step: The highest step that had begun: "ask", "inject", "terminate", "kill", or None.
        value: What the function returned, else None.
        error: What it raised, else None. The unwinding of `StopRequested` is no error.
        exit_code: As in `subprocess`, negative for a signal; None where it is not known and for threads.
        seconds: How long the function ran; in a process, from when the supervisor heard of its start to when it heard
            of its end.
        stop_seconds: How long it took to end after a stop had begun; 0.0 if none had.
        stack: Where it stood at the first step past `Ask`, or when it was abandoned; None if it came to neither.
        limit: Which of its `Limits` it exceeded and was stopped for: "rss", "cpu_seconds", or None.
        allowed: That limit, in bytes or seconds, else None.
        used: What was measured then, in the same unit, else None.
        oom_killed: Its process was most likely ended by the kernel's out-of-memory killer. Linux.
        node: The name of the node that it ran on, or was to; None where it ran here.

    Example:
        >>> Outcome("poller", "thread", ended="stopped", step="ask").clean
        True
    """

    worker: str
    kind: Kind
    attempt: int = 1
    ended: Ended = "returned"
    step: StepName | None = None
    value: Any = None
    error: BaseException | None = None
    exit_code: int | None = None
    seconds: float = 0.0
    stop_seconds: float = 0.0
    stack: str | None = None
    limit: LimitName | None = None
    allowed: float | None = None
    used: float | None = None
    oom_killed: bool = False
    node: str | None = None

    @property
    def clean(self) -> bool:
        """True if the run returned, stopped when asked, or never started."""
        return self.ended in CLEAN

    def to_dict(self) -> dict[str, Any]:
        """Returns the outcome as JSON-ready data: without the value, and with the error as its type and text.

        Example:
            >>> Outcome("a", "thread", ended="failed", error=ValueError("no")).to_dict()["error"]
            'ValueError: no'
        """
        data = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "value"}
        data["error"] = None if self.error is None else printable(described(self.error), lines=True)
        return data

    def __repr__(self) -> str:
        return f"Outcome({', '.join(f'{item.name}={shown(getattr(self, item.name))}' for item in fields(self))})"

    def __reduce__(self) -> tuple[Any, ...]:
        state = fields_of(self)
        if not _survives_pickling(self.value):
            state["value"] = None
        if self.error is not None and not _survives_pickling(self.error):
            state["error"] = RemoteError(described(self.error))
        return _rebuild_outcome, (state,)


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a worker's state, or one step up its ladder; each is one structlog event.

    Attributes:
        supervisor: The supervisor's name.
        worker: The worker's name.
        kind: "thread" or "process".
        attempt: Which run of the worker, from 1.
        old: The state before; None where the worker begins.
        new: The state after: "queued", "starting", "running", "stopping", "backing_off" or "ended".
        step: The step that begins, or that the run ended on; None where no stop had begun.
        reason: Why it was asked to stop; None where it was not.
        ended: How the run ended, where `new` is "ended"; else None.
        at: The moment, in seconds on the event loop's clock.
        elapsed: Seconds since this run was submitted.
        ident: The thread's identifier, where there is one.
        pid: The process's identifier, where there is one.
        limit: Which of its `Limits` it exceeds, where it is stopped for that: "rss", "cpu_seconds"; else None.
        used: What was measured then, in bytes or seconds, else None.
        pool: The name of the pool of a call; None for workers of `start`.
        node: The name of the node that it is on; None where it runs here, or has not been sent to one yet.

    Example:
        >>> Transition("app", "poller", "thread", old="running", new="stopping", step="ask").event
        'worker.stopping'
    """

    supervisor: str
    worker: str
    kind: Kind
    attempt: int = 1
    old: WorkerState | None = None
    new: WorkerState = "queued"
    step: StepName | None = None
    reason: str | None = None
    ended: Ended | None = None
    at: float = 0.0
    elapsed: float = 0.0
    ident: int | None = None
    pid: int | None = None
    limit: LimitName | None = None
    used: float | None = None
    pool: str | None = None
    node: str | None = None

    @property
    def event(self) -> str:
        """The name of its log event, such as "worker.ended"; a further step of a ladder is "worker.escalated"."""
        if self.new == "backing_off":
            return "worker.restarting"
        return "worker.escalated" if self.old == self.new == "stopping" else f"worker.{self.new}"


make_outcome = maker(Outcome)
make_transition = maker(Transition)


def without_objects(outcome: Outcome) -> Outcome:
    """Returns an outcome that can be kept: it holds no value and no traceback, and of its error the type and text."""
    error = outcome.error
    return replace(outcome, value=None, error=None if error is None else RemoteError(text_to_keep(error)))


def text_to_keep(error: BaseException) -> str:
    """Returns an error as "Type: text", with what it comes from where a worker is given up; cut where it is long."""
    text = described(error)
    if is_a(error, RestartLimitExceeded) and error.__cause__ is not None:
        text = f"{text}: {described(error.__cause__)}"
    return printable(cut(text), lines=True)


def cut(text: str) -> str:
    """Returns a text that can be kept: the beginning of one that is long."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


LONGEST_TEXT = 2000
"""Characters of the error of an outcome that is kept."""


def _rebuild_outcome(state: dict[str, Any]) -> Outcome:
    return Outcome(**state)


def _survives_pickling(thing: object) -> bool:
    try:
        pickle.loads(pickle.dumps(thing))
    except Exception:
        return False
    return True
