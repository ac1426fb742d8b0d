"""Whether a function can be called as it is going to be: asked where it is given, or where it was refused.

Each answer is a message for whoever gave the function. It is certain: a function of which nothing is known fits.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, cast

from .._run.names import innermost, qualname

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["NOT_BLOCKING", "check_fit", "check_function", "misfit_of_call", "unexpected_keywords"]

PARTIAL: Any = functools.partial

NOT_BLOCKING = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR
"""What a plain function's code has, where calling it makes something that somebody else has to run."""


def check_function(where: str, fn: Any, *, may_yield: bool = False) -> None:
    """Refuses what is no blocking function, with an error that names the method that it was given to."""
    given = innermost(fn) if type(fn) is PARTIAL else fn
    plain = given.__func__ if type(given) is MethodType else given
    if type(plain) is FunctionType:
        if not plain.__code__.co_flags & NOT_BLOCKING:
            return
    elif type(plain) is BuiltinFunctionType or type(plain) is type:  # what a class makes is no coroutine
        return
    if not callable(fn):
        raise TypeError(f"{where}(fn={fn!r}): must be callable{_if_called(where, fn)}")
    inner: Any = innermost(fn)
    for candidate in (inner, getattr(cast("Any", type(inner)), "__call__", None)):  # noqa: B004  # that of a class makes an object
        if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
            yields = "" if inspect.iscoroutinefunction(candidate) else " that yields, an async generator function"
            raise TypeError(
                f"{where}(fn={qualname(fn)}): is a coroutine function{yields}; await it, "
                f"and give {where}() the blocking function that it calls"
            )
        if inspect.isgeneratorfunction(candidate) and not may_yield:
            raise TypeError(
                f"{where}(fn={qualname(fn)}): is a generator function, whose body nobody would run: give it to "
                f"iterate(), or give {where}() a function that iterates over it"
            )


def _if_called(where: str, fn: object) -> str:
    if inspect.iscoroutine(fn):
        fn.close()  # or the interpreter would say that nobody has awaited it
        return f"; it is what calling a coroutine function returns: await it, instead of giving it to {where}()"
    return (
        f": give the function, and its arguments after it: {where}(function, argument), not {where}(function(argument))"
    )


def check_fit(fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Refuses for `start` a function that cannot be called as `fn(ctx, *args)`, where that is known."""
    wrong = _misfit(fn, len(args) + 1)
    if wrong is None:
        return
    name = qualname(fn)
    called = f"start(fn={name}): would be called as {name}({_list(['ctx', *_shown(args)])}), but {wrong}"
    if _misfit(fn, len(args)) is None:
        called += f": its first parameter must be the WorkerContext, as in `def {_plain(name)}(ctx, ...)`"
    raise TypeError(called)


def misfit_of_call(where: str, fn: Callable[..., Any], args: tuple[Any, ...] | None) -> str | None:
    """Returns why `fn(*args)` has failed before the function was entered; None where that was not so.

    Args:
        where: The method that was given the function.
        fn: The function.
        args: Its arguments; None: one of the items.
    """
    given = ["item"] if args is None else _shown(args)
    wrong = _misfit(fn, len(given))
    if wrong is None:
        return None
    name = qualname(fn)
    called = f"{where}(fn={name}): was called as {name}({_list(given)}), but {wrong}"
    if _misfit(fn, len(given) + 1) is None and _first_parameter(fn) == "ctx":
        return (
            f"{called}: {where}() passes no WorkerContext; inside, current_context() returns it, and start() passes it"
        )
    return called


def unexpected_keywords(
    where: str, fn: object, names: Iterable[str], options_of: Mapping[str, Sequence[str]]
) -> TypeError:
    """Returns what to raise where a method was given keyword arguments that are no options of it.

    Args:
        where: The method.
        fn: The function that it was given.
        names: The keyword arguments.
        options_of: The options of this method, and of those for which it may have been taken.
    """
    wanted, name, options = list(names), qualname(fn) if callable(fn) else repr(fn), options_of[where]
    for other, others in options_of.items():
        elsewhere = [one for one in wanted if one in others]
        if elsewhere:
            what = "is an option" if len(elsewhere) == 1 else "are options"
            return TypeError(
                f"{where}(fn={name}): has no option {_list(elsewhere)}, which {what} of {other}(); "
                f"{where}() has {_list(list(options))}"
            )
    near = {option: None for one in wanted for option in difflib.get_close_matches(one, options, 1, 0.75)}
    hint = f" (did you mean {_list(list(near))}?)" if near else ""
    given = _list([f"{one}=..." for one in wanted])
    return TypeError(
        f"{where}(fn={name}): has no option {_list(wanted)}{hint}; keyword arguments of the function go through "
        f"functools.partial: {where}(functools.partial({name}, {given}), ...)"
    )


# ------------------------------------------------------------------------------------------------ parameters


def _misfit(fn: Any, count: int) -> str | None:
    """Returns why a function cannot be called with so many arguments by position, as what it raised would say it."""
    function, count, keywords = _unwrapped(fn, count)
    if function is None:
        return None
    code = function.__code__
    if count == code.co_argcount and not keywords and not code.co_kwonlyargcount:
        return None  # most
    names = code.co_varnames[: code.co_argcount]
    if count > code.co_argcount and not code.co_flags & inspect.CO_VARARGS:
        return f"takes no more than {_list(list(names))}" if names else "takes no arguments"
    twice = [name for name in names[code.co_posonlyargcount : count] if name in keywords]
    if twice:
        return f"has {_list(twice)} twice"
    required = names[: code.co_argcount - len(function.__defaults__ or ())]
    by_name = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    missing = [
        name
        for place, name in enumerate(required)
        if place >= count and (place < code.co_posonlyargcount or name not in keywords)
    ]
    missing += [name for name in by_name if name not in keywords and name not in (function.__kwdefaults__ or {})]
    return f"misses {_list(missing)}" if missing else None


def _unwrapped(fn: Any, count: int) -> tuple[FunctionType | None, int, Mapping[str, Any]]:
    """Returns the Python function that is called in the end, with how many arguments by position, and which by name."""
    keywords: dict[str, Any] = {}
    while isinstance(fn, functools.partial):
        count += len(fn.args)
        keywords = {**fn.keywords, **keywords}
        fn = fn.func
    if type(fn) is MethodType:
        fn, count = fn.__func__, count + 1
    elif type(fn) is not FunctionType and not isinstance(fn, type):
        fn, count = getattr(cast("Any", type(fn)), "__call__", None), count + 1  # noqa: B004  # which
    return (fn if type(fn) is FunctionType else None), count, keywords


def _first_parameter(fn: Any) -> str | None:
    function, count, _ = _unwrapped(fn, 0)
    return None if function is None else next(iter(function.__code__.co_varnames[count:]), None)


def _shown(args: tuple[Any, ...]) -> list[str]:
    return [f"<{type(arg).__name__}>" for arg in args]


def _list(names: list[str]) -> str:
    return ", ".join(names)


def _plain(name: str) -> str:
    return name.rpartition(".")[2] if name.rpartition(".")[2].isidentifier() else "function"
