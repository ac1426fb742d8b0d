"""Errors that are certain to arrive in another process. Light: worker processes import it."""

from __future__ import annotations

from _pickle import dumps, loads

from ..._core.errors import RemoteError, described

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["provable", "set_cause", "traced"]

set_cause: Callable[[BaseException, BaseException], None] = BaseException.__dict__["__cause__"].__set__
"""Past the error's own class, which may refuse."""


def provable(error: BaseException, below: str) -> tuple[BaseException, str]:
    """Returns an error that is certain to arrive, and its traceback as text."""
    trace = traced(error, below)
    try:
        copy = loads(dumps(error, 5))
        if type(copy) is type(error):
            return error, trace
        reason = f"it unpickles as {type(copy).__qualname__}"
    except BaseException as broken:
        reason = f"it cannot be pickled: {described(broken)}"
    return RemoteError(f"{described(error)} ({reason})"), trace


def traced(error: BaseException, below: str) -> str:
    """Returns an error's traceback as text, from the user's function on: without those of our files that begin so."""
    import traceback  # noqa: PLC0415  # lean

    start = error.__traceback__
    while start is not None and start.tb_frame.f_code.co_filename.startswith(below):
        start = start.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, start))
    except Exception as broken:
        return f"{described(error)} (its traceback is unavailable: {described(broken)})"
