"""The workers of `start()` across their runs: where a run's end becomes an event of a life.

What follows is decided in `_core.lifecycle`; how a run is carried out and stopped is the business of the runtime.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, assert_never, cast

from .._core.errors import RestartLimitExceeded, WorkerExit, WorkerFailed
from .._core.lifecycle import (
    AskTurn,
    Finish,
    Held,
    LifeCommand,
    LifeEvent,
    NoteRestart,
    Past,
    Readied,
    RestartAsked,
    RunEnded,
    StartRun,
    StopAsked,
    StopRun,
    TimePassed,
    TurnCame,
    Up,
    WakeAt,
    decide_life,
)
from .._core.outcome import Outcome
from .._core.strategy import (
    Anew,
    Due,
    End,
    Failed,
    Gone,
    GroupCommand,
    GroupEvent,
    Ready,
    Restarting,
    Sibling,
    Start,
    Steady,
    Waits,
    decide_group,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.ladder import Cause
    from .._core.outcome import Ended
    from .._run.run import Run
from .._loop.agenda import Agenda
from .nodes import NEVER, GroupNode, Node, WorkerNode

__all__ = ["Runner", "Tree"]


class Runner(Protocol):
    """What lives need of the shell. On the loop's thread."""

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        """Calls this in the loop's next turn."""
        ...

    def begin_run(self, life: WorkerNode) -> None:
        """Begins the next run of a worker."""
        ...

    def renumber(self, group: GroupNode) -> None:
        """Gives a group that begins anew another number."""
        ...

    def stop(self, run: Run, cause: Cause, reason: str = "") -> None:
        """Climbs the ladder of a run."""
        ...

    def wake(self, member: Node, at: float) -> None:
        """Calls `Tree.rung` at this moment."""
        ...

    def restarts(self, life: WorkerNode) -> None:
        """A run has ended, and another one follows."""
        ...

    def life_over(self, life: WorkerNode) -> None:
        """A worker has ended for good, as `final` says."""
        ...

    def given_up(self, member: Node) -> None:
        """A member is given up, and ends alone."""
        ...

    def enlist(self, life: WorkerNode) -> None:
        """Gives a worker its number, its name and its handle."""
        ...

    def escalate(self, member: Node, error: BaseException) -> None:
        """A member of the root is given up, and all others are to go with it."""
        ...

    def group_told(self, group: GroupNode, event: str, reason: str) -> None:
        """A group begins anew, or is given up."""
        ...

    def group_over(self, group: GroupNode) -> None:
        """A group has ended for good."""
        ...


class Tree:
    """All workers of `start()` that have not ended, and their groups. On the loop's thread.

    Attributes:
        all: The workers, by their number.
        root: The supervisor as a group.
    """

    def __init__(self, runner: Runner, clock: Callable[[], float], dice: Callable[[], float], root: GroupNode) -> None:
        self._runner = runner
        self._clock = clock
        self._dice = dice
        self._waiting: dict[Node, None] = {}  # those whose turn has come, but not what they come after
        self._to_stop: Agenda[Node] = Agenda()  # that which nobody comes after any more
        self._closing = False
        self.root = root
        self.all: dict[int, WorkerNode] = {}

    def add(self, member: Node) -> None:
        """Takes in a member; the first run of a worker is begun by the caller."""
        if isinstance(member.state, Up):
            member.state = replace(member.state, since=self._clock())
        if isinstance(member, WorkerNode):
            self.all[member.number] = member
        group = member.group
        if group is not None:
            group.members[member.number] = member
            if group is not self.root:
                self._supersede(group, member)
                group.originals[member] = None
        for other in member.after:
            other.dependents.add(member)

    def _supersede(self, group: GroupNode, member: Node) -> None:
        """One that a strategy had stopped for good has been started anew by hand: that one is in its place now."""
        for old in group.stood_down:
            if isinstance(old, WorkerNode) and isinstance(member, WorkerNode) and _is_same(old, member):
                del group.stood_down[old]
                group.originals.pop(old, None)
                return

    # -------------------------------------------------------------------------------- what happens

    def stop(self, member: Node, cause: Cause, reason: str = "", *, kept: bool = False) -> None:
        """Ends a member for good; or, where it is `kept`, until its group is started again."""
        if isinstance(member, GroupNode) and member.closed is not None and member.group is not None:
            member.group.originals.pop(member, None)  # whoever shuts a group down does not want it back
        member.cause, member.reason = cause, reason
        self._feed(member, StopAsked(kept=kept))

    def dismiss(self, life: WorkerNode, reason: str = "") -> None:
        """Ends a worker for good, also where its group is started again."""
        life.group.originals.pop(life, None)
        self.stop(life, "stop", reason)

    def begin_anew(self, life: WorkerNode) -> None:
        """Ends the present run of a worker, and begins another."""
        life.cause, life.reason = "stop", "restart"
        self._feed(life, RestartAsked())

    def rung(self, member: Node) -> None:
        """A moment has come for which a member had set an alarm."""
        self._feed(member, TimePassed())

    def readied(self, member: Node) -> None:
        """The present run of a member has become ready. Idempotent."""
        attempt = member.attempt
        self._feed(member, Readied())
        for group in member.groups:
            group.changed()
        member.changed()
        if member.group is not None:
            self._tell_group(member.group, Ready(member.number))
        self._release_held()
        if isinstance(member, WorkerNode):
            member.readied = attempt  # only now: an interrupt before that has all of it done again

    def close(self) -> None:
        """From here on nobody is started again: a shutdown has begun."""
        self._closing = True
        self._waiting.clear()
        for life in self.all.values():
            life.restart = NEVER
        self._begin_reports(self.root)
        self._pass_by_empty(self.root)

    def _begin_reports(self, group: GroupNode) -> None:
        """What a group has stopped up to now was for a restart of its own, and does not belong into its report."""
        group.changed()
        for member in group.members.values():
            if isinstance(member, GroupNode):
                if not member.ending:
                    member.outcomes.clear()
                self._begin_reports(member)
            else:
                member.changed()

    def begin_report(self, group: GroupNode) -> None:
        """A group is about to be shut down by itself."""
        if not group.ending:
            group.outcomes.clear()
        self._begin_reports(group)

    def _pass_by_empty(self, around: GroupNode) -> None:
        """Groups without a worker have no end that anybody could wait for."""
        for group in around.members.values():
            if isinstance(group, GroupNode):
                self._pass_by_empty(group)
                if group.empty and not group.dependents:
                    self._count_out(group, deque())  # those that it came after are asked with all others

    def run_ended(self, life: WorkerNode, run: Run, outcome: Outcome) -> None:
        """A run of a worker has concluded. Idempotent."""
        if not life.is_under_way(run):  # the machine was fed its end; an interrupt has left the rest undone
            self._work_for(life)
            return
        ladder = run.climb
        event = RunEnded(
            outcome.ended,
            stuck=ladder is not None and ladder.cause == "stuck",
            barred=_is_one_of(outcome.error, life.restart.never_on),
            chance=self._dice(),
        )
        if outcome.ended == "cancelled" and life.attempt > 1:
            outcome = replace(outcome, ended="stopped")  # it had run before
        life.last_outcome = life.final = outcome
        self._feed(life, event)

    # -------------------------------------------------------------------------------- the machine

    def _feed(self, member: Node, event: LifeEvent) -> None:
        """Feeds the machine, and carries out what it commands, with what an interrupt has left undone before."""
        state, commands = decide_life(member.state, event, self._clock(), member.restart)
        member.agenda.todo += commands  # no call stands between these two: an interrupt finds both done, or none
        member.state = state
        self._work_for(member)

    def _note_restart(self, member: Node) -> None:
        if isinstance(member, WorkerNode):
            self._runner.restarts(member)
        elif isinstance(member, GroupNode):
            self._runner.group_told(member, "supervisor.group_restarting", str(member.failure or member.reason))

    def _work_for(self, member: Node) -> None:
        member.agenda.work(self._runner.call_soon, self._carry_out, member)

    def _carry_out(self, member: Node, command: LifeCommand) -> None:
        self._perform(member, command)
        member.changed()

    def _perform(self, member: Node, command: LifeCommand) -> None:
        match command:
            case NoteRestart(failed=failed):
                self._note_restart(member)
                if failed and member.group is not None:
                    self._tell_group(member.group, Failed(member.number, _siblings(member)))
            case AskTurn():
                assert member.group is not None
                self._tell_group(member.group, Due(member.number))
            case StartRun():
                if isinstance(member, GroupNode):
                    self._begin_group(member)
                elif isinstance(member, WorkerNode):
                    self._runner.begin_run(member)
            case StopRun():
                if isinstance(member, WorkerNode):
                    self._runner.stop(member.run, member.cause, member.reason)
                elif isinstance(member, GroupNode):
                    self._stop_members(member)
            case WakeAt(at=at):
                self._runner.wake(member, at)
            case Finish():
                self._finish(member, command)
            case _:
                assert_never(command)

    def _give_turn(self, member: Node) -> None:
        """Begins the next run, once all that it comes after are ready."""
        if any(not other.ready and not other.over for other in member.after):
            if not self._closing:  # else nobody is started again
                self._waiting[member] = None
            if member.group is not None:
                self._tell_group(member.group, Waits(member.number))
            return
        self._waiting.pop(member, None)
        self._feed(member, TurnCame())

    def _release_held(self) -> None:
        for member in tuple(self._waiting):
            if not self._closing and not any(group.ending for group in member.groups):  # else it is about to be stopped
                self._give_turn(member)

    def _finish(self, member: Node, finish: Finish) -> None:
        group = member.group
        assert group is not None
        if finish.between_runs and isinstance(member, WorkerNode):
            member.final = Outcome(member.name, member.kind.name, member.attempt, "stopped")
        lost = _is_lost(member)
        error = self._conclude(member, finish.exhausted)
        fails = error is not None and group.on_exhausted == "escalate"
        if lost and (group.ending or fails):
            group.lost = True
        self._waiting.pop(member, None)
        if lost or not member.started or not (finish.kept or group.ending or fails):
            group.originals.pop(member, None)
        elif finish.kept:
            group.stood_down[member] = None
        group.members.pop(member.number, None)
        if isinstance(member, WorkerNode):
            self.all.pop(member.number, None)
            for around in member.groups:
                if member.final is not None and (around.ending or self._closing or (fails and around is group)):
                    around.outcomes[member.number] = member.final
            self._runner.life_over(member)
        elif isinstance(member, GroupNode):
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

    def _conclude(self, member: Node, exhausted: bool) -> BaseException | None:
        """Returns the error for which a member is given up, if it is."""
        again = member.group is not None and member.number not in member.group.members  # after an interrupt
        if not exhausted:
            if isinstance(member, GroupNode) and member.failure is not None and not again:
                self._runner.group_told(member, "supervisor.group_given_up", str(member.failure))
            return None
        error = RestartLimitExceeded(
            member.name,
            member.restarts,
            member.restart.within,
            kind="group" if isinstance(member, GroupNode) else "worker",
            still_runs=_is_lost(member),
        )
        if isinstance(member, WorkerNode):
            final = member.final
            assert final is not None
            if isinstance(final.error, RestartLimitExceeded):
                return final.error
            error.__cause__ = final.error
            ended = final.ended if final.ended == "abandoned" else "failed"
            member.final = replace(final, ended=ended, error=error)
        elif isinstance(member, GroupNode):
            error.__cause__ = member.failure
            if not again:
                self._runner.group_told(member, "supervisor.group_given_up", str(error))
        return error

    def _let_go_on(self, member: Node) -> None:
        """Something has ended: what it came after may be stopped now, where it is to be."""
        self._count_out(member, self._to_stop.todo)
        self._stop_freed()

    def _stop_freed(self) -> None:
        """Stops what may be stopped now, one after the other: what ends meanwhile leads here again, however many."""
        self._to_stop.work(self._runner.call_soon, self._stop_if_due)

    def _stop_if_due(self, member: Node) -> None:
        if member.over or member.group is None:
            return
        if self._closing:
            for life in (member,) if isinstance(member, WorkerNode) else tuple(cast("GroupNode", member).lives):
                if not life.over and not life.blocked:
                    self.stop(life, "shutdown", self.root.reason)
        elif member.group.ending:
            self.stop(member, member.group.cause, member.group.reason)

    def _count_out(self, member: Node, freed: deque[Node]) -> None:
        """Takes a member out of the dependents of what it comes after; adds to `freed` what has no others.

        Idempotent, and the set is changed last: an interrupt before that has all of it done again.
        """
        for other in member.after:
            if member not in other.dependents:
                continue
            if len(other.dependents) == 1:
                freed.append(other)
                if self._closing and isinstance(other, GroupNode) and other.empty:
                    self._count_out(other, freed)
            other.dependents.discard(member)

    # -------------------------------------------------------------------------------- groups

    def _tell_group(self, group: GroupNode, event: GroupEvent) -> None:
        """Feeds the group's machine, and carries out what it commands; the same care as for a member."""
        if self._halted(group):
            return
        before = group.machine
        state, commands = decide_group(before, event, group.strategy)
        group.group_agenda.todo += commands  # no call stands between these two: an interrupt finds both done, or none
        group.machine = state
        group.group_agenda.work(self._runner.call_soon, self._carry_out_for, group)
        if _is_steady(group):
            group.renewing = False
            if group.group is not None and not isinstance(before, Steady):
                self.readied(group)

    def _carry_out_for(self, group: GroupNode, command: GroupCommand) -> None:
        member = group.members.get(command.number)
        if member is not None and not self._halted(group):
            self._perform_for_group(member, command)

    def _halted(self, group: GroupNode) -> bool:
        """Whether the group is going down, so that nobody in it is started any more."""
        return self._closing or group.ending

    def _perform_for_group(self, member: Node, command: GroupCommand) -> None:
        match command:
            case Anew():
                member.cause, member.reason = "stop", "restart of the group"
                self._feed(member, RestartAsked())
            case End():
                self.stop(member, "stop", "restart of the group", kept=True)
            case Start():
                self._give_turn(member)
            case _:
                assert_never(command)

    def _stop_members(self, group: GroupNode) -> None:
        """Ends all members of a group, in their order."""
        group.ending = True
        group.machine = Steady()
        for member in tuple(group.members.values()):
            if not member.over and (not member.dependents or member.between_runs):
                self.stop(member, group.cause, group.reason)
        if not group.members:
            self._group_ended(group)

    def _group_ended(self, group: GroupNode) -> None:
        """All members of a group that was to end have ended."""
        group.ending = False
        ended: Ended = "abandoned" if group.lost else "stopped" if group.failure is None else "failed"
        self._feed(group, RunEnded(ended, stuck=group.lost, chance=self._dice()))

    def _escalate(self, group: GroupNode, member: Node, error: BaseException) -> None:
        if group is self.root:
            self._runner.escalate(member, error)
            return
        if group.failure is None:
            group.failure = error
            group.cause, group.reason = "stop", f"{member.name!r} is given up"
        self._stop_members(group)

    def _begin_group(self, group: GroupNode) -> None:
        """Begins all that a group consists of, one after the other."""
        latest = {old.name: old for old in group.originals}  # one that had ended may have been replaced by hand
        originals, group.originals = tuple(latest.values()), {}
        group.stood_down.clear()
        group.renewing = True
        group.failure = None
        group.lost = False
        group.outcomes.clear()  # of those that this start replaces
        group.run = object()
        renewed: dict[Node, Node] = {}
        for old in originals:
            new = old
            if isinstance(old, WorkerNode):
                new = renewed[old] = old.once_more()
                new.run = old.run  # until it has one of its own
                self._enlist(new)
            elif isinstance(old, GroupNode):
                old.state = Held(Past(old.attempt, started=True))
                self._runner.renumber(old)
            new.after = tuple(renewed.get(other, other) for other in new.after)
            self.add(new)
        group.machine = Restarting(frozenset(), frozenset(group.members))
        self._tell_group(group, Gone(-1))

    def _enlist(self, life: WorkerNode) -> None:
        try:
            self._runner.enlist(life)
        except ValueError:  # a call has its name at present: better another name than no worker
            life.given_name = None
            self._runner.enlist(life)


def _is_lost(member: Node) -> bool:
    if isinstance(member, WorkerNode):
        return member.final is not None and member.final.ended == "abandoned"
    return isinstance(member, GroupNode) and member.lost


def _has_failed(member: Node) -> bool:
    """Whether it is a group that has failed, and that nobody has shut down."""
    return isinstance(member, GroupNode) and member.failure is not None and member.closed is None


def _is_steady(group: GroupNode) -> bool:
    return isinstance(group.machine, Steady)


def _is_same(one: WorkerNode, other: WorkerNode) -> bool:
    """Whether two workers are the same one, started twice: of one name, or without one and of the same function."""
    if one.given_name is not None or other.given_name is not None:
        return one.given_name == other.given_name
    try:
        return bool(one.kind is other.kind and one.fn == other.fn and one.args == other.args)
    except Exception:  # arguments that cannot be compared: arrays, say
        return False


def _siblings(member: Node) -> tuple[Sibling, ...]:
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
