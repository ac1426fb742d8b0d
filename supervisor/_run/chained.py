"""Where asyncio wants the result of a future of `concurrent.futures` that it wraps, as `run_in_executor` does.

It registers a callback which has the loop called for each result. What that callback knows is looked up in it, as it
is in the Python at hand; where it is made in another way, there is nothing to be found, and the callback is called.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from types import FunctionType
from typing import Any

__all__ = ["copy_state", "destination_of"]


class _Probe(concurrent.futures.Future[Any]):
    """Keeps what asyncio registers with it."""

    registered: Any = None

    def add_done_callback(self, fn: Any) -> None:
        self.registered = fn


class _NoLoop:
    """What a future needs of a loop in which it is never done."""

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)  # type: ignore[arg-type]


def _find() -> tuple[object, int]:
    """Returns the code of the callback, and which of its cells has asyncio's future."""
    probe = _Probe()
    wrapping = asyncio.wrap_future(probe, loop=_NoLoop())  # type: ignore[arg-type]
    for place, cell in enumerate(getattr(probe.registered, "__closure__", None) or ()):
        if cell.cell_contents is wrapping:
            return probe.registered.__code__, place
    return None, 0


copy_state: Any = getattr(asyncio.futures, "_copy_future_state", None)
"""Gives what came of a future of `concurrent.futures` to one of asyncio's."""

_code, _place = _find() if copy_state is not None else (None, 0)


def destination_of(callback: object) -> asyncio.Future[Any] | None:
    """Returns the future of asyncio's for which it has registered this callback; None where it is no such callback."""
    if type(callback) is FunctionType and callback.__code__ is _code and callback.__closure__ is not None:
        future: asyncio.Future[Any] = callback.__closure__[_place].cell_contents
        return future
    return None
