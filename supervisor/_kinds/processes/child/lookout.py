"""Staying awake for a moment where calls come one after the other: the owner's event loop does so too.

To wake a core that sleeps takes longer than to carry out a short call, on either side. Light: the child imports it.
"""

from __future__ import annotations

import os
import select
from time import monotonic

__all__ = ["PATIENCE", "Lookout", "Wakeful"]

SOON = 0.0003
"""Seconds within which something has come soon: the next one is waited for awake."""

PATIENCE = 0.0001
"""Seconds for which it is waited for awake, at most."""

OFTEN = 10
"""After so many times in vain, one after the other, it is tried once in two to this power of times."""


class Wakeful:
    """Whether to stay awake for what is about to come.

    It takes the time of a core. So it is left where it does not pay: where the last one has not come soon, on a single
    core, and ever more often after it was in vain, as where other programs need the cores.

    Attributes:
        soon: The last one has come soon.
    """

    def __init__(self) -> None:
        self.soon = False
        self._alone = cores() < 2
        self._in_vain = self._left_out = 0

    def came(self, after: float) -> None:
        """It has come after so many seconds."""
        self.soon = after < SOON and not self._alone

    def is_due(self) -> bool:
        """Whether it is tried this time, where the last one has come soon."""
        if self._left_out:
            self._left_out -= 1
            return False
        return True

    def paid(self) -> None:
        self._in_vain = 0

    def was_in_vain(self) -> None:
        self._in_vain = min(self._in_vain + 1, OFTEN)
        self._left_out = 1 << self._in_vain


class Lookout(Wakeful):
    """In a worker process: reads from the socket on which its calls come."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        self._poll = poll.poll

    def read(self, view: memoryview) -> int:
        """Reads into a buffer, once there is anything; returns how many bytes, 0 at the end of the stream.

        An owner that has gone without reading all that was sent has come to its end, too.
        """
        began = monotonic()
        if self.soon and self.is_due():
            self._look(began + PATIENCE)
        try:
            got = os.readv(self._fd, [view])
        except ConnectionError:
            return 0
        self.came(monotonic() - began)
        return got

    def _look(self, until: float) -> None:
        poll = self._poll
        while not poll(0):  # lets the process's other threads run
            if monotonic() > until:
                self.was_in_vain()
                return
        self.paid()


def cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS
