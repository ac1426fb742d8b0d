"""Pure: an immutable set of numbers, of which a changed copy costs the same however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TypeAlias

__all__ = ["Numbers"]

BITS = 6
LOW = (1 << BITS) - 1

Tiers: TypeAlias = dict[int, dict[int, frozenset[int]]]


class Numbers(AbstractSet[int]):
    """Numbers in tiers of 64: a copy shares all tiers but those on the way to what has changed."""

    __slots__ = ("_size", "_tiers")

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        tiers: dict[int, dict[int, set[int]]] = {}
        for number in numbers:
            tiers.setdefault(number >> 2 * BITS, {}).setdefault(number >> BITS & LOW, set()).add(number)
        self._tiers: Tiers = {
            high: {middle: frozenset(low) for middle, low in tier.items()} for high, tier in tiers.items()
        }
        self._size = sum(len(low) for tier in self._tiers.values() for low in tier.values())

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number in self._at(number)

    def __iter__(self) -> Iterator[int]:
        return (number for tier in self._tiers.values() for low in tier.values() for number in low)

    def __len__(self) -> int:
        return self._size

    def __hash__(self) -> int:
        return hash(frozenset(self))

    @property
    def least(self) -> int:
        """The least of them; there must be one."""
        tier = self._tiers[min(self._tiers)]
        return min(tier[min(tier)])

    def __or__(self, other: Iterable[int]) -> Numbers:  # type: ignore[override]  # narrower, and for any iterable
        changed = self
        for number in other:
            changed = changed._with(number, changed._at(number) | {number})
        return changed

    def __sub__(self, other: Iterable[int]) -> Numbers:
        changed = self
        for number in other:
            changed = changed._with(number, changed._at(number) - {number})
        return changed

    def _at(self, number: int) -> frozenset[int]:
        return self._tiers.get(number >> 2 * BITS, {}).get(number >> BITS & LOW, frozenset())

    def _with(self, number: int, low: frozenset[int]) -> Numbers:
        """Returns a copy in which these stand where the number has its place."""
        before = self._at(number)
        if before == low:
            return self
        tier = {**self._tiers.get(number >> 2 * BITS, {}), number >> BITS & LOW: low}
        if not low:
            del tier[number >> BITS & LOW]
        made = Numbers()
        made._tiers = {**self._tiers, number >> 2 * BITS: tier}
        if not tier:
            del made._tiers[number >> 2 * BITS]
        made._size = self._size + len(low) - len(before)
        return made

    def __repr__(self) -> str:
        return f"Numbers({sorted(self)})"
