"""A conversation between an owner and a node, in order, that outlives its connections."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    Item: TypeAlias = tuple[Any, ...]
    Items: TypeAlias = list[Item]

__all__ = ["Channel", "Comm"]

BATCH = 500
"""Items at most in one frame: others of other channels come in between."""

MUCH = 1 << 20
"""Bytes, about, that are put into one frame, and after which what has come is acknowledged at once."""

MANY = 200
"""Items after which what has come is acknowledged at once."""


class Comm(Protocol):
    """A connection, as Dask has it."""

    async def read(self) -> Any: ...

    async def write(self, msg: Any) -> Any: ...

    async def close(self) -> None: ...

    def abort(self) -> None: ...

    def closed(self) -> bool: ...


class Channel:
    """One end of it. On its event loop's thread.

    Each item has a number and is kept until the other end has acknowledged it. A new connection goes on where the last
    one broke: nothing is lost, and nothing comes twice.

    Args:
        heard: Is given the items that have come in one frame.
        news: Is given what a frame says beside the items, which is not said again on a new connection.

    Attributes:
        heard_number: The number of the last item that has come.
    """

    def __init__(self, heard: Callable[[Items], object], news: Callable[[dict[str, Any]], object]) -> None:
        self._heard = heard
        self._news_came = news
        self._unsent: deque[tuple[int, Item]] = deque()
        self._unacknowledged: deque[tuple[int, Item]] = deque()
        self._next = 1
        self._wake = asyncio.Event()
        self._news: dict[str, Any] = {}
        self._said_number = 0
        self._bytes = 0
        self._flushed = asyncio.Event()
        self.heard_number = 0

    def send(self, *item: Any) -> int:
        """Has an item be sent: a name and its details, of plain types. Returns its number."""
        number = self._next
        self._unsent.append((number, item))
        self._next += 1
        self._wake.set()
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
                return waiting[0][0]
        return self._next

    async def flushed(self, seconds: float) -> None:
        """Waits until all has been acknowledged, so long at most."""
        self._flushed.clear()
        if self.waiting and seconds > 0:
            self.tell()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._flushed.wait(), seconds)

    async def serve(self, comm: Comm, other_heard: int) -> None:
        """Talks over a connection, until that is broken.

        Args:
            comm: The connection.
            other_heard: The number of the last item that has come at the other end.

        Raises:
            OSError: The connection is broken.
        """
        self._acknowledged(other_heard)
        self._unsent.extendleft(reversed(self._unacknowledged))
        self._unacknowledged.clear()
        self._wake.set()
        reading = asyncio.ensure_future(self._read(comm))
        writing = asyncio.ensure_future(self._write(comm))
        try:
            done, _ = await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            comm.abort()

    async def _write(self, comm: Comm) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            items: list[tuple[int, Item]] = []
            size = 0
            while self._unsent and len(items) < BATCH and size < MUCH:
                items.append(self._unsent.popleft())
                size += _size(items[-1][1])
            self._unacknowledged.extend(items)
            if self._unsent:
                self._wake.set()
            self._said_number, self._bytes = self.heard_number, 0
            news, self._news = self._news, {}
            await comm.write({"heard": self.heard_number, "items": [[number, *item] for number, item in items], **news})

    async def _read(self, comm: Comm) -> None:
        while True:
            frame = await comm.read()
            self._acknowledged(frame.pop("heard"))
            items: Items = []
            for number, *item in frame.pop("items"):
                if number <= self.heard_number:
                    continue  # it had come before the connection broke
                self.heard_number = number
                items.append(tuple(item))
                self._bytes += _size(items[-1])
            if items:
                self._heard(items)
            if frame:
                self._news_came(frame)
            if self._bytes >= MUCH or self.heard_number - self._said_number >= MANY:
                self._wake.set()

    def _acknowledged(self, number: int) -> None:
        for waiting in (self._unacknowledged, self._unsent):
            while waiting and waiting[0][0] <= number:
                waiting.popleft()
        if not self.waiting:
            self._flushed.set()


def _size(item: Item) -> int:
    return sum(len(detail) for detail in item if isinstance(detail, bytes))
