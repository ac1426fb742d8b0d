"""Calls as they are sent to a process: pickled at once, so that what cannot be sent is refused where it is given."""

from __future__ import annotations

import pickle
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..._run.names import qualname
from .wire import framed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .wire import Part

__all__ = ["pickled_call"]

PROTOCOL = 5


def pickled_call(
    number: int,
    name: str,
    attempt: int,
    own: bool | None,
    fn: Callable[..., Any],
    args: Any,
    before_call: Callable[[], Callable[[], object]] | None = None,
) -> list[Part]:
    """Returns the frame of a call.

    Args:
        number: The run's.
        name: The worker's.
        attempt: Which run of it.
        own: Whether the function takes the context as its first argument; None where nobody wants to know when it is
            entered.
        fn: The function.
        args: Its arguments.
        before_call: What is called there before the function; it returns what is called after it.

    Raises:
        TypeError: The function or its arguments cannot be sent.
    """
    call = (number, name, attempt, own, fn, args, before_call)
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(call, PROTOCOL, buffer_callback=buffers.append)
    except Exception as error:
        buffers.clear()
        data = _by_cloudpickle(call, buffers, error)
    return framed(data, [buffer.raw() for buffer in buffers])


def _by_cloudpickle(call: tuple[Any, ...], buffers: list[pickle.PickleBuffer], error: Exception) -> bytes:
    """Pickles what the standard library cannot: lambdas and closures, by value."""
    fn = call[4]
    try:
        cloudpickle = import_module("cloudpickle")
    except ImportError:
        raise TypeError(
            f"fn={qualname(fn)}: cannot be sent to a process: {error}. Lambdas and closures can with the extra "
            "stopladder[cloudpickle]; otherwise give a function of a module, and arguments that can be pickled"
        ) from error
    try:
        data: bytes = cloudpickle.dumps(call, PROTOCOL, buffer_callback=buffers.append)
    except Exception as second:
        raise TypeError(f"fn={qualname(fn)}: cannot be sent to a process: {second}") from second
    return data
