"""Pure: on which lines of a TOML text its keys stand. One pass over a text that the parser has accepted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .schema import Path

__all__ = ["lines_of_keys"]

TOKEN = re.compile(
    r"""
    (?P<text>
        \"\"\" (?: [^"\\]++ | \\. | "(?!"") )*+ "{3,5}
      | \'\'\' (?: [^']++ | '(?!'') )*+ '{3,5}
      | " (?: [^"\\\n]++ | \\. )*+ "
      | ' [^'\n]*+ '
    )
  | (?P<comment> \# [^\n]* )
  | (?P<mark> [\[\]{}=,\n] )
  | (?P<bare> [^\s\[\]{}=,."'\#]+ )
    """,
    re.VERBOSE | re.DOTALL,
)


def lines_of_keys(text: str, wanted: Collection[Path], unquoted: Callable[[str], str]) -> dict[Path, int]:
    """Returns the lines, from 1, on which keys first stand; without those that are nowhere.

    Args:
        text: The whole text, which is TOML.
        wanted: The keys, each with the names of the tables around it.
        unquoted: Returns what a quoted name says.
    """
    keys = _Keys(wanted, unquoted)
    line = 1
    for token in TOKEN.finditer(text.replace("\r\n", "\n")):
        keys.read(token, line)
        line += token.group().count("\n")
    return keys.found


class _Keys:
    """Reads token after token.

    Attributes:
        found: The lines of the keys that were met so far.
    """

    def __init__(self, wanted: Collection[Path], unquoted: Callable[[str], str]) -> None:
        self.found: dict[Path, int] = {}
        self._wanted = frozenset(wanted)
        self._deepest = max(map(len, wanted), default=0)
        self._unquoted = unquoted
        self._table: Path | None = ()  # that of the last header
        self._open: list[tuple[bool, Path | None]] = []  # brackets: whether it is a table, and which; None in an array
        self._key: list[str] | None = []  # the parts of the key that is being read; None within a value
        self._path: Path | None = None  # of the value that is being read
        self._header = False

    def read(self, token: re.Match[str], line: int) -> None:
        if token.lastgroup == "mark":
            self._mark(token.group(), line)
        elif token.lastgroup != "comment" and self._key is not None:
            part = token.group()
            self._key.append(self._unquoted(part) if token.lastgroup == "text" else part)

    def _mark(self, mark: str, line: int) -> None:
        match mark:
            case "\n":
                if not self._open:
                    self._key, self._header = [], False
            case "[" if self._key is not None:
                self._header = True
            case "]" if self._header:
                self._table = ()
                self._table = self._end_of_key(line)
                self._header = False
            case "=" if self._key is not None:
                self._path = self._end_of_key(line)
            case "[":
                self._open.append((False, None))
                self._path = None
            case "{":
                self._open.append((True, self._path))
                self._key = []
            case "]" | "}" if self._open:
                self._open.pop()
                self._key = self._path = None
            case "," if self._open and self._open[-1][0]:
                self._key = []
            case _:
                pass  # the comma of an array, or the second bracket of a header

    def _end_of_key(self, line: int) -> Path | None:
        """Notes a key that has been read; returns its path, None where it is in an array."""
        around = self._open[-1][1] if self._open else self._table
        key, self._key = self._key or [], None
        if around is None:
            return None
        path = (*around, *key)
        for length in range(1, min(len(path), self._deepest) + 1):
            if path[:length] in self._wanted:
                self.found.setdefault(path[:length], line)
        return path
