"""Where in the user's code something is submitted."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import os
import sys
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .._core.values import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import FrameType

__all__ = ["keeping_origin", "origin"]

P = ParamSpec("P")
T = TypeVar("T")

LIBRARIES = tuple(Path(module).parent for module in (asyncio.__file__, concurrent.futures.__file__))

PASSING_ON = tuple(f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], *LIBRARIES))
"""The folders of code that only passes on what its caller submits."""

CALLBACKS = str(Path(asyncio.__file__).parent / "events.py")
"""Where an event loop calls what it was given: whoever has given it is not among the callers."""

COROUTINE = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR


def origin() -> str | None:
    """Returns who has called into this library, as "path:line"; None where no user's code is among the callers.

    Where a task of its own awaits a coroutine of ours, whoever has made that is not among the callers: see
    `keeping_origin`.
    """
    frame: FrameType | None = sys._getframe(1)
    in_coroutine = False
    while frame is not None:
        code = frame.f_code
        if code is MADE:
            kept: str | None = frame.f_locals["made_at"]
            return kept
        is_coroutine = bool(code.co_flags & COROUTINE)
        if code.co_filename == CALLBACKS or (in_coroutine and not is_coroutine):
            return None  # the event loop has called it
        if not code.co_filename.startswith(PASSING_ON):
            return printable(f"{code.co_filename}:{frame.f_lineno}")
        in_coroutine = is_coroutine
        frame = frame.f_back
    return None


def keeping_origin(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Returns a coroutine function that keeps where its coroutine was made, whatever task then awaits it."""

    @wraps(method)
    def made(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return _made(origin(), method(*args, **kwargs))

    return made


async def _made(made_at: str | None, coroutine: Coroutine[Any, Any, T]) -> T:  # noqa: ARG001  # read in its frame
    """Awaits a coroutine that was made there; `origin` reads that."""
    return await coroutine


MADE = _made.__code__
