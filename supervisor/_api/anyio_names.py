"""After which function a call of anyio's threads is named: web frameworks give anyio helpers, which call the user's."""

from __future__ import annotations

from contextlib import _GeneratorContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["name_giver"]

FRAMEWORKS = ("fastapi", "starlette")


def name_giver(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Returns what a call is named after; where nothing better is known, its own function.

    A helper of a framework's gives way to the one function, or generator, among its arguments, and what enters or
    leaves a `with` block over a generator to that.
    """
    given: list[Any] = list(args)
    inner: Any = fn
    while isinstance(inner, partial):
        given += [*inner.args, *inner.keywords.values()]
        inner = inner.func
    manager: Any = getattr(inner, "__self__", None)
    if issubclass(type(manager), _GeneratorContextManager):
        return getattr(manager, "gen", fn)
    if _is_helper(inner):
        named = [value for value in given if _has_name(value)]
        if len(named) == 1:
            return named[0]
    return fn


def _is_helper(fn: object) -> bool:
    module = getattr(fn, "__module__", None)
    name = getattr(fn, "__name__", None)
    of_framework = isinstance(module, str) and module.partition(".")[0] in FRAMEWORKS
    return of_framework and isinstance(name, str) and name.startswith("_")


def _has_name(value: object) -> bool:
    return isinstance(getattr(value, "__qualname__", None), str) and not isinstance(value, type)
