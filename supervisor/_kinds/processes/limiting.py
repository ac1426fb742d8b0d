"""What runs in processes use that have limits, and the kernel's limit that stands behind the event loop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..._loop.clock import monotonic
from .child.cpu_limit import CpuLimit
from .process import Process
from .usage import Census, is_known, usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.usage import Usage
    from ..._run.limited import Limited
    from ..._run.run import Run

__all__ = ["Meter", "before_limited"]

FRESH = 0.01
"""Seconds for which is known which descendants there are: many calls with limits may begin one after the other."""

BEHIND = 1.0
"""Seconds of CPU beyond its limit, and its ladder, after which the kernel ends a call: the loop has had its time."""


class Meter:
    """Measures what runs use. On the loop's thread."""

    def __init__(self) -> None:
        self._census = Census()
        self._looked_at = -math.inf

    def usages(self, runs: list[Run]) -> list[Usage | None]:
        """Returns what each of these runs uses now; None where that is not known."""
        if (now := monotonic()) >= self._looked_at + FRESH:
            self._looked_at = now
            self._census.look()
        return [self._usage(run) for run in runs]

    def _usage(self, run: Run) -> Usage | None:
        process = run.handle
        if run.limited is None or not isinstance(process, Process) or process.run is not run or process.reaped:
            return None
        most = run.limited.limits.rss
        return usage(process.pid, self._census, shared_from=math.inf if most is None else most)


def before_limited(
    limited: Limited, before: Callable[[], Callable[[], object]] | None
) -> Callable[[], Callable[[], object]] | None:
    """Returns what a process calls before the function of a run that has limits.

    Raises:
        ValueError: This system does not say what a process uses.
    """
    if not is_known():
        raise ValueError(f"limits={limited.limits}: this system does not say what a process uses; Linux does")
    seconds = limited.limits.cpu_seconds
    if seconds is None or math.isinf(seconds + limited.patience):
        return before
    return CpuLimit(seconds + limited.patience + BEHIND, before)
