"""The last failures and stops, as a table."""

from __future__ import annotations

import time
from typing import Any

from .rows import said
from .tables import Cell, Column, age, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .terminal import Terminal

__all__ = ["incidents_table", "moment"]

COLUMNS = (
    Column("WHEN"),
    Column("NAME", least=12),
    Column("KIND", rank=4),
    Column("ENDED"),
    Column("STEP", rank=2),
    Column("RAN", right=True, rank=1),
    Column("REASON", least=8, rank=3),
    Column("ERROR", least=12),
)


def incidents_table(incidents: Sequence[dict[str, Any]], terminal: Terminal) -> Iterator[str]:
    """Gives the lines of a table, the newest last."""
    rows = [
        [
            Cell(moment(row.get("at"))),
            Cell(_name(row)),
            Cell(said(row.get("kind"))),
            Cell(said(row.get("ended")), "yellow" if row.get("ended") in {"stopped", "cancelled"} else "red"),
            Cell(said(row.get("step"))),
            Cell(age(row.get("elapsed"))),
            Cell(said(row.get("reason"))),
            Cell(said(row.get("error")).partition("\n")[0]),
        ]
        for row in incidents
    ]
    if not rows:
        yield "nothing has failed, nor was anything stopped"
        return
    yield from table(COLUMNS, rows, terminal)


def _name(row: dict[str, Any]) -> str:
    attempt = row.get("attempt", 1)
    return f"{said(row.get('worker'))} (run {attempt})" if attempt != 1 else said(row.get("worker"))


def moment(at: object) -> str:
    """Returns a time of day, in local time, with the date where it is another than today's."""
    if isinstance(at, bool) or not isinstance(at, int | float):
        return "-"
    try:
        local = time.localtime(at)
    except (OverflowError, ValueError, OSError):
        return "-"
    same_day = local[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", local)
