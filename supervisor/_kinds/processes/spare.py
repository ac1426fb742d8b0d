"""The spare process of a pool."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..._core.errors import SupervisorError
from ..._core.pools import delay_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from .process import Process

__all__ = ["Spare"]


class Spare:
    """One process that nobody uses yet, for whoever needs one next. On the loop's thread.

    Args:
        launch: Launches a process. Raises SupervisorError.
        wanted: Whether there is to be one.

    Attributes:
        process: The process, which may still be starting; None where there is none.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        launch: Callable[[], Process],
        wanted: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._launch = launch
        self._wanted = wanted
        self.process: Process | None = None
        self._tries = 1
        self._not_before = -math.inf

    @property
    def is_up(self) -> bool:
        """Whether it could take a call now."""
        return self.process is not None and self.process.ready and not self.process.broken

    def make(self) -> None:
        """Starts one where it is wanted; one that cannot start is not tried again at once."""
        if self.process is not None or self._clock() < self._not_before or not self._wanted():
            return
        try:
            self.process = self._launch()
        except SupervisorError:  # whoever needs a process will hear of it
            self._not_before = self._clock() + delay_after(1)

    def take(self) -> Process:
        """Returns the spare process, or a new one; raises SupervisorError."""
        process = self.process
        if process is None or process.broken:
            process = self._launch()
        self.process = None
        return process

    def keep(self, process: Process) -> bool:
        """Keeps a process that has come up, where it is wanted; returns whether it is."""
        if self.process not in (None, process):
            return False
        wanted = self._wanted()
        self.process = process if wanted else None
        self._tries = 1
        return wanted

    def died(self, process: Process) -> None:
        """A process is dead, perhaps the spare one."""
        if process is not self.process:
            return
        self.process = None
        if not process.ready:
            self._not_before = self._clock() + delay_after(self._tries)
            self._tries += 1
