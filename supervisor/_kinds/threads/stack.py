"""Where a thread stands: the frames of the user's function, as a traceback's text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..._run.frames import text_of_frames
from .gate import Gate

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["stack_of"]


INNERMOST = 30
"""Frames of a stack: the innermost say where a worker is stuck, and the loop waits for their text."""


def stack_of(ident: int) -> str | None:
    """Returns the frames of a thread below the pool's own, the innermost last; None where it has none. Any thread."""
    frame = sys._current_frames().get(ident)
    frames: list[tuple[FrameType, int]] = []
    while frame is not None and frame.f_code is not Gate.run.__code__:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    if frame is None:
        return None  # the thread is not in a run: before it, past it, or gone
    return text_of_frames(reversed(frames[:INNERMOST]))
