"""What a stream can show: its width, colours, and characters. What comes from a service is shown, and never obeyed."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from unicodedata import category, east_asian_width

from .._core.values import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TextIO, TypeAlias

    Colour: TypeAlias = Literal["bold", "dim", "red", "green", "yellow", "cyan"]

__all__ = ["Terminal", "cells"]

CODES: dict[Colour, str] = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True, slots=True)
class Terminal:
    """A stream for people.

    Attributes:
        width: How many cells a line may have; None: it is no terminal, and nothing is cut.
        colours: Whether it shows them: it is a terminal, and neither `NO_COLOR` nor `TERM=dumb` says otherwise.
        encoding: What has no character in it is shown as its escape.
    """

    width: int | None = None
    colours: bool = False
    encoding: str = "utf-8"

    @classmethod
    def of(cls, stream: TextIO) -> Terminal:
        """Looks at a stream."""
        encoding = getattr(stream, "encoding", None) or "ascii"
        if not stream.isatty():
            return cls(encoding=encoding)
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return cls(max(20, shutil.get_terminal_size().columns), not plain, encoding)

    def safe(self, text: object, *, lines: bool = False) -> str:
        """Returns a text that a terminal shows as it is: without control characters, and in its encoding."""
        shown = printable(str(text), lines=lines)
        return shown if shown.isascii() else shown.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def paint(self, text: str, colour: Colour | None) -> str:
        """Returns a text in a colour, where the terminal has any."""
        return f"\x1b[{CODES[colour]}m{text}\x1b[0m" if colour and self.colours and text else text

    def cut(self, text: str, width: int | None) -> str:
        """Returns a text that takes at most so many cells: of one that is too long the middle is left out."""
        if width is None or cells(text) <= width:
            return text
        mark = self.safe("…") if self.encoding.lower().replace("-", "") == "utf8" else "~"
        room = max(width - 1, 0)
        head = _within(text, (room + 1) // 2)
        tail = _within(text[::-1], room - cells(head))[::-1]
        return head + mark + tail if width > 0 else ""


def complain(text: str) -> None:
    """Writes a line for people to stderr."""
    terminal = Terminal.of(sys.stderr)
    print(terminal.safe(text), file=sys.stderr)


def cells(text: str) -> int:
    """Returns how many cells a text takes in a terminal: most characters one, those of East Asia two, marks none."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(character: str) -> int:
    if category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def _within(text: str, width: int) -> str:
    """Returns as many of the first characters as there is room for."""
    taken = 0
    for index, character in enumerate(text):
        taken += _cells_of(character)
        if taken > width:
            return text[:index]
    return text
