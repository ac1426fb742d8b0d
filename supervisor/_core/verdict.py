"""Pure: what whoever waits for a worker gets. All of it is decided here.

`run()` and the future of an executor's call get `error_of_call`, `start()` gets `error_of_start`, those who wait for a
worker of `start()` get `error_of_wait`. Before that, what a function raised is `converted`: the event loop never meets
a BaseException of a worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .errors import (
    RemoteError,
    RestartLimitExceeded,
    StopRequested,
    SupervisorError,
    WorkerExit,
    WorkerFailed,
    described,
    is_a,
)
from .failures import WorkerDied, WorkerOverLimit, WorkerStopped, WorkerTimeout

if TYPE_CHECKING:
    from .ladder import Cause
    from .outcome import Outcome

__all__ = [
    "converted",
    "converted_from_elsewhere",
    "error_of_call",
    "error_of_start",
    "error_of_wait",
    "is_one_of",
    "raised_in",
]


class Named(Protocol):
    """What has a name, which is made when somebody asks for it."""

    @property
    def name(self) -> str: ...


def converted(worker: Named, error: BaseException, *, stopping: bool) -> BaseException | None:
    """Returns what may reach the event loop in place of what a function raised; None where that was a success.

    Args:
        worker: Whose function it was.
        error: What the function raised.
        stopping: The run is being stopped: then StopRequested stays, which is never delivered, as it makes the end of
            the run a stop.
    """
    match error:
        case StopIteration():  # a future refuses it
            converted: BaseException = RuntimeError(f"worker {worker.name!r} raised StopIteration")
        case Exception():
            return error
        case SystemExit(code=None):
            return None
        case SystemExit(code=int(code)) if code == 0:
            return None
        case SystemExit(code=code):
            converted = WorkerExit(worker.name, code)
        case StopRequested() if stopping:
            return error
        case _:
            converted = WorkerFailed(worker.name, error)
    converted.__cause__ = error
    return converted


def converted_from_elsewhere(worker: Named, error: BaseException, *, stopping: bool) -> BaseException | None:
    """Returns the same for an error that has come from another process.

    Its own code may fail, which is an error of this run alone. A KeyboardInterrupt is none: it has struck the loop.
    """
    try:
        return converted(worker, error, stopping=stopping)
    except KeyboardInterrupt:
        raise
    except BaseException as broken:
        return RemoteError(described(broken))


def raised_in(error: BaseException) -> BaseException:
    """Returns what a function raised, of which `converted` may have made an error: who sends it on converts it there.

    What was never raised itself, and has another error as its cause, was made so.
    """
    cause = error.__cause__
    made = isinstance(error, WorkerExit | WorkerFailed) or (type(error) is RuntimeError and is_a(cause, StopIteration))
    return cause if made and cause is not None and error.__traceback__ is None else error


def error_of_call(outcome: Outcome, cause: Cause | None, *, returned: bool) -> BaseException | None:
    """Returns what the caller of a call gets; None: the value.

    Args:
        outcome: How the call ended.
        cause: Why it was stopped, if it was. The first cause decides.
        returned: The function has returned a value, in time or late.
    """
    if cause is None and outcome.limit is None:
        return WorkerDied(outcome) if outcome.ended == "died" else outcome.error
    if cause == "timeout":
        error: BaseException = WorkerTimeout(outcome)
    elif outcome.limit is not None:
        error = WorkerOverLimit(outcome)
    elif returned and outcome.ended not in ("abandoned", "cancelled"):
        return None  # work in flight may finish in its grace
    else:
        error = WorkerStopped(outcome)
    error.__cause__ = outcome.error
    return error


def error_of_start(outcome: Outcome, cause: Cause | None, reason: str = "") -> BaseException:
    """Returns what `start()` raises where the worker has ended before it was ready.

    Args:
        outcome: How the worker ended.
        cause: Why its run was stopped, if it was.
        reason: The same, for people.
    """
    if cause == "stuck":
        return WorkerTimeout(outcome, f"{reason}, as it had not called ctx.ready()" if reason else "")
    if outcome.limit is not None:
        return WorkerOverLimit(outcome)
    if outcome.ended == "died":
        return WorkerDied(outcome)
    if outcome.error is not None:
        return outcome.error
    if outcome.ended == "returned":
        return SupervisorError(f"worker {outcome.worker!r} returned before it had called ctx.ready()")
    return WorkerStopped(outcome)


def error_of_wait(outcome: Outcome) -> BaseException:
    """Returns what those get who wait for a worker to become ready, where it has ended for good."""
    error = outcome.error
    if error is not None and is_a(error, RestartLimitExceeded):
        return error
    return WorkerStopped(outcome) if outcome.limit is None else WorkerOverLimit(outcome)


def is_one_of(error: BaseException | None, types: tuple[type[BaseException], ...]) -> bool:
    """Whether a run has raised one of these; what must not reach the event loop as it is comes in disguise."""
    if not types:
        return False
    if isinstance(error, WorkerExit) and any(issubclass(SystemExit, kind) for kind in types):
        return True
    return isinstance(error, types) or (isinstance(error, WorkerFailed) and isinstance(error.error, types))
