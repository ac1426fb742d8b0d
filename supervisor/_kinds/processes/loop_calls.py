"""What workers in processes have the event loop call, and the answers that are sent to them."""

from __future__ import annotations

from functools import partial
from pickle import dumps, loads
from typing import TYPE_CHECKING, Any

from ..._core.errors import RemoteError, SupervisorMisused, described
from ..._run import loop_call
from ..._worker.remote_errors import provable
from .pickling import pickled
from .wire import message

if TYPE_CHECKING:
    from ..._run.ports import Services
    from ..._worker.backend import How
    from .process import Process

__all__ = ["LoopCalls"]


class LoopCalls:
    """Carries calls from processes to the loop. On the loop's thread."""

    def __init__(self, services: Services) -> None:
        self._begin = services.begin_call

    def begin(self, process: Process, number: int, question: int, name: str, cleanup: bool, data: bytes) -> None:
        """A run wants the loop to call a function. May be heard twice."""
        answer = partial(self._answer, process, question, name)
        run = process.run
        if run is None or run.number != number:
            answer("error", SupervisorMisused(f"call(fn={name}): its worker has ended, and cannot call any more"))
            return
        if question not in process.loop_calls:
            try:
                fn, args = loads(data)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                text = f"call(fn={name}): cannot be unpickled in the supervisor's process: {described(error)}"
                answer("error", RemoteError(text))
                return
            assert run.context is not None
            process.loop_calls[question] = loop_call.LoopCall(run, fn, args, run.context.copy(), cleanup, answer)
        self._begin(process.loop_calls[question])

    def _answer(self, process: Process, question: int, name: str, how: How, what: Any) -> None:
        """Sends what came of a call."""
        trace = None
        if how == "error" and what.__traceback__ is not None:
            what, trace = provable(what, loop_call.__file__)
        try:
            data = pickled(what, None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            how, data = "error", dumps(RemoteError(f"what {name}() returned cannot be pickled: {described(error)}"), 5)
        process.control.send(message("answered", question, how, data, trace))
        process.loop_calls.pop(question, None)
