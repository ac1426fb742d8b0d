"""From the threads of the pool to that of Celery's worker: its callbacks are for that one alone."""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from .._loop import aside
from .seam import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Deliveries"]

logger = get_logger(__name__)

JOIN_TIMEOUT = 1.0
"""Seconds that the end waits for the thread that calls what is delivered: it may be in a callback."""


class Deliveries:
    """Calls to be made, in their order, by one thread: that of Celery's event loop, or else one of its own.

    Whoever waits here waits for a socket, and takes no lock: a signal handler of the worker may come in between, and
    do the same.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._signalled = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._thread: threading.Thread | None = None
        self._over = False

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Has a function be called there. Any thread; never blocks."""
        self._calls.append((function, args))
        if not self._signalled:
            self.wake()

    def post_lazily(self, function: Callable[..., object], *args: Any) -> None:
        """Has a function be called there together with what comes next, or when somebody calls `wake_if_waiting`."""
        self._calls.append((function, args))

    def wake_if_waiting(self) -> None:
        """Has what was posted lazily be called. Any thread."""
        if self._calls and not self._signalled:
            self.wake()

    def wake(self) -> None:
        """Has whoever waits look again. Any thread."""
        self._signalled = True
        try:
            self._writer.send(b"\0")
        except OSError:  # it has been told, or the worker is over
            pass

    def fileno(self) -> int:
        """Returns the file that can be read from when there is something to be called."""
        return self._reader.fileno()

    def deliver(self) -> None:
        """Makes the calls that wait. An error of one of them is logged; what ends the worker is raised."""
        try:
            self._reader.recv(4096)
        except OSError:
            pass
        # First taken back, then looked: who posts in between sees the one or is seen.
        self._signalled = False
        while True:
            try:
                function, args = self._calls.popleft()
            except IndexError:
                return
            try:
                function(*args)
            except Exception:
                logger.exception("a callback of the pool raised")

    def wait(self, seconds: float) -> None:
        """Waits until there is something to be called, or somebody has it look again."""
        if not self._calls:
            poll = select.poll()
            poll.register(self._reader, select.POLLIN)
            poll.poll(seconds * 1000)

    # ------------------------------------------------------------------------------------ a thread of its own

    def start_thread(self) -> None:
        """Has a thread make the calls, where the worker has no event loop that could."""
        self._thread = threading.Thread(target=self._deliver_on, name="supervisor.celery/callbacks", daemon=True)
        aside.start(self._thread)

    def _deliver_on(self) -> None:
        while not self._over:
            self.wait(60.0)
            try:
                self.deliver()
            except BaseException as error:  # what would end the worker elsewhere
                logger.critical("a callback of the pool raised %r", error, exc_info=True)

    def take_over(self) -> None:
        """From here on, who calls this makes the calls."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._over = True
            self.wake()
            thread.join(JOIN_TIMEOUT)

    def close(self) -> None:
        """Nothing comes any more."""
        self._reader.close()
        self._writer.close()
