"""What the two ends of a worker process say to each other: frames, messages and private signals.

Light: the child imports it before anything else.

A frame is a pickle with the large buffers that it refers to, out of band: its length, the number of buffers, their
lengths, the pickle, the buffers. Two sockets carry frames. The *data* socket takes calls to the child and brings back
what came of them, one at a time. The *control* socket takes stops to the child, whose own thread always listens, and
brings back what cannot wait for the call's end.

| socket | from the owner | from the child |
|---|---|---|
| data | the first frame; calls, as `pickled_call` makes them | ready; entered, ended |
| control | stop, step; granted, answered | readied, beat; call, extend; callback_failed, callback_blocked; |
| | | log, logs_dropped |

A message names itself first. `Processes.heard` takes those of the child, `Child.listen` those of the owner.
"""

from __future__ import annotations

import os
from _struct import Struct, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    Part: TypeAlias = bytes | bytearray | memoryview
else:
    import _signal  # the module of C

__all__ = ["INJECT", "STACK", "STACK_IN_C", "TERMINATE", "Frame", "Receiver", "framed", "message", "write"]

_FIRST = getattr(_signal, "SIGRTMIN", None)

INJECT: int = _signal.SIGUSR1 if _FIRST is None else _FIRST + 10
"""Raises StopInjected in the child's function."""

TERMINATE: int = _signal.SIGUSR2 if _FIRST is None else _FIRST + 11
"""Ends the child by its default action, also where C code holds the interpreter (GIL) and no handler would run."""

STACK: int = _signal.SIGXCPU if _FIRST is None else _FIRST + 12
"""Has the child write where it stands."""

STACK_IN_C: int = _signal.SIGXFSZ if _FIRST is None else _FIRST + 13
"""The same, for one that is in C code and does not get to answer `STACK`."""

_HEADER = Struct("<QI")
HEAD = _HEADER.size
LENGTH = 8
CAPACITY = 1 << 16


class Frame:
    """One frame that has arrived: a pickle and its buffers."""

    __slots__ = ("buffers", "pickle")

    def __init__(self, pickle: Part, buffers: list[memoryview]) -> None:
        self.pickle = pickle
        self.buffers = buffers


def framed(pickle: bytes, buffers: Sequence[memoryview] = ()) -> list[Part]:
    """Returns the parts of a frame, in order; small ones in one piece."""
    head = _HEADER.pack(len(pickle), len(buffers))
    if not buffers and len(pickle) < CAPACITY:
        return [head + pickle]
    lengths = b"".join(buffer.nbytes.to_bytes(LENGTH, "little") for buffer in buffers)
    return [head + lengths, pickle, *buffers]


def write(fd: int, parts: list[Part]) -> None:
    """Writes all parts to a blocking file."""
    if len(parts) == 1:
        part = parts[0]
        sent = os.write(fd, part)
        if sent == len(part):
            return
        parts = [memoryview(part)[sent:]]
    for part in parts:
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(fd, rest) :]


class Receiver:
    """Puts frames together from a stream: small ones in a buffer that is reused, large ones in one of their own size.

    Args:
        read: Reads into a buffer and returns how many bytes, 0 at the end of the stream.
    """

    __slots__ = ("_buffer", "_end", "_read", "_start")

    def __init__(self, read: Callable[[memoryview], int]) -> None:
        self._read = read
        self._buffer = bytearray(CAPACITY)
        self._start = self._end = 0

    def feed(self) -> int:
        """Reads once; returns how many bytes, 0 at the end of the stream."""
        got = self._read(memoryview(self._buffer)[self._end :])
        self._end += got
        return got

    @property
    def room(self) -> int:
        """How much the next read can bring."""
        return len(self._buffer) - self._end

    def take(self) -> Frame | None:
        """Returns the next frame that is complete; None where more must be read for it."""
        have = self._end - self._start
        if have == 0:
            self._start = self._end = 0
            return None
        if have < HEAD:
            self._make_room(HEAD)
            return None
        at = self._start
        size, count = _HEADER.unpack_from(self._buffer, at)
        if not count and HEAD + size <= have and len(self._buffer) <= CAPACITY:  # nearly all are like this
            at += HEAD
            self._start = at + size
            return Frame(self._buffer[at : at + size], [])
        head = HEAD + count * LENGTH
        if have < head:
            self._make_room(head)
            return None
        lengths = unpack_from(f"<{count}Q", self._buffer, at + HEAD) if count else ()
        total = head + size + sum(lengths)
        if have < total:
            self._make_room(total)
            return None
        self._start += total
        if len(self._buffer) <= CAPACITY:
            # A copy: the buffer will be reused, and what unpickles from it may be written to.
            view = memoryview(self._buffer[at + head : at + total])
        else:
            view = memoryview(self._buffer)[at + head : at + total]
            self._renew()
        buffers: list[memoryview] = []
        position = size
        for length in lengths:
            buffers.append(view[position : position + length])
            position += length
        return Frame(view[:size], buffers)

    def _make_room(self, total: int) -> None:
        """Sees to it that a frame of this size fits behind what is there of it."""
        if self._start + total <= len(self._buffer):
            return
        old, have = memoryview(self._buffer)[self._start : self._end], self._end - self._start
        if total > len(self._buffer):
            self._buffer = bytearray(total)
            self._buffer[:have] = old
        else:
            self._buffer[:have] = bytes(old)
        self._start, self._end = 0, have

    def _renew(self) -> None:
        """The large buffer belongs to the frame now; what came after the frame moves on."""
        rest = self._buffer[self._start : self._end]
        self._buffer = bytearray(max(CAPACITY, len(rest)))
        self._buffer[: len(rest)] = rest
        self._start, self._end = 0, len(rest)


def message(*parts: Any) -> list[Part]:
    """Returns a frame of plain data."""
    from _pickle import dumps  # noqa: PLC0415  # lean

    return framed(dumps(parts, 5))
