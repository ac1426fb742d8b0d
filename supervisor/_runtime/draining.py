"""The calls of a scope that is shut down: how long they go on, and how they are stopped then."""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from .._loop import aside
from .._loop.clock import call_at
from .._loop.errors import insist
from .scopes import PoolScope, is_root, label_of, pool_closed, supervisor_closed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from .._loop.backlog import Backlog
    from .._loop.clock import Timer
    from .._observe.log import Log
    from .._observe.publisher import Publisher
    from .._run.run import Run
    from .closing import Closing
    from .escalation import Escalation
    from .kinds import Kinds
    from .nodes import GroupNode
    from .scopes import AnyScope

__all__ = ["Draining"]

EARLY = 0.01
"""Seconds by which a timer may ring too early."""


class Draining:
    """Has calls go on while the drain of their scope lasts, and stops them then. On the loop's thread.

    A call goes on for as long as its pool and all scopes around it let it; whichever ends its drain first stops it.

    Args:
        groups: The groups that have no report yet, also those that have ended but for their calls; and what is in each.
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
        closing: Closing,
        groups: Mapping[GroupNode, Mapping[GroupNode, None]],
    ) -> None:
        self._supervisor = supervisor
        self._report = partial(publisher.fault, "shutdown", supervisor)
        self._loop = loop
        self._clock = clock
        self._log = log
        self._kinds = kinds
        self._escalation = escalation
        self._backlog = backlog
        self._closing = closing
        self._groups = groups
        self._timers: dict[AnyScope, Timer] = {}

    def begin(self, scope: AnyScope, calls: tuple[deque[Run], deque[Run]] | None = None) -> None:
        """Has the calls of a scope go on, or be stopped from the backlog. May be called again, with less time.

        `calls`: what `sorted_calls` has returned just now, if it has; with 100,000 calls, that takes long.
        """
        shutdown = scope.shutdown
        if not shutdown.draining:
            self._stop(scope, calls)
            return
        if not self._kinds.used_in(scope) or self._clock() >= shutdown.drains_until:
            self._end(scope)
            return
        for run in self._kinds.calls_in(scope):
            run.reported = True
        self._arm(scope)

    def end(self, scope: AnyScope) -> None:
        """The drain of a scope is over, or has nothing to wait for any more; an interrupt only delays that."""
        try:
            if scope.shutdown.draining:
                insist(self._report, self._end, scope)
                self._backlog.go_on()
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self.end, scope)
            raise

    def _end(self, scope: AnyScope) -> None:
        shutdown = scope.shutdown
        running, queued = self._stop(scope)
        self._log.drained(label_of(scope), shutdown.seconds_since(self._clock()), running, queued)
        timer = self._timers.pop(scope, None)
        if timer is not None:
            timer.cancel()
        shutdown.draining = False  # last: until then, an interrupt has all of it done again

    def _arm(self, scope: AnyScope) -> None:
        at = scope.shutdown.drains_until
        if at == math.inf:
            return
        timer = call_at(self._loop, self._clock, at, partial(self._rung, scope))
        before, self._timers[scope] = self._timers.get(scope), timer
        if before is not None:
            before.cancel()

    def _rung(self, scope: AnyScope) -> None:
        try:
            if scope.shutdown.draining and self._clock() < scope.shutdown.drains_until - EARLY:
                self._arm(scope)  # a clock that was set back
            else:
                self.end(scope)
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self._rung, scope)
            raise

    # ------------------------------------------------------------------------------------ calls are stopped

    def hold(self, scope: AnyScope) -> None:
        """From here on, calls of a scope that still wait never begin."""
        if isinstance(scope, PoolScope):
            if scope.kind is not None:
                scope.kind.held = True
            return
        scope.held = True
        held = [*self._groups] if is_root(scope) else [*self._groups.get(scope, ())]
        for group in held:  # which grows
            group.held = True
            if not is_root(scope):
                held += self._groups.get(group, ())

    def _retire(self, scope: AnyScope) -> None:
        """Lets threads and processes end that have nothing to do; who waits for a pool to come up waits no more."""
        if isinstance(scope, PoolScope):
            if scope.kind is not None:
                scope.kind.retire()
                scope.kind.readiness.close(pool_closed(self._supervisor, scope.name))
        elif is_root(scope):
            self._closing.retire()
            for kind in self._kinds:
                kind.readiness.close(supervisor_closed(self._supervisor, scope.shutdown))

    def sorted_calls(self, scope: AnyScope) -> tuple[deque[Run], deque[Run]]:
        """Returns the calls of a scope that run, and those that wait; from here on, the end of each is reported.

        Whichever comes last may end by itself before it is stopped, and the end of the shutdown depends on it.
        """
        running: deque[Run] = deque()
        queued: deque[Run] = deque()
        for run in self._kinds.calls_in(scope):
            run.reported = True
            (queued if run.handle is None and run.climb is None else running).append(run)
        return running, queued

    def _stop(self, scope: AnyScope, calls: tuple[deque[Run], deque[Run]] | None = None) -> tuple[int, int]:
        """Puts all calls into the backlog, to be stopped; returns how many run, and how many wait."""
        self.hold(scope)
        self._retire(scope)
        running, queued = calls or self.sorted_calls(scope)
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
        if run.climb is not None or self._escalation.give_climb(run, "shutdown", reason):
            self._escalation.ask_to_stop(run, "shutdown")
