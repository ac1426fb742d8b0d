"""A conversation between an owner and a node, in order, that outlives its connections."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    Item: TypeAlias = tuple[Any, ...]
    Items: TypeAlias = list[Item]

__all__ = ["Channel", "Comm"]

BATCH = 500
"""Items at most in one frame: others of other channels come in between."""

MUCH = 1 << 20
"""Bytes, about, that are put into one frame, and after which what has come is acknowledged at once."""

WINDOW = 8 * MUCH
"""Bytes that may be on their way: what is said meanwhile waits for these alone, and no buffer grows beyond them."""

SMALL = 1 << 18
"""Bytes of an item that waits for none that has more, so that a stop comes soon whatever is being sent."""

MANY = 200
"""Items after which what has come is acknowledged at once."""

PIECE = ""
"""The name of an item that is a piece of a later one's detail."""

LAST = "over"
"""The name of an item that comes after all that was sent before it."""

EVERYTHING = -1
"""What an item is about that is about no run."""

QUESTIONS = frozenset({"stacks", "answered"})
"""The names of items that are about a question, whose number is that of no run."""


class Comm(Protocol):
    """A connection, as Dask has it."""

    async def read(self) -> Any: ...

    async def write(self, msg: Any) -> Any: ...

    async def close(self) -> None: ...

    def abort(self) -> None: ...

    def closed(self) -> bool: ...


class Waiting(NamedTuple):
    """An item that has not been sent: which one it is, and what it is about."""

    order: int
    about: Hashable
    item: Item


class Sent(NamedTuple):
    """What is said by one number: an item, or a piece of it; and its order, where it was a small one."""

    number: int
    size: int
    item: list[Any]
    order: int | None = None


class Channel:
    """One end of it. On its event loop's thread.

    Each item has a number and is kept until the other end has acknowledged it. A new connection goes on where the last
    one broke: nothing is lost, and nothing comes twice. What is large travels in pieces, one after another, and what is
    small overtakes it, unless both are about the same. Else all come in the order in which they were sent.

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
        self._small: deque[Waiting] = deque()
        self._large: deque[Waiting] = deque()  # and what has to wait for such ones
        self._large_about = Counter[object]()
        self._rest: deque[tuple[int, list[Any]]] = deque()  # of the first of them, once its first piece was taken
        self._again: deque[Sent] = deque()  # of the last connection
        self._unacknowledged: deque[Sent] = deque()
        self._small_orders: deque[int] = deque()  # of those that have not been acknowledged
        self._order = 0
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
        """Has an item be sent: a name, mostly the number of a run, and details, of plain types. Returns its order."""
        about = _about(item)
        order = self._order
        self._order += 1
        held = self._large_about
        has_to_wait = held[about] or held[EVERYTHING] or (item[:1] == (LAST,) and self._large)
        if has_to_wait or _size(item) > SMALL:
            self._large.append(Waiting(order, about, item))
            held[about] += 1
        else:
            self._small.append(Waiting(order, about, item))
            self._small_orders.append(order)
        self._wake.set()
        return order

    def tell(self, **news: Any) -> None:
        """Has something be said with the next frame, which counts only now."""
        self._news.update(news)
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many items have not been acknowledged."""
        return len(self._small) + len(self._large) + len(self._again) + len(self._unacknowledged)

    @property
    def oldest(self) -> int:
        """The order of the oldest small item that has not been acknowledged; of the next one, where all have."""
        return self._small_orders[0] if self._small_orders else self._order

    async def flushed(self, seconds: float) -> None:
        """Waits until all has been acknowledged, so long at most."""
        self._flushed.clear()
        if self.waiting and seconds > 0:
            self.tell(acknowledge=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._flushed.wait()

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
        self._again.extendleft(reversed(self._unacknowledged))
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
            items = self._taken()
            self._unacknowledged.extend(items)
            self._go_on()
            self._said_number, self._bytes = self.heard_number, 0
            news, self._news = self._news, {}
            said = [[sent.number, *sent.item] for sent in items]
            await comm.write({"heard": self.heard_number, "items": said, **news})

    def _taken(self) -> list[Sent]:
        """Takes what the next frame has. Small items do not keep a large one from going on."""
        items: list[Sent] = []
        free = MUCH
        while (self._again or self._small) and len(items) < BATCH and free > 0 and self._on_its_way < WINDOW:
            if self._again:
                sent = self._again.popleft()
            else:
                order, _, item = self._small.popleft()
                sent = self._numbered(_size(item), [(), *item], order)
            free -= self._add(items, sent)
        free = MUCH
        while not self._again and free > 0 and self._on_its_way < WINDOW and (piece := self._next_piece()) is not None:
            free -= self._add(items, self._numbered(*piece))
        return items

    def _add(self, items: list[Sent], sent: Sent) -> int:
        items.append(sent)
        self._on_its_way += sent.size
        return sent.size

    def _numbered(self, size: int, item: list[Any], order: int | None = None) -> Sent:
        number = self._next
        self._next += 1
        return Sent(number, size, item, order)

    def _next_piece(self) -> tuple[int, list[Any]] | None:
        """Takes the next piece of what is large, or what it is a piece of, if that overtakes nothing."""
        if not self._large:
            return None
        order, about, item = self._large[0]
        if not self._rest:
            self._rest.extend(_cut(item))
        if len(self._rest) == 1:
            if self._small and self._small[0].order < order:
                return None
            self._large.popleft()
            self._large_about[about] -= 1
            if not self._large_about[about]:
                del self._large_about[about]
        return self._rest.popleft()

    def _go_on(self) -> None:
        """Has more be written, where there is more that may be."""
        if (self._again or self._small or self._large) and self._on_its_way < WINDOW:
            self._wake.set()

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
            self._on_its_way -= self._unacknowledged[0].size
            self._forget(self._unacknowledged.popleft())
        while self._again and self._again[0].number <= number:
            self._forget(self._again.popleft())
        self._go_on()
        if not self.waiting:
            self._flushed.set()

    def _forget(self, sent: Sent) -> None:
        if sent.order is not None:
            self._small_orders.popleft()


def _about(item: Item) -> Hashable:
    """Returns what an item is about: a run, by its number, a question, or everything."""
    if len(item) < 2 or not isinstance(item[1], int):
        return EVERYTHING
    return item[:2] if item[0] in QUESTIONS else item[1]


def _cut(item: Item) -> Iterator[tuple[int, list[Any]]]:
    """Returns what an item is sent as, each with its size: the pieces of its details, and then itself."""
    cut: list[tuple[int, int]] = []
    details = list(item)
    for index, detail in enumerate(item):
        if isinstance(detail, bytes) and len(detail) > MUCH:
            pieces = list(_pieces(detail))
            cut.append((index, len(pieces)))
            details[index] = None
            for piece in pieces:
                yield piece.nbytes, [(), PIECE, piece]
    yield _size(details), [cut, *details]


def _pieces(detail: bytes) -> Iterator[memoryview[int]]:
    view = memoryview(detail)
    return (view[begin : begin + MUCH] for begin in range(0, len(detail), MUCH))


def _size(item: Sequence[Any]) -> int:
    return sum(len(detail) for detail in item if isinstance(detail, bytes))
