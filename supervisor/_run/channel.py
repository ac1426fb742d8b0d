"""Items on their way from a worker that makes them to whoever iterates over them, in the loop's process.

The two sides share a `Channel`. A thread appends to its deque, from which the loop's thread takes; each side first
writes and then looks at what the other wrote, so neither waits for what has happened already. Nobody takes a lock that
the other could be kept from releasing. What comes from a process arrives in batches, and what was taken is said to it.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from typing import TYPE_CHECKING, Any

from .._core.errors import type_name
from .._worker.current import current_context
from .frames import PASSING_ON
from .names import qualname

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    from .._worker.context import WorkerContext
    from .._worker.stop_event import StopEvent

    Waker: TypeAlias = Callable[[Callable[[], object]], object]

__all__ = ["Channel", "Producer"]


class Channel:
    """Where the items of one iteration are between their maker and their taker.

    Args:
        buffer: How many items may have been made and not been taken, 1 or more.
        post: Has the loop call a function. Any thread, in a worker's own thread masked.

    Attributes:
        buffer: As above.
        items: What can be taken, the oldest first.
        waiting: Whoever takes them has found none, and is to be woken. Written by the loop's thread, taken back by who
            wakes it.
        room: What the maker waits for, once it is so far ahead; whoever takes items releases it.
        unpack: Makes of what is in `items` what the taker gets; None: it is that.
    """

    __slots__ = (
        "_arrived",
        "_batches",
        "_low",
        "_post",
        "_said",
        "_say",
        "_waiter",
        "buffer",
        "items",
        "room",
        "unpack",
        "waiting",
    )

    def __init__(self, buffer: int, post: Waker) -> None:
        self.buffer = buffer
        self.items: deque[Any] = deque()
        self.waiting = False
        self.room: Any = None
        self.unpack: Callable[[Any], Any] | None = None
        self._low = buffer // 2
        self._post = post
        self._waiter: asyncio.Future[None] | None = None
        self._batches: deque[tuple[int, list[bytes]]] = deque()  # of a process, and at which item each begins
        self._arrived = self._said = 0  # items that have come to `items`, and of how many the process knows it
        self._say: Callable[[int], object] | None = None

    # ------------------------------------------------------------------------------------ in the maker's thread

    def wake_soon(self) -> None:
        """Wakes the taker that waits; the calling thread must be shielded."""
        self.waiting = False
        self._post(self.wake)

    def wait_for_room(self, stop: StopEvent) -> None:
        """Waits until half of the items have been taken, or a stop is asked."""
        room = allocate_lock()
        room.acquire()
        self.room = room
        if len(self.items) >= self.buffer:  # first written, then looked: whoever takes does it the other way round
            stop.wait_with(room)
        self.room = None

    # ------------------------------------------------------------------------------------ on the loop's thread

    def arrive(
        self, first: int, batch: list[bytes], unpack: Callable[[Any], Any], say: Callable[[int], object]
    ) -> None:
        """Takes in what a process has sent. May come again, after an interrupt: then it is passed over.

        Args:
            first: How many items came before these.
            batch: The items, to be unpacked one by one.
            unpack: Unpacks one.
            say: Says to the process how many of its items have been taken.
        """
        self.unpack, self._say = unpack, say
        self._batches.append((first, batch))
        self.wake()

    def give(self, items: Iterable[Any]) -> None:
        """Takes in items as they are."""
        self.items.extend(items)
        self.wake()

    def refill(self) -> bool:
        """Goes on to the next batch of a process, once all of the last one has been taken; returns whether it came."""
        while self._batches:
            first, batch = self._batches[0]
            items = deque(batch)
            if first == self._arrived:  # else it has come before
                # No call stands between these two: an interrupt finds both done, or none.
                self.items, self._arrived = items, first + len(batch)
            self._batches.popleft()
            if self.items:
                if first - self._said > self._low // 2:
                    self._tell(first)
                return True
        return False

    def _tell(self, taken: int) -> None:
        if self._say is not None and taken > self._said:
            self._said = taken
            self._say(taken)

    def make_room(self) -> None:
        """Lets the maker go on, where enough has been taken."""
        room = self.room
        if room is not None and len(self.items) <= self._low:
            self.room = None
            try:
                room.release()
            except RuntimeError:
                pass  # a stop was faster

    def wait(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None] | None:
        """Returns what the taker waits for, which has found nothing; None where there is something by now."""
        self.make_room()
        self._waiter = loop.create_future()
        self.waiting = True
        if self.items:  # first written, then looked
            self.waiting = False
            return None
        self._tell(self._arrived)
        return self._waiter

    def wake(self) -> None:
        """Has the taker look again. Idempotent."""
        self.waiting = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Producer:
    """The function of a call that makes items: has the user's function make them, and passes each on.

    That function is a generator function, or any that returns an iterable. What it returns is iterated over in the
    worker, and is closed there where that ends early, as `yield from` does. So a stop finds it at its next item.
    """

    def __init__(self, fn: Callable[..., Iterable[Any]], channel: Channel) -> None:
        self.fn = fn
        self.channel = channel
        self.__qualname__ = qualname(fn)

    def __call__(self, *args: Any) -> None:
        ctx = current_context()
        made: Any = self.fn(*args)
        try:
            iterator = iter(made)
        except TypeError:
            raise TypeError(
                f"iterate(fn={self.__qualname__}): returned {type_name(made)}, which cannot be iterated over"
            ) from None
        del made
        try:
            self._pass_on(iterator, ctx)  # the loop in a function of its own: Python 3.13 may miss a handler around it
        except BaseException:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
            raise

    def _pass_on(self, iterator: Iterator[Any], ctx: WorkerContext) -> None:
        channel = self.channel
        items, append, buffer, check = channel.items, channel.items.append, channel.buffer, ctx.check
        for item in iterator:
            append(item)
            del item  # it is the taker's
            if channel.waiting:
                with ctx.own_shield():  # or nobody would wake it
                    channel.wake_soon()
            if len(items) >= buffer:
                channel.wait_for_room(ctx.stop)
            check()


PASSING_ON.update((Producer.__call__.__code__, Producer._pass_on.__code__))
