"""The nodes of the supervision tree: workers of `start()`, and groups of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from .._core.lifecycle import BackingOff, Held, LifeCommand, LifeState, Over, Past, Up
from .._core.restart import Restart
from .._core.stop_order import deadlines
from .._core.strategy import (
    GroupCommand,
    GroupState,
    Steady,
)
from .._loop.agenda import Agenda

if TYPE_CHECKING:
    import asyncio
    import contextvars
    from collections.abc import Callable, Iterator, Mapping

    from .._core.ladder import Cause
    from .._core.outcome import Outcome
    from .._core.policy import EscalationPolicy
    from .._core.report import ShutdownReport
    from .._core.restart import OnExhausted, Strategy
    from .._run.run import Handle, Run, WorkerKind

__all__ = ["NEVER", "GroupNode", "Node", "WorkerNode", "stop_deadlines"]


class Node(ABC):
    """What a group consists of: workers, and groups of their own.

    Attributes:
        number: Members are started in the order of their numbers.
        name: Its name, with those of its groups before it: "feeds/reader".
        group: The group that it is a member of; None for the root.
        restart: When it is started again.
        after: What it comes after: that is ready before it begins, and is stopped after it.
        dependents: The live members that come after it.
        state: Where it is in its life, as the lifecycle machine says it.
        cause, reason: Why it was last asked to stop, for the machine and for people.
        run: Its present run, or its last one.
        agenda: What the lifecycle machine has commanded and nobody has carried out yet.
    """

    __slots__ = (
        "after",
        "agenda",
        "cause",
        "dependents",
        "group",
        "name",
        "number",
        "reason",
        "restart",
        "run",
        "state",
        "waiters",
    )

    run: Any

    def __init__(
        self, group: GroupNode | None, restart: Restart, after: tuple[Node, ...], *, started: bool = False
    ) -> None:
        self.number = 0
        self.name = ""
        self.group = group
        self.restart = restart
        self.after = after
        self.dependents: set[Node] = set()  # no count: after an interrupt, the same one may be taken out twice
        self.state: LifeState = Up(0.0, Past(attempt=1, started=started))
        self.cause: Cause = "stop"
        self.reason = ""
        self.agenda: Agenda[LifeCommand] = Agenda()
        self.waiters: dict[asyncio.Future[None], None] = {}

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether its present run is ready."""

    @property
    def started(self) -> bool:
        """Whether its start has succeeded: it has been ready once, or its group has started it."""
        return self.state.past.started

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return isinstance(self.state, Over)

    @property
    def between_runs(self) -> bool:
        """Whether it has no run at present, and will have one."""
        return isinstance(self.state, BackingOff | Held)

    @property
    def attempt(self) -> int:
        """How many runs it has had, the present one included."""
        return self.state.past.attempt

    @property
    def restarts(self) -> int:
        """How often it has been started again."""
        return max(0, self.attempt - 1)

    @property
    def groups(self) -> Iterator[GroupNode]:
        """The groups that it is in, the innermost first."""
        return iter(()) if self.group is None else self.group.around

    @property
    def blocked(self) -> bool:
        """Whether others must end before it."""
        return bool(self.dependents) or any(group.dependents for group in self.groups)

    def changed(self) -> None:
        """Wakes whoever waits for something to happen to it."""
        waiters, self.waiters = self.waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self.state}>"


class WorkerNode(Node):
    """One worker of `start()`, from its first run to its last.

    Attributes:
        kind, fn, args, context, policy, given_name, given_restart: What each run of it is made from.
        heartbeat: Seconds of silence after which it is stuck, if any.
        ready_timeout: Seconds within which it must call `ctx.ready()`, if it must.
        worker: Its handle.
        readied: The last of its attempts that has become ready.
        last_outcome: How its last run ended.
        final: How it ended itself.
    """

    __slots__ = (
        "args",
        "context",
        "final",
        "fn",
        "given_name",
        "given_restart",
        "heartbeat",
        "kind",
        "last_outcome",
        "policy",
        "readied",
        "ready_timeout",
        "worker",
    )

    group: GroupNode
    run: Run
    worker: Handle

    def __init__(
        self,
        group: GroupNode,
        kind: WorkerKind,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        name: str | None,
        policy: EscalationPolicy | None,
        restart: Restart | None,
        heartbeat: float | None,
        ready_timeout: float | None,
        after: tuple[Node, ...],
    ) -> None:
        super().__init__(group, restart or NEVER, after)
        self.kind = kind
        self.fn = fn
        self.args = args
        self.context: contextvars.Context = copy_context()
        self.given_name = name
        self.given_restart = restart
        self.policy = policy
        self.heartbeat = heartbeat
        self.ready_timeout = ready_timeout
        self.readied = 0
        self.last_outcome: Outcome | None = None
        self.final: Outcome | None = None

    @property
    def ready(self) -> bool:
        """Whether its present run is ready; one that is being stopped no longer is."""
        if self.over or self.between_runs:
            return False
        return self.run.ready and not self.run.over and self.run.climb is None

    def is_under_way(self, run: Run) -> bool:
        """Whether the machine takes this run to be under way; no longer once it was fed its end."""
        return isinstance(self.state, Up) and self.attempt == run.attempt

    def once_more(self) -> WorkerNode:
        """Returns another worker that is made from the same, for a group that begins anew."""
        life = WorkerNode(
            self.group,
            self.kind,
            self.fn,
            self.args,
            name=self.given_name,
            policy=self.policy,
            restart=self.restart,
            heartbeat=self.heartbeat,
            ready_timeout=self.ready_timeout,
            after=self.after,
        )
        life.context = self.context  # those of its `start`, and not of what happens to run now
        life.state = Held(Past(started=True))
        return life


class GroupNode(Node):
    """Members that restart, and end, as its strategy says. The root is the supervisor itself.

    Attributes:
        strategy: Who is started again with whom.
        on_exhausted: What follows where a member is given up.
        policy: The ladder of those that have none of their own.
        members: Those that have not ended, by their numbers.
        originals: What it consists of when it is started again itself.
        stood_down: Those of the originals that a strategy has stopped for good.
        machine: Who is coming down, and who goes up.
        group_agenda: What that machine has commanded and nobody has carried out yet.
        ending: All of its members are being stopped.
        failure: Why it fails, where a member was given up.
        lost: A worker had to be abandoned: begun anew, two of it would go on side by side.
        renewing: It begins anew, and not all in it have become ready since.
        asked: It was asked to shut down, by `request_shutdown`.
        deadline: When a shutdown of this group must have ended, on the loop's clock.
        outcomes: How its workers and calls ended while it was shut down, or the supervisor was, by their numbers.
        withdrawn: The numbers of its calls that were withdrawn then.
        began_at: When its shutdown began, on the loop's clock.
        closed: Done when its report is there; None while nobody has asked for its shutdown.
        report: What its shutdown met.
    """

    __slots__ = (
        "asked",
        "began_at",
        "closed",
        "deadline",
        "ending",
        "failure",
        "group_agenda",
        "lost",
        "machine",
        "members",
        "on_exhausted",
        "originals",
        "outcomes",
        "policy",
        "renewing",
        "report",
        "stood_down",
        "strategy",
        "withdrawn",
    )

    def __init__(
        self,
        group: GroupNode | None,
        strategy: Strategy,
        on_exhausted: OnExhausted,
        *,
        policy: EscalationPolicy | None = None,
        restart: Restart | None = None,
        after: tuple[Node, ...] = (),
    ) -> None:
        super().__init__(group, restart or Restart("always"), after, started=True)
        self.strategy: Strategy = strategy
        self.on_exhausted: OnExhausted = on_exhausted
        self.policy = policy
        self.members: dict[int, Node] = {}
        self.originals: dict[Node, None] = {}
        self.stood_down: dict[Node, None] = {}
        self.machine: GroupState = Steady()
        self.group_agenda: Agenda[GroupCommand] = Agenda()
        self.ending = False
        self.failure: BaseException | None = None
        self.lost = False
        self.renewing = False
        self.asked = False
        self.deadline = math.inf
        self.outcomes: dict[int, Outcome] = {}
        self.withdrawn: set[int] = set()
        self.began_at = 0.0
        self.closed: asyncio.Future[None] | None = None
        self.report: ShutdownReport | None = None
        self.run = object()

    @property
    def ready(self) -> bool:
        """Whether all of its members are."""
        return (
            not self.over
            and not self.between_runs
            and isinstance(self.machine, Steady)
            and all(member.ready for member in self.members.values())
        )

    @property
    def gone(self) -> bool:
        """Whether it has ended, and none of the groups around it brings it back."""
        return self.over and (self.group is None or self not in self.group.originals or self.group.gone)

    @property
    def around(self) -> Iterator[GroupNode]:
        """It, and the groups that it is in, the innermost first."""
        group: GroupNode | None = self
        while group is not None:
            yield group
            group = group.group

    def holds(self, place: GroupNode | None) -> bool:
        """Whether what stands in a group stands in this one; the runs of the root have none."""
        return self.group is None or (place is not None and self in place.around)

    @property
    def takes_work(self) -> bool:
        """Whether it is up; one that is being stopped, or waits to begin anew, takes no work, nor do those in it."""
        return not any(group.over or group.ending or group.between_runs for group in self.around)

    @property
    def empty(self) -> bool:
        """Whether no worker is in it, nor in its groups."""
        return all(isinstance(member, GroupNode) and member.empty for member in self.members.values())

    @property
    def lives(self) -> Iterator[WorkerNode]:
        """Its workers that have not ended, those of its groups included."""
        for member in tuple(self.members.values()):
            if isinstance(member, GroupNode):
                yield from member.lives
            elif isinstance(member, WorkerNode):
                yield member


def stop_deadlines(budgets: Mapping[Node, float], now: float, deadline: float) -> dict[Node, float]:
    """Returns by when each of the workers that are stopped, which have a budget, must have ended.

    Those that they come after then still have their time. Who comes after a group comes after all that is in it.
    """

    def later(node: Node) -> list[Node]:
        if isinstance(node, GroupNode):
            return list(node.lives)
        if node not in budgets:
            return []
        return [other for around in (node, *node.groups) for other in around.after if not other.over]

    return deadlines(budgets, now, deadline, later)


NEVER = Restart("never")
"""For workers that are about to be stopped."""
