"""How each kind of scope comes to its end: the parts of a teardown, wired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .draining import Draining
from .group_ends import GroupEnds
from .pool_ends import PoolEnds
from .reports import Reports

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._loop.backlog import Backlog
    from .._observe.log import Log
    from .._observe.publisher import Publisher
    from .._run.run import WorkerKind
    from .closing import Closing
    from .escalation import Escalation
    from .kinds import Kinds
    from .last_resort import LastResort
    from .losses import Losses
    from .names import Names
    from .nodes import GroupNode
    from .pools import Pools
    from .portal import Portal
    from .scopes import PoolScope

__all__ = ["Ends"]


class Ends:
    """What ends the calls of a scope, and the groups and pools that are shut down alone.

    Args:
        closing_pools: Where the pools are kept that are shut down alone, by what carries out their calls.

    Attributes:
        draining: The calls of a scope that is shut down.
        reports: What a shutdown has met.
        groups: The ends of groups.
        pools: The ends of pools.
    """

    def __init__(
        self,
        supervisor: str,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        log: Log,
        publisher: Publisher,
        kinds: Kinds,
        pools: Pools,
        names: Names,
        losses: Losses,
        portal: Portal,
        escalation: Escalation,
        root: GroupNode,
        *,
        backlog: Backlog,
        closing: Closing,
        last_resort: LastResort,
        closing_pools: dict[WorkerKind, PoolScope],
    ) -> None:
        groups: dict[GroupNode, dict[GroupNode, None]] = {}
        abandoned = escalation.abandoned
        self.reports = Reports(supervisor, clock, publisher, losses, abandoned)
        self.draining = Draining(supervisor, loop, clock, log, publisher, kinds, escalation, backlog, closing, groups)
        self.groups = GroupEnds(log, publisher, names, root, self.reports, self.draining, last_resort, groups)
        self.pools = PoolEnds(
            supervisor,
            loop,
            log,
            publisher,
            kinds,
            pools,
            portal,
            abandoned,
            self.reports,
            self.draining,
            last_resort,
            closing_pools,
        )
