"""The timer of last resort of each shutdown: whatever was lost on the way, it ends in time."""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from .._core.ladder import EndedState, Exited, Stopping
from .._core.outcome import Outcome
from .._core.policy import Inject
from .._loop import aside
from .._loop.clock import call_at, monotonic
from .._loop.errors import insist
from .._loop.inbox import TURN
from .nodes import GroupNode
from .scopes import holds_run, label_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._loop.clock import Timer
    from .._observe.publisher import Publisher
    from .._run.run import Run
    from .escalation import Escalation
    from .kinds import Kinds
    from .portal import Portal
    from .scopes import AnyScope
    from .tree import Tree

__all__ = ["LastResort", "groups_in"]

LAST_RESORT_SLACK = 0.12
"""Seconds past its deadline after which a shutdown performs all steps that are left."""

LAST_LOOK = 0.03
"""Seconds after that in which a worker may still end, and be heard."""


class LastResort:
    """Ends what is left when a shutdown is overdue, so that it depends on nothing that may fail. On the loop's thread.

    Many are ended in short turns of the loop: its own, as the backlog may be what has failed.

    As a rule nothing is left by then; something may be, where the loop came too late to part of what there was to do,
    or where something failed inside the supervisor. Who has ended meanwhile is reported so, all others as abandoned.

    Args:
        end: Makes the report of a scope in which nothing is left.

    Attributes:
        tree: The tree of nodes; set by who makes it.
    """

    tree: Tree

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        publisher: Publisher,
        kinds: Kinds,
        portal: Portal,
        escalation: Escalation,
        end: Callable[[AnyScope], object],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._publisher = publisher
        self._kinds = kinds
        self._portal = portal
        self._escalation = escalation
        self._end = end
        self._timers: dict[AnyScope, Timer] = {}

    def arm(self, scope: AnyScope) -> None:
        """Sets the timer of a shutdown that has begun, or that has less time now."""
        at = scope.shutdown.deadline + LAST_RESORT_SLACK
        if at == math.inf:
            return
        timer = call_at(self._loop, self._clock, at, partial(self._overdue, scope))
        before, self._timers[scope] = self._timers.get(scope), timer
        if before is not None:
            before.cancel()

    def call_off(self, scope: AnyScope) -> None:
        """The shutdown has ended."""
        timer = self._timers.pop(scope, None)
        if timer is not None:
            timer.cancel()

    def _overdue(self, scope: AnyScope) -> None:
        if scope.shutdown.report is not None:
            return
        if self._clock() < scope.shutdown.deadline + LAST_RESORT_SLACK / 2:
            self.arm(scope)  # a clock that was set back
            return
        try:
            look = partial(aside.call_later, self._loop, LAST_LOOK, self._give_all_up, scope)
            self._in_turns(self._runs(scope), self._hurry, look)
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self._overdue, scope)  # all of it can be done twice
            raise

    def _give_all_up(self, scope: AnyScope) -> None:
        if scope.shutdown.report is not None:
            return
        try:
            calling = [run for run in tuple(self._portal.open) if holds_run(scope, run)]
            self._in_turns(self._runs(scope), self._give_up, partial(self._end_all, scope, calling))
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self._give_all_up, scope)
            raise

    def _in_turns(self, runs: deque[Run], do: Callable[[Run], object], done: Callable[[], object]) -> None:
        """Does something with each run, in turns of the loop that are short, and calls `done()` then."""
        try:
            until = monotonic() + TURN
            while runs:
                self._insist(runs[0].name, do, runs[0])
                runs.popleft()
                if monotonic() >= until:
                    break
            if not runs:
                done()
                return
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self._in_turns, runs, do, done)
            raise
        aside.call_soon(self._loop, self._in_turns, runs, do, done)

    def _hurry(self, run: Run) -> None:
        """Performs all steps at once that are left, on a run for which a shutdown has no time left."""
        if not run.over and (run.climb is None or not isinstance(run.climb.state, Stopping | EndedState)):
            self._escalation.stop(run, "shutdown")
        if run.climb is not None and isinstance(run.climb.state, Stopping) and not run.over:
            self._escalation.hurry(run, run.climb)

    def _give_up(self, run: Run) -> None:
        """Ends a run for which a shutdown has waited long enough: as what it has come to, or else as abandoned."""
        if run.ending and not run.over and (run.climb is not None or run.settle is None):
            self._escalation.feed(run, Exited(run.returned, run.died))  # the loop has not come to hear it
        climb = run.climb
        if run.over or climb is None:  # the latter: the thread of an executor's call is ending it by itself
            return
        if isinstance(climb.state, Stopping):
            self._escalation.abandon(run, isinstance(climb.state.step, Inject))
        if isinstance(climb.state, EndedState) and not run.over:  # it was not concluded
            self._escalation.conclude_simply(run, climb.state.ended, climb.state.step)

    def _runs(self, scope: AnyScope) -> deque[Run]:
        runs = deque(self._kinds.calls_in(scope))
        runs += (node.run for node in self.tree.workers_in(scope) if not node.between_runs)
        return runs

    def _end_all(self, scope: AnyScope, calling: list[Run]) -> None:
        """Ends what is left in spite of all, which is little; and the calls to the loop, and with them the scope."""
        if scope.shutdown.report is not None:
            return
        calls = self._kinds.calls_in(scope)
        nodes = self.tree.workers_in(scope)
        left = [run.name for run in calls if not run.over and run.climb is not None]
        left += [node.name for node in nodes if not node.over]
        if left:
            self._publisher.overdue(label_of(scope), left)
        for run in calls:
            if not run.over:
                outcome = Outcome(run.name, run.kind.name, run.attempt, "abandoned")
                scope.shutdown.note(run.number, outcome)
                self._insist(run.name, self._escalation.answer, run, outcome)
        for node in nodes:
            self._insist(node.name, self.tree.salvage.strike_out, node)
        for run in calling:
            self._insist(run.name, self._portal.give_up, run)
        for group in reversed(groups_in(scope)):
            if group.group is not None:
                self._insist(group.name, self.tree.salvage.strike_out, group)
        self._end(scope)

    def _insist(self, name: str, do: Callable[..., object], *args: object) -> None:
        insist(partial(self._publisher.fault, "shutdown", name), do, *args)


def groups_in(scope: AnyScope) -> list[GroupNode]:
    """Returns a scope, if it is one of groups, and the groups that are in it, those around others first."""
    found = [scope] if isinstance(scope, GroupNode) else []
    for group in found:
        found += (member for member in group.members.values() if isinstance(member, GroupNode))
    return found
