"""Which class carries out the calls of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from .._kinds.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Collection

    from .._core.pools import PoolSettings
    from .._run.ports import Services
    from .._run.run import WorkerKind
    from .._worker.stop_event import Chain
    from .settings import Settings

__all__ = ["make_kind"]


def make_kind(
    pool: PoolSettings, settings: Settings, services: Services, chain: Chain, resolving: Collection[int]
) -> WorkerKind:
    """Makes what carries out the calls of a pool."""
    match pool.kind:
        case "thread":
            return Threads(settings.name, pool, services, chain, resolving, settings.wake_signal)
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
