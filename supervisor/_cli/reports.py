"""What a shutdown met, as a table."""

from __future__ import annotations

from typing import Any

from .rows import said
from .tables import Cell, Column, age, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .terminal import Terminal

__all__ = ["report_lines"]

COLUMNS = (
    Column("NAME", least=12),
    Column("KIND", rank=3),
    Column("ENDED"),
    Column("STEP", rank=2),
    Column("RAN", right=True, rank=1),
    Column("TO STOP", right=True),
    Column("ERROR", least=12, rank=4),
)


def report_lines(report: dict[str, Any], terminal: Terminal) -> Iterator[str]:
    """Gives the lines of a report, as `ShutdownReport.to_dict` has it."""
    reason = f" ({report['reason']})" if report.get("reason") else ""
    counts = ", ".join(f"{number} {ended}" for ended, number in report["counts"].items()) or "nothing was running"
    head = f"shutdown{reason} took {age(report['seconds'])}: {counts}"
    yield terminal.paint(terminal.safe(head), "green" if report["clean"] else "red")
    yield from _outcomes(report["outcomes"], terminal)
    earlier, forgotten = report.get("earlier") or (), report.get("forgotten", 0)
    if earlier or forgotten:
        yield "lost before it began:"
        yield from _outcomes(earlier, terminal)
    if forgotten:
        yield f"and {forgotten} more that have failed"
    for outcome in (*report["outcomes"], *earlier):
        if outcome["ended"] == "abandoned" and outcome.get("stack"):
            yield f"{terminal.safe(outcome['worker'])} was last seen at:"
            yield terminal.safe(outcome["stack"], lines=True).rstrip()


def _outcomes(outcomes: Sequence[dict[str, Any]], terminal: Terminal) -> Iterator[str]:
    if outcomes:
        yield from table(COLUMNS, [_row(outcome) for outcome in outcomes], terminal)


def _row(outcome: dict[str, Any]) -> list[Cell]:
    run = f" (run {outcome['attempt']})" if outcome.get("attempt", 1) != 1 else ""
    ended = outcome["ended"]
    return [
        Cell(f"{said(outcome['worker'])}{run}"),
        Cell(said(outcome["kind"])),
        Cell(said(ended), "green" if ended in {"returned", "stopped", "cancelled"} else "red"),
        Cell(said(outcome.get("step"))),
        Cell(age(outcome.get("seconds"))),
        Cell(age(outcome.get("stop_seconds"))),
        Cell(said(outcome.get("error")).partition("\n")[0]),
    ]
