"""The nodes of the supervision tree: workers of `start()`, and groups of them."""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from .._core.lifecycle import BackingOff, Held, LifeCommand, LifeState, Over, Past, Up
from .._core.restart import Restart
from .._core.strategy import Ending, GroupCommand, GroupState, Restarting, Steady
from .._loop.agenda import Agenda
from .._run.run import let_go
from .shutdown import Shutdown

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import ClassVar, Literal

    from .._core.ladder import Cause
    from .._core.outcome import Outcome
    from .._core.placement import Placement
    from .._core.policy import EscalationPolicy
    from .._core.pools import Limits
    from .._core.restart import OnExhausted, Strategy
    from .._run.run import Handle, Run, WorkerKind

__all__ = ["NEVER", "GroupNode", "Node", "WorkerNode", "list_call", "scope_of", "unlist_call"]


class Node:
    """What a group consists of: workers, and groups of their own. Changed on the loop's thread.

    No ABC: which of the two one is, is asked with each start, and that would take several times as long.

    Attributes:
        number: Nodes are started in the order of their numbers.
        name: Its name, with those of its groups before it: "feeds/reader".
        group: The group that it is a member of; None for the root.
        groups: The groups that it is in, the innermost first.
        restart: When it is started again.
        after: What it comes after: that is ready before it begins, and is stopped after it.
        dependents: The live nodes that come after it.
        state: Where it is in its life, as the lifecycle machine says it.
        cause, reason: Why it was last asked to stop, for the machine and for people.
        agenda: What the lifecycle machine has commanded and nobody has carried out yet.
    """

    role: ClassVar[Literal["worker", "group"]]

    __slots__ = (
        "after",
        "agenda",
        "cause",
        "dependents",
        "group",
        "groups",
        "name",
        "number",
        "reason",
        "restart",
        "state",
        "waiters",
    )

    def __init__(
        self, group: GroupNode | None, restart: Restart, after: tuple[Node, ...], *, started: bool = False
    ) -> None:
        self.number = 0
        self.name = ""
        self.group = group
        self.groups: tuple[GroupNode, ...] = () if group is None else group.around
        self.restart = restart
        self.after = after
        self.dependents: set[Node] = set()  # no count: after an interrupt, the same one may be taken out twice
        self.state: LifeState = BEGUN if started else STARTING
        self.cause: Cause = "stop"
        self.reason = ""
        self.agenda: Agenda[LifeCommand] = Agenda()
        self.waiters: dict[asyncio.Future[None], None] = {}

    @property
    def ready(self) -> bool:
        """Whether its present run is ready."""
        raise NotImplementedError

    @property
    def is_lost(self) -> bool:
        """Whether a run of it had to be abandoned: restarting it now would run it twice."""
        raise NotImplementedError

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
    def blocked(self) -> bool:
        """Whether others must end before it."""
        return bool(self.dependents) or any(group.dependents for group in self.groups)

    def let_go(self) -> None:
        """It has ended for good, and nothing brings it back: drops what it was made from. Idempotent."""
        raise NotImplementedError

    def changed(self) -> None:
        """Wakes whoever waits for something to happen to it."""
        while self.waiters:
            waiter = next(iter(self.waiters))
            if not waiter.done():
                waiter.set_result(None)
            self.waiters.pop(waiter, None)  # only now: where that has failed, it is done again

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self.state}>"


class WorkerNode(Node):
    """One worker of `start()`, from its first run to its last.

    Attributes:
        kind, fn, args, context, policy, limits, slow_after, placement, given_name, given_restart: What each run of it
            is made from.
        submitted_from: Where it was submitted, as "path:line"; None where that is not kept.
        heartbeat: Seconds of silence after which it is stuck, if any.
        ready_timeout: Seconds within which it must call `ctx.ready()`, if it must.
        run: Its present run, or its last one.
        worker: Its handle.
        readied: The last of its attempts that has become ready.
        last_outcome: How its last run ended.
        final: How it ended itself.
        successor: The worker in its place, once its group was started again.
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
        "limits",
        "placement",
        "policy",
        "readied",
        "ready_timeout",
        "run",
        "slow_after",
        "submitted_from",
        "successor",
        "worker",
    )

    role: ClassVar[Literal["worker", "group"]] = "worker"
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
        limits: Limits | None,
        slow_after: float | None,
        submitted_from: str | None = None,
        placement: Placement | None = None,
    ) -> None:
        super().__init__(group, restart or NEVER, after)
        self.kind = kind
        self.fn = fn
        self.args = args
        self.context: Context = copy_context()
        self.given_name = name
        self.given_restart = restart
        self.policy = policy
        self.limits = limits
        self.slow_after = slow_after
        self.heartbeat = heartbeat
        self.ready_timeout = ready_timeout
        self.submitted_from = submitted_from
        self.placement = placement
        self.readied = 0
        self.last_outcome: Outcome | None = None
        self.final: Outcome | None = None
        self.successor: WorkerNode | None = None

    @property
    def ready(self) -> bool:
        """Whether its present run is ready; one that is being stopped no longer is."""
        if self.over or self.between_runs:
            return False
        return self.run.ready and not self.run.over and self.run.climb is None

    @property
    def is_lost(self) -> bool:
        """Whether it was abandoned."""
        return self.final is not None and self.final.ended == "abandoned"

    @property
    def is_enlisted(self) -> bool:
        """Whether it has its number, its name and its handle."""
        return hasattr(self, "worker")

    def is_under_way(self, run: Run) -> bool:
        """Whether the machine takes this run to be under way; no longer once it was fed its end."""
        return isinstance(self.state, Up) and self.attempt == run.attempt

    def let_go(self) -> None:
        self.fn, self.args, self.context = let_go, (), Context()

    def once_more(self) -> WorkerNode:
        """Returns another worker that is made from the same, for a group that begins anew."""
        node = WorkerNode(
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
            limits=self.limits,
            slow_after=self.slow_after,
            submitted_from=self.submitted_from,
            placement=self.placement,
        )
        node.context = self.context  # that of its `start`, and not of what happens to run now
        node.state = Held(Past(started=True))
        node.run = self.run  # until it has one of its own
        return node

    def is_same(self, other: WorkerNode) -> bool:
        """Whether both are the same worker, started twice: of one name, or without one and of the same function."""
        if self.given_name is not None or other.given_name is not None:
            return self.given_name == other.given_name
        try:
            return bool(self.kind is other.kind and self.fn == other.fn and self.args == other.args)
        except Exception:  # arguments that cannot be compared: arrays, say
            return False


class GroupNode(Node):
    """Members that restart, and end, as its strategy says. The root is the supervisor itself.

    Attributes:
        strategy: Who is started again with whom.
        on_exhausted: What follows where a member is given up.
        policy: The ladder of those that have none of their own.
        members: Those that have not ended, by their numbers.
        standing: Those of the members that have a run, and that no failure has brought down yet, in their order.
        crew: The workers in it that have not ended, those of its groups included, by their numbers. Any thread may
            read it.
        calls: The calls in it, and in its groups, that have not concluded, by their numbers. The root has none here:
            all calls are its own. Changed by any thread.
        calling: The runs in it, and in its groups, whose calls to the loop are not over; as above.
        originals: What it consists of when it is started again itself.
        stood_down: Those of the originals that a strategy has stopped for good.
        phase: Who is coming down, and who goes up, as the strategy machine says it.
        phase_agenda: What that machine has commanded and nobody has carried out yet.
        failure: Why it fails, where a member was given up.
        lost: A worker had to be abandoned while it came down.
        shutdown: Its shutdown, whether it has begun or not.
        held: It is being shut down, or one around it is: calls that still wait in it never begin. Any thread.
    """

    __slots__ = (
        "calling",
        "calls",
        "crew",
        "failure",
        "held",
        "lost",
        "members",
        "on_exhausted",
        "originals",
        "phase",
        "phase_agenda",
        "policy",
        "shutdown",
        "standing",
        "stood_down",
        "strategy",
    )

    role: ClassVar[Literal["worker", "group"]] = "group"

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
        self.standing: dict[int, Node] = {}
        self.crew: dict[int, WorkerNode] = {}
        self.calls: dict[int, Run] = {}
        self.calling: dict[Run, None] = {}
        self.originals: dict[Node, None] = {}
        self.stood_down: dict[Node, None] = {}
        self.phase: GroupState = Steady()
        self.phase_agenda: Agenda[GroupCommand] = Agenda()
        self.failure: BaseException | None = None
        self.lost = self.held = False
        self.shutdown = Shutdown()

    @property
    def ready(self) -> bool:
        """Whether all of its members are."""
        return (
            not self.over
            and not self.between_runs
            and isinstance(self.phase, Steady)
            and all(member.ready for member in self.members.values())
        )

    @property
    def is_lost(self) -> bool:
        """Whether a worker in it had to be abandoned while it came down."""
        return self.lost

    @property
    def ending(self) -> bool:
        """Whether all of its members are being stopped: for good, or because it has failed."""
        return isinstance(self.phase, Ending)

    @property
    def renewing(self) -> bool:
        """Whether it was started again, and not all in it have become ready since."""
        return isinstance(self.phase, Restarting) and self.phase.whole

    @property
    def has_failed(self) -> bool:
        """Whether it has failed, and nobody has shut it down."""
        return self.failure is not None and not self.shutdown.begun

    @property
    def gone(self) -> bool:
        """Whether it has ended, and none of the groups around it brings it back."""
        return self.over and (self.group is None or self not in self.group.originals or self.group.gone)

    @property
    def around(self) -> tuple[GroupNode, ...]:
        """It, and the groups that it is in, the innermost first."""
        return (self, *self.groups)

    @property
    def root(self) -> GroupNode:
        """The supervisor that it is part of, or is."""
        return self.groups[-1] if self.groups else self

    def let_go(self) -> None:
        for member in tuple(self.originals):
            member.let_go()
        self.originals.clear()
        self.stood_down.clear()

    def holds(self, scope: GroupNode) -> bool:
        """Whether what stands in a scope stands in this one."""
        return self.group is None or self in scope.around

    @property
    def takes_work(self) -> bool:
        """Whether it is up; one that is being stopped, or waits to begin anew, takes no work, nor do those in it."""
        return not any(group.over or group.ending or group.between_runs for group in self.around)

    @property
    def empty(self) -> bool:
        """Whether no worker is in it, nor in its groups."""
        return not self.crew

    # ---------------------------------------------------------------------------- its members

    def insert(self, member: Node) -> None:
        """Takes in a member. What the root consists of, nobody starts again."""
        self.members[member.number] = member
        self.stand(member)
        if isinstance(member, WorkerNode):
            for around in self.around:
                around.crew[member.number] = member
        if self.group is not None:
            self._supersede(member)
            self.originals[member] = None

    def _supersede(self, member: Node) -> None:
        """One that a strategy had stopped for good was started again by hand: that one is in its place now."""
        for old in self.stood_down:
            if isinstance(old, WorkerNode) and isinstance(member, WorkerNode) and old.is_same(member):
                del self.stood_down[old]
                self.originals.pop(old, None)
                old.let_go()
                return

    def stand(self, member: Node) -> None:
        """A member begins a run."""
        out_of_order = self.standing and member.number < next(reversed(self.standing))
        self.standing[member.number] = member
        if out_of_order and self.strategy == "rest_for_one":
            self.standing = dict(sorted(self.standing.items()))

    def remove(self, member: Node, *, comes_back: bool, stood_down: bool) -> None:
        """A member has ended; it may come back when the group is started again. Idempotent."""
        if not comes_back:
            self.originals.pop(member, None)
        elif stood_down and self.group is not None:
            self.stood_down[member] = None
        if isinstance(member, WorkerNode):
            for around in self.around:
                around.crew.pop(member.number, None)
        self.members.pop(member.number, None)
        self.standing.pop(member.number, None)

    # ---------------------------------------------------------------------------- calls in it

    @property
    def groups_around(self) -> tuple[GroupNode, ...]:
        """It, and the groups that it is in, without the root."""
        return (self, *self.groups[:-1]) if self.groups else ()


def list_call(run: Run) -> None:
    """Lists a call as one that has not concluded: with its kind, and with the groups that it is in. Any thread."""
    scope = scope_of(run)
    if scope.group is not None:
        for group in scope.groups_around:
            group.calls[run.number] = run
    run.kind.calls[run.number] = run


def unlist_call(run: Run) -> None:
    """Takes a call from these lists. Idempotent. Any thread."""
    run.kind.calls.pop(run.number, None)
    scope = scope_of(run)
    if scope.group is not None:
        for group in scope.groups_around:
            group.calls.pop(run.number, None)


def scope_of(run: Run) -> GroupNode:
    """Returns the scope of a run: its group, or the root."""
    assert isinstance(run.scope, GroupNode)
    return run.scope


STARTING = Up(0.0, Past(attempt=1))
"""The state of a worker of `start()` in its first run."""

BEGUN = Up(0.0, Past(attempt=1, started=True))
"""The same of a group, which needs nothing to be ready."""

NEVER = Restart("never")
"""For workers that are about to be stopped."""
