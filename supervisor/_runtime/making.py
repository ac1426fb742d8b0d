"""Which class carries out the calls of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from .._kinds.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Collection

    from .._core.pools import PoolSettings
    from .._kinds.cluster import Cluster
    from .._run.ports import Services
    from .._run.run import WorkerKind
    from .._worker.stop_event import Chain
    from .settings import Settings

__all__ = ["Maker"]


class Maker:
    """Makes what carries out the calls of each pool of one supervisor.

    Args:
        settings: What the user has said.
        chain: Wakes the workers that wait for their stop Event, one after another.
    """

    def __init__(self, settings: Settings, chain: Chain) -> None:
        self._settings = settings
        self._chain = chain
        self._cluster: Cluster | None = None

    def make(self, pool: PoolSettings, services: Services, resolving: Collection[int]) -> WorkerKind:
        """Makes one. Any thread.

        Raises:
            ValueError: It is on a cluster of which nobody knows where it is.
        """
        settings = self._settings
        if pool.on is not None:
            return self._remote(pool, services)
        match pool.kind:
            case "thread":
                return Threads(settings.name, pool, services, self._chain, resolving, settings.wake_signal)
            case "process":
                from .._kinds.processes import Processes  # noqa: PLC0415  # most supervisors never need it

                return Processes(
                    settings.name,
                    pool,
                    services,
                    start_timeout=settings.process_start_timeout,
                    dump_signal=settings.dump_signal,
                )
            case _:
                assert_never(pool.kind)

    def _remote(self, pool: PoolSettings, services: Services) -> WorkerKind:
        from .._kinds.cluster import Cluster, Remote  # noqa: PLC0415  # few need it, and Dask

        settings = self._settings
        assert settings.cluster is not None
        if self._cluster is None:
            self._cluster = Cluster(
                settings.name,
                settings.cluster,
                settings.shutdown_timeout,
                services.loop,
                services.post,
                services.forward,
                services.write,
            )
        return Remote(self._cluster, pool, services)
