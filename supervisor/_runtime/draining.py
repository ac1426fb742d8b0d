"""The calls of a scope that is shut down: how long they go on, and how they are stopped then."""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from .._loop import aside
from .._loop.clock import call_at
from .._loop.errors import insist
from .executor_calls import forget_unseen

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._loop.backlog import Backlog
    from .._loop.clock import Timer
    from .._observe.log import Log
    from .._observe.publisher import Publisher
    from .._run.run import Run
    from .escalation import Escalation
    from .kinds import Kinds
    from .nodes import GroupNode

__all__ = ["Draining"]

EARLY = 0.01
"""Seconds by which a timer may ring too early."""


class Draining:
    """Has calls go on while the drain of their scope lasts, and stops them then. On the loop's thread.

    A call goes on for as long as all scopes around it let it; whichever ends its drain first stops it.

    Args:
        hold: From here on, calls of a scope that still wait never begin. Idempotent.
        retire: Lets threads and processes end that only a scope uses. Idempotent.
    """

    def __init__(
        self,
        supervisor: str,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        log: Log,
        publisher: Publisher,
        kinds: Kinds,
        escalation: Escalation,
        backlog: Backlog,
        *,
        hold: Callable[[GroupNode], object],
        retire: Callable[[GroupNode], object],
    ) -> None:
        self._report = partial(publisher.fault, "shutdown", supervisor)
        self._loop = loop
        self._clock = clock
        self._log = log
        self._kinds = kinds
        self._escalation = escalation
        self._backlog = backlog
        self._hold = hold
        self._retire = retire
        self._timers: dict[GroupNode, Timer] = {}

    def begin(self, scope: GroupNode) -> None:
        """Has the calls of a scope go on, or be stopped from the backlog. May be called again, with less time."""
        shutdown = scope.shutdown
        if not shutdown.draining:
            self._stop(scope)
            return
        calls = self._kinds.calls_in(scope)
        if not calls or self._clock() >= shutdown.drains_until:
            self._end(scope)
            return
        for run in calls:
            run.reported = True
        self._arm(scope)

    def end(self, scope: GroupNode) -> None:
        """The drain of a scope is over, or has nothing to wait for any more; an interrupt only delays that."""
        try:
            if scope.shutdown.draining:
                insist(self._report, self._end, scope)
                self._backlog.go_on()
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self.end, scope)
            raise

    def _end(self, scope: GroupNode) -> None:
        shutdown = scope.shutdown
        running, queued = self._stop(scope)
        self._log.drained(scope.name, shutdown.seconds_since(self._clock()), running, queued)
        timer = self._timers.pop(scope, None)
        if timer is not None:
            timer.cancel()
        shutdown.draining = False  # last: until then, an interrupt has all of it done again

    def _arm(self, scope: GroupNode) -> None:
        at = scope.shutdown.drains_until
        if at == math.inf:
            return
        timer = call_at(self._loop, self._clock, at, partial(self._rung, scope))
        before, self._timers[scope] = self._timers.get(scope), timer
        if before is not None:
            before.cancel()

    def _rung(self, scope: GroupNode) -> None:
        try:
            if scope.shutdown.draining and self._clock() < scope.shutdown.drains_until - EARLY:
                self._arm(scope)  # a clock that was set back
            else:
                self.end(scope)
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self._rung, scope)
            raise

    # ------------------------------------------------------------------------------------ calls are stopped

    def sorted_calls(self, scope: GroupNode) -> tuple[deque[Run], deque[Run]]:
        """Returns the calls of a scope that run, and those that wait."""
        running: deque[Run] = deque()
        queued: deque[Run] = deque()
        for run in self._kinds.calls_in(scope):
            (queued if run.handle is None and run.climb is None else running).append(run)
        return running, queued

    def _stop(self, scope: GroupNode) -> tuple[int, int]:
        """Puts all calls into the backlog, to be stopped; returns how many run, and how many wait."""
        self._hold(scope)
        self._retire(scope)
        running, queued = self.sorted_calls(scope)
        numbers = len(running), len(queued)
        stop = partial(self._stop_call, scope.shutdown.reason)
        self._backlog.add(running, stop)
        self._backlog.add(queued, stop)
        return numbers

    def _stop_call(self, reason: str, run: Run) -> None:
        if run.climb is None and run.handle is not None:
            self._escalation.catch_up(run)  # what it has said by now came in time
        if run.over or run.ending:
            return
        if run.climb is None and not self._escalation.give_climb(run, "shutdown", reason):
            forget_unseen(run)
        else:
            self._escalation.ask_to_stop(run, "shutdown")
