"""The live screen: the services, their workers, and the stack of the one that is selected."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual.app import App
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Footer, Input, Static

from ..._control.client import Connection
from ..reports import report_lines
from ..rows import COLUMNS, SORTS, cells_of, head_cells, sorted_rows
from ..services import failure
from ..tables import Cell, Column, fitted
from ..terminal import Terminal
from .feed import Feed
from .question import Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from .feed import Service

__all__ = ["Live"]

SHOWN = ("name", "kind", "state", "pool", "age", "step", "next", "pid")
ALL_COLUMNS = {"service": Column("SERVICE", least=8), **COLUMNS}
SAFE = Terminal()
"""textual knows the terminal's width and colours; what is shown comes through this all the same."""


class Live(App[None]):
    """The screen of `top`."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "stopladder"
    AUTO_FOCUS = "#workers"
    CSS = """
    #head { height: auto; max-height: 40%; padding: 0 1; }
    #filter { height: 1; border: none; padding: 0 1; }
    #workers { height: 2fr; }
    #below { height: 1fr; border-top: solid $primary; padding: 0 1; }
    #below Static { width: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q,ctrl+c", "quit", "quit"),
        ("slash", "filter", "filter"),
        ("o", "sort", "order"),
        ("x", "stop", "stop"),
        ("r", "restart", "restart"),
        ("tab", "switch", "stack"),
    ]

    def __init__(
        self,
        find: Callable[[], list[Path]],
        *,
        interval: float = 1.0,
        patience: float = 2.0,
        limit: int = 500,
        match: str = "",
        sort: str = "age",
    ) -> None:
        super().__init__()
        self.feed = Feed(find, interval, patience, limit, matching=_pattern(match))
        self._interval = interval
        self._patience = patience
        self._match = match
        self._sort = sort
        self._rows: list[tuple[Service, dict[str, Any]]] = []
        self._layout: list[tuple[str, int]] = []

    # ------------------------------------------------------------------------------------ what is there

    def compose(self) -> ComposeResult:
        yield Static(id="head", markup=False)
        yield Input(self._match, placeholder="/ shows only names with a part, or of a pattern: *, ?, []", id="filter")
        yield DataTable[Text](id="workers", cursor_type="row", zebra_stripes=True)
        with VerticalScroll(id="below"):
            yield Static(id="stack", markup=False)
        yield Footer()

    async def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):  # else the terminal would be left as it is
            loop.add_signal_handler(number, self.exit)
        self.table.focus()
        self.feed.begin()
        self.set_interval(min(self._interval, 0.5), self.show)

    def on_unmount(self) -> None:
        self.feed.end()

    @property
    def table(self) -> DataTable[Text]:
        return cast("DataTable[Text]", self.query_one("#workers", DataTable))

    @property
    def selected(self) -> tuple[Service, dict[str, Any]] | None:
        """The worker that the cursor is on, and its service."""
        row = self.table.cursor_row
        return self._rows[row] if 0 <= row < len(self._rows) else None

    # ------------------------------------------------------------------------------------ what it looks like

    def show(self) -> None:
        """Shows what was last seen, unless the screen has been taken down: its timer may ring once more at the end."""
        if not all(self.query(name) for name in ("#head", "#workers", "#stack")):
            return
        services = sorted(self.feed.services.values(), key=lambda service: (service.name, str(service.path)))
        self.query_one("#head", Static).update(_head(services))
        self._show_workers([service for service in services if not service.gone])
        self._show_stack(services)

    def _show_workers(self, services: list[Service]) -> None:
        before = self.selected
        rows = [(service, row) for service in services for row in (service.survey or {}).get("workers", ())]
        order = {id(row): number for number, row in enumerate(sorted_rows([row for _, row in rows], self._sort))}
        self._rows = sorted(rows, key=lambda pair: order[id(pair[1])])
        shown = (*SHOWN, "node") if any(row.get("node") for _, row in rows) else SHOWN
        keys = ("service", *shown) if len(services) > 1 else shown
        columns = [ALL_COLUMNS[key] for key in keys]
        laid = [_laid(service, row, keys) for service, row in self._rows]
        widths = fitted(columns, laid, max(20, self.size.width - 4))
        table, top = self.table, self.table.scroll_y
        layout = [(keys[index], width) for index, width in widths.items()]
        if layout != self._layout:
            self._layout = layout
            table.clear(columns=True)
            for key, width in layout:
                table.add_column(Text(ALL_COLUMNS[key].title), width=width, key=key)
        else:
            table.clear()
        for cells in laid:
            table.add_row(*(_text(cells[index], columns[index], width) for index, width in widths.items()))
        self._select(before, top)

    def _select(self, before: tuple[Service, dict[str, Any]] | None, top: float) -> None:
        """Puts the cursor on the worker that it was on."""
        if before is not None:
            there = [number for number, pair in enumerate(self._rows) if _identity(pair) == _identity(before)]
            row = there[0] if there else min(self.table.cursor_row, len(self._rows) - 1)
            self.table.move_cursor(row=row, animate=False, scroll=False)
        self.table.scroll_to(y=top, animate=False)

    def _show_stack(self, services: list[Service]) -> None:
        below = self.query_one("#stack", Static)
        selected = self.selected
        if selected is None:
            below.update("\n\n".join(_reports(services)))
            return
        service, row = selected
        name = str(row["name"])
        if self.feed.wanted != (service.path, name):
            self.feed.hurry(wanted=(service.path, name))
        of, stack = service.stack
        text = SAFE.safe(stack, lines=True).rstrip() if of == name else "..."
        below.update(Text.assemble((SAFE.safe(name), "bold"), "\n", text))

    # ------------------------------------------------------------------------------------ keys

    def action_switch(self) -> None:
        """Puts the keys to the stack, to scroll it; or back to the workers."""
        below = self.query_one("#below", VerticalScroll)
        (self.table if below.has_focus else below).focus()

    def action_sort(self) -> None:
        """Sorts by the next of the keys."""
        self._sort_by(SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)])

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        key = str(event.column_key.value)
        if key in SORTS:
            self._sort_by(key)

    def _sort_by(self, key: str) -> None:
        self._sort = key
        self.notify(f"sorted by {key}", timeout=2)
        self.show()

    def action_filter(self) -> None:
        """Asks for a part of the names."""
        self.screen.set_focus(self.query_one("#filter", Input))  # at once: what is typed next is for it

    def on_input_changed(self, event: Input.Changed) -> None:
        self.feed.hurry(matching=_pattern(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.screen.set_focus(self.table)

    def action_stop(self) -> None:
        """Stops the selected worker, once that was asked."""
        self._ask_and_do("stop", "Stop {}, by its ladder?")

    def action_restart(self) -> None:
        """Starts the selected worker again, once that was asked."""
        self._ask_and_do("restart", "Stop {}, by its ladder, and start it again?")

    def _ask_and_do(self, do: str, question: str) -> None:
        if (selected := self.selected) is None:
            return
        service, row = selected
        if not service.write:
            self.notify('this service can only be looked at: it changes things with control="write"', markup=False)
            return
        name = str(row["name"])

        def answered(yes: bool | None) -> None:
            if yes:
                threading.Thread(target=self._do, args=(service, do, name), daemon=True).start()

        whose = f"{SAFE.safe(name)} of {SAFE.safe(service.name)}"
        self.push_screen(Question(question.format(whose)), answered)

    def _do(self, service: Service, do: str, name: str) -> None:
        """Has it done. In a thread of its own."""
        try:
            with Connection(service.path, timeout=self._patience) as connection:
                connection.ask(do, name=name)
                text, severity = f"{do}: {name}", "information"
        except Exception as error:
            text, severity = failure(service.path, error).message, "error"
        self.call_from_thread(self.notify, SAFE.safe(text), severity=severity, markup=False)
        service.soon.set()


def _pattern(text: str) -> str:
    """Returns the pattern of names that a text means: a pattern, or a part of a name."""
    return (text if set("*?[") & set(text) else f"*{text}*") if text else "*"


def _identity(pair: tuple[Service, dict[str, Any]]) -> tuple[object, ...]:
    service, row = pair
    return service.path, row.get("name"), row.get("role")


def _laid(service: Service, row: dict[str, Any], keys: Sequence[str]) -> list[Cell]:
    cells = {"service": Cell(service.name), **cells_of(row)}
    return [Cell(SAFE.safe(cells[key].text), cells[key].colour) for key in keys]


def _text(cell: Cell, column: Column, width: int) -> Text:
    text = SAFE.cut(cell.text, width)
    return Text(text, style=cell.colour or "", justify="right" if column.right else "left", no_wrap=True)


def _head(services: Sequence[Service]) -> Text:
    lines: list[Text] = []
    for service in services:
        problem = service.problem
        if service.gone:  # what was last seen of it is not so any more
            problem = next(report_lines(service.report, SAFE)) if service.report else "has gone away"
        elif service.survey is not None:
            lines += [_painted(cells) for cells in head_cells(service.survey)]
        if problem:
            lines.append(Text(f"{SAFE.safe(service.name)}: {SAFE.safe(problem)}", "yellow"))
    return Text("\n").join(lines) if lines else Text("there is no service with a control socket yet", "yellow")


def _painted(cells: Sequence[Cell]) -> Text:
    return Text("  ").join(Text(SAFE.safe(cell.text), cell.colour or "") for cell in cells)


def _reports(services: Sequence[Service]) -> Iterator[str]:
    """Gives the reports of the services that have shut down."""
    for service in services:
        if service.report is not None:
            yield "\n".join((SAFE.safe(service.name), *report_lines(service.report, SAFE)))
