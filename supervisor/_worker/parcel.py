"""What is sent to a node to be called, and what comes of it. Light: worker processes import it."""

from __future__ import annotations

from .._core.errors import RemoteError, StopRequested, described
from .current import current_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["PROTOCOL", "CarryOut", "packed"]

PROTOCOL = 5


def packed(what: object) -> bytes:
    """Pickles for another machine: by reference what can be imported there, and lambdas and the main module by value.

    Raises:
        Exception: It cannot be pickled.
    """
    from importlib import import_module  # noqa: PLC0415  # lean

    data: bytes = import_module("cloudpickle").dumps(what, PROTOCOL)
    return data


class CarryOut:
    """Calls the function in a parcel, on a thread or in a process of a node, and returns its packed result.

    Args:
        name: That of the function: messages and stacks of the node have it.
    """

    def __init__(self, name: str) -> None:
        self.__qualname__ = name

    def __call__(self, *given: Any) -> bytes:
        """Calls it.

        Args:
            given: The context, of a worker of `start()`; and the parcel.

        Raises:
            RemoteError: It cannot be unpickled here: a module is missing, say.
        """
        from pickle import loads  # noqa: PLC0415  # lean

        from .home import HomeBackend  # noqa: PLC0415  # the same

        *ctx, parcel = given
        context: Any = ctx[0] if ctx else current_context()
        context._backend = HomeBackend(context._backend)
        try:
            fn, args, before_call = loads(parcel)
        except StopRequested:
            raise
        except BaseException as error:
            raise RemoteError(f"the call cannot be unpickled on its node: {described(error)}") from error
        restore = None if before_call is None else before_call()
        try:
            value = fn(*ctx, *args)
        finally:
            if restore is not None:
                restore()
        try:
            return packed(value)
        except Exception as error:
            what = type(value).__qualname__
            raise TypeError(f"what the function returned, a {what}, cannot be sent to its owner: {error}") from error
