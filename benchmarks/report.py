"""The report: what was measured, on what, and which targets were met; Markdown, written from data alone."""

from __future__ import annotations

import math
import os
import platform
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .measure import Goal, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["machine", "missed", "page", "tables_of"]

PACKAGES = ("anyio", "structlog", "uvloop", "asgiref", "pebble", "loky", "aiomisc", "distributed")

Data = dict[str, Any]

TIMES = "\N{MULTIPLICATION SIGN}"

HEAD = """\
# Benchmarks

What the library costs, beside what is there without it. `make bench` writes this page, from what it has measured.

- {machine}
- {versions}
- Measured on {date}.

The contenders of a table take turns in one process, A B A B, after a first round that does not count; each figure is a
median. It is otherwise in two tables: for memory each has a process of its own, once; and what takes nanoseconds is
repeated by itself. A ratio stands in brackets, to the contender that is named above the table. Every section has a
process of its own. Where a table says that it is pinned, all threads were kept on one core: unpinned, the same code can
take twice as long, depending on where its threads happen to be. The first row of a table is the floor, where there is
one: the least that can be done, by hand, without a way to stop it, to wait for it in time, or to know what became of
it. Less is better everywhere. A peer that is not installed, or that this Python does not have, has no row:
`InterpreterPoolExecutor` comes with Python 3.14.
"""

QUICK = """
```{warning}
This comes from the quick mode, which shows that the benchmarks work. Its figures say nothing about speed, and no target
is judged.
```
"""


def machine() -> Data:
    """Returns what the figures depend on; nothing that tells whose machine it is."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "switch_interval": sys.getswitchinterval(),
        "packages": {name: _version(name) for name in PACKAGES},
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def page(results: Data) -> str:
    """Returns the whole page."""
    about: Data = results["machine"]
    head = HEAD.format(
        machine=f"{about['cpu']}, {about['cores']} cores, {about['system']}",
        versions=f"{about['python']}, switch interval {about['switch_interval'] * 1e3:g} ms; "
        + ", ".join(f"{name} {number}" for name, number in about["packages"].items()),
        date=about["date"],
    )
    quick = results["quick"]
    parts = [head, QUICK if quick else "", "\n## Targets\n\n", *_targets(results)]
    for section in results["sections"]:
        parts.append(f"\n## {section['title']}\n")
        parts += _elsewhere(section["machine"], about)
        for data in section["tables"]:
            parts += ["\n", *table(Table.from_data(data), judged=not quick)]
    return "".join(parts)


def _elsewhere(machine: Data, about: Data) -> Iterator[str]:
    """Says where a section was measured, where that is not what the head says."""
    flat, usual = (
        {**each["packages"], **{key: each[key] for key in each if key != "packages"}} for each in (machine, about)
    )
    other = [f"{key.replace('_', ' ')} {flat[key]}" for key in flat if flat[key] != usual.get(key)]
    if other:
        yield f"\nMeasured apart from the rest: {', '.join(other)}.\n"


def tables_of(results: Data) -> Iterator[Table]:
    for section in results["sections"]:
        yield from map(Table.from_data, section["tables"])


def missed(results: Data) -> int:
    """Returns how many targets are missed."""
    return sum(not _met(table, goal) for table in tables_of(results) for goal in table.goals)


def _met(table: Table, goal: Goal) -> bool:
    return table.reached(goal) <= goal.at_most


def _targets(results: Data) -> Iterator[str]:
    rows = []
    for each in tables_of(results):
        for goal in each.goals:
            circumstances = f", {goal.column}" if len(each.columns) > 1 else ""
            verdict = "" if results["quick"] else "met" if _met(each, goal) else "**missed**"
            reached = f"{_number(each.reached(goal))} {_of(each, goal)}"
            rows.append((f"{each.title}{circumstances}: {goal.row}", reached, f"≤ {goal.at_most:g}", verdict))
    yield from _markdown(("what", "reached", "target", ""), rows)


def _of(table: Table, goal: Goal) -> str:
    if not goal.is_ratio:
        return table.unit
    other = goal.beside_row.removeprefix("floor: ") or f"at {goal.beside_column}"
    return f"{TIMES} {other}"


def table(of: Table, *, judged: bool = True) -> Iterator[str]:
    """Gives a table as Markdown."""
    yield f"### {of.title}\n\n"
    notes = [f"In {of.unit}."]
    if of.beside:
        notes.append(f"In brackets: {TIMES} {of.beside.removeprefix('floor: ')}.")
    if of.pinned:
        notes.append("Pinned to one core.")
    if of.note:
        notes.append(of.note)
    yield " ".join(notes) + "\n\n"
    rows = [(name, *(_cell(of, name, column, judged=judged) for column in of.columns)) for name in of.figures]
    yield from _markdown(("", *of.columns), rows)


def _cell(of: Table, row: str, column: str, *, judged: bool) -> str:
    place = of.columns.index(column)
    value = of.figures[row][place]
    if value is None:
        return ""
    text = _number(value)
    beside = of.figures[of.beside][place] if of.beside else None
    if beside and row != of.beside:
        text += f" ({value / beside:.2f})"
    for goal in of.goals:
        if (goal.row, goal.column) == (row, column):
            verdict = "" if not judged else ": met" if _met(of, goal) else ": **missed**"
            known = not goal.is_ratio or goal == replace(goal, beside_row=of.beside, beside_column="")
            text += f"; ≤ {goal.at_most:g}{'' if known else f' {_of(of, goal)}'}{verdict}"
    return text


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |\n"
    yield f"|---|{'---:|' * (len(head) - 1)}\n"
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


def _number(value: float) -> str:
    if math.isnan(value):
        return "n/a"
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


# ------------------------------------------------------------------------------------------------ the profile's page

BEGIN, END = "<!-- figures: from here on written by `python -m benchmarks path` -->\n", "<!-- end of the figures -->"


def profile_page(text: str, section: Data) -> str:
    """Returns the page about the fast path with the figures of this section."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    about: Data = section["machine"]
    figures = [f"\n{about['python']} on {about['cpu']}, {about['date']}.\n"]
    for data in section["tables"]:
        figures += ["\n", *table(Table.from_data(data))]
    return f"{before}{BEGIN}{''.join(figures)}\n{END}{after}"
