"""What is said of runs that no node of a cluster may take, however long they wait."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..._core.placement import may_take
from ..._core.values import printable
from ..._loop import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..._core.placement import Placement
    from ..._run.ports import Services
    from ..._run.run import Run
    from .node import RemoteNode

__all__ = ["Unplaced", "why_nowhere"]

PATIENCE = 5.0
"""Seconds for which a run has waited before it is looked at, and between two looks: nodes may still come."""

SHOWN = 10
"""Runs that are logged at one look; of all others only how many they are."""


class Unplaced:
    """Logs each run once that no node may take, while there are nodes. On the loop's thread.

    Args:
        services: What it may ask of the runtime.
        waiting: Returns the runs that wait for certain nodes.
        nodes: Returns the nodes that there are.
        placement_of: Returns what a run asks of its node.
    """

    def __init__(
        self,
        services: Services,
        waiting: Callable[[], Iterable[Run]],
        nodes: Callable[[], tuple[RemoteNode, ...]],
        placement_of: Callable[[Run], Placement],
    ) -> None:
        self._services = services
        self._waiting = waiting
        self._nodes = nodes
        self._placement_of = placement_of
        self._said: set[int] = set()
        self._is_due = False

    def look_later(self) -> None:
        """Some run waits: looks again and again, until none does."""
        if not self._is_due:
            aside.call_later(self._services.loop, PATIENCE, self._look)
            self._is_due = True  # only now: what an interrupt has undone is done again

    def _look(self) -> None:
        self._is_due = False
        waiting = [run for run in self._waiting() if not run.over]
        if not waiting:
            return
        self.look_later()
        self._said.intersection_update(run.number for run in waiting)
        nodes = self._nodes()
        if not any(node.takes_runs for node in nodes):
            return  # which is said of the cluster
        late = self._services.clock() - PATIENCE
        found = {run: why for run in waiting if run.submitted_at <= late and (why := self._why(run, nodes))}
        for number, (run, reason) in enumerate(list(found.items())[:SHOWN], 1):
            more: dict[str, Any] = {}
            if number == SHOWN < len(found):
                more["left_out"] = len(found) - SHOWN
            kind = run.kind.settings
            self._services.write(
                logging.WARNING,
                "worker.unplaced",
                worker=run.name,
                kind=kind.kind,
                pool=kind.name,
                reason=printable(reason),
                **more,
            )
        self._said.update(run.number for run in found)

    def _why(self, run: Run, nodes: tuple[RemoteNode, ...]) -> str:
        return "" if run.number in self._said else why_nowhere(self._placement_of(run), nodes)


def why_nowhere(placement: Placement, nodes: Iterable[RemoteNode]) -> str:
    """Returns why no node may ever take a run, for people; empty where one may."""
    if any(may_take(placement, node) for node in nodes):
        return ""
    wanted: list[str] = []
    if placement.nodes:
        wanted.append(f"nodes={list(placement.nodes)}")
    if placement.resources:
        wanted.append(f"resources={dict(placement.resources)}")
    return f"no node may take it: {', '.join(wanted)}"
