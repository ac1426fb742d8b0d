"""What is set for the pools of one supervisor, by their names, and how each of them stands."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from .._core.pools import ANY_SIZE
from .._core.report import PoolStatistics
from .._worker.locks import ScopedLock
from .scopes import PoolScope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._core.pools import PoolSettings
    from .._run.run import Run, WorkerKind

__all__ = ["Pools", "statistics_of", "why_not_ready"]


def why_not_ready(kind: WorkerKind) -> str:
    """Returns why a pool cannot take calls, for people; empty where it can. Any thread."""
    return kind.readiness.reason or ("" if kind.capacity else "all that it may have were abandoned, and are not back")


def statistics_of(settings: PoolSettings, kind: WorkerKind | None, abandoned: Iterable[Run] = ()) -> PoolStatistics:
    """Counts what a pool has. Any thread.

    Args:
        settings: What is set for it.
        kind: The pool; None where nobody has used it.
        abandoned: The runs that were given up and have not come back, of all pools.
    """
    capacity = settings.size if settings.on is None else 0  # nobody knows what nodes there are before it is used
    if kind is not None:
        capacity = kind.capacity
    size = capacity if settings.size == ANY_SIZE else settings.size
    found = PoolStatistics(settings.name, settings.kind, size, capacity, max_queued=settings.max_queued)
    if kind is None:
        return found
    states = Counter(run.state_name for run in list(kind.calls.values()))
    reason = why_not_ready(kind)
    return replace(
        found,
        running=states["running"] + states["stopping"],
        queued=states["queued"],
        alive=kind.alive,
        abandoned=sum(run.kind is kind and not run.own for run in abandoned),
        ready=not reason,
        reason=reason,
    )


class Pools:
    """The settings of the pools of one supervisor, which they may have before it is bound to a loop. Any thread.

    Args:
        always: Those of the pools that are always there.
    """

    def __init__(self, *always: PoolSettings) -> None:
        self._scopes = {settings.name: PoolScope(settings) for settings in always}
        self._always = frozenset(self._scopes)
        self._replaceable = {settings.name for settings in always}
        self._changing = ScopedLock()  # a signal handler may come in between

    def __getitem__(self, name: str) -> PoolSettings:
        return self._scopes[name].settings

    def __iter__(self) -> Iterator[PoolSettings]:
        return iter([scope.settings for scope in tuple(self._scopes.values())])

    def __contains__(self, name: str) -> bool:
        return name in self._scopes

    def scope(self, name: str) -> PoolScope:
        """Returns a pool as what is shut down alone."""
        return self._scopes[name]

    def is_always_there(self, name: str) -> bool:
        """Whether every supervisor has a pool of this name."""
        return name in self._always

    def usual(self, name: str) -> PoolSettings | None:
        """Returns what the supervisor was given for a pool that is always there, and of which nothing else was said."""
        return self[name] if name in self._replaceable else None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._scopes)

    def add(self, settings: PoolSettings) -> bool:
        """Takes in a further pool, or, once for each, what is set for one that is always there.

        Returns:
            False where the name is taken.
        """
        with self._changing:
            if settings.name in self._scopes and settings.name not in self._replaceable:
                return False
            self._replaceable.discard(settings.name)
            self._scopes[settings.name] = PoolScope(settings)
            return True

    def remove(self, name: str) -> None:
        """A pool has ended: its name is free. Idempotent."""
        with self._changing:
            self._scopes.pop(name, None)

    def resize(self, name: str, size: int) -> PoolSettings:
        """Gives a pool another size, and returns what is set for it now."""
        with self._changing:
            scope = self._scopes[name]
            scope.settings = replace(scope.settings, size=size)
            return scope.settings
