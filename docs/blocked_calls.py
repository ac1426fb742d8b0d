"""What a call is in which a worker blocks for long: a row of the table that `blocked.py` makes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 600
"""Seconds; nothing waits for as long as that."""

KEPT: list[object] = []
"""What must not be closed, such as the other end of a connection."""


class Call(NamedTuple):
    """One row of the table.

    Attributes:
        name: What the table calls it.
        freed_by: What an `on_stop` callback does to free whoever is in it, if anything does.
        set_up: Returns the call, and that callback.
        needs: What must be there: "PostgreSQL", or a "name server" that does not answer.
    """

    name: str
    freed_by: str | None
    set_up: Callable[[], tuple[Callable[[], object], Callable[[], object] | None]]
    needs: str | None


CALLS: dict[str, Call] = {}


def row(name, freed_by=None, needs=None):
    """The decorated function sets up a call."""

    def add(function):
        CALLS[function.__name__] = Call(name, freed_by, function, needs)
        return function

    return add


def in_thread(function, *args):
    """Has another thread do this."""
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread
