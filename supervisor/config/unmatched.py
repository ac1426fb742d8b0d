"""Which patterns have matched no name: perhaps they are spelt wrong."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .layers import Layer

__all__ = ["Unmatched"]

REMEMBERED = 1000
"""Names that are remembered: none is compared twice, and a pattern that matches nothing is compared with them."""

COMPARED = 50
"""Names at most, the first that were seen, among which one is looked for that is near a pattern: a shutdown waits."""

LONGEST = 100
"""Characters of a pattern, or of a name, that are compared to find what is near."""

DIGITS = 7
"""Digits at most of the numbers of workers and calls without a name, as far as patterns are concerned."""


class Unmatched:
    """The patterns that have matched no name so far. Any thread; false once all have.

    The supervisors that share a configuration share it: only the last of them can say that a pattern matches nothing.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._left = {layer.pattern: layer for layer in layers}
        self._wild = {pattern: layer for pattern, layer in self._left.items() if not layer.exact}
        self._seen: dict[str, None] = {}
        self._users: WeakSet[object] = WeakSet()

    def see(self, name: str) -> None:
        """Crosses out what matches a name."""
        if self._is_new(name):
            self._cross_out(name)

    def see_numbered(self, stem: str) -> None:
        """Crosses out what matches a name that was made from that of a function, and any number."""
        if self._is_new(stem):
            for digits in range(1, DIGITS + 1):
                self._cross_out(f"{stem}-{'1' * digits}")

    def _is_new(self, name: str) -> bool:
        if name in self._seen:
            return False
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()  # somebody gives each call a name of its own
        self._seen[name] = None
        return True

    def _cross_out(self, name: str) -> None:
        matched = [pattern for pattern, layer in tuple(self._wild.items()) if layer.matches(name)]
        for pattern in (name, *matched):
            self._left.pop(pattern, None)
            self._wild.pop(pattern, None)

    @property
    def patterns(self) -> tuple[str, ...]:
        """Those that are left, in the order of the configuration."""
        return tuple(self._left)

    def __bool__(self) -> bool:
        return bool(self._left)

    # ------------------------------------------------------------------------------------ who sees names

    def join(self, user: object) -> None:
        """Whoever joins will see names."""
        self._users.add(user)

    def leave(self, user: object) -> bool:
        """Whoever leaves will see no more; returns whether it was the last that would."""
        if user not in self._users:
            return False
        self._users.discard(user)
        return not self._users

    # ------------------------------------------------------------------------------------ what was meant

    def nearest(self, pattern: str) -> list[str]:
        """Returns the names that were seen, three at most, that are most like what a pattern was to match.

        A name without those of its groups counts as like it; of a pattern with wildcards, what stands before the first
        one is compared with how names begin, or what stands after the last one with how they end.
        """
        names = [name for name in islice(tuple(self._seen), COMPARED) if len(name) <= LONGEST]
        layer = self._left.get(pattern)
        inner = [name for name in names if layer is not None and layer.matches(name.rpartition("/")[2])]
        return (inner or _alike(pattern[:LONGEST], names))[:3]


def _alike(pattern: str, names: Iterable[str]) -> list[str]:
    from difflib import get_close_matches  # noqa: PLC0415  # only where a pattern is wrong

    first, *rest = re.split(r"[*?]+", pattern)
    last = rest[-1] if rest else ""
    if not rest:
        pieces = {name: name for name in reversed(tuple(names))}
    elif first:
        pieces = {name[: len(first)]: name for name in reversed(tuple(names))}  # of equals, the first that was seen
    else:
        pieces = {name[-len(last) :]: name for name in reversed(tuple(names))} if last else {}
    return [pieces[piece] for piece in get_close_matches(first or last, pieces)]
