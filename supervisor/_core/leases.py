"""Pure: for how long a node goes on without hearing of an owner, and when the owner may count on its end there."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MARGIN", "Lease"]

MARGIN = 0.5
"""Seconds that an owner gives a ladder which is climbed on a node beyond the ladder's own: what is said there and back
takes some."""

LOOK = 0.1
"""Seconds between two looks, at either end."""

SLACK = 0.5
"""Seconds that all ladders have beyond the longest, where the lease has run out."""

GRACE = 1.0
"""Seconds at most for which a node that stood still asks once more whether its owner is there."""

DRIFT = 1.05
"""How much faster one machine's clock may go than another's."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What an owner and its nodes have agreed on.

    A node says what time it has, again and again; the owner says back what it has heard last. So both count from the
    same moments, each on its own clock.

    Attributes:
        seconds: After which a node ends what it has of an owner, counted from the latest moment said back.
        patience: The owner's `shutdown_timeout`: seconds at most for all ladders.

    Example:
        >>> lease = Lease(10.0, 20.0)
        >>> lease.tick, lease.grace, lease.silence
        (2.0, 1.0, 6.0)
        >>> lease.end(7.0), round(lease.over(7.0), 2)
        (7.5, 19.53)
    """

    seconds: float
    patience: float

    @property
    def tick(self) -> float:
        """Seconds between two moments that a node says."""
        return self.seconds / 5

    @property
    def grace(self) -> float:
        """Seconds for which a node has asked in vain, before it takes its lease for run out."""
        return min(GRACE, self.seconds / 5)

    @property
    def silence(self) -> float:
        """Seconds of silence after which an owner takes a connection for broken, and tries another one."""
        return 3 * self.tick

    def end(self, ladder: float) -> float:
        """Returns the seconds that the end of all runs takes at most, of which the longest ladder takes so many."""
        return min(ladder, self.patience) + SLACK

    def alone(self, ladder: float) -> float:
        """Returns the seconds for which processes of a node go on that do not hear of it: it may stand still."""
        return self.seconds + self.grace + LOOK + min(ladder, self.patience)

    def over(self, ladder: float) -> float:
        """Returns the seconds of silence from which on an owner knows that all is over on a node."""
        return (self.seconds + self.grace + LOOK + self.end(ladder)) * DRIFT
