"""What is logged of the nodes of a cluster: that one takes runs, is out of reach, or is lost."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..._core.values import printable
from ..._loop.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._run.ports import Write
    from .link import Link
    from .node import RemoteNode

__all__ = ["Reports"]

OUT_OF_REACH = 2.0
"""Seconds after which it is logged that a node is out of reach; a connection that breaks is soon mended."""

UNREADY = 5.0
"""Seconds after which it is logged that the cluster takes no runs; at first, it takes a moment to be reached."""

SHOWN = 10
"""Nodes that are logged at one look; of all others only how many they are."""

LOOK = 0.5
"""Seconds between two looks."""


class Reports:
    """Logs each change once.

    Args:
        post: Has the loop call a function.
        write: Writes an event. On the loop's thread.
    """

    def __init__(self, post: Callable[[Callable[[], object]], object], write: Write) -> None:
        self._post = post
        self._write = write
        self._looked_at = 0.0
        self._joined: set[RemoteNode] = set()  # those of which it was logged that they take runs
        self._away: dict[RemoteNode, float] = {}  # since when those are out of reach that are known
        self._logged: set[RemoteNode] = set()  # those of which it was logged that they are out of reach
        self._problem_since: float | None = None
        self._problem_logged = False

    def look(self, link: Link) -> None:
        """Looks what has changed. On the link's thread, often."""
        now = monotonic()
        if now - self._looked_at < LOOK:
            return
        self._looked_at = now
        nodes = link.nodes
        self._look_at_cluster(link.problem, now)
        for known in (self._joined, self._logged):
            known.intersection_update(nodes)
        self._away = {node: self._away.get(node, now) for node in nodes if not node.is_reached}
        self._say(logging.INFO, "supervisor.node_joined", self._newly_joined(link))
        late = [node for node, since in self._away.items() if now - since >= OUT_OF_REACH and node not in self._logged]
        self._logged.update(late)
        self._joined.difference_update(late)
        self._say(logging.WARNING, "supervisor.node_unreachable", late)

    def _newly_joined(self, link: Link) -> list[RemoteNode]:
        found = [node for node in link.nodes if node.is_reached and node not in self._joined]
        self._joined.update(found)
        self._logged.difference_update(found)
        return found

    def _look_at_cluster(self, problem: str, now: float) -> None:
        """The cluster as a whole takes no runs, or its scheduler cannot be reached."""
        if not problem:
            if self._problem_logged and self._problem_since is not None:
                self._later(logging.INFO, "supervisor.cluster_ready", elapsed=round(now - self._problem_since, 6))
            self._problem_since, self._problem_logged = None, False
        elif self._problem_since is None:
            self._problem_since = now
        elif now - self._problem_since >= UNREADY and not self._problem_logged:
            self._problem_logged = True
            self._later(logging.WARNING, "supervisor.cluster_unready", reason=printable(problem))

    def _say(self, level: int, event: str, nodes: list[RemoteNode]) -> None:
        for number, node in enumerate(nodes[:SHOWN], 1):
            fields: dict[str, Any] = {"node": node.name}
            if level >= logging.WARNING:
                fields |= {"reason": node.why_out_of_reach, "runs": node.runs}
            if number == SHOWN and len(nodes) > SHOWN:
                fields["left_out"] = len(nodes) - SHOWN
            self._later(level, event, **fields)

    def _later(self, level: int, event: str, **fields: Any) -> None:
        self._post(lambda: self._write(level, event, **fields))

    def lost(self, node: RemoteNode) -> None:
        """Logs that a node is gone, with the runs that it has. On the loop's thread."""
        reason = "its process has ended" if node.is_dead else printable(node.problem)
        if node.left and not node.runs:
            self._write(logging.INFO, "supervisor.node_left", node=node.name, reason=reason)
        else:
            self._write(logging.WARNING, "supervisor.node_lost", node=node.name, reason=reason, runs=node.runs)
