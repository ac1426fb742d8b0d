"""Whether a pool on a cluster is ready: whether nodes take runs, and have up what they are to keep warm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._core.values import printable
from ..._loop.clock import monotonic
from ..._run.readiness import Readiness
from .unplaced import why_nowhere

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.pools import PoolSettings
    from .link import Link
    from .node import RemoteNode

__all__ = ["NodesReady"]

UNSAID: tuple[bool, Exception | None, float] = (False, None, 0.0)
"""Of a node that has said nothing yet."""


class NodesReady(Readiness):
    """What the nodes say of it. On the loop's thread, but for `reason`: any.

    Args:
        link: Returns the connections to the nodes.
        settings: What is set for the pool.
        log: Writes an event, by the name of a log method.
    """

    def __init__(self, link: Callable[[], Link], settings: PoolSettings, log: Callable[..., None]) -> None:
        super().__init__(settings, log)
        self._link = link
        self._said: dict[RemoteNode, tuple[bool, Exception | None, float]] = {}
        self._counted_at = monotonic()

    @property
    def reason(self) -> str:
        link, fault = self._link(), self.fault
        nodes = [node for node in link.nodes if node.takes_runs]
        if link.problem or not nodes:
            return link.problem or "no node takes runs"
        if nowhere := why_nowhere(self._settings.placement, nodes):
            return printable(nowhere)
        if not self._closed and any(self._serves(node) for node in nodes):
            return ""
        return printable(str(fault)) if fault is not None else "no node has those up that are kept warm"

    def _serves(self, node: RemoteNode) -> bool:
        up, fault, _ = self._said.get(node, UNSAID)
        return up if self._least else fault is None

    def heard(self, node: RemoteNode, up: bool, fault: Exception | None, seconds: float) -> None:
        """A node has said whether those are up that it keeps warm, and why not; and how long its first ones have taken.

        Of several nodes at once, that counts once: no call has waited for longer.
        """
        before = self._said.get(node, UNSAID)[2]
        if seconds > before:
            now = monotonic()
            self._seconds += min(seconds - before, now - self._counted_at)
            self._counted_at = now
        self._said[node] = up, fault, seconds
        self.look()

    def look(self) -> None:
        """Looks whether all nodes that take runs have said so."""
        if self._closed:
            return
        nodes = [node for node in self._link().nodes if node.takes_runs]
        self._said = {node: said for node, said in self._said.items() if not node.gone}
        said = [self._said.get(node, UNSAID) for node in nodes]
        self.fault = next((fault for _, fault, _ in said if fault is not None), None)
        self.ready = self._least if said and all(up for up, *_ in said) else 0
        if self.fault is not None or self.up:
            self._answer(self.fault)

    def when_ready(self, ready: Callable[[Exception | None], object]) -> None:
        """Calls `ready(None)` once each node that takes runs has up what it keeps warm, or with why one has not."""
        self.look()
        super().when_ready(ready)
