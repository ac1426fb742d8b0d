"""What nodes have said is taken in on a thread of its own: user's code runs there, as values are unpickled."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from ..._loop import aside

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Intake"]


class Intake:
    """Makes calls on a thread, one after another, in the order in which they were put. Any thread.

    However long one of them takes, whoever put it goes on: so leases are renewed while a value is unpickled.

    Args:
        name: Of the thread.
        failed: Is called there with what a call has raised.
    """

    def __init__(self, name: str, failed: Callable[[BaseException], object]) -> None:
        self._failed = failed
        self._calls: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        aside.start(self._thread)

    def put(self, function: Callable[..., object], *args: Any) -> None:
        """Has a function be called."""
        self._calls.put((function, args))

    def end(self) -> None:
        """Nothing comes any more: the thread ends once all has been called."""
        self._calls.put(None)

    def join(self, seconds: float) -> None:
        """Waits for its end, so long at most."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, args = call
            try:
                function(*args)
            except BaseException as error:
                self._failed(error)
            del call, function, args  # what was said last is not kept until more is said
