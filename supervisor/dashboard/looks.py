"""Looks at a supervisor for all pages that are open, beside the event loop."""

from __future__ import annotations

import asyncio
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .._loop import aside
from .._loop.clock import monotonic
from .._worker.locks import ScopedLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._api.integration import Integration
    from .._core.survey import Survey
    from .record import Change, Record

__all__ = ["Aside", "Busy", "Look", "Looks"]

T = TypeVar("T")

SHARE = 5
"""For how many times the time that it took a look is shown to all: the rest of that time is for others."""

MOST_ASIDE = 16
"""Pages that are being made, or wait for it."""


class Look(NamedTuple):
    """What there is at one moment.

    Attributes:
        survey: All of it.
        changes: The last ones, the oldest first.
        now: The moment, on the clock of `monotonic`.
        since: Since when changes have been kept, on the same clock.
    """

    survey: Survey
    changes: list[Change]
    now: float
    since: float


class Looks:
    """Makes a look where the last one is no longer fresh, or no longer true.

    In one thread at a time, as `Aside` sees to.
    """

    def __init__(self, integration: Integration, record: Record) -> None:
        self._integration = integration
        self._record = record
        self._last: Look | None = None
        self._fresh_until = 0.0
        self._known: object = None

    def look(self) -> Look:
        """Returns the last one, or makes one."""
        begun = monotonic()
        last, known = self._last, self._known
        self._known = (self._record.number, self._integration.unended, self._integration.report is None)
        if last is None or begun >= self._fresh_until or known != self._known:
            survey, now = self._integration.survey(), monotonic()
            last = self._last = Look(survey, self._record.changes(), now, self._record.since)
            self._fresh_until = now + SHARE * (now - begun)
        return last


class Busy(Exception):
    """So many pages are being made already that no more are begun."""


class Aside:
    """Calls functions beside the event loop, each in a thread of its own, and one at a time.

    So the loop shares the interpreter (GIL) with one of them, however many pages are open.
    The supervisor's own threads are no place for it, and so neither are anyio's, which may be the supervisor's: what it
    shows would be changed by that, and a shutdown would end it.
    """

    def __init__(self) -> None:
        self._under_way = 0
        self._turn = ScopedLock()

    async def call(self, function: Callable[[], T]) -> T:
        """Returns what a function returns, which must not take long.

        Raises:
            Busy: There are too many.
        """
        if self._under_way >= MOST_ASIDE:
            raise Busy
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        in_turn = partial(self._in_turn, function)
        self._under_way += 1
        try:
            aside.start(Thread(target=_answer, args=(loop, future, in_turn), name="stopladder-page", daemon=True))
            return await future
        finally:
            self._under_way -= 1

    def _in_turn(self, function: Callable[[], T]) -> T:
        with self._turn:
            return function()


def _answer(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], function: Callable[[], T]) -> None:
    try:
        settle = partial(_settle, future, future.set_result, function())
    except BaseException as error:
        settle = partial(_settle, future, future.set_exception, error)
    try:
        aside.call_soon_threadsafe(loop, settle)
    except RuntimeError:
        pass  # the loop is closed


def _settle(future: asyncio.Future[T], settle: Callable[[Any], object], result: object) -> None:
    if not future.done():  # nobody waits any more
        settle(result)
