"""What a worker on a node has the event loop of its owner call, as it is sent there.

On nodes alone, and in their processes: it needs cloudpickle.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from io import BytesIO
from pickle import loads
from types import FunctionType

from .._core.errors import SupervisorMisused, type_name
from .remote_errors import opened, unsendable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from .backend import Answer, ContextBackend

__all__ = ["HomeBackend", "Sealed"]

PROTOCOL = 5

Pickler: Any = import_module("cloudpickle").Pickler  # whose types are not known


class Sealed:
    """A function and its arguments, packed for the owner. Nobody else opens it.

    Args:
        name: That of the function.
        data: The two, packed.
    """

    def __init__(self, name: str, data: bytes) -> None:
        self.__qualname__ = name
        self.data = data

    def __call__(self) -> NoReturn:
        """Never called: the loop to which it is given relays it."""
        raise NotImplementedError


class HomeBackend:
    """What a run on a node can ask for: the same as any other run, but that the loop it calls is that of its owner.

    Args:
        backend: What its kind does for it.
    """

    def __init__(self, backend: ContextBackend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], cleanup: bool) -> Answer:
        """Has the owner's loop call a function; returns what came of it."""
        sealed = _sealed(fn, args)
        how, what = self._backend.call(sealed, (), cleanup)
        if how != "value":
            return how, what
        how, data, trace = what
        return opened(sealed.__qualname__, how, partial(loads, data), trace, "the supervisor's process")

    def iterate(self, items: object, buffer: int) -> NoReturn:
        raise SupervisorMisused(
            f"worker {self._backend.name!r}: iterate() needs a worker in the process of its event loop, and this one "
            "is on a node of a cluster: use call(), whose function can return many items at a time"
        )


class ByName(Pickler):  # type: ignore[misc]
    """Sends functions by their names, those of the main module too: the owner is to call its own."""

    def reducer_override(self, what: Any) -> Any:
        if isinstance(what, FunctionType) and what is not _found and "<" not in what.__qualname__:
            return _found, (what.__module__, what.__qualname__)
        return Pickler.reducer_override(self, what)


def _found(module: str, name: str) -> Any:
    """Returns a function of a module of this process."""
    what: Any = __import__(module, fromlist=["a module itself, not the package that it is in"])
    for part in name.split("."):
        what = getattr(what, part)
    return what


def _sealed(fn: Callable[..., Any], args: tuple[Any, ...]) -> Sealed:
    """Packs a call: functions by their names, all else by value.

    Raises:
        TypeError: It cannot be sent.
    """
    function: Any = fn
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    name = name if isinstance(name, str) else type_name(function)
    try:
        if "<" in name:
            raise TypeError("no module has it by this name")
        ByName(stream := BytesIO(), PROTOCOL).dump((fn, args))
    except Exception as error:
        raise unsendable(name, error) from error
    return Sealed(name, stream.getvalue())
