"""What waits for a node of a cluster, and what of a pool each node has been given."""

from __future__ import annotations

from collections import deque
from pickle import dumps
from typing import TYPE_CHECKING

from ..._core.placement import choose
from ..._core.policy import EscalationPolicy
from ..._loop.clock import monotonic
from ..._run.names import qualname
from ..._worker.parcel import packed
from .node import RemoteRun
from .unplaced import Unplaced

if TYPE_CHECKING:
    from ..._core.placement import Placement
    from ..._core.pools import PoolSettings
    from ..._run.ports import Services
    from ..._run.run import Run
    from .cluster import Cluster
    from .node import RemoteNode

__all__ = ["Placing", "present"]

KEPT = ("max_tasks", "max_lifetime", "max_rss", "idle_timeout", "initializer", "warm")
"""What is set for a pool that each node keeps by itself."""


class Placing:
    """Sends the runs of one pool to nodes, in order. On the loop's thread, where an interrupt may strike at any line.

    Args:
        settings: What is set for the pool.
        cluster: The nodes.
        services: What it may ask of the runtime.

    Attributes:
        size: How many calls there are on nodes at once, at most.
    """

    def __init__(self, settings: PoolSettings, cluster: Cluster, services: Services) -> None:
        self._settings = settings
        self._cluster = cluster
        self._services = services
        self.size = settings.size
        self._waiting: deque[Run] = deque()
        self._choosy: deque[Run] = deque()  # workers, and calls that not every node may take
        self._there: set[int] = set()  # calls that are on nodes, by their numbers
        self._own: set[int] = set()  # workers
        self._claims: dict[int, list[None]] = {}  # of those that are about to be sent: whether the claim is ours
        self._unplaced = Unplaced(services, lambda: list(self._choosy), lambda: cluster.link.nodes, _placement_of)
        kept = {name: getattr(settings, name) for name in KEPT if getattr(settings, name)}
        self._kept = packed(kept) if kept else b""

    @property
    def placed(self) -> int:
        """How many runs are on nodes."""
        return len(self._there) + len(self._own)

    def add(self, run: Run) -> None:
        """Has a run wait for a node that has room; a worker for one that may take it, whatever calls that has."""
        wishes = _placement_of(run)
        (self._choosy if run.own or wishes.nodes or wishes.resources else self._waiting).append(run)

    def place(self, nodes: list[RemoteNode]) -> None:
        """Sends what waits to nodes that have room, in order; what only certain nodes may take holds nobody up.

        Each is taken out only once it waits no more: an interrupt in between has it looked at again.
        """
        while self._waiting and self._find_place(self._waiting[0], nodes):
            self._waiting.popleft()
        for _ in range(len(self._choosy)):
            if not self._find_place(self._choosy[0], nodes):
                self._choosy.append(self._choosy[0])
                self._unplaced.look_later()
            self._choosy.popleft()

    def refuse(self, problem: str) -> None:
        """Has all fail that wait now. Who hears of one may submit another, and what waits is looked at meanwhile."""
        for waiting in (self._waiting, self._choosy):
            for _ in range(len(waiting)):
                if not waiting:
                    break
                run = waiting[0]
                if (there := present(run)) is not None:
                    self.put(run, there)
                elif not self._is_withdrawn(run) and self._claim(run):
                    run.error = ConnectionError(problem)
                    run.started_at = run.ended_at = monotonic()
                    self._services.ended(run)
                self._claims.pop(run.number, None)
                if waiting and waiting[0] is run:
                    waiting.popleft()

    def _find_place(self, run: Run, nodes: list[RemoteNode]) -> bool:
        """Returns whether a run waits no more."""
        if (there := present(run)) is not None:
            self.put(run, there)  # an interrupt has struck before all was done
        if there is not None or self._is_withdrawn(run):
            self._claims.pop(run.number, None)
            return True
        if run.error is not None:
            return False  # it is being refused
        if not run.own and len(self._there) >= self.size:
            return False
        wishes = _placement_of(run)
        node = choose(wishes, nodes, call=not run.own)
        if node is None:
            return False
        policy = self._services.named(run)
        if self._claim(run):
            there = run.handle = RemoteRun(node, policy)
            self.put(run, there)
        self._claims.pop(run.number, None)
        return True

    def _claim(self, run: Run) -> bool:
        """Claims a run; False where somebody else has. Idempotent: an interrupt leaves it known whose the claim is."""
        mine = self._claims.setdefault(run.number, [])
        return bool(mine) or run.claim_for(mine)

    def _is_withdrawn(self, run: Run) -> bool:
        mine = self._claims.get(run.number)
        return run.held or run.over or run.climb is not None or (run.claimed and not mine)

    def put(self, run: Run, there: RemoteRun) -> None:
        """Counts a run for its node, and sends it there. Idempotent: an interrupt may have it done again."""
        node = there.at
        run.placed = there
        run.started_at = monotonic()
        node.ladders[run.number] = (there.policy or EscalationPolicy()).budget(self._settings.kind)
        node.claims[run.number] = _placement_of(run).resources
        node.at[run.number] = run
        if run.own:
            self._own.add(run.number)
        else:
            node.calls_at.add(run.number)
            self._there.add(run.number)
            self.tell_of_pool(node)
        self._say_begin(run, there)

    def _say_begin(self, run: Run, there: RemoteRun) -> None:
        parcel = run.prepared
        if parcel is None:
            return
        limits = None if run.limited is None else run.limited.limits
        about = {
            "name": run.name,
            "fn": qualname(run.fn),
            "kind": self._settings.kind,
            "pool": None if run.own else self._settings.name,
            "attempt": run.attempt,
            "own": run.own,
            "watched": run.watched,
            "resources": dict(there.at.claims[run.number]),
            "options": dumps((there.policy, limits)) if there.policy or limits else None,
        }
        self._cluster.link.begin(there, run.number, about, parcel)
        run.prepared = None

    def tell_of_pool(self, node: RemoteNode) -> None:
        """Has a node know what is set for this pool, where that is anything, before the first call."""
        if self._kept and self._settings.name not in node.pools:
            about = (self._settings.name, self._settings.kind, self._kept, self._settings.warm)
            self._cluster.link.send(node, "pool", *about)
            node.pools.add(self._settings.name)  # only now: what an interrupt has undone is said again

    def make_room(self, run: Run, there: RemoteRun) -> None:
        """A run is over there, or was given up."""
        there.over = True
        for those in (self._own, self._there, there.at.calls_at):
            those.discard(run.number)


def present(run: Run) -> RemoteRun | None:
    """Returns what is kept of a run that is on a node; None where it is not."""
    there = run.handle
    return there if isinstance(there, RemoteRun) and not there.over else None


def _placement_of(run: Run) -> Placement:
    return getattr(run, "placement", run.kind.settings.placement)
