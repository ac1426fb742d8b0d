"""What of a survey is shown, and how: for tables, and for the live screen."""

from __future__ import annotations

from typing import Any

from .tables import Cell, Column, age, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .terminal import Colour, Terminal

__all__ = [
    "SORTS",
    "cells_of",
    "head",
    "head_cells",
    "next_step",
    "said",
    "since",
    "sorted_rows",
    "state_colour",
    "workers_table",
]

SORTS = ("age", "name", "kind", "state", "pool", "step", "pid")


def said(value: object) -> str:
    """Returns a value as a text; "-" where there is none."""
    return "-" if value is None or value == "" else str(value)


def since(row: dict[str, Any]) -> float | None:
    """For how long a worker has been running; of one that is queued, waiting."""
    running = row.get("running_for")
    return row.get("queued_for") if running is None else running


def next_step(row: dict[str, Any]) -> str:
    """Which step comes next, and when."""
    if not row.get("next_step"):
        return "-"
    return f"{row['next_step']} in {age(row.get('step_ends_in'))}"


def state_colour(row: dict[str, Any]) -> Colour | None:
    """What is well is green, what waits is cyan, what is being stopped yellow, and red where asking was not enough."""
    if row.get("state") == "stopping":
        return "yellow" if row.get("step") in {None, "ask"} else "red"
    return STATE_COLOURS.get(str(row.get("state")))


STATE_COLOURS: dict[str, Colour] = {"running": "green", "queued": "cyan", "starting": "cyan", "backing_off": "yellow"}


COLUMNS = {
    "name": Column("NAME", least=12),
    "run": Column("RUN", right=True, rank=6),
    "kind": Column("KIND", rank=4),
    "state": Column("STATE"),
    "pool": Column("POOL", least=6, rank=3),
    "age": Column("AGE", right=True),
    "beat": Column("BEAT", right=True, rank=7),
    "step": Column("STEP", rank=1),
    "next": Column("NEXT", rank=2),
    "pid": Column("PID", right=True, rank=5),
    "node": Column("NODE", least=6, rank=5),
    "from": Column("FROM", least=12, rank=8),
}
"""Those of `ps`; which give way first on a narrow terminal is said by their ranks."""

OCCASIONAL = {"run": "1", "beat": "-", "node": "-", "from": "-"}
"""Shown only where one of the rows has something else."""


def cells_of(row: dict[str, Any]) -> dict[str, Cell]:
    """Returns what the columns have for a worker."""
    colour = state_colour(row)
    return {
        "name": Cell(said(row.get("name"))),
        "run": Cell(said(row.get("attempt"))),
        "kind": Cell(said(row.get("kind"))),
        "state": Cell(said(row.get("state")), colour),
        "pool": Cell(said(row.get("pool"))),
        "age": Cell(age(since(row))),
        "beat": Cell(age(row.get("beat_ago"))),
        "step": Cell(said(row.get("step")), colour),
        "next": Cell(next_step(row)),
        "pid": Cell(said(row.get("pid"))),
        "node": Cell(said(row.get("node"))),
        "from": Cell(said(row.get("submitted_from"))),
    }


def workers_table(rows: Sequence[dict[str, Any]], terminal: Terminal) -> Iterator[str]:
    """Gives the lines of a table of workers; none where there is none."""
    laid = [cells_of(row) for row in rows]
    shown = [
        key for key in COLUMNS if key not in OCCASIONAL or any(cells[key].text != OCCASIONAL[key] for cells in laid)
    ]
    if laid:
        yield from table([COLUMNS[key] for key in shown], [[cells[key] for key in shown] for cells in laid], terminal)


def sorted_rows(rows: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Returns them in an order; those that have nothing of it come last."""
    if key == "age":
        return sorted(rows, key=lambda row: -(since(row) or 0.0))
    return sorted(rows, key=lambda row: (row.get(key) is None, row.get(key) if key == "pid" else said(row.get(key))))


def head(survey: dict[str, Any], terminal: Terminal) -> Iterator[str]:
    """Gives the lines about a supervisor itself."""
    for cells in head_cells(survey):
        parts = [terminal.paint(terminal.safe(cell.text), cell.colour) for cell in cells]
        width = len("  ".join(cell.text for cell in cells))
        if terminal.width is None or width <= terminal.width:
            yield "  ".join(parts)
        else:
            yield terminal.cut(terminal.safe("  ".join(cell.text for cell in cells)), terminal.width)


def head_cells(survey: dict[str, Any]) -> Iterator[list[Cell]]:
    """Gives what is said of a supervisor itself, line by line."""
    health: dict[str, Any] = survey.get("health") or {}
    state = said(survey.get("state"))
    ready = Cell("ready", "green") if health.get("ready") else Cell("not ready", "yellow")
    yield [
        Cell(said(survey.get("supervisor")), "bold"),
        Cell(f"pid {said(survey.get('pid'))}"),
        Cell(state.replace("_", " "), "green" if state == "running" else "yellow"),
        ready if health.get("live", True) else Cell("not live", "red"),
        Cell(f"{survey.get('unended', 0)} workers and calls"),
        Cell(", ".join(map(_pool, survey.get("pools") or ()))),
    ]
    if health.get("reasons"):
        yield [Cell("  not ready:"), Cell("; ".join(str(reason) for reason in health["reasons"]), "yellow")]
    if survey.get("loop_blocked_for") is not None:
        yield [Cell("  its event loop is blocked:"), Cell(age(survey["loop_blocked_for"]), "red")]
    groups = [
        f"{said(group.get('name'))} {said(group.get('state'))} ({_many(group.get('workers', 0), 'worker')})"
        for group in survey.get("groups") or ()
    ]
    if groups:
        yield [Cell("  groups:"), Cell(", ".join(groups))]
    if shutdown := survey.get("shutdown"):
        yield [Cell(f"  {_shutdown(shutdown)}", "yellow")]


def _many(number: object, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _pool(pool: dict[str, Any]) -> str:
    queued = f" ({pool['queued']} queued)" if pool.get("queued") else ""
    ready = "" if pool.get("ready", True) else " not ready"
    return f"{said(pool.get('name'))} {pool.get('running', 0)}/{pool.get('capacity', 0)}{queued}{ready}"


def _shutdown(shutdown: dict[str, Any]) -> str:
    reason = f" ({shutdown['reason']})" if shutdown.get("reason") else ""
    if shutdown.get("ended"):
        return f"has shut down{reason}"
    what = "draining" if shutdown.get("draining") else "shutting down"
    left: Any = shutdown.get("deadline_in")
    over = isinstance(left, int | float) and left < 0
    deadline = f"its deadline passed {age(-left)} ago" if over else f"{age(left)} left"
    return f"{what}{reason} for {age(shutdown.get('begun_ago'))}, {deadline}"
