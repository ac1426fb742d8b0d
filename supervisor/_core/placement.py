"""Pure: which nodes of a cluster may take a run, and which of them does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ANYWHERE", "Offer", "Placement", "choose", "may_take", "suffices", "total"]

ROUNDING = 1e-9
"""By how much sums of fractions may be off, of what is wanted: ten times a tenth is a little less than one."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What a run asks of the node that takes it.

    Attributes:
        resources: How much of which resource it takes there while it runs, by their names.
        nodes: The names or addresses of the nodes that may take it; none: all.
    """

    resources: Mapping[str, float] = field(default_factory=dict[str, float])
    nodes: tuple[str, ...] = ()


ANYWHERE = Placement()


class Offer(Protocol):
    """What a node has, as far as its owner knows."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and its address."""
        ...

    @property
    def threads(self) -> int:
        """How many calls it takes at once."""
        ...

    @property
    def calls(self) -> int:
        """How many of this owner it has."""
        ...

    @property
    def runs(self) -> int:
        """The same, workers of `start()` included."""
        ...

    @property
    def resources(self) -> Mapping[str, float]:
        """What it has in all."""
        ...

    @property
    def free(self) -> Mapping[str, float]:
        """What of that nobody has taken."""
        ...


N = TypeVar("N", bound=Offer)


def choose(placement: Placement, offers: Iterable[N], *, call: bool) -> N | None:
    """Returns the node that takes a run; None where none has room for it now.

    Of those that may, it is the one that has the fewest runs for each of its threads; of equals, the first.

    Example:
        >>> from types import SimpleNamespace as Node
        >>> small = Node(names=("a",), threads=1, calls=0, runs=0, resources={}, free={})
        >>> large = Node(names=("b",), threads=4, calls=3, runs=3, resources={"GPU": 2}, free={"GPU": 1})
        >>> choose(ANYWHERE, [large, small], call=True).names
        ('a',)
        >>> choose(Placement({"GPU": 1}), [large, small], call=True).names
        ('b',)
        >>> choose(Placement({"GPU": 2}), [large, small], call=True) is None
        True
    """
    fitting = [offer for offer in offers if may_take(placement, offer) and _has_room(placement, offer, call=call)]
    return min(fitting, key=lambda offer: offer.runs / max(1, offer.threads), default=None)


def may_take(placement: Placement, offer: Offer) -> bool:
    """Whether a node could take a run, once it has room for it."""
    if placement.nodes and not set(placement.nodes) & set(offer.names):
        return False
    return suffices(offer.resources, placement.resources)


def _has_room(placement: Placement, offer: Offer, *, call: bool) -> bool:
    if call and offer.calls >= offer.threads:
        return False
    return suffices(offer.free, placement.resources)


def suffices(there: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    """Whether there is as much of each resource as is wanted.

    Example:
        >>> suffices({"GPU": 0.3 - 0.1 - 0.1}, {"GPU": 0.1}), suffices({"GPU": 1}, {"GPU": 1.5})
        (True, False)
    """
    return all(there.get(name, 0.0) >= amount * (1 - ROUNDING) for name, amount in wanted.items())


def total(claims: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Returns how much of each resource is claimed in all.

    It is summed up anew each time: were what ends subtracted, a little more would be off with each run.

    Example:
        >>> total([{"GPU": 1}, {"GPU": 2, "disk": 1}])
        {'GPU': 3, 'disk': 1}
    """
    taken: dict[str, float] = {}
    for claim in claims:
        for name, amount in claim.items():
            taken[name] = taken.get(name, 0) + amount
    return taken
