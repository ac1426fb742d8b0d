"""What the two ends of a worker process say to each other: frames, messages and private signals.

Light: the child imports it before anything else.

A frame is a pickle with the large buffers that it refers to, out of band: a mark, its length, the number of buffers,
their lengths, the pickle, the buffers. A buffer that is a `bytes` arrives as such, without a copy; the highest bit of
its length says so. The mark stands where a frame begins and nowhere else: a stream into which a function has written
anything of its own is found out, and nothing that comes after it is believed.

Two sockets carry frames. The *data* socket takes calls to the child and brings back what came of them, one at a time.
The *control* socket takes stops to the child, whose own thread always listens, and brings back what cannot wait for the
call's end.

| socket | from the owner | from the child |
|---|---|---|
| data | the first frame; calls, as `pickled_call` makes them | initializing, uninitialized, ready; entered, items, |
| | | ended |
| control | stop, step; granted, answered; taken; | readied, beat; call, extend; callback_failed, callback_blocked; |
| | until; signal | log, logs_dropped; ask |

A message names itself first. `Processes.heard` takes those of the child, `Child.listen` those of the owner.
"""

from __future__ import annotations

import os
from _io import BytesIO
from _struct import Struct, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    Part: TypeAlias = bytes | bytearray | memoryview
    Buffers: TypeAlias = Sequence[memoryview | bytes]
    Frame: TypeAlias = tuple[Part, Buffers]
else:
    import _signal  # the module of C

__all__ = [
    "INJECT",
    "STACK",
    "STACK_IN_C",
    "TERMINATE",
    "BrokenFrame",
    "Receiver",
    "framed",
    "laid_aside",
    "message",
    "write",
]

_FIRST = getattr(_signal, "SIGRTMIN", None)

INJECT: int = _signal.SIGUSR1 if _FIRST is None else _FIRST + 10
"""Raises StopInjected in the child's function."""

TERMINATE: int = _signal.SIGUSR2 if _FIRST is None else _FIRST + 11
"""Ends the child by its default action, also where C code holds the interpreter (GIL) and no handler would run."""

STACK: int = _signal.SIGXCPU if _FIRST is None else _FIRST + 12
"""Has the child write where it stands."""

STACK_IN_C: int = _signal.SIGXFSZ if _FIRST is None else _FIRST + 13
"""The same, for one that is in C code and does not get to answer `STACK`."""

MARK = 0x53F1A2E5
MARK_BYTES = MARK.to_bytes(4, "little")
_HEADER = Struct("<IQI")
_pack, _unpack_from = _HEADER.pack, _HEADER.unpack_from
HEAD = _HEADER.size
LENGTH = 8
AS_BYTES = 1 << 63
CAPACITY = 1 << 16

AT_ONCE = 1 << 26
"""Bytes that are made room for because a frame says that so many will come; beyond, twice as many as have come."""


class BrokenFrame(Exception):
    """What has arrived is no frame."""


def framed(pickle: bytes, buffers: Sequence[memoryview] = ()) -> list[Part]:
    """Returns the parts of a frame, in order; small ones in one piece."""
    head = _pack(MARK, len(pickle), len(buffers))
    if not buffers and len(pickle) < CAPACITY:
        return [head + pickle]
    lengths = b"".join(_length(buffer).to_bytes(LENGTH, "little") for buffer in buffers)
    return [head + lengths, pickle, *buffers]


def _length(buffer: memoryview) -> int:
    return buffer.nbytes | AS_BYTES if type(buffer.obj) is bytes else buffer.nbytes


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


class _Bytes:
    """Room for what arrives as `bytes`: it becomes one without a copy, which no other object does."""

    __slots__ = ("_size", "_stream")

    def __init__(self, size: int) -> None:
        self._size = size
        self._stream = BytesIO()
        self._stream.seek(size - 1)
        self._stream.write(b"\0")

    def __len__(self) -> int:
        return self._size

    def view(self) -> memoryview:
        return self._stream.getbuffer()

    def value(self) -> bytes:
        return self._stream.getvalue()


class Receiver:
    """Puts frames together from a stream: small ones in a buffer that is reused, each part of large ones by itself.

    A frame is a pickle and its buffers, of which each can live on without the others. What is stored after a copy is
    stored at once: an interrupt finds the copy made and counted, or makes it again. After a call the interpreter looks
    for interrupts, and what a read has brought would be lost. So `map` calls it: that is no call to the interpreter.

    Args:
        read: Reads into a buffer and returns how many bytes, 0 at the end of the stream.

    Attributes:
        holds: Something that was read has not been taken: `take` is to be asked before `feed`.
        full: The last read has filled all the room that it had, so that there may be more to read.
    """

    __slots__ = ("_at", "_buffer", "_end", "_filled", "_parts", "_read", "_sizes", "_start", "_whole", "full", "holds")

    def __init__(self, read: Callable[[memoryview], int]) -> None:
        self._read = read
        self._buffer = bytearray(CAPACITY)
        self._whole = memoryview(self._buffer)
        self._start: int = 0
        self._end: int = 0
        self._sizes: tuple[int, ...] = ()  # of the parts of a large frame; empty between such frames
        # Those of them that have begun; the last one may be shorter than it will be.
        self._parts: list[bytearray | _Bytes] = []
        self._at = self._filled = 0  # which of them arrives, and how much of it has
        self.holds = self.full = False

    def read_one(self) -> Frame | None:
        """Reads once, where nothing is held; returns the frame that has come, where it is small and all that has.

        None where it is otherwise: then `take` is asked. Nothing is held where this is the end of the stream.
        """
        self.holds = True  # first: what an interrupt finds read is taken
        (self._end,) = map(self._read, (self._whole,))
        got = self._end
        if got >= HEAD:
            header: tuple[int, int, int] = _unpack_from(self._buffer)
            mark, size, count = header
            if mark == MARK and got == HEAD + size and not count:
                pickle = self._buffer[HEAD:got]
                self._end, self.holds = 0, False
                return pickle, ()
        self.full = got == CAPACITY
        self.holds = got > 0
        return None

    def feed(self) -> int:
        """Reads once; returns how many bytes, 0 at the end of the stream."""
        self.holds = True  # first: what an interrupt finds read is taken
        end = self._end
        if not end and not self._parts:  # nearly always
            (self._end,) = map(self._read, (self._whole,))
            got = self._end
            self.full = got == CAPACITY
        elif self._reads_on:
            room = self.room
            (got,) = map(self._read, (_view(self._parts[-1])[self._filled :],))
            self._filled += got
            self.full = got == room
        else:
            (got,) = map(self._read, (self._whole[end:],))
            self._end = end + got
            self.full = end + got == len(self._whole)
        return got

    @property
    def room(self) -> int:
        """How much the next read can bring."""
        return len(self._parts[-1]) - self._filled if self._reads_on else len(self._buffer) - self._end

    @property
    def _reads_on(self) -> bool:
        """Whether the next read goes into a part: so much is missing of it that it is not worth a copy."""
        parts = self._parts
        return bool(parts) and self._start == self._end and len(parts[-1]) - self._filled >= CAPACITY

    def take(self) -> Frame | None:
        """Returns the next frame that is complete; None where more must be read for it.

        Raises:
            BrokenFrame: What has arrived is no frame.
        """
        if self._sizes:
            return self._collected()
        at, end = self._start, self._end
        have = end - at
        if have == 0:
            self._start = self._end = 0
            self.holds = False
            return None
        if have < HEAD:
            begins = bytes(self._buffer[at : min(end, at + len(MARK_BYTES))])
            if not MARK_BYTES.startswith(begins):
                raise BrokenFrame("what has arrived is no frame")
            self._make_room(HEAD)
            return None
        header: tuple[int, int, int] = _unpack_from(self._buffer, at)
        mark, size, count = header
        if mark != MARK:
            raise BrokenFrame("what has arrived is no frame")
        if not count and HEAD + size <= have:  # nearly all are like this
            at += HEAD
            pickle = self._buffer[at : at + size]
            if at + size < end:
                self._start = at + size
            else:
                self._start, self._end, self.holds = 0, 0, False
            return pickle, []
        head = HEAD + count * LENGTH
        if have < head:
            self._make_room(head)
            return None
        lengths = unpack_from(f"<{count}Q", self._buffer, at + HEAD) if count else ()
        self._parts, self._at, self._filled = [], 0, 0
        self._sizes, self._start = (size, *lengths), at + head
        if len(self._buffer) > CAPACITY:
            self._renew()
        return self._collected()

    def _collected(self) -> Frame | None:
        """Goes on with a large frame; returns it once it is complete."""
        sizes, parts = self._sizes, self._parts
        while True:
            at, filled = self._at, self._filled
            size = sizes[at] & ~AS_BYTES
            if len(parts) == at:
                at_once = min(size, AT_ONCE)
                parts.append(_Bytes(size) if sizes[at] & AS_BYTES and 0 < size == at_once else bytearray(at_once))
            part = parts[at]
            if filled == len(part) < size:
                assert isinstance(part, bytearray)
                part.extend(bytes(min(size, 2 * filled) - filled))
            if got := min(self._end - self._start, len(part) - filled):
                _view(part)[filled : filled + got] = self._whole[self._start : self._start + got]
                self._filled, self._start = filled + got, self._start + got
            elif filled < size:
                self._start = self._end = 0
                return None
            elif at + 1 < len(sizes):
                self._at, self._filled = at + 1, 0
            else:
                break
        assert isinstance(parts[0], bytearray)
        frame = parts[0], [_buffer(part, size) for part, size in zip(parts[1:], sizes[1:], strict=True)]
        self._sizes, self._parts = (), []
        return frame

    def _make_room(self, total: int) -> None:
        """Sees to it that what is still to come of a frame's head fits behind what is there of it."""
        if self._start + total <= len(self._buffer):
            return
        old, have = bytes(memoryview(self._buffer)[self._start : self._end]), self._end - self._start
        if total > len(self._buffer) and have >= len(self._buffer) // 2:
            self._use(bytearray(min(total, 2 * len(self._buffer))))
        self._buffer[:have] = old
        self._start, self._end = 0, have

    def _renew(self) -> None:
        """The head of many buffers has been read: what came after it moves on into a small buffer again."""
        rest = self._buffer[self._start : self._end]
        self._use(bytearray(max(CAPACITY, len(rest))))
        self._buffer[: len(rest)] = rest
        self._start, self._end = 0, len(rest)

    def _use(self, buffer: bytearray) -> None:
        whole = memoryview(buffer)
        self._buffer, self._whole = buffer, whole


def _view(part: bytearray | _Bytes) -> memoryview:
    return part.view() if isinstance(part, _Bytes) else memoryview(part)


def _buffer(part: bytearray | _Bytes, size: int) -> memoryview | bytes:
    if isinstance(part, _Bytes):
        return part.value()
    return bytes(part) if size & AS_BYTES else memoryview(part)


def laid_aside(value: Any) -> Any:
    """Returns what is pickled in the place of a value: of `bytes` that are large, no copy is made."""
    if type(value) is bytes and len(value) >= CAPACITY:
        from _pickle import PickleBuffer  # noqa: PLC0415  # lean

        return PickleBuffer(value)
    return value


def message(*parts: Any) -> list[Part]:
    """Returns a frame of plain data."""
    from _pickle import dumps  # noqa: PLC0415  # lean

    return framed(dumps(parts, 5))
