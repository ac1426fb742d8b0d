"""Calls as they are sent to a process: pickled at once, so that what cannot be sent is refused where it is given."""

from __future__ import annotations

import io
import pickle
import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..._run.names import qualname
from .culprit import culprit
from .main_module import whereabouts
from .wire import framed, laid_aside

if TYPE_CHECKING:
    from collections.abc import Callable

    from .wire import Part

__all__ = ["pickled", "pickled_call", "pickled_initializer"]

PROTOCOL = 5

MAIN = b"__main__"
CONNECTION = b"multiprocessing.connection"


def pickled_call(
    number: int,
    name: str,
    attempt: int,
    own: bool | None,
    fn: Callable[..., Any],
    args: Any,
    before_call: Callable[[], Callable[[], object]] | None = None,
    *,
    nowhere: bool = False,
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
        nowhere: The main module is one that no process can import.

    Raises:
        TypeError: The function or its arguments cannot be sent.
    """
    sent = tuple(map(laid_aside, args)) if args else args
    call = (number, name, attempt, own, fn, sent, before_call)
    buffers: list[pickle.PickleBuffer] = []
    data = _with_function(call, "fn", fn, args, buffers, nowhere)
    return framed(data, [buffer.raw() for buffer in buffers] if buffers else ())


def pickled_initializer(initializer: Callable[[], object], *, nowhere: bool) -> bytes:
    """Returns an initializer as processes get it: its name, and itself.

    Raises:
        TypeError: It cannot be sent.
    """
    return _with_function((qualname(initializer), initializer), "initializer", initializer, (), None, nowhere)


def _with_function(
    what: tuple[Any, ...],
    field: str,
    fn: Callable[..., Any],
    args: Any,
    buffers: list[pickle.PickleBuffer] | None,
    nowhere: bool,
) -> bytes:
    """Pickles what has a function and its arguments in it; messages name the function by its `field`.

    Large buffers are laid aside, where there is a list for them.
    """
    try:
        data = pickled(what, buffers)
    except RuntimeError as misuse:  # of what is multiprocessing's own
        raise TypeError(f"{field}={qualname(fn)}: cannot be sent to a process: {misuse}") from misuse
    except Exception as error:
        if buffers is not None:
            buffers.clear()
        data = _by_cloudpickle(what, field, fn, args, buffers, error)
    if nowhere and MAIN in data:
        data = _main_by_value(what, field, fn, buffers, data)
    return data


def pickled(what: object, buffers: list[pickle.PickleBuffer] | None) -> bytes:
    """Pickles as the standard library does for processes; large buffers are laid aside, where there is a list for them.

    Raises:
        Exception: It cannot be pickled; a RuntimeError where it is multiprocessing's own, and not to be sent.
    """
    aside = None if buffers is None else buffers.append
    try:
        data = pickle.dumps(what, PROTOCOL, buffer_callback=aside)
    except (TypeError, RuntimeError):  # it may be a socket, or what is shared by inheritance alone
        pass
    else:
        if "multiprocessing.connection" not in sys.modules or CONNECTION not in data:
            return data
    # A connection has been pickled as a mere number, which would be that of another file.
    if buffers is not None:
        buffers.clear()
    return _by_multiprocessing(what, aside)


def _by_multiprocessing(what: object, aside: Callable[[pickle.PickleBuffer], object] | None) -> bytes:
    """Pickles connections and sockets, and what its context "spawn" shares by inheritance: locks, queues, events."""
    context: Any = import_module("multiprocessing.context")
    reduction: Any = import_module("multiprocessing.reduction")
    stream = io.BytesIO()
    context.set_spawning_popen(_AsIfSpawning())  # for this thread alone
    try:
        reduction.ForkingPickler(stream, PROTOCOL, True, aside).dump(what)
    finally:
        context.set_spawning_popen(None)
    return stream.getvalue()


class _AsIfSpawning:
    """Stands in for a process that is being spawned: files are handed out later, to whoever unpickles them."""

    def duplicate_for_child(self, fd: int) -> int:
        return fd

    def DupFd(self, fd: int) -> object:  # noqa: N802  # multiprocessing calls it
        from multiprocessing.resource_sharer import DupFd  # noqa: PLC0415  # few need it

        return DupFd(fd)


def _by_cloudpickle(
    what: tuple[Any, ...],
    field: str,
    fn: Callable[..., Any],
    args: Any,
    buffers: list[pickle.PickleBuffer] | None,
    error: Exception,
) -> bytes:
    """Pickles what the standard library cannot: lambdas and closures, by value."""
    try:
        cloudpickle = import_module("cloudpickle")
    except ImportError:
        which = culprit(fn, args, partial(pickled, buffers=None))
        raise TypeError(
            f"{field}={qualname(fn)}: cannot be sent to a process: {which}{error}. Lambdas and closures can with the "
            "extra stopladder[cloudpickle]; otherwise give a function of a module, and arguments that can be pickled"
        ) from error
    try:
        data: bytes = cloudpickle.dumps(what, PROTOCOL, buffer_callback=None if buffers is None else buffers.append)
    except Exception as second:
        which = culprit(fn, args, cloudpickle.dumps)
        raise TypeError(f"{field}={qualname(fn)}: cannot be sent to a process: {which}{second}") from second
    return data


def _main_by_value(
    what: tuple[Any, ...],
    field: str,
    fn: Callable[..., Any],
    buffers: list[pickle.PickleBuffer] | None,
    data: bytes,
) -> bytes:
    """Pickles what seems to refer to a main module that no process can import; as it was, where it does not."""
    try:
        cloudpickle = import_module("cloudpickle")
    except ImportError:
        function = getattr(fn, "func", fn)  # of a partial
        if getattr(function, "__module__", None) != "__main__":
            return data  # the process will say so, if need be
        raise TypeError(
            f"{field}={qualname(fn)}: cannot be sent to a process: it is of the main module, which is "
            f"{whereabouts()['nowhere']}: no process can import that. Put it into a module, or install the extra "
            "stopladder[cloudpickle], which sends it by value"
        ) from None
    if buffers is not None:
        buffers.clear()
    by_value: bytes = cloudpickle.dumps(what, PROTOCOL, buffer_callback=None if buffers is None else buffers.append)
    return by_value
