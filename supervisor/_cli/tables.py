"""Pure: tables that fit a terminal, and the ages in them."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from .terminal import Terminal, cells

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .terminal import Colour

__all__ = ["Cell", "Column", "age", "fitted", "table"]

GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its head.
        right: Whether it is aligned to the right.
        least: How narrow it may become where the table is too wide; None: it keeps its width.
        rank: Which columns are left out where that is not enough: those with the highest first; 0: never.
    """

    title: str
    right: bool = False
    least: int | None = None
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, as it came, and its colour."""

    text: str
    colour: Colour | None = None


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], terminal: Terminal) -> Iterator[str]:
    """Gives the lines of a table, its head first; none is wider than the terminal."""
    shown = [[Cell(terminal.safe(cell.text), cell.colour) for cell in row] for row in rows]
    widths = fitted(columns, shown, terminal.width)
    head = [Cell(column.title, "bold") for column in columns]
    for row in (head, *shown):
        parts = [_laid(row[index], columns[index], width, terminal) for index, width in widths.items()]
        yield (" " * GAP).join(parts).rstrip()


def _laid(cell: Cell, column: Column, width: int, terminal: Terminal) -> str:
    text = terminal.cut(cell.text, width)
    space = " " * (width - cells(text))
    painted = terminal.paint(text, cell.colour)
    return space + painted if column.right else painted + space


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], room: int | None) -> dict[int, int]:
    """Returns how wide the columns are, by their indexes; those for which there is no room are left out."""
    widths = {
        index: max(cells(column.title), *(cells(row[index].text) for row in rows), 0)
        for index, column in enumerate(columns)
    }
    while room is not None:
        excess = sum(widths.values()) + GAP * (len(widths) - 1) - room
        if excess <= 0:
            break
        spare = {index: max(0, width - (columns[index].least or width)) for index, width in widths.items()}
        if sum(spare.values()) >= excess:
            return _narrowed(widths, spare, excess)
        last = max(widths, key=lambda index: (columns[index].rank, index))
        if not columns[last].rank:  # nothing can be left out any more: each gets its part
            return {index: max(1, room // len(widths) - GAP) for index in widths}
        del widths[last]
    return widths


def _narrowed(widths: dict[int, int], spare: dict[int, int], excess: int) -> dict[int, int]:
    """Returns widths that are so much less in sum; who has the most to spare gives first."""
    narrowed = dict(widths)
    for index in sorted(spare, key=spare.__getitem__, reverse=True):
        less = min(excess, spare[index])
        narrowed[index] -= less
        excess -= less
    return narrowed


def age(seconds: object) -> str:
    """Returns a time as people say it, such as 3m12s; "-" where there is none.

    Example:
        >>> [age(seconds) for seconds in (0.25, 42, 192, 18_180, 100_000, None)]
        ['0.2s', '42s', '3m12s', '5h03m', '1d03h', '-']
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not isfinite(seconds):
        return "-"
    if seconds < 0:
        return f"-{age(-seconds)}" if round(seconds, 1) else "0.0s"
    if round(seconds, 1) < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 24 else f"{hours // 24}d{hours % 24:02}h"
