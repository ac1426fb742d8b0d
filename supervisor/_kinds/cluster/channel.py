"""A conversation between an owner and a node, in order, that outlives its connections."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Item: TypeAlias = tuple[Any, ...]
    Items: TypeAlias = list[Item]

__all__ = ["Channel", "Comm"]

BATCH = 500
"""Items at most in one frame: others of other channels come in between."""

MUCH = 1 << 20
"""Bytes, about, that are put into one frame, and after which what has come is acknowledged at once."""

WINDOW = 8 * MUCH
"""Bytes that may be on their way: what is said meanwhile waits for these alone, and no buffer grows beyond them."""

MANY = 200
"""Items after which what has come is acknowledged at once."""

PIECE = ""
"""The name of an item that is a piece of a later one's detail."""


class Comm(Protocol):
    """A connection, as Dask has it."""

    async def read(self) -> Any: ...

    async def write(self, msg: Any) -> Any: ...

    async def close(self) -> None: ...

    def abort(self) -> None: ...

    def closed(self) -> bool: ...


class Sent(NamedTuple):
    """What is said by one number: an item, or a piece of it."""

    number: int
    size: int
    item: list[Any]


class Channel:
    """One end of it. On its event loop's thread.

    Each item has a number and is kept until the other end has acknowledged it. A new connection goes on where the last
    one broke: nothing is lost, and nothing comes twice. What is large travels in pieces, so that what counts only now
    does not wait for long, and no frame is too large.

    Args:
        heard: Is given the items that have come in one frame.
        news: Is given what a frame says beside the items, which is not said again on a new connection.
        failed: Is given what one of these has raised. The conversation goes on.

    Attributes:
        heard_number: The number of the last item that has come.
    """

    def __init__(
        self,
        heard: Callable[[Items], object],
        news: Callable[[dict[str, Any]], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._heard = heard
        self._news_came = news
        self._failed = failed
        self._unsent: deque[Sent] = deque()
        self._unacknowledged: deque[Sent] = deque()
        self._on_its_way = 0
        self._next = 1
        self._wake = asyncio.Event()
        self._news: dict[str, Any] = {}
        self._pieces: list[bytes] = []
        self._said_number = 0
        self._bytes = 0
        self._flushed = asyncio.Event()
        self._comm: Comm | None = None
        self._talk: tuple[asyncio.Task[None], ...] = ()
        self.heard_number = 0

    def send(self, *item: Any) -> int:
        """Has an item be sent: a name and its details, of plain types. Returns its number."""
        cut: list[tuple[int, int]] = []
        details = list(item)
        for index, detail in enumerate(item):
            if isinstance(detail, bytes) and len(detail) > MUCH:
                pieces = list(_pieces(detail))
                cut.append((index, len(pieces)))
                details[index] = None
                for piece in pieces:
                    self._add(piece.nbytes, [(), PIECE, piece])
        number = self._add(_size(details), [cut, *details])
        self._wake.set()
        return number

    def _add(self, size: int, item: list[Any]) -> int:
        number = self._next
        self._unsent.append(Sent(number, size, item))
        self._next += 1
        return number

    def tell(self, **news: Any) -> None:
        """Has something be said with the next frame, which counts only now."""
        self._news.update(news)
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many items have not been acknowledged."""
        return len(self._unsent) + len(self._unacknowledged)

    @property
    def oldest(self) -> int:
        """The number of the oldest item that has not been acknowledged; of the next one, where all have."""
        for waiting in (self._unacknowledged, self._unsent):
            if waiting:
                return waiting[0].number
        return self._next

    async def flushed(self, seconds: float) -> None:
        """Waits until all has been acknowledged, so long at most."""
        self._flushed.clear()
        if self.waiting and seconds > 0:
            self.tell(acknowledge=True)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._flushed.wait(), seconds)

    def drop(self) -> None:
        """Breaks the connection, if there is one."""
        if self._comm is not None:
            self._comm.abort()

    async def serve(self, comm: Comm, other_heard: int) -> None:
        """Talks over a connection, until that is broken, or another one has taken its place.

        Args:
            comm: The connection.
            other_heard: The number of the last item that has come at the other end.

        Raises:
            OSError: The connection is broken.
        """
        self.drop()
        self._comm = comm
        # The other end may know sooner that the last one is broken: what that has taken out to write is not lost.
        for task in (last := self._talk):
            task.cancel()
        await asyncio.gather(*last, return_exceptions=True)
        if self._comm is not comm:
            comm.abort()
            raise ConnectionAbortedError("another connection has taken its place")
        self._acknowledged(other_heard)
        self._unsent.extendleft(reversed(self._unacknowledged))
        self._unacknowledged.clear()
        self._on_its_way = 0
        self._wake.set()
        self._talk = talk = (asyncio.ensure_future(self._read(comm)), asyncio.ensure_future(self._write(comm)))
        try:
            done, _ = await asyncio.wait(talk, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.cancelled():
                    raise ConnectionAbortedError("another connection has taken its place")
                task.result()
        finally:
            for task in talk:
                task.cancel()
            await asyncio.gather(*talk, return_exceptions=True)
            comm.abort()
            if self._comm is comm:
                self._comm = None

    async def _write(self, comm: Comm) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            items: list[Sent] = []
            size = 0
            while self._unsent and len(items) < BATCH and size < MUCH and self._on_its_way < WINDOW:
                items.append(sent := self._unsent.popleft())
                size += sent.size
                self._on_its_way += sent.size
            self._unacknowledged.extend(items)
            if self._unsent and self._on_its_way < WINDOW:
                self._wake.set()
            self._said_number, self._bytes = self.heard_number, 0
            news, self._news = self._news, {}
            said = [[sent.number, *sent.item] for sent in items]
            await comm.write({"heard": self.heard_number, "items": said, **news})

    async def _read(self, comm: Comm) -> None:
        while True:
            frame = await comm.read()
            self._acknowledged(frame.pop("heard"))
            at_once = frame.pop("acknowledge", False)
            self._take_in(frame.pop("items"))
            if frame:
                self._call(self._news_came, frame)
            if at_once or self._bytes >= MUCH or self.heard_number - self._said_number >= MANY:
                self._wake.set()

    def _take_in(self, said: list[list[Any]]) -> None:
        items: Items = []
        for number, cut, *item in said:
            if number <= self.heard_number:
                continue  # it had come before the connection broke
            if number != self.heard_number + 1:
                raise ValueError(f"item {number} has come after item {self.heard_number}")
            self.heard_number = number
            self._bytes += _size(item)
            if item[0] == PIECE:
                self._pieces.append(item[1])
            else:
                for index, pieces in cut:
                    item[index] = b"".join(self._pieces[:pieces])
                    del self._pieces[:pieces]
                items.append(tuple(item))
        if items:
            self._call(self._heard, items)

    def _call(self, fn: Callable[[Any], object], given: Any) -> None:
        """What has come is taken as heard: it is not said again, whatever becomes of it here."""
        try:
            fn(given)
        except Exception as error:
            self._failed(error)

    def _acknowledged(self, number: int) -> None:
        while self._unacknowledged and self._unacknowledged[0].number <= number:
            self._on_its_way -= self._unacknowledged.popleft().size
        while self._unsent and self._unsent[0].number <= number:
            self._unsent.popleft()
        if self._unsent and self._on_its_way < WINDOW:
            self._wake.set()
        if not self.waiting:
            self._flushed.set()


def _pieces(detail: bytes) -> Iterator[memoryview[int]]:
    view = memoryview(detail)
    return (view[begin : begin + MUCH] for begin in range(0, len(detail), MUCH))


def _size(item: list[Any]) -> int:
    return sum(len(detail) for detail in item if isinstance(detail, bytes))
