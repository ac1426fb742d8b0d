"""Where a thread stands: the frames of the user's function, as a traceback's text."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from ..._run.frames import text_of_frames
from .gate import Gate

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["stack_of"]


OUTERMOST = {threading.Thread._bootstrap.__code__}  # type: ignore[attr-defined]  # typeshed leaves it out
"""Where a thread begins; a greenlet begins elsewhere."""

INNERMOST = 30
"""Frames of a stack: the innermost say where a worker is stuck, and the loop waits for their text."""


def stack_of(ident: int) -> str | None:
    """Returns the frames of a thread below the pool's own, the innermost last; None where it has none. Any thread.

    Inside a greenlet there are only the frames of that greenlet: those of whoever has switched to it are out of reach.
    """
    frame = sys._current_frames().get(ident)
    frames: list[tuple[FrameType, int]] = []
    outermost = None
    while frame is not None and frame.f_code is not Gate.run.__code__:
        frames.append((frame, frame.f_lineno))
        outermost, frame = frame, frame.f_back
    if frame is None and (outermost is None or outermost.f_code in OUTERMOST):
        return None  # the thread is not in a run: before it, past it, or gone
    return text_of_frames(reversed(frames[:INNERMOST]))
