"""What only the supervisor itself does at its end: its kinds, its watchdog, its alarms and its inbox."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .._loop import aside, switching
from .._loop.clock import monotonic

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from .._core.report import ShutdownReport
    from .._loop.alarms import Alarms
    from .._loop.inbox import Inbox
    from .._observe.log import Log
    from .._run.run import Run, WorkerKind
    from .kinds import Kinds
    from .watchdog import Watchdog

__all__ = ["Closing"]

PATIENCE = 0.2
"""Seconds that those have who obey, or a fifth of the shutdown's, before threads let each other run sooner.

From the beginning on, it would have the loop wait for hundreds of workers that wake up at once: each would take its
turn from the loop, rather than end within its own.
"""

JOIN_SLACK = 0.05
"""Seconds at most that a shutdown waits for threads that are past their last line."""

QUIET_SLACK = 0.1
"""Seconds that a shutdown gives idle threads to end, beyond its deadline if need be."""


class Closing:
    """Closes what a supervisor has, and its groups only share. On the loop's thread.

    Args:
        abandoned: The runs that were given up and have not come back, by their numbers.
        watchdog: What ends the process where the shutdown cannot; None: nothing does.
        log_rest: Logs what still waits to be logged.
        report_unmatched: Logs the patterns of the configuration that have matched nothing.
        hand_all_on: Gives the results of executors' calls, which the inbox still has, to those who await them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox[Any],
        alarms: Alarms[Any],
        log: Log,
        kinds: Kinds,
        abandoned: Mapping[int, Run],
        watchdog: Watchdog | None,
        log_rest: Callable[[], object],
        report_unmatched: Callable[[], object],
        hand_all_on: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._inbox = inbox
        self._alarms = alarms
        self._log = log
        self._kinds = kinds
        self._abandoned = abandoned
        self._watchdog = watchdog
        self._log_rest = log_rest
        self._report_unmatched = report_unmatched
        self._hand_all_on = hand_all_on
        self._seconds = 0.0
        self._waits = self._over = False

    def begin(self, seconds: float) -> None:
        """The shutdown has that many seconds. May be called again with fewer."""
        if self._watchdog is not None:
            self._watchdog.arm(seconds)
        self._seconds = seconds

    def retire(self) -> None:
        """No call begins any more: whoever is idle in a pool may end. May be called again, with less time."""
        aside.call_later(self._loop, min(PATIENCE, self._seconds / 5), self._hasten)
        for kind in self._kinds:
            kind.retire()

    def _hasten(self) -> None:
        """Has threads let each other, and the loop, run sooner: not all have ended by now."""
        if not self._over:
            switching.hold(self)

    def when_idle(self, done: Callable[[], object]) -> None:
        """Calls `done()` once the pools are empty, or after a moment. Called again, it does nothing."""
        if self._waits:
            return
        aside.call_later(self._loop, QUIET_SLACK, done)
        self._waits = True  # only now: whatever an interrupt keeps from being done below, that moment comes
        here = list(self._kinds)

        def gone(kind: WorkerKind) -> None:
            if kind in here:
                here.remove(kind)
            if not here:
                done()

        for kind in self._kinds:
            kind.when_gone(partial(gone, kind))

    def close(self) -> None:
        """Nothing is left: no alarm rings any more, and threads that are past their last line are gone."""
        self._alarms.close()
        until = monotonic() + JOIN_SLACK
        for kind in self._kinds:
            kind.retire()  # again: what should have done so may have failed
        for kind in self._kinds:
            kind.join(max(0.0, until - monotonic()), {run.ident for run in self._abandoned.values()})

    def conclude(self, report: ShutdownReport) -> None:
        """Logs the report; ends the process where that was asked for, which the watchdog watches over."""
        self._log_rest()
        self._report_unmatched()
        self._log.stopped(report)
        if self._watchdog is not None:
            self._watchdog.judge(report)

    def call_off(self) -> None:
        """Calls the watchdog off: nothing is left to be done."""
        self._over = True
        switching.release(self)
        if self._watchdog is not None:
            self._watchdog.disarm()

    def close_inbox(self) -> None:
        """Stops listening, once the last abandoned thread has come back: until then its late end is to be logged.

        Of what was given up on a node nothing is heard any more.
        """
        if all(run.place is not None for run in self._abandoned.values()):
            self._inbox.close()
            self._hand_all_on()  # first closed, then looked: a thread that comes later sees that it is closed
