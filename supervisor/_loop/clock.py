"""The event loop's clock, as any thread may read it, and timers on it."""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from . import aside

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "Timer", "call_at", "clock_of", "is_replaced", "moment_on", "monotonic"]


class Timer(Protocol):
    """What is to be called at some moment, until it is cancelled."""

    def cancel(self) -> None: ...


class Clock:
    """A clock that does not belong to a loop, and keeps its own timers.

    No ABC: whether a clock is one is asked with each alarm, and that would take several times as long.
    """

    def __call__(self) -> float:
        """Returns the seconds. Any thread."""
        raise NotImplementedError

    def then(self, moment: float) -> float:
        """Returns the seconds that it showed at a moment of the monotonic clock. Any thread."""
        raise NotImplementedError

    def call_at(self, loop: asyncio.AbstractEventLoop, at: float, callback: Callable[[], object]) -> Timer:
        """Has `callback()` called at this moment, or later, on the loop's thread."""
        raise NotImplementedError


monotonic: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_MONOTONIC) if sys.platform == "linux" else partial(time.monotonic)
)
"""The monotonic clock itself, past what tests put in the place of `time.monotonic`."""

stand_in: Clock | None = None
"""The clock that supervisors take from now on in place of their loop's; set by `supervisor.testing` alone."""


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Returns the loop's clock, in seconds, as any thread may read it.

    asyncio's own loops read the monotonic clock each time. Others, like uvloop, cache the time once a turn, which is
    stale in a thread while the loop sleeps; for these it is the monotonic clock itself.

    It goes as the loop's timers do, also where a test freezes time or moves it on: `loop.time` is looked up each time,
    and a loop that does not ask Python for the time has the system's own, which nobody replaces.
    """
    if stand_in is not None:
        return stand_in
    return (lambda: loop.time()) if isinstance(loop, asyncio.BaseEventLoop) else monotonic  # noqa: PLW0108  # looked up


def is_replaced(clock: Callable[[], float]) -> bool:
    """Whether a clock that `clock_of` has given is not the monotonic one: a test has put another in its place."""
    before, now, after = monotonic(), clock(), monotonic()
    return isinstance(clock, Clock) or not before - COARSE <= now <= after + COARSE


COARSE = 0.1
"""Seconds, at most, by which a system's clock may be late, as it is read in another way."""


def moment_on(clock: Callable[[], float], moment: float) -> float:
    """Returns when a moment of the monotonic clock was, on a clock that `clock_of` has given. Any thread."""
    return clock.then(moment) if isinstance(clock, Clock) else clock() - (monotonic() - moment)


def call_at(
    loop: asyncio.AbstractEventLoop, clock: Callable[[], float], at: float, callback: Callable[[], object]
) -> Timer:
    """Has `callback()` called at a moment on a clock that `clock_of` has given; perhaps a little early."""
    if isinstance(clock, Clock):
        return clock.call_at(loop, at, callback)
    if isinstance(loop, asyncio.BaseEventLoop):
        return aside.call_at(loop, at, callback)
    return aside.call_later(loop, max(0.0, at - clock()), callback)
