"""What workers on nodes have the loop call, and the answers that are sent to them."""

from __future__ import annotations

from concurrent.futures import CancelledError
from functools import partial
from pickle import dumps, loads
from typing import TYPE_CHECKING, Any

from ..._core.errors import RemoteError, described
from ..._run import loop_call
from ..._worker.parcel import PROTOCOL, packed
from ..._worker.remote_errors import provable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._run.ports import Services
    from ..._run.run import Run
    from ..._worker.backend import How
    from .node import RemoteRun

__all__ = ["LoopCalls", "opened"]


class LoopCalls:
    """Carries calls from nodes to the loop. On the loop's thread.

    Args:
        services: What it may ask of the runtime.
        send: Has something be said to a node.
    """

    def __init__(self, services: Services, send: Callable[..., object]) -> None:
        self._services = services
        self._send = send

    def begin(self, run: Run, there: RemoteRun, question: int, cleanup: bool, fn: Any, args: Any) -> None:
        """A run wants the loop to call a function. May be heard twice."""
        if question not in there.loop_calls:
            assert run.context is not None
            reply = partial(self._answer, there, question)
            call = loop_call.LoopCall(run, fn, args, run.context.copy(), cleanup, reply)
            there.loop_calls[question] = call
        self._services.begin_call(there.loop_calls[question])

    def end(self, there: RemoteRun, question: int, *, waits: bool) -> None:
        """The worker wants no more of a call; it may wait for its end."""
        call = there.loop_calls.get(question)
        if call is not None:
            (self._services.cut_call if waits else self._services.leave_call)(call)

    def _answer(self, there: RemoteRun, question: int, how: How, what: Any) -> None:
        """Sends what came of a call."""
        call = there.loop_calls.get(question)
        if call is None:
            return  # all of it was done before an interrupt
        trace = None
        if how == "error" and call.phase != "running" and isinstance(what, CancelledError):
            how, what = "stopped", None  # by the ladder that is climbed there
        if how == "error" and what.__traceback__ is not None:
            what, trace = provable(what, loop_call.__file__)
        try:
            data = packed(what)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            text = f"what {call.name}() returned cannot be sent to a node: {described(error)}"
            how, data = "error", dumps(RemoteError(text), PROTOCOL)
        self._send(there.at, "answered", question, how, data, trace)
        there.loop_calls.pop(question, None)


def opened(name: str, data: bytes) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Returns a function that is to be called, and its arguments; what raises instead, where these cannot be had."""
    try:
        fn, args = loads(data)
    except BaseException as error:  # what is unpickled is user's code
        text = f"call(fn={name}): cannot be unpickled in the supervisor's process: {described(error)}"
        return _fail, (RemoteError(text),)
    return fn, args


def _fail(error: Exception) -> None:
    raise error
