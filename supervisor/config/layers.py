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
    def closeness(self) -> tuple[bool, int]:
        """Orders layers: a name before all patterns, and then by the characters that are no wildcards."""
        literal = sum(character not in WILD for character in self.pattern)
        return literal == len(self.pattern), literal


WILD = {"*": ".*", "?": "."}


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(WILD.get(character) or re.escape(character) for character in pattern), re.DOTALL)
