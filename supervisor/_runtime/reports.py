"""The reports of shutdowns."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .._loop.errors import insist
from .scopes import is_root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._core.report import ShutdownReport
    from .._observe.publisher import Publisher
    from .._run.run import Run
    from .losses import Losses
    from .scopes import AnyScope

__all__ = ["Reports"]


class Reports:
    """Makes the report of a scope. On the loop's thread.

    Args:
        abandoned: The runs that were given up and have not come back, by their numbers.
    """

    def __init__(
        self,
        supervisor: str,
        clock: Callable[[], float],
        publisher: Publisher,
        losses: Losses,
        abandoned: Mapping[int, Run],
    ) -> None:
        self._fault = partial(publisher.fault, "shutdown", supervisor)
        self._clock = clock
        self._losses = losses
        self._abandoned = abandoned

    def of(self, scope: AnyScope) -> ShutdownReport:
        """Makes a report; without what was lost earlier, where that cannot be had."""
        made: list[ShutdownReport] = []
        insist(self._fault, lambda: made.append(self._full(scope)))
        return made[0] if made else scope.shutdown.make_report(self._clock(), {}, 0)

    def _full(self, scope: AnyScope) -> ShutdownReport:
        lost = self._losses.all_in(scope, self._abandoned.values())
        forgotten = self._losses.forgotten if is_root(scope) else 0
        return scope.shutdown.make_report(self._clock(), lost, forgotten)
