"""The watchdog of `on_abandoned="exit"`: it ends the process where a shutdown cannot."""

from __future__ import annotations

import faulthandler
import logging
import math
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._core.report import ShutdownReport
    from .._observe.log import Log

__all__ = ["Watchdog"]

WATCHDOG_SLACK = 1.0
"""Seconds past its deadline after which a shutdown that cannot get the GIL is ended by the watchdog."""

EXIT_STATUS = 1
"""The process's exit status where `on_abandoned="exit"` ends it; faulthandler's watchdog knows no other."""


class Watchdog:
    """Ends the process where a worker was abandoned, or where C code never gives the GIL back. On the loop's thread.

    There is one timer of faulthandler in a process, and no way to ask whether the application uses it: a timer of its
    own is replaced.
    """

    def __init__(self, log: Log) -> None:
        self._log = log

    def arm(self, seconds: float) -> None:
        """Ends the process, without the GIL, where that many seconds pass, and some more; does so anew each time."""
        if seconds < math.inf:
            try:
                faulthandler.dump_traceback_later(seconds + WATCHDOG_SLACK, exit=True)
            except Exception as error:  # stderr is no real file
                self._log.write(logging.WARNING, "supervisor.watchdog_missing", reason=str(error))

    def disarm(self) -> None:
        """Calls it off: the shutdown has ended."""
        faulthandler.cancel_dump_traceback_later()

    def judge(self, report: ShutdownReport) -> None:
        """Ends the process where a worker was abandoned; what was logged and printed is written first."""
        if report.abandoned:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            os._exit(EXIT_STATUS)
