"""Pure: what is told of a worker afterwards. How a run ended, each change on the way, and the report of a shutdown."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from ._errors import RemoteError, described

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._policy import Kind, StepName

__all__ = ["Ended", "Health", "Outcome", "ShutdownReport", "Statistics", "Transition", "WorkerState"]

WorkerState: TypeAlias = Literal["queued", "starting", "running", "stopping", "backing_off", "ended"]
Ended: TypeAlias = Literal[
    "returned", "failed", "stopped", "injected", "terminated", "killed", "abandoned", "died", "cancelled"
]

ENDED_BY: dict[StepName, Ended] = {
    "ask": "stopped",
    "inject": "injected",
    "terminate": "terminated",
    "kill": "killed",
}
"""How a run that ended while it was being stopped is called: by the highest step that had begun."""

CLEAN: frozenset[Ended] = frozenset({"returned", "stopped", "cancelled"})


@dataclass(frozen=True)
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
        data["error"] = None if self.error is None else described(self.error)
        return data

    def __reduce__(self) -> tuple[Any, ...]:
        state = {item.name: getattr(self, item.name) for item in fields(self)}
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

    @property
    def event(self) -> str:
        """The name of its log event, such as "worker.ended"; a further step of a ladder is "worker.escalated"."""
        if self.new == "backing_off":
            return "worker.restarting"
        return "worker.escalated" if self.old == self.new == "stopping" else f"worker.{self.new}"


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """What a shutdown met and how it went. Immutable; its text is a table.

    Attributes:
        reason: Why the supervisor shut down; empty where nobody said.
        outcomes: One for each worker that had not ended when the shutdown began, calls included, in the order in
            which they ended. Calls that were still queued are only counted.
        seconds: How long the shutdown took.
        never_started: How many queued calls were withdrawn.

    Example:
        >>> report = ShutdownReport("deploy", (Outcome("poller", "thread", ended="stopped", step="ask"),), 0.02)
        >>> report.clean, report.abandoned, report.counts()
        (True, (), {'stopped': 1})
    """

    reason: str = ""
    outcomes: tuple[Outcome, ...] = ()
    seconds: float = 0.0
    never_started: int = field(default=0, kw_only=True)

    @property
    def clean(self) -> bool:
        """True if every worker returned, stopped when it was asked, or never started."""
        return all(outcome.clean for outcome in self.outcomes)

    @property
    def abandoned(self) -> tuple[Outcome, ...]:
        """The outcomes of the workers that still ran after their last step."""
        return tuple(outcome for outcome in self.outcomes if outcome.ended == "abandoned")

    def counts(self) -> dict[str, int]:
        """Returns how many workers ended in which way; "cancelled" counts the queued calls that never started.

        Example:
            >>> ShutdownReport(never_started=3).counts()
            {'cancelled': 3}
        """
        counts = Counter[str](outcome.ended for outcome in self.outcomes)
        counts["cancelled"] += self.never_started
        return {ended: counts[ended] for ended in get_args(Ended) if counts[ended]}

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON-ready data.

        Example:
            >>> import json
            >>> json.loads(json.dumps(ShutdownReport("deploy").to_dict()))["clean"]
            True
        """
        return {
            "reason": self.reason,
            "seconds": self.seconds,
            "clean": self.clean,
            "counts": self.counts(),
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
        }

    def __str__(self) -> str:
        because = f" ({self.reason})" if self.reason else ""
        tally = ", ".join(f"{number} {ended}" for ended, number in self.counts().items()) or "nothing was running"
        head = f"shutdown{because} took {self.seconds:.2f} s: {tally}"
        if not self.outcomes:
            return head
        rows = [("worker", "kind", "ended", "step", "ran", "to stop", "error"), *map(_row, self.outcomes)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        stacks = (
            f"\n{outcome.worker} was last seen at:\n{outcome.stack.rstrip()}"
            for outcome in self.abandoned
            if outcome.stack
        )
        return "\n".join((head, *lines, *stacks))


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a supervisor has at one moment. Immutable.

    Attributes:
        supervisor: The supervisor's name.
        workers: How many workers that have not ended are in which state, calls included.
        queued: Calls that wait for a thread.
        threads: Threads that are alive: of the pool, idle or not, of workers, those that were abandoned, and helpers.
        processes: Processes that are alive: of the pool, of workers, and the spare one.
        abandoned: Workers that were given up and have not come back.
        stopping: Whether a shutdown has begun, or has ended.

    Example:
        >>> Statistics("app", {"running": 2}).workers["running"]
        2
    """

    supervisor: str
    workers: Mapping[WorkerState, int] = field(default_factory=dict[WorkerState, int])
    queued: int = 0
    threads: int = 0
    processes: int = 0
    abandoned: int = 0
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a supervisor may be given work, and whether it can go on. Immutable.

    Attributes:
        supervisor: The supervisor's name.
        ready: It takes work, and all of its workers that have a `ready_timeout` are ready. What is not live is not
            ready either.
        live: It has lost no more than it may; false means that only a new process mends it.
        reasons: Why it is not ready, or not live, for people; empty where it is both.

    Example:
        >>> Health("app", ready=False, live=True, reasons=("is shutting down",)).to_dict()["reasons"]
        ['is shutting down']
    """

    supervisor: str
    ready: bool
    live: bool
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON-ready data."""
        data: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**data, "reasons": list(self.reasons)}


def _row(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.worker if outcome.attempt == 1 else f"{outcome.worker} (run {outcome.attempt})",
        outcome.kind,
        outcome.ended,
        outcome.step or "-",
        f"{outcome.seconds:.2f} s",
        f"{outcome.stop_seconds:.2f} s",
        "" if outcome.error is None else described(outcome.error).partition("\n")[0][:80],
    )


def _rebuild_outcome(state: dict[str, Any]) -> Outcome:
    return Outcome(**state)


def _survives_pickling(thing: object) -> bool:
    try:
        pickle.loads(pickle.dumps(thing))
    except Exception:
        return False
    return True
