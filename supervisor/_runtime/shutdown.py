"""One shutdown: its deadline, its watchdog, and what it met."""

from __future__ import annotations

import faulthandler
import logging
import math
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from .._core.report import ShutdownReport

if TYPE_CHECKING:
    from .._core.outcome import Outcome
    from .._observe.log import Log
__all__ = ["OnAbandoned", "Shutdown"]

OnAbandoned: TypeAlias = Literal["report", "exit"]

WATCHDOG_SLACK = 1.0
"""Seconds past its deadline after which a shutdown that cannot get the GIL is ended by the watchdog."""

EXIT_STATUS = 1
"""The process's exit status where `on_abandoned="exit"` ends it; faulthandler's watchdog knows no other."""


class Shutdown:
    """A shutdown under way. On the loop's thread.

    Attributes:
        reason: Why, as the first caller said.
        deadline: When all ladders must have ended, on the loop's clock.
        begun: Everybody has been told.
        quiet: No worker is left, and the pool's threads are ending.
    """

    def __init__(self, reason: str, now: float, seconds: float, on_abandoned: OnAbandoned, log: Log) -> None:
        self.reason = reason
        self.deadline = now + seconds
        self.begun = False
        self.quiet = False
        self._began_at = now
        self._on_abandoned = on_abandoned
        self._log = log
        self._outcomes: dict[int, Outcome] = {}
        self._withdrawn: set[int] = set()
        self._watch(seconds)

    def shorten(self, now: float, seconds: float | None) -> bool:
        """Brings the deadline nearer; returns whether there is anything to tell the workers."""
        if seconds is not None and now + seconds < self.deadline:
            self.deadline = now + seconds
            self._watch(seconds)
            return True
        return not self.begun

    def note(self, number: int, outcome: Outcome, *, own: bool) -> None:
        """Takes an outcome into the report; of a call that was still queued, only the number."""
        if outcome.ended == "cancelled" and not own:
            self._withdrawn.add(number)
        else:
            self._outcomes[number] = outcome

    def end(self, now: float) -> ShutdownReport:
        """Calls the watchdog off, and logs the report; ends the process where that was asked for."""
        report = ShutdownReport(
            self.reason,
            tuple(self._outcomes.values()),
            now - self._began_at,
            never_started=len(self._withdrawn),
        )
        if self._on_abandoned == "exit":
            faulthandler.cancel_dump_traceback_later()
        self._log.stopped(report)
        if report.abandoned and self._on_abandoned == "exit":
            _exit()
        return report

    def _watch(self, seconds: float) -> None:
        """Arms a watchdog that needs no GIL, for C code that never gives it back.

        There is one in a process, and no way to ask whether the application uses it: a timer of its own is replaced.
        """
        if self._on_abandoned == "exit" and seconds < math.inf:
            try:
                faulthandler.dump_traceback_later(seconds + WATCHDOG_SLACK, exit=True)
            except Exception as error:  # stderr is no real file
                self._log.write(logging.WARNING, "supervisor.watchdog_missing", reason=str(error))


def _exit() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(EXIT_STATUS)
