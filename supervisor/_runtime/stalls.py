"""What one supervisor makes of a loop that is blocked: log events, and numbers."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

from .._core.stacks import cut
from .._loop import aside
from .._loop.stalls import Watched, watch
from .._observe.notices import ShutdownEnded
from .._run.frames import innermost_of_user, text_of_places

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._loop.stalls import Frames
    from .._observe.log import Log
    from .._observe.notices import Notice
    from .._observe.publisher import Publisher

__all__ = ["Stalls", "begin"]

KEPT = 16
"""Events that wait for a logger that blocks; of more, the oldest is lost."""

HELD = "C code held the interpreter (GIL): nobody could see it before"


class Stalls(Watched):
    """The stalls of a loop, as one supervisor logs and counts them. In the thread that watches.

    The log is written in a thread of its own: a logger may block, not least where what blocks the loop is the logger.

    Attributes:
        number: How many there were. Any thread.
    """

    def __init__(self, supervisor: str, log: Log, after: float) -> None:
        super().__init__(after)
        self._supervisor = supervisor
        self._log = log
        self.number = 0
        self._tally = (0.0, False)  # seconds of stalls that are over; and whether there is one
        self._events: deque[Callable[[], object]] = deque(maxlen=KEPT)
        self._writing = False

    @property
    def total(self) -> float:
        """For how many seconds the loop was blocked in all, the present stall included. Any thread."""
        while True:
            ended, more = tally = self._tally
            seconds = ended + self.seconds() if more else ended
            if tally is self._tally:  # else it was over in between, and has been added
                return seconds

    def stalled(self, seconds: float, frames: Frames, *, first: bool, held: bool) -> None:
        if first:
            self.number += 1
            self._tally = (self._tally[0], True)
        self._write(partial(self._log_stall, seconds, frames, held))

    def recovered(self, seconds: float) -> None:
        self._tally = (self._tally[0] + seconds, False)
        self._write(partial(self._log.write, logging.INFO, "loop.recovered", elapsed=round(seconds, 6)))

    def _log_stall(self, seconds: float, frames: Frames, held: bool) -> None:
        fields = {
            "at": innermost_of_user(frames),
            "reason": HELD if held else None,
            "stack": cut(text_of_places(frames)),
        }
        present = {name: value for name, value in fields.items() if value}
        self._log.write(logging.WARNING, "loop.stalled", elapsed=round(seconds, 6), **present)

    def _write(self, write: Callable[[], object]) -> None:
        self._events.append(write)  # first written, then looked: whoever writes sees it, or is seen to have ended
        if self._writing:
            return
        self._writing = True
        try:
            aside.start(Thread(target=self._write_all, name=f"{self._supervisor}/stalls", daemon=True))
        except RuntimeError:  # there are no more threads
            self._write_all()

    def _write_all(self) -> None:
        while True:
            while self._events:
                self._events.popleft()()
            self._writing = False
            if not self._events:
                return

    def receive(self, notice: Notice) -> None:
        """Ends with the supervisor, once its report is there: while it shuts down, a stall matters most."""
        if isinstance(notice, ShutdownEnded) and not notice.group:
            self.leave()


def begin(
    supervisor: str, loop: asyncio.AbstractEventLoop, log: Log, publisher: Publisher, after: float
) -> Stalls | None:
    """Has the loop of a supervisor watched; without a thread to do so, that is logged. On the loop's thread."""
    stalls = Stalls(supervisor, log, after)
    try:
        watch(loop, stalls)
    except RuntimeError as error:
        publisher.fault("stall_after", supervisor, error)
        return None
    publisher.subscribers.subscribe(stalls.receive, watch=False)
    return stalls
