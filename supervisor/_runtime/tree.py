"""The supervision tree: what the end of a run means for a worker, its groups, and those that come after it.

What follows is decided in `lifecycle` and `strategy`; how a run is started, carried out and stopped is not known here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, assert_never

from .._core.errors import RestartLimitExceeded, is_a
from .._core.lifecycle import (
    AskTurn,
    Finish,
    LifeCommand,
    LifeEvent,
    NoteRestart,
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
from .._core.strategy import Due, Failed, Gone, Ready, Steady, Waits
from .._core.verdict import is_one_of
from .._loop import aside
from .._loop.agenda import Agenda
from .._loop.errors import insist
from .groups import Groups, halted, siblings
from .nodes import NEVER, GroupNode, Node, WorkerNode
from .salvage import Salvage

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._core.ladder import Cause
    from .._core.strategy import GroupEvent
    from .._loop.alarms import Alarms
    from .._loop.backlog import Backlog
    from .._observe.publisher import Publisher
    from .._run.run import Run
    from .losses import Losses
    from .scopes import AnyScope

__all__ = ["Tree"]


class Tree:
    """All workers of `start()` that have not ended, and their groups. On the loop's thread.

    Args:
        alarms: Have it call `rung` for a node.
        backlog: For what are many.
        chance: Returns a random number from 0 to 1.
        root: The supervisor as a group.
        next_number: Returns the number of a group that is started again.
        enlist: Gives a worker its number, its name and its handle.
        begin_run: Begins the next run of a worker. Idempotent.
        stop_run: Climbs the ladder of a run. Idempotent.
        worker_ended: A worker has ended for good, as its `final` says.
        group_ended: A group has ended for good, or until a group around it is started again.
        shut_down: A member of the root was given up, and all others are to go with it.

    Attributes:
        workers: The workers, by their numbers. Other threads may read it.
        root: The supervisor as a group.
        salvage: What is done for nodes where something has failed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        alarms: Alarms[Node],
        publisher: Publisher,
        losses: Losses,
        backlog: Backlog,
        chance: Callable[[], float],
        root: GroupNode,
        *,
        next_number: Callable[[], int],
        enlist: Callable[[WorkerNode], object],
        begin_run: Callable[[WorkerNode], object],
        stop_run: Callable[[Run, Cause, str], object],
        worker_ended: Callable[[WorkerNode], object],
        group_ended: Callable[[GroupNode], object],
        shut_down: Callable[[Node, BaseException], object],
    ) -> None:
        self._clock = clock
        self._alarms = alarms
        self._publisher = publisher
        self._losses = losses
        self._chance = chance
        self._begin_run = begin_run
        self._stop_run = stop_run
        self._worker_ended = worker_ended
        self._group_ended = group_ended
        self.salvage = Salvage(self, loop, clock, publisher, worker_ended)
        self._call_soon = partial(aside.call_soon, loop)
        self._groups = Groups(
            self,
            self._call_soon,
            backlog,
            chance,
            enlist=enlist,
            replaced=losses.replaced,
            next_number=next_number,
            shut_down=shut_down,
            report=publisher.fault,
        )
        self._waiting: dict[Node, None] = {}  # those whose turn has come, but not what they come after
        self._to_stop: Agenda[Node] = Agenda()  # those that nothing comes after any more
        self.root = root
        self.workers = root.crew

    @property
    def _closing(self) -> bool:
        """Whether the root is shut down: nobody is started again, and each worker is stopped by itself."""
        return self.root.shutdown.begun

    def add(self, node: Node) -> None:
        """Gives a node its place; the first run of a worker is begun by the caller."""
        if isinstance(node.state, Up):
            node.state = Up(self._clock(), node.state.past)
        if node.group is not None:
            node.group.insert(node)
        for other in node.after:
            other.dependents.add(node)

    # ------------------------------------------------------------------------------------ what happens

    def stop(self, node: Node, cause: Cause, reason: str = "", *, kept: bool = False) -> None:
        """Ends a node for good; or, where it is `kept`, until its group is started again."""
        if isinstance(node, GroupNode) and node.shutdown.begun and node.group is not None:
            node.group.originals.pop(node, None)  # whoever shuts a group down does not want it back
        node.cause, node.reason = cause, reason
        self.feed(node, StopAsked(kept=kept))
        if node.over and node.group is not None and node not in node.group.originals:
            node.let_go()

    def dismiss(self, node: WorkerNode, reason: str = "") -> None:
        """Ends a worker for good, also where its group is started again."""
        node.group.originals.pop(node, None)
        self.stop(node, "stop", reason)

    def restart(self, node: WorkerNode) -> None:
        """Ends the present run of a worker, and begins another."""
        node.cause, node.reason = "stop", "restart"
        self.feed(node, RestartAsked())

    def rung(self, node: Node) -> None:
        """A moment has come for which a node had set an alarm."""
        self.feed(node, TimePassed())

    def readied(self, node: Node) -> None:
        """The present run of a node has become ready. Idempotent."""
        attempt = node.attempt
        self.feed(node, Readied())
        for group in node.groups:
            group.changed()
        node.changed()
        its = node.group
        # One that is steady, and has nothing left to do, would answer with nothing.
        if its is not None and (not isinstance(its.phase, Steady) or its.phase_agenda.todo):
            self._hear(its, Ready(node.number))
        self._release_waiting(node)
        if isinstance(node, WorkerNode):
            node.readied = attempt  # only now: an interrupt before that has all of it done again

    def run_ended(self, node: WorkerNode, run: Run, outcome: Outcome) -> None:
        """A run of a worker has concluded. Idempotent."""
        if not node.is_under_way(run):  # the machine was fed its end; an interrupt has left the rest undone
            self._work_for(node)
            return
        event = RunEnded(
            outcome.ended,
            stuck=run.climb is not None and run.climb.cause in ("stuck", "limit"),
            barred=self._is_barred(node, run, outcome.error),
            chance=self._chance(),
        )
        if outcome.ended == "cancelled" and node.attempt > 1:
            outcome = replace(outcome, ended="stopped")  # it had run before
        node.last_outcome = node.final = outcome
        self.feed(node, event)

    def _is_barred(self, node: WorkerNode, run: Run, error: BaseException | None) -> bool:
        """Whether nothing may follow this error; a class that cannot say so does not bar it."""
        try:
            return is_one_of(error, node.restart.never_on)
        except KeyboardInterrupt:
            raise
        except BaseException as broken:  # of the application's
            self._publisher.callback_failed(run, "never_on", broken)
            return False

    # ------------------------------------------------------------------------------------ a shutdown

    def workers_in(self, scope: AnyScope) -> list[WorkerNode]:
        """Returns the workers of a scope, the oldest first. Any thread."""
        return list(scope.crew.values())

    def close(self) -> None:
        """From here on nobody is started again: the shutdown of the root has begun."""
        self._waiting.clear()
        for node in self.workers.values():
            node.restart = NEVER
        self._pass_by_empty(self.root)

    def _pass_by_empty(self, around: GroupNode) -> None:
        """Groups without a worker have no end that anybody could wait for."""
        for group in around.members.values():
            if isinstance(group, GroupNode):
                self._pass_by_empty(group)
                if group.empty and not group.dependents:
                    self._count_out(group, deque())  # those that it came after are asked with all others

    # ------------------------------------------------------------------------------------ the lifecycle machine

    def feed(self, node: Node, event: LifeEvent) -> None:
        """Feeds the machine, and carries out what it commands, with what an interrupt has left undone before."""
        state, commands = decide_life(node.state, event, self._clock(), node.restart)
        node.agenda.todo += commands  # no call stands between these two: an interrupt finds both done, or none
        node.state = state
        if node.agenda.todo:
            self._work_for(node)

    def _work_for(self, node: Node) -> None:
        node.agenda.work(self._call_soon, self._carry_out_next, node)

    def _carry_out_next(self, node: Node, command: LifeCommand) -> None:
        errors: list[Exception] = []
        if not insist(errors.append, self._carry_out, node, command):
            self.salvage.carry_out(node, command, errors[0])
        if errors:
            self._publisher.fault(type(command).__name__, node.name, errors[0])

    def _carry_out(self, node: Node, command: LifeCommand) -> None:
        match command:
            case NoteRestart(failed=failed):
                self._note_restart(node)
                if failed and node.group is not None:
                    self._hear(node.group, Failed(node.number, siblings(node)))
                    node.group.standing.pop(node.number, None)
            case AskTurn():
                assert node.group is not None
                self._hear(node.group, Due(node.number))
            case StartRun():
                if node.group is not None:
                    node.group.stand(node)
                if isinstance(node, GroupNode):
                    self._groups.begin(node)
                elif isinstance(node, WorkerNode):
                    self._begin_run(node)
            case StopRun():
                if isinstance(node, GroupNode):
                    self._groups.stop_members(node)
                elif isinstance(node, WorkerNode):
                    self._stop_run(node.run, node.cause, node.reason)
            case WakeAt(at=at):
                self._alarms.set(at, node)
            case Finish():
                self._finish(node, command)
            case _:
                assert_never(command)
        node.changed()

    def _note_restart(self, node: Node) -> None:
        if isinstance(node, GroupNode):
            self._publisher.group_changed("supervisor.group_restarting", node.name, str(node.failure or node.reason))
        elif isinstance(node, WorkerNode) and node.last_outcome is not None:
            self._publisher.restarting(node.run, node.last_outcome)

    def _hear(self, group: GroupNode, event: GroupEvent) -> None:
        """Tells a group what has happened to a member, unless it is going down."""
        if not halted(group):
            self._groups.feed(group, event)

    def give_turn(self, node: Node) -> None:
        """Begins the next run of a node, once all that it comes after are ready."""
        if node.after and any(not other.ready and not other.over for other in node.after):
            if not self._closing:  # else nobody is started again
                self._waiting[node] = None
            if node.group is not None:
                self._hear(node.group, Waits(node.number))
            return
        self._waiting.pop(node, None)
        self.feed(node, TurnCame())

    def _release_waiting(self, node: Node) -> None:
        """A node has become ready, or has ended: others may have waited for it, or for a group that it is in."""
        if not self._waiting:
            return
        for around in (node, *node.groups):
            waiting = around.dependents & self._waiting.keys()
            for other in sorted(waiting, key=attrgetter("number")):
                if not any(halted(group) for group in other.groups):  # else it is about to be stopped
                    self.give_turn(other)

    # ------------------------------------------------------------------------------------ the end of a node

    def _finish(self, node: Node, finish: Finish) -> None:
        group = node.group
        assert group is not None
        if finish.between_runs and isinstance(node, WorkerNode):
            node.final = Outcome(node.name, node.kind.name, node.attempt, "stopped")
        error = self._give_up(node, finish.exhausted)
        fails = error is not None and group.on_exhausted == "escalate"
        if node.is_lost and (group.ending or fails):
            group.lost = True
        self._waiting.pop(node, None)
        comes_back = node.started and not node.is_lost and (finish.kept or group.ending or fails)
        group.remove(node, comes_back=comes_back, stood_down=finish.kept)
        if isinstance(node, WorkerNode):
            self._note_end(node, fails)
            self._worker_ended(node)
        elif isinstance(node, GroupNode):
            self._group_ended(node)
        self.let_go_on(node)
        node.changed()
        ending = group.ending
        if fails and not self._closing and (not ending or group.failure is error):  # the latter after an interrupt
            assert error is not None
            self._groups.fail(group, node, error)
        self._hear(group, Gone(node.number))
        self._release_waiting(node)
        if self._closing:
            for around in node.groups:
                if around.after and not around.dependents and around.empty:
                    self.let_go_on(around)
        elif ending and group.ending and not group.members:
            self._groups.emptied(group)
        elif not fails and (error is not None or (isinstance(node, GroupNode) and node.has_failed)):
            self._note_given_up(node)
        if node not in group.originals:
            node.let_go()

    def _note_end(self, node: WorkerNode, fails: bool) -> None:
        """Takes a worker into the reports that are being made; not where an interrupt has it end once more, later."""
        if node.final is None or any(around.shutdown.has_reported(node.number) for around in node.groups):
            return
        for around in reversed(node.groups):  # the innermost last: once its report has it, so have the others
            if around.ending or self._closing or (fails and around is node.group):
                around.shutdown.note(node.number, node.final)

    def _give_up(self, node: Node, exhausted: bool) -> BaseException | None:
        """Returns the error for which a node is given up, if it is."""
        error: BaseException | None = None
        if exhausted:
            error = RestartLimitExceeded(
                node.name, node.restarts, node.restart.within, kind=node.role, still_runs=node.is_lost
            )
        if isinstance(node, GroupNode):
            self._log_given_up(node, error)
        elif isinstance(node, WorkerNode) and node.final is not None and error is not None:
            final = node.final
            if is_a(final.error, RestartLimitExceeded):
                return final.error  # it was given up before an interrupt
            error.__cause__ = final.error
            node.final = replace(final, ended=final.ended if node.is_lost else "failed", error=error)
        return error

    def _log_given_up(self, group: GroupNode, error: BaseException | None) -> None:
        """A group has failed too often, or has failed and is not to be started again."""
        if error is not None:
            error.__cause__ = group.failure
        why = error or group.failure
        if why is not None and group.group is not None and group.number in group.group.members:  # else it was logged
            self._publisher.group_changed("supervisor.group_given_up", group.name, str(why))

    def _note_given_up(self, node: Node) -> None:
        """A node is given up, and ends alone."""
        if self._losses.give_up(node):
            self._publisher.given_up(node.role)

    def let_go_on(self, node: Node) -> None:
        """Something has ended: what it came after may be stopped now, where it is to be."""
        self._count_out(node, self._to_stop.todo)
        # One after the other: what ends meanwhile leads here again, however many.
        self._to_stop.work(self._call_soon, self._stop_next)

    def _stop_next(self, node: Node) -> None:
        insist(partial(self._publisher.fault, "StopRun", node.name), self._stop_if_due, node)

    def _stop_if_due(self, node: Node) -> None:
        if node.over or node.group is None:
            return
        if self._closing:
            workers = tuple(node.crew.values()) if isinstance(node, GroupNode) else (node,)
            for worker in workers:
                if not worker.over and not worker.blocked:
                    self.stop(worker, "shutdown", self.root.shutdown.reason)
        elif node.group.ending:
            self.stop(node, node.group.cause, node.group.reason)

    def _count_out(self, node: Node, freed: deque[Node]) -> None:
        """Takes a node out of the dependents of what it comes after; adds to `freed` what has no others.

        Idempotent, and the set is changed last: an interrupt before that has all of it done again.
        """
        for other in node.after:
            if node not in other.dependents:
                continue
            if len(other.dependents) == 1:
                freed.append(other)
                if self._closing and isinstance(other, GroupNode) and other.empty:
                    self._count_out(other, freed)
            other.dependents.discard(node)
