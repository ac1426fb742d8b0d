"""Frames as the text of a traceback, in which each frame is what it is taken for."""

from __future__ import annotations

import linecache
import os
import stat
from traceback import FrameSummary, StackSummary
from typing import TYPE_CHECKING, Any, TypeAlias

from .._core.values import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import CodeType, FrameType

__all__ = ["PASSING_ON", "Place", "innermost_of_user", "text_of_frames", "text_of_places"]

Place: TypeAlias = "tuple[CodeType, dict[str, Any], int]"
"""A frame without what it holds: its code, its globals, and its line."""

PASSING_ON: set[CodeType] = set()
"""What of ours stands around a user's function, and is of no use in its stack; each adds its own, as it is imported."""


def text_of_frames(frames: Iterable[tuple[FrameType, int]]) -> str:
    """Returns frames, each with its line, as `traceback` shows them. Never raises: ladders wait for it.

    Names of files and functions break no line.
    """
    return text_of_places((frame.f_code, frame.f_globals, line) for frame, line in frames)


def text_of_places(places: Iterable[Place]) -> str:
    """Returns the same, of what is left of frames."""
    return "".join(StackSummary.from_list([_summary(*place) for place in places]).format())


def innermost_of_user(places: Sequence[Place]) -> str:
    """Returns where code of the application stands, as "path:line in function", the outermost place being the first.

    That is the innermost place that is neither of Python's own library, nor installed, nor of this one; else the
    innermost one of them that is not of Python's; else the innermost of all. Empty where there is none.
    """
    for level in (_OF_USER, _INSTALLED, 0):
        for code, _, line in reversed(places):
            if _level(code.co_filename) >= level:
                return f"{printable(code.co_filename)}:{line} in {printable(code.co_name)}"
    return ""


_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120  # compared with names of files
_PYTHONS = ("<frozen ", os.path.dirname(os.__file__) + os.sep)  # noqa: PTH120
_SITES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_INSTALLED, _OF_USER = 1, 2


def _level(path: str) -> int:
    """Returns how near to the application's own code a file is: 0 is Python's own library."""
    if path.startswith(_OURS) or any(part in path for part in _SITES):
        return _INSTALLED
    return 0 if path.startswith(_PYTHONS) else _OF_USER


def _summary(code: CodeType, names: dict[str, Any], line: int) -> FrameSummary:
    source = printable(_source(code.co_filename, names, line))
    return FrameSummary(printable(code.co_filename), line, printable(code.co_name), lookup_line=False, line=source)


def _source(filename: str, names: dict[str, Any], line: int) -> str:
    """Returns the source of a line; empty where there is none."""
    try:
        if _would_block(filename):
            return ""
        linecache.lazycache(filename, names)
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
