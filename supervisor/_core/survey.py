"""Pure: what a supervisor shows of itself at one moment, to a shell, a screen or a browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .records import fields_of

if TYPE_CHECKING:
    from .incident import Incident
    from .outcome import WorkerState
    from .policy import Kind, StepName
    from .report import Health, PoolStatistics, ShutdownReport

__all__ = ["GroupRow", "ShutdownProgress", "Survey", "WorkerRow"]

SupervisorState: TypeAlias = Literal["unused", "running", "shutting_down", "shut_down"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker or a call that has not ended. All times are seconds before, or from, the moment of the survey.

    Attributes:
        name: Its name, with those of its groups before it.
        kind: "thread" or "process".
        role: "worker" for those of `start()`, "call" for all others.
        state: Where it is in its life.
        pool: The pool of a call; None for a worker.
        group: The group that it is in; None: none.
        attempt: Which run of the worker, from 1.
        restarts: How often it has been started again.
        restarts_left: How often it still may be; None where it is a call, or nothing is counted.
        ready: Whether it is ready; of a call: whether it runs.
        ident, pid: Its thread, or its process, while it runs; where it has a `node`, there.
        queued_for: For how long a call has waited; None once it runs.
        running_for: For how long its present run has been running; None where it does not.
        beat_ago: How long ago it gave its last sign of life; None where it never did.
        reason: Why it is being stopped; None where it is not.
        step: On which step of its ladder it is; None where it is not being stopped.
        step_ends_in: When the next step comes; None where none does.
        next_step: Which: the name of a step, or "abandon".
        submitted_from: Where it was submitted, as "file:line"; None where that is not kept.
        node: The name of the node of a cluster that has it; None where it runs here, or has not been sent.
    """

    name: str
    kind: Kind
    role: Literal["worker", "call"]
    state: WorkerState
    pool: str | None = None
    group: str | None = None
    attempt: int = 1
    restarts: int = 0
    restarts_left: int | None = None
    ready: bool = False
    ident: int | None = None
    pid: int | None = None
    queued_for: float | None = None
    running_for: float | None = None
    beat_ago: float | None = None
    reason: str | None = None
    step: StepName | None = None
    step_ends_in: float | None = None
    next_step: StepName | Literal["abandon"] | None = None
    submitted_from: str | None = None
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """A group that has not ended.

    Attributes:
        name: Its name, with those of the groups around it before it.
        state: "running"; "restarting": workers of it are being started again together; "stopping": all of it ends, for
            good or before its next start; or "backing_off": it waits for that.
        strategy: Who is started again together with whom.
        workers: How many workers are in it, those of its groups included.
        calls: How many calls are.
        restarts: How often it has been started again.
        restarts_left: How often it still may be; None where nothing is counted.
    """

    name: str
    state: Literal["running", "restarting", "stopping", "backing_off"]
    strategy: str
    workers: int = 0
    calls: int = 0
    restarts: int = 0
    restarts_left: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownProgress:
    """A shutdown that has begun.

    Attributes:
        reason: Why.
        begun_ago: How long ago.
        deadline_in: In how many seconds all ladders must have ended; negative once that has passed.
        draining: Whether calls still go on.
        ended: Whether its report is there.
    """

    reason: str
    begun_ago: float
    deadline_in: float
    draining: bool
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a supervisor has at one moment, its groups included.

    Attributes:
        supervisor: Its name.
        pid: Of its process.
        version: Of this library.
        python: Of the interpreter.
        at: The moment, in seconds since the epoch.
        state: "unused" until it is first used, "running", "shutting_down" or "shut_down".
        health: Whether it takes work, and can go on.
        pools: Its pools.
        groups: Its groups that have not ended, the oldest first.
        workers: Its workers and calls that have not ended, the oldest first, or as many as were asked for.
        matching: How many there are in all of those that were asked for.
        unended: How many there are in all.
        incidents: The last failures and stops, the newest last.
        loop_blocked_for: For how long its event loop has not come to a turn; None where nobody watches it, or it has.
        shutdown: Its shutdown, once that has begun.
        report: What that met, once it has ended.
    """

    supervisor: str
    pid: int
    version: str
    python: str
    at: float
    state: SupervisorState
    health: Health
    pools: tuple[PoolStatistics, ...] = ()
    groups: tuple[GroupRow, ...] = ()
    workers: tuple[WorkerRow, ...] = ()
    matching: int = 0
    unended: int = 0
    incidents: tuple[Incident, ...] = ()
    loop_blocked_for: float | None = None
    shutdown: ShutdownProgress | None = None
    report: ShutdownReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON-ready data; the report has its text beside it, as "report_text"."""
        data: dict[str, Any] = fields_of(self)
        data |= {
            "health": self.health.to_dict(),
            "pools": [fields_of(pool) for pool in self.pools],
            "groups": [fields_of(group) for group in self.groups],
            "workers": [fields_of(worker) for worker in self.workers],
            "incidents": [incident.to_dict() for incident in self.incidents],
            "shutdown": None if self.shutdown is None else fields_of(self.shutdown),
            "report": None if self.report is None else self.report.to_dict(),
            "report_text": None if self.report is None else str(self.report),
        }
        return data
