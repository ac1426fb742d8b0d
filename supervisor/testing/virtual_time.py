"""Time that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from .._core.values import checked_seconds
from .._loop import aside, clock
from .._loop.clock import monotonic
from .._worker.locks import ScopedLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

__all__ = ["VirtualTime"]

TURNS = 20
"""Turns of the loop in which everything runs that an alarm makes due."""

SLACK = 1e-6
"""Seconds by which an alarm may ring too early: 2 s and then 3 s are not quite 5 s from before."""


KNOWN_MOVES = 1000
"""Of how many of its last moves it is known when they came."""


class VirtualTime(clock.Clock):
    """The time that ladders see, which stands still until a test moves it. Threads, processes and the loop stay real.

    Each supervisor that is first used inside the `with` block keeps this time for good: for the graces of its ladders,
    the `timeout` of calls and shutdowns, pauses before restarts, heartbeats, `ready_timeout`, `ctx.remaining()` and
    `ctx.extend()`. What waits elsewhere, like `asyncio.sleep`, `ctx.sleep` and `ctx.stop.wait(1)`, waits in real time.

    Workers are real, and what they do takes real time, in which the clock stands: wait for what should happen, and then
    move the clock. When the block is left, time begins to `flow`, so that nothing waits for ever.

    One is in force at a time, in all threads of the process.

    Args:
        patience: Real seconds, 0 or more, that workers have to react before the clock moves on to another alarm.

    Raises:
        TypeError, ValueError: `patience` is wrong.

    Example:
        >>> import asyncio
        >>> from supervisor import Supervisor, WorkerTimeout, current_context
        >>> def crunch():
        ...     while True:
        ...         current_context().check()
        >>> async def main():
        ...     with VirtualTime() as time:
        ...         async with Supervisor() as sup:
        ...             call = asyncio.create_task(sup.run(crunch, timeout=3600))
        ...             await time.advance(3600)
        ...             try:
        ...                 await call
        ...             except WorkerTimeout as error:
        ...                 return error.outcome.ended
        >>> asyncio.run(main())
        'stopped'
    """

    def __init__(self, *, patience: float = 0.05) -> None:
        self._patience = checked_seconds("VirtualTime(patience={!r})", patience)
        self._now = monotonic()
        self._moves: deque[tuple[float, float]] = deque([(self._now, self._now)], KNOWN_MOVES)  # when, and to what
        self._lock = ScopedLock()
        self._timers: list[_Timer] = []
        self._count = 0
        self._flows = False
        self._armed: set[asyncio.AbstractEventLoop] = set()

    @property
    def now(self) -> float:
        """The present moment, in seconds. Any thread."""
        return self._now

    async def advance(self, seconds: float) -> None:
        """Moves the clock, from one alarm to the next, and lets everything run that each makes due.

        Before it moves on to an alarm it waits for `patience` real seconds, so that workers that were asked, or
        injected, can end. Cancelling it leaves the clock where it is.

        Raises:
            TypeError, ValueError: `seconds` is wrong.
            RuntimeError: There is no running event loop, or it is not asyncio's.
        """
        here = asyncio.get_running_loop()
        target = self._now + checked_seconds("advance(seconds={!r})", seconds)
        elsewhere = False
        await _turns()
        while (coming := self._next()) is not None and coming.at <= target + SLACK:
            if coming.at > self._now:
                await asyncio.sleep(self._patience)
                if self._next() is not coming:
                    continue
            self._move(coming.at)
            while (timer := self._take()) is not None:
                if timer.loop is here:
                    aside.run(timer.callback)
                else:
                    elsewhere = True
                    _call_soon(timer.loop, timer.callback)
            await _turns()
        self._move(target)
        if elsewhere:
            await asyncio.sleep(self._patience)

    def flow(self) -> None:
        """Lets time pass by itself from now on. Any thread.

        Whenever no alarm was set for `patience` real seconds, the clock moves on to the next one, however far away.
        So a call with a `timeout` that works for longer than that is stopped.
        """
        self._flows = True
        with self._lock:
            loops = {timer.loop for timer in self._timers}
        for loop in loops:
            _call_soon(loop, self._arm, loop)

    # ------------------------------------------------------------------------------------ what supervisors ask of it

    def __call__(self) -> float:
        """Returns the seconds that have passed. Any thread."""
        return self._now

    def _move(self, to: float) -> None:
        if to > self._now:
            self._moves.append((monotonic(), to))  # first: who sees the new time finds out when it came
            self._now = to

    def then(self, moment: float) -> float:
        """Returns the time that it showed at a moment of the monotonic clock. Any thread."""
        moves = tuple(self._moves)
        return next((to for at, to in reversed(moves) if at <= moment), moves[0][1])

    def call_at(self, loop: asyncio.AbstractEventLoop, at: float, callback: Callable[[], object]) -> _Timer:
        """Has `callback()` called at this moment, on the loop's thread."""
        with self._lock:
            self._count += 1
            timer = _Timer(at, self._count, loop, callback)
            self._timers.append(timer)
        if self._flows:
            self._arm(loop)
        return timer

    def _next(self, loop: asyncio.AbstractEventLoop | None = None) -> _Timer | None:
        """Returns the timer that rings next, of this loop or of any."""
        with self._lock:
            self._timers = [timer for timer in self._timers if not timer.over]
            mine = [timer for timer in self._timers if loop in (None, timer.loop)]
        return min(mine, key=lambda timer: (timer.at, timer.number), default=None)

    def _take(self, loop: asyncio.AbstractEventLoop | None = None) -> _Timer | None:
        """Takes out the next timer whose moment has come."""
        with self._lock:
            timer = self._next(loop)
            if timer is None or timer.at > self._now:
                return None
            self._timers.remove(timer)
            return timer

    # ------------------------------------------------------------------------------------ time that flows

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop not in self._armed:
            self._armed.add(loop)
            aside.call_later(loop, self._patience, self._jump, loop, self._count)

    def _jump(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        """Moves on to the next alarm of a loop, unless something has happened since. On its thread."""
        self._armed.discard(loop)
        coming = self._next(loop)
        try:
            if count == self._count and coming is not None:
                self._move(coming.at)
                while (timer := self._take(loop)) is not None:
                    timer.callback()
        finally:
            if self._next(loop) is not None:
                self._arm(loop)

    # ------------------------------------------------------------------------------------ being in force

    def __enter__(self) -> Self:
        """Puts it in force.

        Raises:
            RuntimeError: Another one is.
        """
        if clock.stand_in is not None:
            raise RuntimeError("VirtualTime: there is one in force already; use that one, or leave its block first")
        clock.stand_in = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        clock.stand_in = None
        self.flow()


class _Timer:
    __slots__ = ("at", "callback", "cancelled", "loop", "number")

    def __init__(self, at: float, number: int, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        self.at = at
        self.number = number
        self.loop = loop
        self.callback = callback
        self.cancelled = False

    @property
    def over(self) -> bool:
        return self.cancelled or self.loop.is_closed()

    def cancel(self) -> None:
        self.cancelled = True
        self.callback = _nothing  # what it holds is not to live until the time comes


def _nothing() -> None:
    pass


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    try:
        aside.call_soon_threadsafe(loop, callback, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise
