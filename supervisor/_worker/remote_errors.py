"""Errors that are certain to arrive in another process. Light: worker processes import it."""

from __future__ import annotations

from _pickle import dumps, loads
from copyreg import dispatch_table

from .._core.errors import RemoteError, described

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .backend import Answer, How

__all__ = ["opened", "provable", "set_cause", "traced", "unsendable"]

set_cause: Callable[[BaseException, BaseException], None] = BaseException.__dict__["__cause__"].__set__
"""Past the error's own class, which may refuse."""


def unsendable(name: str, error: Exception) -> TypeError:
    """Returns the error of a worker whose call of the loop cannot be sent to its supervisor."""
    return TypeError(
        f"call(fn={name}): cannot be sent to the supervisor's process: {error}. Give a function of a module, and "
        "arguments that can be pickled"
    )


def opened(name: str, how: How, load: Callable[[], Any], trace: str | None, where: str) -> Answer:
    """Returns what came of a call of the loop, for the worker that made it; `where` it was carried out."""
    try:
        what = load()
    except BaseException as error:
        text = f"what came of {name}() cannot be unpickled in the worker's process: {described(error)}"
        return "error", RemoteError(text)
    if trace is not None:
        set_cause(what, RemoteError(f"in {where}:\n{trace}"))
    return how, what


def provable(error: BaseException, below: str) -> tuple[BaseException | Plain | Rebuilt, str]:
    """Returns what is certain to arrive as an error, and the error's traceback as text."""
    trace = traced(error, below)
    try:
        sent = Plain(error) if _is_altered(error) else error
        copy = loads(dumps(sent, 5))
        if type(copy) is type(error):
            return (sent if described(copy) == described(error) else _faithful(error)), trace
        reason = f"it unpickles as {type(copy).__qualname__}"
    except BaseException as broken:
        reason = f"it cannot be pickled: {described(broken)}"
    return RemoteError(f"{described(error)} ({reason})"), trace


def _is_altered(error: BaseException) -> bool:
    """Whether tblib has said how such errors are sent."""
    return getattr(dispatch_table.get(type(error)), "__module__", "").startswith("tblib")


class Plain:
    """An error that arrives as Python itself sends it.

    tblib, which Dask imports, has errors sent in a way of its own, in which some lose what their `__init__` has set, as
    SystemExit does its code.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        return self._error.__reduce_ex__(5)


class Rebuilt:
    """An error that its class would make a different one of, from its arguments: it arrives without being made anew."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, self._parts


def _faithful(error: BaseException) -> BaseException | Rebuilt:
    """Returns what arrives with an error's own text, if that can be had: its `__init__` may not take its `args`."""
    try:
        reduced: Any = error.__reduce_ex__(5)
        make, args, *state = reduced
        if make is type(error):
            rebuilt = Rebuilt(make, args, *state[:1])
            if described(loads(dumps(rebuilt, 5))) == described(error):
                return rebuilt
    except Exception:  # noqa: S110  # then the error is as good as its class makes it
        pass
    return error


def _rebuilt(make: type[BaseException], args: tuple[Any, ...], state: Any = None) -> BaseException:
    error = make.__new__(make, *args)
    BaseException.args.__set__(error, args)  # type: ignore[attr-defined]
    if state:
        error.__setstate__(state)
    return error


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
