"""Where threads stand: the frames of the user's functions, as tracebacks' text."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from ..._loop import aside
from ..._loop.clock import monotonic
from ..._run.frames import PASSING_ON, text_of_places
from .gate import Gate
from .initialization import Initialization

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

    from ..._run.frames import Place

__all__ = ["Stacks", "stack_of"]


OURS = {Gate.run.__code__, Initialization.__call__.__code__}
"""What calls a function of the user's."""

OUTERMOST = {threading.Thread._bootstrap.__code__}  # type: ignore[attr-defined]  # typeshed leaves it out
"""Where a thread begins; a greenlet begins elsewhere."""

INNERMOST = 30
"""Frames of a stack: the innermost say where a worker is stuck, and the loop waits for their text."""

SHARE = 20
"""A look at all threads counts for so many times as long as it took: little of the time is spent on it."""

KEPT = 0.5
"""Seconds after which the last look, and the texts that were made, are let go."""


def stack_of(ident: int) -> str | None:
    """Returns the frames of a thread below the pool's own, the innermost last; None where it has none. Any thread.

    Inside a greenlet there are only the frames of that greenlet: those of whoever has switched to it are out of reach.
    """
    places = _places(sys._current_frames().get(ident))
    return None if places is None else text_of_places(places)


def _places(frame: FrameType | None) -> tuple[Place, ...] | None:
    """Returns where a thread stands; None where it is not in a run: before it, past it, or gone."""
    places: list[Place] = []
    while frame is not None and frame.f_code not in OURS:
        if frame.f_code not in PASSING_ON:
            places.append((frame.f_code, frame.f_globals, frame.f_lineno))
        frame = frame.f_back
    if frame is None and (not places or places[-1][0] in OUTERMOST):
        return None
    return tuple(reversed(places[:INNERMOST]))


class Stacks:
    """The same for many that are asked for one after the other, by one look. On the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._looked_at = self._until = 0.0
        self._places: dict[int, tuple[Place, ...] | None] = {}
        self._texts: dict[tuple[tuple[int, int], ...], str] = {}  # many stand at the same place

    def of(self, ident: int, since: float) -> str | None:
        """Returns the frames of a thread, at most some milliseconds old; of a run that began at `since`."""
        now = monotonic()
        if now >= self._until or since >= self._looked_at:
            self._look(now)
        places = self._places.get(ident)
        if places is None:
            return None
        key = tuple((id(code), line) for code, _, line in places)  # the look holds the code
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = text_of_places(places)
        return text

    def _look(self, now: float) -> None:
        if not self._places:
            aside.call_later(self._loop, KEPT, self._let_go)
        self._places = {ident: _places(frame) for ident, frame in sys._current_frames().items()}
        self._texts.clear()
        self._looked_at = now
        self._until = now + SHARE * (monotonic() - now)

    def _let_go(self) -> None:
        self._until = 0.0
        self._places.clear()
        self._texts.clear()
