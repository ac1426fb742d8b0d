"""A pool for Celery's workers, whose tasks end in a time that is known beforehand: the extra `stopladder[celery]`.

    CELERY_CUSTOM_WORKER_POOL=supervisor.celery:Pool celery -A proj worker -P custom

Each of its processes imports this package, so that what only the worker needs is imported when `Pool` is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # light: worker processes import it
if TYPE_CHECKING:
    from typing import Any

    from .pool import Pool as Pool

__all__ = ["Pool"]


def __getattr__(name: str) -> Any:
    if name != "Pool":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .pool import Pool  # noqa: PLC0415  # light

    return Pool
