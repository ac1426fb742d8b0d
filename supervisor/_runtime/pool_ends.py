"""The end of a pool that is shut down alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .._loop import aside
from .._loop.errors import insist
from .closing import JOIN_SLACK, QUIET_SLACK

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from .._observe.log import Log
    from .._observe.publisher import Publisher
    from .._run.run import Run, WorkerKind
    from .draining import Draining
    from .kinds import Kinds
    from .last_resort import LastResort
    from .pools import Pools
    from .portal import Portal
    from .reports import Reports
    from .scopes import PoolScope

__all__ = ["PoolEnds"]


class PoolEnds:
    """Ends pools that are shut down alone, once their calls have ended. On the loop's thread.

    Args:
        under_way: The pools whose shutdown has begun and not ended, by what carries out their calls.
        abandoned: The runs that were given up and have not come back, by their numbers.
    """

    def __init__(
        self,
        supervisor: str,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        publisher: Publisher,
        kinds: Kinds,
        pools: Pools,
        portal: Portal,
        abandoned: Mapping[int, Run],
        reports: Reports,
        draining: Draining,
        last_resort: LastResort,
        under_way: dict[WorkerKind, PoolScope],
    ) -> None:
        self._insist = partial(insist, partial(publisher.fault, "shutdown", supervisor))
        self._loop = loop
        self._log = log
        self._kinds = kinds
        self._pools = pools
        self._portal = portal
        self._abandoned = abandoned
        self._reports = reports
        self._draining = draining
        self._last_resort = last_resort
        self.under_way = under_way

    def open(self, pool: PoolScope) -> None:
        """From here on it takes no calls. First written, then looked for calls: one that comes in is seen, or sees it.

        Idempotent, as all of this.
        """
        kind = pool.kind = self._kinds.made(pool.name)
        if kind is not None:
            self.under_way[kind] = pool
            kind.closing = True

    def close_all(self) -> None:
        """Something has ended: closes the pools of which nothing is left."""
        for pool in tuple(self.under_way.values()):
            self.close(pool)

    def close(self, pool: PoolScope) -> None:
        """Lets the threads or processes of a pool end in which no call is left, and waits for them, for a moment."""
        if not pool.shutdown.begun or self._kinds.used_in(pool):
            return
        self._draining.end(pool)
        if pool.calls:
            return  # an initializer is being stopped
        kind = pool.kind
        if kind is None:
            self.finish(pool)
        elif not pool.idles and not any(run.kind is kind for run in self._portal.open):
            aside.call_later(self._loop, QUIET_SLACK, self.finish, pool)
            pool.idles = True  # only now: whatever an interrupt keeps from being done below, that moment comes
            kind.when_gone(partial(self.finish, pool))

    def finish_all(self) -> None:
        """The supervisor ends, and all pools with it."""
        for pool in tuple(self.under_way.values()):
            self.finish(pool)

    def finish(self, pool: PoolScope) -> None:
        """Makes its report, and gives its name free; an interrupt only delays that."""
        try:
            if not pool.shutdown.closed.done():
                self._insist(self._finish, pool)
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self.finish, pool)
            raise

    def _finish(self, pool: PoolScope) -> None:
        shutdown, kind = pool.shutdown, pool.kind
        if kind is not None:
            self._insist(kind.retire)
            self._insist(kind.join, JOIN_SLACK, {run.ident for run in self._abandoned.values()})
        report = shutdown.report = shutdown.report or self._reports.of(pool)
        self._kinds.remove(pool.name)
        self._pools.remove(pool.name)
        self._last_resort.call_off(pool)
        self._log.pool_stopped(pool.name, report)
        if kind is not None:
            self.under_way.pop(kind, None)
        shutdown.closed.set_result(None)  # last: until then, an interrupt has all of it done again
