"""Which part of a call it is that cannot be pickled."""

from __future__ import annotations

import functools
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from ..._core.errors import type_name
from .child.produce import Produce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["culprit"]

DEEPEST, MOST = 5, 1000
"""How far it is looked into what cannot be pickled: so many levels down, into so many items of each."""


def culprit(fn: Any, args: tuple[Any, ...], dumps: Callable[[Any], bytes]) -> str:
    """Returns which argument, or part of one, cannot be pickled, as a message begins; "" where it is the function."""
    parts = [(f"argument {place}", arg) for place, arg in enumerate(args, 1)]
    if isinstance(fn, Produce):
        fn = fn.func
    while isinstance(fn, functools.partial):
        parts += [(f"argument {place} of the partial", arg) for place, arg in enumerate(fn.args, 1)]
        parts += [(f"argument {name!r} of the partial", arg) for name, arg in fn.keywords.items()]
        fn = fn.func
    owner = getattr(fn, "__self__", None)
    if owner is not None:
        parts.append(("__self__", owner))
    for where, part in parts:
        if _fails(part, dumps):
            path, inner = _innermost_failure(part, dumps)
            return f"{where}{path}, which is of type {type_name(inner)}: "
    return ""


def _innermost_failure(part: Any, dumps: Callable[[Any], bytes]) -> tuple[str, Any]:
    """Returns the way to what fails in a value, and what that is."""
    path = ""
    for _ in range(DEEPEST):
        for step, inner in _inside(part):
            if _fails(inner, dumps):
                path, part = path + step, inner
                break
        else:
            break
    return path, part


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        yield from ((f"[{key!r:.40}]", inner) for key, inner in islice(items, MOST))
    elif isinstance(value, list | tuple):
        members = cast("list[object]", value)
        yield from ((f"[{place}]", inner) for place, inner in enumerate(islice(members, MOST)))
    elif type(attributes := getattr(value, "__dict__", None)) is dict:
        named = cast("dict[str, object]", attributes)
        yield from ((f".{name}", inner) for name, inner in islice(named.items(), MOST))


def _fails(value: Any, dumps: Callable[[Any], bytes]) -> bool:
    try:
        dumps(value)
    except Exception:
        return True
    return False
