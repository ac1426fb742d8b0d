"""A way into the event loop from other threads."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakSet

from . import aside
from .clock import monotonic
from .errors import insist, report_error

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["TURN", "Inbox"]

TURN = 0.005
"""Seconds for which work that can wait may go on in one turn of the loop: what else is due is not to notice."""

PAUSE = 0.002
"""Seconds for which what has arrived is put off, where others need the interpreter."""

LONGEST_PAUSE = 0.05
"""Seconds for which that is done again and again, at most."""

NOTICE = 0.001
"""Seconds for which an item may wait that is only to be published, where the loop has just handled another."""

T = TypeVar("T")


class _Bell:
    """An eventfd that is closed with the last reference to it.

    Threads may ring it at any time, also after the loop has gone. If it were closed then, its number might already
    belong to a file of the application.
    """

    __slots__ = ("__weakref__", "fd")

    def __init__(self) -> None:
        self.fd = -1
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        _bells.add(self)

    def become_a_copy(self) -> None:
        """In a forked process: has one of its own, so that a loop that ends here hushes none that rings for another.

        The other one stays open: the two loops share what they wait by, from which it would be taken away for both.
        """
        try:
            self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            pass  # there are no more files

    def ring(self) -> None:
        os.eventfd_write(self.fd, 1)

    def hush(self) -> None:
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass  # nobody has rung: the loop was woken twice

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self.fd >= 0:
            close(self.fd)


_bells: WeakSet[_Bell] = WeakSet()


def _after_fork() -> None:
    for bell in tuple(_bells):
        bell.become_a_copy()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Inbox(Generic[T]):
    """Carries items from any thread to the loop's thread, many to one wake-up, each handled exactly once or more.

    An item is taken out only after `handle` has returned, so that a KeyboardInterrupt in the loop loses none; `handle`
    must therefore bear to see an item twice; it sees one again where it has raised. Items that reach a closed loop are
    dropped quietly.

    Attributes:
        closed: Nobody listens any more, and what is in it is dropped. Any thread reads it.
    """

    SLICE = 32
    """Items that are handled in one turn of the loop in any case; further ones only while the turn lasts."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handle: Callable[[T], None],
        *,
        rests: Callable[[], bool] = lambda: False,
        eventfd: bool = True,
    ) -> None:
        self._loop = loop
        self._handle = handle
        self._rests = rests
        self._puts_off_until = 0.0
        self._items: deque[T] = deque()
        self._armed = False  # a wake-up is on its way, or its turn has not looked into the inbox yet
        self.closed = False
        self._rests_until = 0.0
        self._looks = False  # whether it is to look into the inbox by itself
        self._looks_at = 0.0  # when, on the monotonic clock
        self._bell: _Bell | None = None
        if eventfd and hasattr(os, "eventfd"):
            try:
                bell = _Bell()
                aside.add_reader(loop, bell.fd, self._rung)
            except NotImplementedError:
                pass  # Windows' proactor loop
            except OSError:
                pass  # there are no more files: each wake-up then calls the loop
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

    def post_notice(self, item: T, now: float) -> None:
        """The same for an item that may wait for what comes next, as long as the loop looks by itself before long.

        A call that is over at once then wakes the loop once. `now`: on the monotonic clock.
        """
        self._items.append(item)  # first, and then look: so the loop, which does the opposite, finds it
        if now >= self._looks_at and not self._armed:
            try:
                self._armed = True
                self._wake()
            except (KeyboardInterrupt, SystemExit):
                self._wake()
                raise

    def look_soon(self) -> None:
        """Has the loop look by itself before long: a notice has been handled, and more may follow.

        Once at a time: a turn that is full of notices takes longer than until the next look.
        """
        if not self._looks:
            aside.call_later(self._loop, NOTICE, self._look)
            self._looks_at = monotonic() + NOTICE  # only now; it passes also where a test has stopped the loop's clock
            self._looks = True

    def _look(self) -> None:
        self._looks = False
        self._looks_at = 0.0  # before looking: what is posted from here on wakes the loop
        if self.closed or self._armed:
            return  # whoever has rung is heard in this turn, or in the next one: it takes no longer than another
        try:
            self._take_turn()
        finally:
            if self._items:
                self._armed = True
                self._wake()

    def _wake(self) -> None:
        bell = self._bell
        if bell is not None:
            bell.ring()
            return
        if self.closed:
            return
        try:
            aside.call_soon_threadsafe(self._loop, self._called)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _rung(self) -> None:
        """The bell has rung, and goes on ringing until it is hushed."""
        bell = self._bell
        if bell is None:
            return
        try:
            if self._rests() and self._puts_off():
                bell.hush()  # it stays armed: nobody else rings
                aside.call_later(self._loop, PAUSE, bell.ring)
                return
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

    def _puts_off(self) -> bool:
        """Whether what has arrived is to wait once more, in the same pause or in a new one."""
        now = monotonic()
        if now >= self._puts_off_until + LONGEST_PAUSE:  # the last pause was long ago
            self._puts_off_until = now + LONGEST_PAUSE
        return now < self._puts_off_until

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
        self._drain(self.SLICE)
        if self._items:
            until = monotonic() + TURN
            while self._items and monotonic() < until:
                self._drain(self.SLICE)

    @property
    def behind(self) -> bool:
        """Whether something has arrived that has not been handled."""
        return bool(self._items)

    @property
    def left(self) -> tuple[T, ...]:
        """What has arrived and has not been handled."""
        return tuple(self._items)

    def catch_up(self) -> None:
        """Handles what has arrived, for whomever it is, before something is judged: as much as fits into a turn.

        Where that was not all of it, for as long again nothing more is handled in this way, however many are judged.
        """
        if not self._items:
            return
        now = monotonic()
        if now < self._rests_until:
            return
        until = now + TURN
        while self._items:
            aside.run(self._drain, self.SLICE)
            if monotonic() >= until:
                self._rests_until = until + TURN
                return

    def drain(self, limit: int | None = None) -> None:
        """Handles what has arrived so far, for whomever it is; on the loop's thread."""
        if self._items:
            aside.run(self._drain, limit)

    def _drain(self, limit: int | None) -> None:
        items, handle = self._items, self._handle
        for _ in range(len(items) if limit is None else min(limit, len(items))):
            if not items:
                break  # a nested drain was faster
            item = items[0]
            insist(self._report, handle, item)
            if items and items[0] is item:
                items.popleft()

    def _report(self, error: Exception) -> None:
        report_error(self._loop, "supervisor: a completion failed", error)

    def close(self) -> None:
        """Stops listening; what is posted afterwards is dropped. On the loop's thread, or after the loop's end."""
        if self._bell is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._bell.fd)
            self._bell = None
        self.closed = True
