"""A stream of frames to or from a process."""

from __future__ import annotations

import math
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from ..._loop import aside
from .wire import Receiver

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .wire import Part

__all__ = ["Stream"]

PARTS_AT_ONCE = 512

BYTES_A_TURN = 1 << 23
"""Bytes after which a process that goes on sending lets the loop's other users have a turn."""

FRAMES_A_TURN = 256
"""Frames after which it does so."""

GONE = ConnectionError
"""How the kernel says that the other end is closed."""


class Stream:
    """One end of a socket pair, on the event loop: never blocks, in either direction.

    A stream that has failed neither reads nor sends any more: after one byte that is wrong, no other can be believed.

    Args:
        hear: Takes a frame that has arrived.
        failed: Is called once where the stream has failed; with None where the other end is closed, which is how that
            of a process looks which has died, for the moment until its death is known.

    Attributes:
        unread: The other end has gone and had not read all that was sent; if False, it may have.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        hear: Callable[[Any, Any], None],
        failed: Callable[[BaseException | None], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._hear = hear
        self._failed = failed
        self._receiver: Receiver | None = Receiver(sock.recv_into)
        self._frame: Any = None
        self._out: deque[memoryview] = deque()
        self._over = False
        self.unread = False
        sock.setblocking(False)
        aside.add_reader(loop, sock, self.read)

    @property
    def hearing(self) -> bool:
        """Whether a frame is being heard at this moment, further up the stack."""
        return self._frame is not None

    def send(self, parts: list[Part]) -> None:
        """Sends a frame, behind those that are still on their way."""
        if self._over:
            self.unread = True
            return
        waiting = bool(self._out)
        try:
            if not waiting and len(parts) == 1:
                part = parts[0]
                try:
                    sent = self._sock.send(part)
                except BlockingIOError:
                    sent = 0
                if sent == len(part):
                    return
                self._out.append(memoryview(part)[sent:])
            else:
                self._out.extend(memoryview(part).cast("B") for part in parts)
            if not waiting:
                aside.add_writer(self._loop, self._sock, self._write)
        except Exception as error:
            self.unread = True
            self._end(error)
            return
        if not waiting:
            self._write()

    def _write(self) -> None:
        out = self._out
        try:
            while out:
                sent = self._sock.sendmsg([out[index] for index in range(min(len(out), PARTS_AT_ONCE))])
                while out and sent >= len(out[0]):
                    sent -= len(out.popleft())
                if sent:
                    out[0] = out[0][sent:]
        except BlockingIOError:
            return
        except Exception as error:
            self.unread = True
            self._end(error)
            return
        self._loop.remove_writer(self._sock)

    def read(self, *, to_the_end: bool = False) -> None:
        """Takes in what has arrived: a part of it in each turn of the loop, or all there is."""
        if self._over:
            return
        receiver = self._receiver
        assert receiver is not None  # a stream that has not ended has one
        try:
            drained = False
            if self._frame is None and not receiver.holds and not to_the_end:  # nearly always
                self._frame = receiver.read_one()
                if self._frame is not None:
                    self._hear(*self._frame)
                    self._frame = None  # only now: an interrupt that struck before has it heard again
                    return
                if not receiver.holds:
                    self._end(None)
                    return
                drained = not receiver.full
            self._read_more(receiver, drained, math.inf if to_the_end else 1)
        except BlockingIOError:
            return
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self.read)
            raise
        except BaseException as error:
            self.unread = self.unread or isinstance(error, GONE)
            self._end(error)

    def _read_more(self, receiver: Receiver, drained: bool, turns: float) -> None:
        """Hears all frames that are there, as far as so many turns of the loop allow; reads on unless it is drained."""
        left, frames = turns * BYTES_A_TURN, turns * FRAMES_A_TURN
        while True:
            if self._frame is None and receiver.holds:
                self._frame = receiver.take()
            if self._frame is not None:
                if frames <= 0:
                    aside.call_soon(self._loop, self.read)  # the socket may be empty, and then nobody else would
                    return
                frames -= 1
                self._hear(*self._frame)
                self._frame = None  # only now, as above
                continue
            if drained or left <= 0:
                return  # a short read has taken all; the loop says when there is more
            got = receiver.feed()
            if got == 0:
                self._end(None)
                return
            drained = not receiver.full
            left -= got

    def _end(self, error: BaseException | None) -> None:
        """Neither reads nor sends any more."""
        if self._over:
            return
        self._over = True
        self._frame = None
        self._out.clear()
        self._receiver = None  # what has arrived of a frame may be large
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._failed(None if isinstance(error, GONE) else error)

    def finish(self) -> None:
        """Says that no more will be sent."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has died

    def close(self) -> None:
        self._over = True
        if self._sock.fileno() == -1:
            return
        if not self._loop.is_closed():
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
        self._sock.close()
        self._hear = self._failed = _nothing  # they hold what holds this stream
        self._frame = self._receiver = None
        self._out.clear()

    def close_fd(self) -> None:
        """Closes this process's copy alone, after a fork."""
        self._over = True
        self._sock.close()


def _nothing(*_: Any) -> None:
    pass
