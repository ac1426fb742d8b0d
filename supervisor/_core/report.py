"""Pure: what a shutdown met, and what a supervisor can say of itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from .blocked import blocked_at_the_end
from .errors import described
from .outcome import Ended, Outcome, WorkerState
from .records import fields_of
from .values import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .policy import Kind

__all__ = ["Health", "NodeState", "NodeStatistics", "PoolStatistics", "ShutdownReport", "Statistics"]


NodeState: TypeAlias = Literal["up", "closing", "unreachable"]


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """What a shutdown met and how it went. Immutable; its text is a table.

    Attributes:
        reason: Why the supervisor shut down; empty where nobody said.
        outcomes: One for each worker that had not ended when the shutdown began, calls included, in the order in
            which they ended. Calls that were still queued are only counted.
        seconds: How long the shutdown took.
        never_started: How many queued calls were withdrawn.
        earlier: What is still there, or was lost, before the shutdown began: runs that were abandoned and have not come
            back, calls included, and workers of `start` that have failed or died for good, and that nobody has started
            again. Their errors are RemoteErrors, with the types and texts of what was raised. Of the latter, the newest
            1000 are kept.
        forgotten: How many more workers have failed before it began.

    Example:
        >>> report = ShutdownReport("deploy", (Outcome("poller", "thread", ended="stopped", step="ask"),), 0.02)
        >>> report.clean, report.abandoned, report.counts()
        (True, (), {'stopped': 1})
    """

    reason: str = ""
    outcomes: tuple[Outcome, ...] = ()
    seconds: float = 0.0
    never_started: int = field(default=0, kw_only=True)
    earlier: tuple[Outcome, ...] = field(default=(), kw_only=True)
    forgotten: int = field(default=0, kw_only=True)

    @property
    def clean(self) -> bool:
        """True if every worker returned, stopped when it was asked, or never started, and nothing was lost earlier."""
        return not self.earlier and not self.forgotten and all(outcome.clean for outcome in self.outcomes)

    @property
    def abandoned(self) -> tuple[Outcome, ...]:
        """The outcomes of the workers that this shutdown has stopped and that still ran after their last step."""
        return tuple(outcome for outcome in self.outcomes if outcome.ended == "abandoned")

    def counts(self) -> dict[str, int]:
        """Returns how many workers ended in which way; "cancelled" counts the queued calls that never started.

        Example:
            >>> ShutdownReport(never_started=3).counts()
            {'cancelled': 3}
        """
        return _counts(self.outcomes, cancelled=self.never_started)

    def earlier_counts(self) -> dict[str, int]:
        """Returns how much was lost earlier in which way."""
        return _counts(self.earlier, failed=self.forgotten)

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
            "earlier": [outcome.to_dict() for outcome in self.earlier],
            "forgotten": self.forgotten,
        }

    def __str__(self) -> str:
        because = f" ({printable(self.reason)})" if self.reason else ""
        head = f"shutdown{because} took {self.seconds:.2f} s: {_listed(self.counts()) or 'nothing was running'}"
        parts = [*_table(self.outcomes)]
        if self.earlier or self.forgotten:
            head += f"; lost before it began: {_listed(self.earlier_counts())}"
            parts += ["", "lost before it began:", *_table(self.earlier)]
        if self.forgotten:
            parts.append(f"and {self.forgotten} more that have failed")
        left = [outcome for outcome in (*self.abandoned, *self.earlier) if outcome.ended == "abandoned"]
        for outcome in left:
            if outcome.stack:
                parts += ["", f"{printable(outcome.worker)} was last seen at:"]
                parts.append(printable(outcome.stack, lines=True).rstrip())
        return "\n".join((head, *parts))


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """What a pool has at one moment. Immutable.

    Attributes:
        name: The pool's name.
        kind: "thread" or "process".
        size: How many of its calls are to run at once. On a cluster, where nothing is set: as many as `capacity`.
        capacity: How many can: where threads were abandoned more than `size` times, fewer. On a cluster: as many as the
            nodes that take calls have threads, and 0 before its first use.
        running: Calls that run, those that are being stopped included.
        queued: Calls that wait.
        max_queued: How many may wait; None: without bound.
        alive: Threads or processes that are there for it: idle or not, those that were abandoned, and helpers. Of the
            two pools that are always there also those of the workers of `start`. On a cluster: nodes.
        abandoned: Calls that were given up and have not come back.
        ready: Whether it can take calls: nobody has failed to come up since the last one that did, as where its
            initializer raises; somebody is up where some are kept `warm`; and `capacity` is not 0.
        reason: Why it is not ready, for people; empty where it is.

    Example:
        >>> PoolStatistics("gpu", "process", size=1, capacity=1, running=1, queued=7).queued
        7
    """

    name: str
    kind: Kind
    size: int
    capacity: int
    running: int = 0
    queued: int = 0
    max_queued: int | None = None
    alive: int = 0
    abandoned: int = 0
    ready: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """What a supervisor knows of a node of its cluster at one moment. Immutable.

    Attributes:
        name: The node's name.
        address: Where it is.
        state: "up": it takes calls and workers; "closing": it takes no more, but is connected; "unreachable": it is
            not, and what it has is ended by the lease if it stays so.
        threads: How many calls of this supervisor it takes at once.
        calls: How many calls of this supervisor it has.
        workers: How many of its workers.
        reason: Why it is unreachable, for people; empty where it is not.

    Example:
        >>> NodeStatistics("gpu-1", "tcp://10.0.0.8:33445", state="up", threads=4).calls
        0
    """

    name: str
    address: str
    state: NodeState
    threads: int = 1
    calls: int = 0
    workers: int = 0
    reason: str = ""


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
        failed: Workers of `start` that have failed or died for good, and that nobody has started again.
        stopping: Whether a shutdown has begun, or has ended.
        pools: All its pools by their names, those included that are always there. Of a group: none, as the pools are
            its supervisor's. Two that differ in this alone, or in `nodes`, are equal.
        nodes: The nodes of its cluster, once it has been used; their threads and processes are not counted above. Each
            has `name`, `address`, `state` ("up": it takes calls and workers; "closing": it takes no more;
            "unreachable", with the `reason`), and how many calls of this supervisor it takes at once (`threads`) and
            has (`calls`), and how many of its workers (`workers`). Of a group: none.

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
    failed: int = 0
    stopping: bool = False
    pools: Mapping[str, PoolStatistics] = field(default_factory=dict[str, PoolStatistics], compare=False)
    nodes: tuple[NodeStatistics, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a supervisor may be given work, and whether it can go on. Immutable.

    Attributes:
        supervisor: The supervisor's name.
        ready: It takes work, all of its workers that have a `ready_timeout` are ready, and so are its pools. What is
            not live is not ready either.
        live: It has lost no more than it may; false means that only a new process mends it.
        reasons: Why it is not ready, or not live, for people; empty where it is both.
        failed: The names of the workers of `start` that have failed or died for good, and that nobody has started
            again, at most 1000. They count for the answer only where `max_failed` says so.

    Example:
        >>> Health("app", ready=False, live=True, reasons=("is shutting down",)).to_dict()["reasons"]
        ['is shutting down']
    """

    supervisor: str
    ready: bool
    live: bool
    reasons: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON-ready data."""
        data: dict[str, Any] = fields_of(self)
        return {**data, "reasons": list(self.reasons), "failed": list(self.failed)}


def _counts(outcomes: Iterable[Outcome], **more: int) -> dict[str, int]:
    counts = Counter[str](outcome.ended for outcome in outcomes)
    counts.update(more)
    return {ended: counts[ended] for ended in get_args(Ended) if counts[ended]}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {ended}" for ended, number in counts.items())


def _table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Gives the lines of a table, one for each outcome, below a head; none where there is no outcome."""
    if outcomes:
        rows = [("worker", "kind", "ended", "step", "ran", "to stop", "error"), *map(_row, outcomes)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        yield from ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(outcome: Outcome) -> tuple[str, ...]:
    worker = printable(outcome.worker)
    return (
        worker if outcome.attempt == 1 else f"{worker} (run {outcome.attempt})",
        outcome.kind,
        outcome.ended,
        outcome.step or "-",
        f"{outcome.seconds:.2f} s",
        f"{outcome.stop_seconds:.2f} s",
        _remark(outcome),
    )


def _remark(outcome: Outcome) -> str:
    """What it has raised; or in what it is blocked, where it could not be ended."""
    if outcome.error is not None:
        return printable(described(outcome.error).partition("\n")[0][:80])
    found = blocked_at_the_end(outcome)
    return "" if found is None else printable(f"{found.what}; what would end it: {found.freed_by}")
