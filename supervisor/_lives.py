"""The workers of `start()` across their runs: where a run's end becomes an event of a life.

What follows is decided in `_life`; how a run is carried out and stopped is the business of `_shell`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, assert_never, cast

from ._errors import RestartLimitExceeded, WorkerExit, WorkerFailed
from ._group import (
    Anew,
    Due,
    End,
    Failed,
    Gone,
    GroupCommand,
    GroupEvent,
    GroupState,
    Ready,
    Restarting,
    Sibling,
    Start,
    Steady,
    Waits,
    decide_group,
)
from ._life import (
    BackingOff,
    Finish,
    LifeCommand,
    LifeEvent,
    LifeState,
    Over,
    RestartAsked,
    RunEnded,
    StartRun,
    StopAsked,
    StopRun,
    TimePassed,
    Up,
    WakeAt,
    decide_life,
)
from ._outcome import Outcome
from ._policy import Restart

if TYPE_CHECKING:
    import asyncio
    import contextvars
    from collections.abc import Callable, Iterable, Iterator

    from ._machine import Cause
    from ._outcome import Ended, ShutdownReport
    from ._policy import EscalationPolicy, OnExhausted, Strategy
    from ._run import Run, WorkerKind
    from ._worker import Worker

__all__ = ["Group", "Life", "Lives", "Member", "Runner", "deadlines"]


@dataclass(frozen=True, slots=True)
class _Tell:
    """Say that another run follows the one that has ended; its group hears of it where that one has failed."""

    failed: bool


class Member(ABC):
    """What a group consists of: workers, and groups of their own.

    Attributes:
        number: Members are started in the order of their numbers.
        name: Its name, with those of its groups before it: "feeds/reader".
        group: The group that it is a member of; None for the root.
        restart: When it is started again.
        after: What it comes after: that is ready before it begins, and is stopped after it.
        dependents: The live members that come after it.
        state: Where it is, as the life machine says it.
        restarts: How often it has been started again.
        started: It has been ready once.
        readied: The last of its attempts that has become ready; of a group, 0.
        held: Its next run is due, and waits for its turn.
        over: It has ended for good.
        let_go: What it came after has been told of its end.
        kept: Its group has stopped it, and brings it back when the group itself is started again.
        cause, reason: Why it was last asked to stop, for the machine and for people.
        run: Its present run, or its last one.
        told: The run whose end the machine has been told of.
        busy: Its commands are being carried out.
        todo: What the machine has commanded and nobody has carried out yet.
    """

    __slots__ = (
        "after",
        "busy",
        "cause",
        "dependents",
        "group",
        "held",
        "kept",
        "let_go",
        "name",
        "number",
        "over",
        "readied",
        "reason",
        "restart",
        "restarts",
        "run",
        "started",
        "state",
        "todo",
        "told",
        "waiters",
    )

    run: Any

    def __init__(self, group: Group | None, restart: Restart, after: tuple[Member, ...]) -> None:
        self.number = 0
        self.name = ""
        self.group = group
        self.restart = restart
        self.after = after
        self.dependents: set[Member] = set()  # no count: an interrupt may have it told of the same one twice
        self.state: LifeState = Up(0.0)
        self.restarts = 0
        self.started = False
        self.readied = 0
        self.held = False
        self.over = False
        self.kept = False
        self.let_go = False
        self.cause: Cause = "stop"
        self.reason = ""
        self.told: Any = None
        self.busy = False
        self.todo: deque[LifeCommand | _Tell] = deque()
        self.waiters: dict[asyncio.Future[None], None] = {}

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether its present run is ready."""

    @property
    def between_runs(self) -> bool:
        """Whether it has no run at present, and will have one."""
        return not self.over and (self.held or isinstance(self.state, BackingOff))

    @property
    def groups(self) -> Iterator[Group]:
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


class Life(Member):
    """One worker of `start()`, from its first run to its last.

    Attributes:
        kind, fn, args, context, policy, given_name, given_restart: What each run of it is made from.
        heartbeat: Seconds of silence after which it is stuck, if any.
        ready_timeout: Seconds within which it must call `ctx.ready()`, if it must.
        worker: Its handle.
        attempt: How many runs it has had.
        last_outcome: How its last run ended.
        final: How it ended itself.
    """

    __slots__ = (
        "args",
        "attempt",
        "context",
        "final",
        "fn",
        "given_name",
        "given_restart",
        "heartbeat",
        "kind",
        "last_outcome",
        "policy",
        "ready_timeout",
        "worker",
    )

    group: Group
    run: Run
    worker: Worker

    def __init__(
        self,
        group: Group,
        kind: WorkerKind,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        name: str | None,
        policy: EscalationPolicy | None,
        restart: Restart | None,
        heartbeat: float | None,
        ready_timeout: float | None,
        after: tuple[Member, ...],
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
        self.attempt = 0
        self.last_outcome: Outcome | None = None
        self.final: Outcome | None = None

    @property
    def ready(self) -> bool:
        """Whether its present run is ready; one that is being stopped no longer is."""
        if self.over or self.between_runs:
            return False
        return self.run.ready and not self.run.over and self.run.ladder is None

    def once_more(self) -> Life:
        """Returns another worker that is made from the same, for a group that begins anew."""
        life = Life(
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
        return life


class Group(Member):
    """Members that restart, and end, as its strategy says. The root is the supervisor itself.

    Attributes:
        strategy: Who is started again with whom.
        on_exhausted: What follows where a member is given up.
        policy: The ladder of those that have none of their own.
        members: Those that have not ended, by their numbers.
        originals: What it consists of when it is started again itself.
        stood_down: Those of the originals that a strategy has stopped for good.
        machine: Who is coming down, and who goes up.
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
        "acting",
        "asked",
        "began_at",
        "closed",
        "deadline",
        "ending",
        "failure",
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
        "to_do",
        "withdrawn",
    )

    def __init__(
        self,
        group: Group | None,
        strategy: Strategy,
        on_exhausted: OnExhausted,
        *,
        policy: EscalationPolicy | None = None,
        restart: Restart | None = None,
        after: tuple[Member, ...] = (),
    ) -> None:
        super().__init__(group, restart or Restart("always"), after)
        self.strategy: Strategy = strategy
        self.on_exhausted: OnExhausted = on_exhausted
        self.policy = policy
        self.members: dict[int, Member] = {}
        self.originals: dict[Member, None] = {}
        self.stood_down: dict[Member, None] = {}
        self.machine: GroupState = Steady()
        self.acting = False
        self.to_do: deque[GroupCommand] = deque()
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
    def around(self) -> Iterator[Group]:
        """It, and the groups that it is in, the innermost first."""
        group: Group | None = self
        while group is not None:
            yield group
            group = group.group

    def holds(self, place: Group | None) -> bool:
        """Whether what stands in a group stands in this one; the runs of the root have none."""
        return self.group is None or (place is not None and self in place.around)

    @property
    def takes_work(self) -> bool:
        """Whether it is up; one that is being stopped, or waits to begin anew, takes no work, nor do those in it."""
        return not any(group.over or group.ending or group.between_runs for group in self.around)

    @property
    def empty(self) -> bool:
        """Whether no worker is in it, nor in its groups."""
        return all(isinstance(member, Group) and member.empty for member in self.members.values())

    @property
    def lives(self) -> Iterator[Life]:
        """Its workers that have not ended, those of its groups included."""
        for member in tuple(self.members.values()):
            if isinstance(member, Group):
                yield from member.lives
            elif isinstance(member, Life):
                yield member


class Runner(Protocol):
    """What lives need of the shell. On the loop's thread."""

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        """Calls this in the loop's next turn."""
        ...

    def begin_run(self, life: Life) -> None:
        """Begins the next run of a worker."""
        ...

    def renumber(self, group: Group) -> None:
        """Gives a group that begins anew another number."""
        ...

    def stop(self, run: Run, cause: Cause, reason: str = "") -> None:
        """Climbs the ladder of a run."""
        ...

    def wake(self, member: Member, at: float) -> None:
        """Calls `Lives.rung` at this moment."""
        ...

    def restarts(self, life: Life) -> None:
        """A run has ended, and another one follows."""
        ...

    def life_over(self, life: Life) -> None:
        """A worker has ended for good, as `final` says."""
        ...

    def given_up(self, member: Member) -> None:
        """A member is given up, and ends alone."""
        ...

    def enlist(self, life: Life) -> None:
        """Gives a worker its number, its name and its handle."""
        ...

    def escalate(self, member: Member, error: BaseException) -> None:
        """A member of the root is given up, and all others are to go with it."""
        ...

    def group_told(self, group: Group, event: str, reason: str) -> None:
        """A group begins anew, or is given up."""
        ...

    def group_over(self, group: Group) -> None:
        """A group has ended for good."""
        ...


class Lives:
    """All workers of `start()` that have not ended, and their groups. On the loop's thread.

    Attributes:
        all: The workers, by their number.
        root: The supervisor as a group.
    """

    def __init__(self, runner: Runner, clock: Callable[[], float], dice: Callable[[], float], root: Group) -> None:
        self._runner = runner
        self._clock = clock
        self._dice = dice
        self._held: dict[Member, None] = {}  # who is due, and waits for what it comes after
        self._to_stop: deque[Member] = deque()  # that which nobody comes after any more
        self._stopping = False
        self._closing = False
        self.root = root
        self.all: dict[int, Life] = {}

    def add(self, member: Member) -> None:
        """Takes in a member; the first run of a worker is begun by the caller."""
        member.state = Up(self._clock())
        if isinstance(member, Life):
            self.all[member.number] = member
        group = member.group
        if group is not None:
            group.members[member.number] = member
            if group is not self.root:
                self._supersede(group, member)
                group.originals[member] = None
        for other in member.after:
            other.dependents.add(member)

    def _supersede(self, group: Group, member: Member) -> None:
        """One that a strategy had stopped for good has been started anew by hand: that one is in its place now."""
        for old in group.stood_down:
            if isinstance(old, Life) and isinstance(member, Life) and _is_same(old, member):
                del group.stood_down[old]
                group.originals.pop(old, None)
                return

    # -------------------------------------------------------------------------------- what happens

    def stop(self, member: Member, cause: Cause, reason: str = "") -> None:
        """Ends a member for good."""
        if isinstance(member, Group) and member.closed is not None and member.group is not None:
            member.group.originals.pop(member, None)  # whoever shuts a group down does not want it back
        member.cause, member.reason = cause, reason
        self._feed(member, StopAsked())

    def dismiss(self, life: Life, reason: str = "") -> None:
        """Ends a worker for good, also where its group is started again."""
        life.group.originals.pop(life, None)
        self.stop(life, "stop", reason)

    def begin_anew(self, life: Life) -> None:
        """Ends the present run of a worker, and begins another."""
        life.cause, life.reason = "stop", "restart"
        self._feed(life, RestartAsked())

    def rung(self, member: Member) -> None:
        """A moment has come for which a member had set an alarm."""
        self._feed(member, TimePassed())

    def readied(self, member: Member) -> None:
        """The present run of a member has become ready. Bears to be told twice."""
        member.started = True
        if isinstance(member, Life):
            member.readied = member.attempt
        for group in member.groups:
            group.changed()
        member.changed()
        if member.group is not None:
            self._tell_group(member.group, Ready(member.number))
        self._release_held()

    def close(self) -> None:
        """From here on nobody is started again: a shutdown has begun."""
        self._closing = True
        self._held.clear()
        for life in self.all.values():
            life.restart = NEVER
        self._begin_reports(self.root)
        self._pass_by_empty(self.root)

    def _begin_reports(self, group: Group) -> None:
        """What a group has stopped up to now was for a restart of its own, and does not belong into its report."""
        group.changed()
        for member in group.members.values():
            if isinstance(member, Group):
                if not member.ending:
                    member.outcomes.clear()
                self._begin_reports(member)
            else:
                member.changed()

    def begin_report(self, group: Group) -> None:
        """A group is about to be shut down by itself."""
        if not group.ending:
            group.outcomes.clear()
        self._begin_reports(group)

    def _pass_by_empty(self, around: Group) -> None:
        """Groups without a worker have no end that anybody could wait for."""
        for group in around.members.values():
            if isinstance(group, Group):
                self._pass_by_empty(group)
                if group.empty and not group.dependents:
                    self._freed(group)

    def run_ended(self, life: Life, outcome: Outcome) -> None:
        """The present run of a worker has concluded. Bears to be told twice."""
        if life.told is life.run:
            self._carry_out(life)
            return
        ladder = life.run.ladder
        event = RunEnded(
            outcome.ended,
            stuck=ladder is not None and ladder.cause == "stuck",
            barred=_is_one_of(outcome.error, life.restart.never_on),
            chance=self._dice(),
        )
        if not life.started and not (isinstance(life.state, Up) and life.state.again):
            life.state = Up(0.0, asked=True)  # a first start that fails is not tried again
        if outcome.ended == "cancelled" and life.attempt > 1:
            outcome = replace(outcome, ended="stopped")  # it had run before
        life.last_outcome = life.final = outcome
        self._feed(life, event)

    # -------------------------------------------------------------------------------- the machine

    def _feed(self, member: Member, event: LifeEvent) -> None:
        """Tells the machine, and carries out what it commands, with what an interrupt has left undone before."""
        if isinstance(event, RestartAsked) and member.held:
            return  # its next run is due as it is, and there is none that could be stopped
        before = member.state
        state, commands = decide_life(before, event, self._clock(), member.restart)
        if isinstance(event, StopAsked) and member.between_runs:
            if member.held:
                state, commands = Over(), (Finish(),)  # there is no run that could be stopped
            if isinstance(member, Life):
                member.final = Outcome(member.name, member.kind.name, member.attempt, "stopped")
        told = member.run if isinstance(event, RunEnded) else member.told
        todo: tuple[LifeCommand | _Tell, ...] = commands
        if isinstance(event, RunEnded) and not isinstance(state, Over):
            todo = (_Tell(failed=isinstance(before, Up) and not before.again), *commands)
        # No call stands between these three: an interrupt finds all of them done, or none.
        member.todo += todo
        member.state = state
        member.told = told
        self._carry_out(member)

    def _tell_of_restart(self, member: Member) -> None:
        if isinstance(member, Life):
            self._runner.restarts(member)
        elif isinstance(member, Group):
            self._runner.group_told(member, "supervisor.group_restarting", str(member.failure or member.reason))

    def _carry_out(self, member: Member) -> None:
        if member.busy:
            return  # a command has led here: the loop below, further down the stack, goes on with the rest
        try:
            member.busy = True
            while member.todo:
                self._perform(member, member.todo[0])
                member.todo.popleft()  # only now: a command that was interrupted is carried out again
        except (KeyboardInterrupt, SystemExit):
            self._runner.call_soon(self._carry_out, member)
            raise
        finally:
            member.busy = False
        member.changed()

    def _perform(self, member: Member, command: LifeCommand | _Tell) -> None:
        match command:
            case _Tell(failed=failed):
                self._tell_of_restart(member)
                if failed and member.group is not None:
                    self._tell_group(member.group, Failed(member.number, _siblings(member)))
            case StartRun():
                member.held = True
                assert member.group is not None
                self._tell_group(member.group, Due(member.number))
            case StopRun():
                if isinstance(member, Life):
                    self._runner.stop(member.run, member.cause, member.reason)
                elif isinstance(member, Group):
                    self._stop_members(member)
            case WakeAt(at=at):
                self._runner.wake(member, at)
            case Finish(exhausted=exhausted):
                self._finish(member, exhausted)
            case _:
                assert_never(command)

    def _start(self, member: Member) -> None:
        """Begins the next run, once all that it comes after are ready."""
        if isinstance(member, Life) and not member.run.over:
            return  # it has been begun, and an interrupt kept that from being noted
        member.held = any(not other.ready and not other.over for other in member.after)
        if member.held:
            if not self._closing:  # else nobody is started again
                self._held[member] = None
            if member.group is not None:
                self._tell_group(member.group, Waits(member.number))
            return
        self._held.pop(member, None)
        if isinstance(member, Life):
            self._runner.begin_run(member)
        elif isinstance(member, Group):
            self._begin_group(member)

    def _release_held(self) -> None:
        for member in tuple(self._held):
            if not self._closing and not any(group.ending for group in member.groups):  # else it is about to be stopped
                self._start(member)

    def _finish(self, member: Member, exhausted: bool) -> None:
        group = member.group
        assert group is not None
        lost = _is_lost(member)
        exhausted = exhausted or (member.kept and lost)  # it was to come back with its group, and has not ended
        error = self._conclude(member, exhausted)
        fails = error is not None and group.on_exhausted == "escalate"
        if lost and (group.ending or fails):
            group.lost = True
        member.over = True
        member.held = False
        self._held.pop(member, None)
        if lost or not member.started or not (member.kept or group.ending or fails):
            group.originals.pop(member, None)
        elif member.kept:
            group.stood_down[member] = None
        group.members.pop(member.number, None)
        if isinstance(member, Life):
            self.all.pop(member.number, None)
            for around in member.groups:
                if member.final is not None and (around.ending or self._closing or (fails and around is group)):
                    around.outcomes[member.number] = member.final
            self._runner.life_over(member)
        elif isinstance(member, Group):
            self._runner.group_over(member)
        self._let_go_on(member)
        member.changed()
        ending = group.ending
        if fails and not self._closing and (not ending or group.failure is error):  # the latter after an interrupt
            assert error is not None
            self._escalate(group, member, error)
        self._tell_group(group, Gone(member.number))
        self._release_held()
        if self._closing:
            for around in member.groups:
                if around.after and not around.dependents and around.empty:
                    self._let_go_on(around)
        elif ending and group.ending and not group.members:
            self._group_ended(group)
        elif not fails and (error is not None or _has_failed(member)):
            self._runner.given_up(member)

    def _conclude(self, member: Member, exhausted: bool) -> BaseException | None:
        """Returns the error for which a member is given up, if it is."""
        if not exhausted:
            if isinstance(member, Group) and member.failure is not None and not member.over:
                self._runner.group_told(member, "supervisor.group_given_up", str(member.failure))
            return None
        error = RestartLimitExceeded(
            member.name,
            member.restarts,
            member.restart.within,
            kind="group" if isinstance(member, Group) else "worker",
            still_runs=_is_lost(member),
        )
        if isinstance(member, Life):
            final = member.final
            assert final is not None
            if isinstance(final.error, RestartLimitExceeded):
                return final.error
            error.__cause__ = final.error
            ended = final.ended if final.ended == "abandoned" else "failed"
            member.final = replace(final, ended=ended, error=error)
        elif isinstance(member, Group):
            error.__cause__ = member.failure
            if member.over:  # told before an interrupt
                return error
            self._runner.group_told(member, "supervisor.group_given_up", str(error))
        return error

    def _let_go_on(self, member: Member) -> None:
        """Something has ended: what it came after may be stopped now, where it is to be."""
        self._to_stop += self._freed(member)
        member.let_go = True  # only now, so that an interrupt keeps nobody from being stopped
        self._stop_freed()

    def _stop_freed(self) -> None:
        """Stops what may be stopped now, one after the other: what ends meanwhile leads here again, however many."""
        if self._stopping:
            return  # the loop below, further down the stack, goes on with the rest
        try:
            self._stopping = True
            while self._to_stop:
                self._stop_if_due(self._to_stop[0])
                self._to_stop.popleft()
        except (KeyboardInterrupt, SystemExit):
            self._runner.call_soon(self._stop_freed)
            raise
        finally:
            self._stopping = False

    def _stop_if_due(self, member: Member) -> None:
        if member.over or member.group is None:
            return
        if self._closing:
            for life in (member,) if isinstance(member, Life) else tuple(cast("Group", member).lives):
                if not life.over and not life.blocked:
                    self.stop(life, "shutdown", self.root.reason)
        elif member.group.ending:
            self.stop(member, member.group.cause, member.group.reason)

    def _freed(self, member: Member) -> list[Member]:
        """Counts a member out; returns those that nothing comes after any more."""
        freed: list[Member] = []
        if member.let_go:
            return freed
        for other in member.after:
            other.dependents.discard(member)
            if not other.dependents:
                freed.append(other)
                if self._closing and isinstance(other, Group) and other.empty:
                    freed += self._freed(other)
        return freed

    # -------------------------------------------------------------------------------- groups

    def _tell_group(self, group: Group, event: GroupEvent) -> None:
        """Tells the group's machine, and carries out what it commands; the same care as for a member."""
        if self._halted(group):
            return
        before = group.machine
        state, commands = decide_group(before, event, group.strategy)
        group.to_do.extend(commands)
        group.machine = state
        self._act(group)
        if _is_steady(group):
            group.renewing = False
            if group.group is not None and not isinstance(before, Steady):
                self.readied(group)

    def _act(self, group: Group) -> None:
        """Carries out what the group's machine has commanded."""
        if group.acting:
            return
        try:
            group.acting = True
            while group.to_do:
                command = group.to_do[0]
                member = group.members.get(command.number)
                if member is not None and not self._halted(group):
                    self._perform_for_group(member, command)
                group.to_do.popleft()
        except (KeyboardInterrupt, SystemExit):
            self._runner.call_soon(self._act, group)
            raise
        finally:
            group.acting = False

    def _halted(self, group: Group) -> bool:
        """Whether the group is going down, so that nobody in it is started any more."""
        return self._closing or group.ending

    def _perform_for_group(self, member: Member, command: GroupCommand) -> None:
        match command:
            case Anew():
                member.cause, member.reason = "stop", "restart of the group"
                self._feed(member, RestartAsked())
            case End():
                member.kept = True
                self.stop(member, "stop", "restart of the group")
            case Start():
                self._start(member)
            case _:
                assert_never(command)

    def _stop_members(self, group: Group) -> None:
        """Ends all members of a group, in their order."""
        group.ending = True
        group.machine = Steady()
        for member in tuple(group.members.values()):
            if not member.over and (not member.dependents or member.between_runs):
                self.stop(member, group.cause, group.reason)
        if not group.members:
            self._group_ended(group)

    def _group_ended(self, group: Group) -> None:
        """All members of a group that was to end have ended."""
        group.ending = False
        ended: Ended = "abandoned" if group.lost else "stopped" if group.failure is None else "failed"
        self._feed(group, RunEnded(ended, stuck=group.lost, chance=self._dice()))

    def _escalate(self, group: Group, member: Member, error: BaseException) -> None:
        if group is self.root:
            self._runner.escalate(member, error)
            return
        if group.failure is None:
            group.failure = error
            group.cause, group.reason = "stop", f"{member.name!r} is given up"
        self._stop_members(group)

    def _begin_group(self, group: Group) -> None:
        """Begins all that a group consists of, one after the other."""
        latest = {old.name: old for old in group.originals}  # one that had ended may have been replaced by hand
        originals, group.originals = tuple(latest.values()), {}
        group.stood_down.clear()
        group.renewing = True
        group.restarts += 1
        group.failure = None
        group.lost = False
        group.outcomes.clear()  # of those that this start replaces
        group.run = object()
        renewed: dict[Member, Member] = {}
        for old in originals:
            new = old
            if isinstance(old, Life):
                new = renewed[old] = old.once_more()
                new.run = old.run  # until it has one of its own
                self._enlist(new)
            elif isinstance(old, Group):
                old.over = old.let_go = False
                self._runner.renumber(old)
            new.after = tuple(renewed.get(other, other) for other in new.after)
            new.held = new.started = True
            self.add(new)
        group.machine = Restarting(frozenset(), frozenset(group.members))
        self._tell_group(group, Gone(-1))

    def _enlist(self, life: Life) -> None:
        try:
            self._runner.enlist(life)
        except ValueError:  # a call has its name at present: better another name than no worker
            life.given_name = None
            self._runner.enlist(life)


def _is_lost(member: Member) -> bool:
    if isinstance(member, Life):
        return member.final is not None and member.final.ended == "abandoned"
    return isinstance(member, Group) and member.lost


def _has_failed(member: Member) -> bool:
    """Whether it is a group that has failed, and that nobody has shut down."""
    return isinstance(member, Group) and member.failure is not None and member.closed is None


def _is_steady(group: Group) -> bool:
    return isinstance(group.machine, Steady)


def _is_same(one: Life, other: Life) -> bool:
    """Whether two workers are the same one, started twice: of one name, or without one and of the same function."""
    if one.given_name is not None or other.given_name is not None:
        return one.given_name == other.given_name
    try:
        return bool(one.kind is other.kind and one.fn == other.fn and one.args == other.args)
    except Exception:  # arguments that cannot be compared: arrays, say
        return False


def _siblings(member: Member) -> tuple[Sibling, ...]:
    group = member.group
    if group is None or group.strategy == "one_for_one":
        return ()
    return tuple(
        Sibling(other.number, other.restart.when != "never", not other.between_runs)
        for other in group.members.values()
        if other is not member
    )


def _is_one_of(error: BaseException | None, types: tuple[type[BaseException], ...]) -> bool:
    """Whether a run has raised one of these; what must not reach the event loop as it is comes in disguise."""
    if isinstance(error, WorkerExit) and any(issubclass(SystemExit, kind) for kind in types):
        return True
    return isinstance(error, types) or (isinstance(error, WorkerFailed) and isinstance(error.error, types))


NEVER = Restart("never")
"""For workers that are about to be stopped."""


# ------------------------------------------------------------------------------------------------ the order of stops


def deadlines(lives: Iterable[Life], now: float, deadline: float, budget: Callable[[Life], float]) -> dict[Life, float]:
    """Returns by when each worker must have ended, so that those that it comes after still have their time.

    Where the longest path of ladders does not fit, all graces shrink by one factor.
    """
    stopped = dict.fromkeys(lives)
    left = max(0.0, deadline - now)
    later: dict[Life, float] = {}  # what is needed once this worker has ended
    needed: dict[Member, float] = {}  # for it, and what comes later

    def before(member: Member) -> list[Member]:
        """What must wait for a member: that which it comes after; of a group, all that is in it counts."""
        if isinstance(member, Group):
            return list(member.lives)
        if member not in stopped:
            return []
        return [other for around in (member, *member.groups) for other in around.after if not other.over]

    for life in stopped:
        path: list[Member] = [life]  # no recursion: chains may be as long as they like
        while path:
            member = path[-1]
            others = [] if member in needed else before(member)
            missing = [other for other in others if other not in needed]
            if missing:
                path += missing
                continue
            path.pop()
            if member in needed:
                continue
            longest = max((needed[other] for other in others), default=0.0)
            if isinstance(member, Life) and member in stopped:
                later[member] = longest
                longest += min(budget(member), left)
            needed[member] = longest

    longest = max(needed.values(), default=0.0)
    factor = 1.0 if longest <= left else left / longest
    return {life: deadline - factor * after if after else deadline for life, after in later.items()}
