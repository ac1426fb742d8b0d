"""Who is told of what happens in a supervisor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakMethod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .counters import Counters
    from .notices import Subscriber

__all__ = ["Subscribers"]


@dataclass(frozen=True, slots=True)
class Kept:
    """Stands in for a weak reference where the supervisor itself is to hold the listener."""

    listener: Subscriber

    def __call__(self) -> Subscriber:
        return self.listener


class Subscribers(list["WeakMethod[Subscriber] | Kept"]):
    """Who listens to a supervisor. Empty, and so false, while nobody has calls watched, which would cost them time.

    Attributes:
        quiet: Listeners that do not have calls watched: they hear of shutdowns, workers, and calls that are stopped.
        tallies: Who counts. They do not have calls watched either.
    """

    def __init__(self) -> None:
        super().__init__()
        self.quiet: tuple[Subscriber, ...] = ()
        self.tallies: tuple[Counters, ...] = ()

    @property
    def heard(self) -> bool:
        """Whether anybody hears what is told."""
        return bool(self or self.quiet)

    def add(self, listener: Subscriber) -> None:
        """Takes in a listener, a bound method, for as long as somebody else holds its object."""
        self.append(WeakMethod(listener, self._forget))

    def keep(self, listener: Subscriber, *, watch: bool = True) -> None:
        """Takes in a listener until it is discarded; without `watch`, no call is watched for it."""
        if watch:
            self.append(Kept(listener))
        else:
            self.quiet = (*self.quiet, listener)

    def discard(self, listener: Subscriber) -> None:
        """Forgets a listener; of either sort, and also one that was never taken in."""
        for reference in tuple(self):
            if reference() == listener:
                self._forget(reference)
        self.quiet = tuple(other for other in self.quiet if other != listener)

    def add_tally(self, tally: Counters) -> None:
        self.tallies = (*self.tallies, tally)

    def remove_tally(self, tally: Counters) -> None:
        self.tallies = tuple(other for other in self.tallies if other is not tally)

    def _forget(self, reference: WeakMethod[Subscriber] | Kept) -> None:
        try:
            self.remove(reference)
        except ValueError:
            pass  # it was closed, and then dropped

    def each(self) -> Iterator[Subscriber]:
        yield from (listener for reference in tuple(self) if (listener := reference()) is not None)
        yield from self.quiet
