"""Frames as the text of a traceback, in which each frame is what it is taken for."""

from __future__ import annotations

import linecache
import os
import stat
from traceback import FrameSummary, StackSummary
from typing import TYPE_CHECKING

from .._core.values import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

__all__ = ["text_of_frames"]


def text_of_frames(frames: Iterable[tuple[FrameType, int]]) -> str:
    """Returns frames, each with its line, as `traceback` shows them. Never raises: ladders wait for it.

    Names of files and functions break no line.
    """
    return "".join(StackSummary.from_list([_summary(frame, line) for frame, line in frames]).format())


def _summary(frame: FrameType, line: int) -> FrameSummary:
    code = frame.f_code
    source = printable(_source(frame, line))
    return FrameSummary(printable(code.co_filename), line, printable(code.co_name), lookup_line=False, line=source)


def _source(frame: FrameType, line: int) -> str:
    """Returns the source of a line; empty where there is none."""
    filename = frame.f_code.co_filename
    try:
        if _would_block(filename):
            return ""
        linecache.lazycache(filename, frame.f_globals)
        linecache.checkcache(filename)
        return linecache.getline(filename, line).strip()
    except Exception:  # a name that no file can have; or a loader of the application's, whose code fails
        return ""


def _would_block(filename: str) -> bool:
    """Whether it is a pipe or a terminal, as the main module of `python /dev/stdin` is: to read it would wait."""
    try:
        return not stat.S_ISREG(os.stat(filename).st_mode)  # noqa: PTH116  # called for each frame
    except OSError:
        return False
