"""What workers did in the last minutes, for as long as somebody may want to see it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from .._core.errors import described
from .._core.values import printable
from .._loop.clock import monotonic
from .._observe.notices import ShutdownEnded, StateChanged

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.outcome import Transition
    from .._observe.notices import Notice

__all__ = ["Change", "Record"]

MOST = 10_000
"""Changes that are kept: some 3 MB."""

LONGEST_ERROR = 300


class Change(NamedTuple):
    """One transition.

    Attributes:
        at: When, on the clock of `monotonic`.
        transition: What has changed.
        error: What the run has raised, if it has ended by that.
    """

    at: float
    transition: Transition
    error: str


class Record:
    """Keeps the last changes of workers, and of calls that are stopped: that has no call watched, and costs it nothing.

    Attributes:
        since: From when on, on the clock of `monotonic`.
        number: How many there have been.
    """

    def __init__(self) -> None:
        self.since = monotonic()
        self.number = 0
        self._changes: deque[Change] = deque(maxlen=MOST)
        self._done: Callable[[], object] | None = None

    def until_the_end(self, done: Callable[[], object]) -> None:
        """Calls this once no more will come."""
        self._done = done

    def receive(self, notice: Notice) -> None:
        """Takes in a notice. On the loop's thread."""
        self.number += 1
        match notice:
            case StateChanged(transition=transition, outcome=outcome):
                error = None if outcome is None else outcome.error
                text = "" if error is None else printable(described(error)[:LONGEST_ERROR])
                self._changes.append(Change(monotonic(), transition, text))
            case ShutdownEnded(group="") if self._done is not None:
                self._done()
            case _:
                pass

    def changes(self) -> list[Change]:
        """Returns them, the oldest first. Any thread: this is one step for all others."""
        return list(self._changes)
