"""What the library asks of an event loop: a way in from other threads, a clock with alarms, a wait that outlasts."""

from __future__ import annotations

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from anyio import CancelScope

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TURN", "Alarms", "Clock", "Inbox", "Timer", "call_at", "clock_of", "outlast"]

TURN = 0.005
"""Seconds for which work that can wait may go on in one turn of the loop: what else is due is not to notice."""


class Ending(Protocol):
    """What an alarm is set for: an alarm of something that is over no longer rings."""

    @property
    def over(self) -> bool: ...


class Timer(Protocol):
    """What is to be called at some moment, until it is cancelled."""

    def cancel(self) -> None: ...


class Clock(ABC):
    """A clock that does not belong to a loop, and keeps its own timers."""

    @abstractmethod
    def __call__(self) -> float:
        """Returns the seconds. Any thread."""

    @abstractmethod
    def call_at(self, loop: asyncio.AbstractEventLoop, at: float, callback: Callable[[], object]) -> Timer:
        """Has `callback()` called at this moment, or later, on the loop's thread."""


stand_in: Clock | None = None
"""The clock that supervisors take from now on in place of their loop's; set by `supervisor.testing` alone."""

T = TypeVar("T")
E = TypeVar("E", bound=Ending)


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Returns the loop's clock, in seconds, as any thread may read it.

    asyncio's own loops read the monotonic clock each time. Others, like uvloop, cache the time once a turn, which is
    stale in a thread while the loop sleeps; for these it is the monotonic clock itself.
    """
    if stand_in is not None:
        return stand_in
    return loop.time if isinstance(loop, asyncio.BaseEventLoop) else time.monotonic


def call_at(
    loop: asyncio.AbstractEventLoop, clock: Callable[[], float], at: float, callback: Callable[[], object]
) -> Timer:
    """Has `callback()` called at a moment on a clock that `clock_of` has given; perhaps a little early."""
    if isinstance(clock, Clock):
        return clock.call_at(loop, at, callback)
    if clock == loop.time:
        return loop.call_at(at, callback)
    return loop.call_later(max(0.0, at - clock()), callback)


async def outlast(future: asyncio.Future[Any], *, cancelled: bool = False) -> asyncio.CancelledError | None:
    """Waits until `future` is done, whatever cancels the waiting task; returns the first cancellation.

    Under anyio a cancellation is delivered anew on each turn of the loop to whoever waits, which would burn a CPU. So
    the first one is let in, and then the waiting goes on in a shielded scope. A native `Task.cancel` gets through
    even there; the scope is entered again.

    Args:
        future: What to wait for.
        cancelled: The first cancellation has come in already, and the caller will raise it.
    """
    first = None
    while not future.done():
        try:
            if first is None and not cancelled:
                await asyncio.wait((future,))
            else:
                with CancelScope(shield=True):
                    await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            first = first or error
    return first


class _Bell:
    """An eventfd that is closed with the last reference to it.

    Threads may ring it at any time, also after the loop has gone. If it were closed then, its number might already
    belong to a file of the application.
    """

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        os.eventfd_write(self.fd, 1)

    def hush(self) -> None:
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass  # nobody has rung: the loop was woken twice

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)


class Inbox(Generic[T]):
    """Carries items from any thread to the loop's thread, many to one wake-up, each handled exactly once or more.

    An item is taken out only after `handle` has returned, so that a KeyboardInterrupt in the loop loses none; `handle`
    must therefore bear to see an item twice. Items that reach a closed loop are dropped quietly.
    """

    SLICE = 32
    """Items that are handled in one turn of the loop in any case; further ones only while the turn lasts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handle: Callable[[T], None], *, eventfd: bool = True) -> None:
        self._loop = loop
        self._handle = handle
        self._items: deque[T] = deque()
        self._armed = False  # a wake-up is on its way, or its turn has not looked into the inbox yet
        self._closed = False
        self._bell: _Bell | None = None
        if eventfd and hasattr(os, "eventfd"):
            bell = _Bell()
            try:
                loop.add_reader(bell.fd, self._rung)
            except NotImplementedError:
                pass  # Windows' proactor loop
            else:
                self._bell = bell

    def post(self, item: T) -> None:
        """Hands an item to the loop. Any thread, and in a worker's thread masked; never blocks, never raises."""
        self._items.append(item)
        if not self._armed:
            try:
                self._armed = True  # two threads may both do this: one wake-up too many
                self._wake()
            except (KeyboardInterrupt, SystemExit):
                self._wake()  # or nobody would ring any more
                raise

    def _wake(self) -> None:
        bell = self._bell
        if bell is not None:
            bell.ring()
            return
        if self._closed:
            return
        try:
            self._loop.call_soon_threadsafe(self._called)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _rung(self) -> None:
        """The bell has rung, and goes on ringing until it is hushed."""
        bell = self._bell
        if bell is None:
            return
        try:
            self._take_turn()
            if not self._items:
                self._armed = False
                bell.hush()
                # What was posted before that, or is being posted, may have rung before that: nobody hears it otherwise.
                if self._items or self._armed:
                    bell.ring()
        except (KeyboardInterrupt, SystemExit):
            bell.ring()
            raise

    def _called(self) -> None:
        """The same for a loop that was called, which happens once for each time that the inbox was armed."""
        self._armed = False  # before looking: what is posted from here on calls again
        try:
            self._take_turn()
        finally:
            if self._items:
                self._wake()

    def _take_turn(self) -> None:
        """Handles what has arrived, as far as it fits into one turn of the loop."""
        self.drain(self.SLICE)
        if self._items:
            until = time.monotonic() + TURN
            while self._items and time.monotonic() < until:
                self.drain(self.SLICE)

    def drain(self, limit: int | None = None) -> None:
        """Handles what has arrived so far; on the loop's thread."""
        items, handle = self._items, self._handle
        for _ in range(len(items) if limit is None else min(limit, len(items))):
            if not items:
                break  # a nested drain was faster
            item = items[0]
            try:
                handle(item)
            except Exception as error:
                self._loop.call_exception_handler({"message": "supervisor: a completion failed", "exception": error})
            if items and items[0] is item:
                items.popleft()

    def close(self) -> None:
        """Stops listening; what is posted afterwards is dropped. On the loop's thread, or after the loop's end."""
        if self._bell is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._bell.fd)
            self._bell = None
        self._closed = True


class Alarms(Generic[E]):
    """Alarms on the loop's clock, all with one timer of the loop. On the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], ring: Callable[[E], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._ring = ring
        self._heap: list[tuple[float, int, E]] = []
        self._count = 0
        self._over = 0  # of how many targets that are over there may be entries
        self._timer: Timer | None = None
        self._timer_at = 0.0

    def set(self, at: float, target: E) -> None:
        """Calls `ring(target)` at this moment, unless the target is over by then; perhaps a little early."""
        self._count += 1
        heappush(self._heap, (at, self._count, target))
        if self._timer is None or at < self._timer_at:
            self._arm(at)
        elif self._timer_at < self._clock():
            # It is about to ring, and must not be put off; or an interrupt has kept it from ringing.
            self._loop.call_soon(self._rung)

    def forget(self) -> None:
        """Takes note that a target is over; its entries, of which it may have some, go when they are many."""
        self._over += 1
        if self._over > 64 + len(self._heap) // 8:
            self._heap = [entry for entry in self._heap if not entry[2].over]
            heapify(self._heap)
            self._over = 0

    def close(self) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = call_at(self._loop, self._clock, at, self._rung)

    def _rung(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock()
        try:
            while self._heap and (self._heap[0][0] <= now or self._heap[0][2].over):
                entry = heappop(self._heap)
                try:
                    if not entry[2].over:
                        self._ring(entry[2])
                except (KeyboardInterrupt, SystemExit):
                    heappush(self._heap, entry)  # a signal handler raised it here: ring again
                    raise
        finally:
            # What rang may have set alarms, and so the timer, for later than the earliest that is left.
            if self._heap and (self._timer is None or self._heap[0][0] < self._timer_at):
                self._arm(self._heap[0][0])
