"""Who receives what a supervisor publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .counters import Counters
    from .notices import Subscriber

__all__ = ["Subscribers"]


class Subscribers(list["Subscriber"]):
    """The subscribers of one supervisor. Any thread.

    As a list it has those that want every call watched. It is empty, and so false, while there is none: a call then
    pays nothing for them.

    Attributes:
        unwatching: Subscribers that do not have calls watched: they receive shutdowns, workers, and calls that are
            stopped.
        counters: What counts. It does not have calls watched either.
        changed: Is called after one that has calls watched, or what counts, was added or removed. Set by whoever
            publishes.
    """

    changed: Callable[[], object] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.unwatching: list[Subscriber] = []  # it only ever grows and shrinks by one, whichever threads do so
        self.counters: tuple[Counters, ...] = ()

    @property
    def anybody(self) -> bool:
        """Whether there is any subscriber."""
        return bool(self or self.unwatching)

    def subscribe(self, subscriber: Subscriber, *, watch: bool = True) -> None:
        """Adds a subscriber until it is unsubscribed.

        Args:
            subscriber: Is called with each notice.
            watch: Have every call watched for it.
        """
        if not watch:
            self.unwatching.append(subscriber)
            return
        self.append(subscriber)
        self._tell()

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Removes a subscriber; does nothing where it is not there."""
        watched = subscriber in self
        for subscribers in (self, self.unwatching):
            while subscriber in subscribers:
                try:
                    subscribers.remove(subscriber)
                except ValueError:
                    pass  # another thread has done so meanwhile
        if watched:
            self._tell()

    def add_counters(self, counters: Counters) -> None:
        self.counters = (*self.counters, counters)
        self._tell()

    def remove_counters(self, counters: Counters) -> None:
        self.counters = tuple(other for other in self.counters if other is not counters)
        self._tell()

    def _tell(self) -> None:
        if self.changed is not None:
            self.changed()

    def each(self) -> list[Subscriber]:
        """The subscribers, those that have calls watched first."""
        return [*self, *self.unwatching]
