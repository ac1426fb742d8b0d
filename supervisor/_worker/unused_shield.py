"""A shield that was asked for and never entered: nothing was shielded by it."""

from __future__ import annotations

from _warnings import warn_explicit

TYPE_CHECKING = False  # light: worker processes import it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["warn_of_unused_shield"]


def warn_of_unused_shield(worker: str, fn: Callable[..., Any]) -> Warning | None:
    """Warns, at the function, of `ctx.shield()` without `with`; returns the warning where that is made an error."""
    while not hasattr(fn, "__code__"):
        inner = getattr(fn, "func", None) or getattr(fn, "__func__", None)  # of a partial, or a method
        if inner is None or inner is fn:
            break
        fn = inner
    code = getattr(fn, "__code__", None)
    file, line = ("<worker>", 1) if code is None else (code.co_filename, code.co_firstlineno)
    text = f"worker {worker!r} called shield() without `with`, so nothing was shielded: write `with ctx.shield():`"
    try:
        warn_explicit(text, RuntimeWarning, file, line)
    except Warning as warning:
        return warning
    return None
