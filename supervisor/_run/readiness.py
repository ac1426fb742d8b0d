"""Whether a pool is ready: how many are past its initializer, why not, and who waits for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.errors import described
from .._core.values import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.pools import PoolSettings

__all__ = ["Readiness"]


class Readiness:
    """What a kind knows of how its pool comes up. On the loop's thread, but for what it is asked: any.

    Args:
        settings: What is set for the pool.
        log: Writes an event, by the name of a log method.

    Attributes:
        ready: How many threads or processes take calls: they are past the initializer, where there is one.
        fault: Why the pool is not ready, as its calls get it: what the initializer has raised last, say. None where
            nothing has failed, or somebody has come up since.
    """

    def __init__(self, settings: PoolSettings, log: Callable[..., None]) -> None:
        self._settings = settings
        self._log = log
        self.ready = 0
        self._closed = False
        self.fault: Exception | None = None
        self._logged = False
        self._least = settings.warm
        self._counts_time = settings.initializer is not None
        self._since: float | None = None  # when an initializer was begun that is under way, while nobody was ready
        self._seconds = 0.0
        self._waiting: list[Callable[[Exception | None], object]] = []

    def warming(self, now: float) -> float:
        """Returns the seconds in all for which an initializer was under way and nobody ready. Any thread."""
        since = self._since
        return self._seconds + (0.0 if since is None else max(0.0, now - since))

    @property
    def reason(self) -> str:
        """Why the pool cannot take calls, for people; empty where it can. Any thread.

        Where some are up, they carry out all calls, though others have failed to come up.
        """
        fault = self.fault
        if self.ready and not self._closed:
            return ""
        if fault is not None:
            return printable(str(fault))
        return f"none of the {self._least} that are kept warm is up" if self._least else ""

    @property
    def up(self) -> bool:
        """Whether as many take calls as are kept warm. Any thread."""
        return self.ready >= self._least

    def note(self, under_way: int, ready: int, now: float) -> None:
        """Takes note of how many are on their way, the initializer included, and how many take calls. Idempotent."""
        came_up, self.ready = ready > self.ready, ready
        if came_up and not self._closed:
            self.fault = None
            self._logged = False
        warms = self._counts_time and under_way > 0 and ready == 0
        if warms and self._since is None:
            self._since = now
        elif not warms and self._since is not None:
            self._seconds, self._since = self.warming(now), None
        if self.up:
            self._answer(None)

    def failed(self, fault: Exception) -> None:
        """Nobody comes up by himself any more: those who wait hear why.

        Where the pool has warm ones, or an initializer, that is logged, once until somebody comes up; and it is not
        ready from then on, unless others take its calls. Else only calls start anybody, and each hears for itself.
        """
        if self._settings.warm or self._settings.initializer is not None:
            if not self._logged:
                self._logged = True
                event = {"event": "supervisor.pool_not_ready", "pool": self._settings.name, "exc_info": fault}
                self._log("error", event, kind=self._settings.kind, reason=printable(described(fault)))
            if self.ready < max(1, self._least):
                self.fault = fault
        self._answer(fault)

    def close(self, why: Exception) -> None:
        """Nobody comes up any more, as the pool ends: those who wait hear why. Idempotent."""
        self.fault = self.fault or why
        self._closed = True
        self._answer(self.fault)

    def when_ready(self, ready: Callable[[Exception | None], object]) -> None:
        """Calls `ready(None)` once as many are up as are to be kept warm, or with why they are not; perhaps at once."""
        self._waiting.append(ready)
        if self.fault is not None or self.up:
            self._answer(self.fault)

    def _answer(self, fault: Exception | None) -> None:
        while self._waiting:
            self._waiting[-1](fault)
            self._waiting.pop()
