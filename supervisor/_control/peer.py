"""One client, as the server sees it: what it has sent, and what it has not read yet."""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

from .protocol import LONGEST_REQUEST, ControlError, failure

if TYPE_CHECKING:
    from .deeds import Deed
    from .watching import Watch

__all__ = ["Peer"]

CHUNK = 64 * 1024
"""Bytes that are read at a time."""

MUCH = 64 * 1024
"""Bytes that may wait for a client before nothing more is read from it, nor done for it."""


class Peer:
    """A client that is connected. Of the server's thread.

    Attributes:
        socket: To it; does not block.
        pid: Of its process.
        heard_at: When it has last sent a whole request, or taken something.
        watch: What it watches; None: nothing.
        deeds: What the loop is to do for it.
        leaves: It gets what waits for it, and is then let go.
    """

    def __init__(self, connection: socket.socket, pid: int, now: float) -> None:
        self.socket = connection
        self.pid = pid
        self.heard_at = now
        self.watch: Watch | None = None
        self.deeds: list[Deed] = []
        self.leaves = False
        self._received = bytearray()
        self._searched = 0
        self._waiting: deque[memoryview] = deque()
        self._size = 0

    # ------------------------------------------------------------------------------------ what it sends

    @property
    def reads(self) -> bool:
        """Whether more is to be read from it."""
        return not self.leaves and self._size < MUCH and not self.has_line

    @property
    def has_line(self) -> bool:
        """Whether a whole request of it waits."""
        if self._searched < len(self._received):
            self._searched = self._received.find(b"\n", self._searched)
            if self._searched < 0:
                self._searched = len(self._received)
        return self._searched < len(self._received)

    def receive(self) -> None:
        """Reads what it has sent. One that has nothing more to say gets its answers, and is then let go.

        Raises:
            OSError: It is gone.
        """
        try:
            chunk = self.socket.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        if not chunk:
            self.leaves = True
            return
        self._received += chunk
        if len(self._received) > LONGEST_REQUEST and not self.has_line:
            message = f"a request has at most {LONGEST_REQUEST} bytes, and ends with a line break"
            self.dismiss(ControlError("too_large", message))

    def is_gone(self) -> bool:
        """Whether it has closed the connection, and nothing that it has said is still to be answered."""
        if self.has_line or self.deeds or self.waits:
            return False
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True

    def next_line(self, now: float) -> bytes | None:
        """Returns its next request, unless too much waits for it."""
        if self._size >= MUCH or not self.has_line:
            return None
        self.heard_at = now
        text = bytes(self._received[: self._searched])
        del self._received[: self._searched + 1]
        self._searched = 0
        return text

    # ------------------------------------------------------------------------------------ what it gets

    @property
    def waits(self) -> bool:
        """Whether something waits for it to be read."""
        return self._size > 0

    @property
    def has_room(self) -> bool:
        return self._size < MUCH

    def send(self, text: bytes) -> None:
        self._waiting.append(memoryview(text))
        self._size += len(text)

    def flush(self, now: float) -> None:
        """Hands on what the kernel takes.

        Raises:
            OSError: It is gone.
        """
        while self._waiting:
            first = self._waiting[0]
            try:
                sent = self.socket.send(first, socket.MSG_NOSIGNAL)  # the application may want to die of SIGPIPE
            except (BlockingIOError, InterruptedError):
                return
            self.heard_at = now
            self._size -= sent
            if sent < len(first):
                self._waiting[0] = first[sent:]
            else:
                self._waiting.popleft()

    def dismiss(self, error: ControlError) -> None:
        """Tells it why, and lets it go; what else it has sent is not looked at."""
        self._received.clear()
        self.send(failure(error))
        self.leaves = True

    def close(self) -> None:
        if self.watch is not None:
            self.watch.end()
        self.socket.close()
