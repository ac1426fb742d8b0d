"""How functions are called in names and messages."""

from __future__ import annotations

import functools
from contextvars import Context
from types import BuiltinMethodType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from .._core.errors import type_name
from .._core.values import printable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["innermost", "qualname", "runs_in_context"]


def qualname(fn: Callable[..., Any]) -> str:
    """Returns how a function is called in names and messages: through partials, and for callable objects too."""
    if isinstance(fn, FunctionType) and fn.__qualname__.isidentifier() and fn.__qualname__.isascii():
        return fn.__qualname__  # as nearly all are
    fn = innermost(fn)
    try:
        name = fn.__qualname__
    except Exception:  # what a user's object does there is its own affair
        name = None
    return (printable(name) if isinstance(name, str) and name else type_name(fn)).replace("/", "_")


def innermost(fn: Any) -> Any:
    """Returns the function that is called in the end: through partials, and through `Context.run`."""
    while isinstance(fn, functools.partial):
        fn = fn.args[0] if fn.args and runs_in_context(fn.func) else fn.func
    return fn


def context_within(fn: Any) -> Context | None:
    """Returns the Context in which a function has the one that it calls run, as asyncio.to_thread does, if any."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn.__self__ if runs_in_context(fn) else None


def runs_in_context(fn: Any) -> bool:
    """Whether it is the `run` of a contextvars.Context, which calls its first argument: asyncio.to_thread has it so."""
    return isinstance(fn, _METHODS) and isinstance(fn.__self__, Context) and fn.__name__ == "run"


_METHODS = (BuiltinMethodType, MethodType)
