"""Where a configuration comes from: a file of TOML, the environment, a mapping; and the lines of what stands in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .schema import Path

__all__ = ["Document", "Problem", "from_environment", "from_source"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing for which a configuration is refused.

    Attributes:
        source: The file, or the environment variable.
        key: Where in it, as TOML writes it; empty where it is the whole.
        reason: What is wrong, and what would be right.
        line: The line of the file, from 1, where that is known.

    Example:
        >>> print(Problem("policy.toml", "policy.ask", "must be a number of seconds, 0 or more; not -1", 3))
        policy.toml:3: policy.ask: must be a number of seconds, 0 or more; not -1
    """

    source: str
    key: str
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        return ": ".join(part for part in (where, self.key, self.reason) if part)


@dataclass(frozen=True, slots=True)
class Document:
    """What one source says.

    Attributes:
        source: What messages call it.
        values: What it says, whatever that is.
        text: As TOML, where it is a file.
    """

    source: str
    values: Mapping[str, Any]
    text: str = ""

    def lines(self, paths: Iterable[Path]) -> dict[Path, int]:
        """Finds the lines on which paths first stand, by asking the parser how many it takes to have them."""
        lines = self.text.replace("\r\n", "\n").split("\n")

        @cache
        def values(number: int) -> dict[str, Any] | None:
            """Returns what the first lines say; None where they end in the middle of something."""
            try:
                return _parsed("\n".join(lines[:number]))
            except ValueError:
                return None

        def first(path: Path) -> int:
            without, having = 0, len(lines)
            number: int | None = having
            while number is not None:
                middle = (without + having) // 2
                between = (*range(middle, having), *range(middle - 1, without, -1))
                number = next((number for number in between if number > without and values(number) is not None), None)
                if number is not None and _stands(path, values(number)):
                    having = number
                elif number is not None:
                    without = number
            return without + 1

        return {path: first(path) for path in paths} if self.text else {}


def from_source(source: str | os.PathLike[str] | Mapping[str, Any], found: list[Problem]) -> Iterator[Document]:
    """Reads a file, or takes a mapping; adds to `found` why it cannot."""
    if isinstance(source, Mapping):
        yield Document("the mapping", source)
        return
    name = os.fsdecode(source)
    try:
        with open(name, encoding="utf-8", newline="") as file:  # noqa: PTH123  # pathlib would be imported for this
            text = file.read()
        document = Document(name, _parsed(text), text)
    except OSError as error:
        found.append(Problem(name, "", f"cannot be read: {error.strerror or error}"))
    except UnicodeDecodeError:
        found.append(Problem(name, "", "is not UTF-8, as TOML must be"))
    except ValueError as error:
        reason, line = _syntax(error)
        found.append(Problem(name, "", f"is not TOML: {reason}", line))
    else:
        yield document


def from_environment(
    environ: Mapping[str, str], prefix: str, keys: Iterable[str], found: list[Problem]
) -> Iterator[Document]:
    """Reads the variables with a prefix; adds to `found` why it cannot."""
    known = {prefix + key.upper(): key for key in keys}
    for variable in sorted(name for name in environ if name.startswith(prefix)):
        if variable not in known:
            found.append(Problem(variable, "", f"is no variable of the configuration; these are: {', '.join(known)}"))
            continue
        values, reason = {}, ""
        try:
            values = _parsed(f"{known[variable]} = {environ[variable]}")
        except ValueError as error:
            reason, _ = _syntax(error)
        if len(values) > 1:
            reason = "more than one value"
        if reason:
            found.append(Problem(variable, "", f'is not what could stand to the right of "=" in TOML: {reason}'))
        else:
            yield Document(variable, values)


def _parsed(text: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415  # whoever has no file needs no parser

    return tomllib.loads(text)


def _syntax(error: ValueError) -> tuple[str, int | None]:
    """Returns what the parser says, and the line, which it says in parentheses; None where that is the end."""
    reason, _, where = str(error).partition(" (at ")
    line = re.match(r"line (\d+)", where)
    return (reason, int(line[1])) if line else (f"{reason}, at the end" if where else reason, None)


def _stands(path: Path, document: Any) -> bool:
    for part in path:
        inside = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
        if part not in inside:
            return False
        document = inside[part]
    return True
