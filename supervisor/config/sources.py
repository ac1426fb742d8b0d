"""Where a configuration comes from: a file of TOML, the environment, a mapping; and the lines of what stands in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._core.values import printable
from .lines import lines_of_keys

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from .schema import Path

__all__ = ["Document", "Problem", "from_environment", "from_source"]

LONGEST = 4_000_000
"""Characters of a file beyond which it is not read: it is a log, a device, or whatever else was named by mistake."""


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
        return printable(": ".join(part for part in (where, self.key, self.reason) if part))


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

    def lines(self, paths: Collection[Path]) -> dict[Path, int]:
        """Finds the lines on which paths first stand."""
        return lines_of_keys(self.text, paths, _unquoted) if self.text else {}


def from_source(source: str | os.PathLike[str] | Mapping[str, Any], found: list[Problem]) -> Iterator[Document]:
    """Reads a file, or takes a mapping; adds to `found` why it cannot."""
    if isinstance(source, Mapping):
        yield Document("the mapping", source)
        return
    name = os.fsdecode(source)
    try:
        with open(name, encoding="utf-8", newline="") as file:  # noqa: PTH123  # pathlib would be imported for this
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            found.append(Problem(name, "", f"is longer than {LONGEST} characters: no configuration is"))
            return
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

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("its arrays or tables are nested too deeply") from None


def _unquoted(name: str) -> str:
    return name[1:-1] if "\\" not in name else str(_parsed(f"name = {name}")["name"])


def _syntax(error: ValueError) -> tuple[str, int | None]:
    """Returns what the parser says, and the line, which it says in parentheses; None where that is the end."""
    reason, _, where = str(error).partition(" (at ")
    line = re.match(r"line (\d+)", where)
    return (reason, int(line[1])) if line else (f"{reason}, at the end" if where else reason, None)
