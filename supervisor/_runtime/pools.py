"""What is set for the pools of one supervisor, by their names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .._worker.locks import ScopedLock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.pools import PoolSettings

__all__ = ["Pools"]


class Pools:
    """The settings of the pools of one supervisor, which they may have before it is bound to a loop. Any thread.

    Args:
        always: Those of the pools that are always there.
    """

    def __init__(self, *always: PoolSettings) -> None:
        self._by_name = {settings.name: settings for settings in always}
        self._replaceable = {settings.name for settings in always}
        self._changing = ScopedLock()  # a signal handler may come in between

    def __getitem__(self, name: str) -> PoolSettings:
        return self._by_name[name]

    def __iter__(self) -> Iterator[PoolSettings]:
        return iter(tuple(self._by_name.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def usual(self, name: str) -> PoolSettings | None:
        """Returns what the supervisor was given for a pool that is always there, and of which nothing else was said."""
        return self._by_name[name] if name in self._replaceable else None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def add(self, settings: PoolSettings) -> bool:
        """Takes in a further pool, or, once for each, what is set for one that is always there.

        Returns:
            False where the name is taken.
        """
        with self._changing:
            if settings.name in self._by_name and settings.name not in self._replaceable:
                return False
            self._replaceable.discard(settings.name)
            self._by_name[settings.name] = settings
            return True

    def resize(self, name: str, size: int) -> PoolSettings:
        """Gives a pool another size, and returns what is set for it now."""
        with self._changing:
            settings = self._by_name[name] = replace(self._by_name[name], size=size)
            return settings
