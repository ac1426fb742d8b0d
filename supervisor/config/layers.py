"""Pure: what holds for the workers whose names a pattern matches, and which of several patterns goes first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .._core.policy import EscalationPolicy
    from .._core.restart import Restart

__all__ = ["Layer"]


@dataclass(frozen=True, slots=True)
class Layer:
    """What holds for the workers whose names a pattern matches.

    Attributes:
        pattern: Names as logs have them, groups included: `*` stands for any text, `?` for one character.
        policy, restart: Theirs; None where the layer does not say.
    """

    SAYS: ClassVar = ("policy", "restart")

    pattern: str
    policy: EscalationPolicy | None = None
    restart: Restart | None = None

    def matches(self, name: str) -> bool:
        """Returns whether it holds for a worker of this name.

        Example:
            >>> Layer("feeds/*").matches("feeds/fast/reader"), Layer("feeds/*").matches("feeds")
            (True, False)
        """
        return _expression(self.pattern).fullmatch(name) is not None

    @property
    def exact(self) -> bool:
        """Whether it is for one name, which goes before all patterns."""
        return self.literal == len(self.pattern)

    @property
    def literal(self) -> int:
        """How many characters are no wildcards: of two patterns, the one with more of them goes first."""
        return sum(character not in WILD for character in self.pattern)


WILD = frozenset("*?")


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    """Returns what matches the same names, in a time that grows with the name and not with its powers.

    What stands between two stars is looked for from the left, and where it was found first it stays: no name needs
    another place for it.
    """
    first, *rest = (_without_stars(part) for part in re.split(r"\*+", pattern))
    if not rest:
        return re.compile(first, re.DOTALL)
    *between, last = rest
    return re.compile(f"{first}{''.join(f'(?>.*?{part})' for part in between)}.*{last}", re.DOTALL)


def _without_stars(part: str) -> str:
    return "".join("." if character == "?" else re.escape(character) for character in part)
