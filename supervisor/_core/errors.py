"""The errors a user can meet. Each says what happened to whom, and what to do."""

from __future__ import annotations

from .values import plain, printable

TYPE_CHECKING = False  # light: worker processes import it
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "PolicyError",
    "RemoteError",
    "RestartLimitExceeded",
    "StopInjected",
    "StopRequested",
    "SupervisorBusy",
    "SupervisorClosed",
    "SupervisorError",
    "SupervisorMisused",
    "WorkerExit",
    "WorkerFailed",
    "described",
    "is_a",
    "shown",
    "text_of",
    "type_name",
]


class StopRequested(BaseException):
    """Unwinds a worker that was asked to stop; let it pass.

    `WorkerContext.check` and `WorkerContext.sleep` raise it inside the worker's function once a stop was asked. It is
    a `BaseException`, so that `except Exception` in the worker's own retry loops does not eat it; `finally` and `with`
    blocks run as for any exception. It never reaches the event loop.

    Example:
        >>> issubclass(StopRequested, Exception)
        False
    """


class StopInjected(StopRequested):
    """The same, raised in the worker's thread from outside because asking had not ended it.

    It can appear between any two bytecodes of the worker's function, except inside `WorkerContext.shield`.

    Example:
        >>> issubclass(StopInjected, StopRequested)
        True
    """


class SupervisorError(Exception):
    """The base of every error that the supervisor raises to its callers.

    Example:
        >>> issubclass(SupervisorBusy, SupervisorError)
        True
    """


class SupervisorMisused(SupervisorError, RuntimeError):
    """The supervisor was used where it cannot work: in another event loop, after a fork, under trio."""


class SupervisorClosed(SupervisorError, RuntimeError):
    """The supervisor is shutting down, or has shut down, and takes no new work.

    Example:
        >>> issubclass(SupervisorClosed, RuntimeError)
        True
    """


class SupervisorBusy(SupervisorError):
    """As many calls wait as `max_queued` allows; this one was refused and nothing of it has started.

    Example:
        >>> str(SupervisorBusy("busy: try later"))
        'busy: try later'
    """


class PolicyError(SupervisorError, ValueError):
    """A step or a ladder that cannot be: the message names the field.

    Example:
        >>> from supervisor import Ask
        >>> Ask(-1)
        Traceback (most recent call last):
            ...
        supervisor._core.errors.PolicyError: Ask(grace=-1): must be 0 or more seconds
    """


class WorkerExit(SupervisorError):
    """The function called `sys.exit` with a code other than 0 or None; this ended that worker alone.

    Attributes:
        worker: The worker's name.
        code: What `sys.exit` was given.

    Example:
        >>> print(WorkerExit("load-1", 3))
        worker 'load-1' called sys.exit(3)
    """

    def __init__(self, worker: str, code: object) -> None:
        super().__init__(worker, code)
        self.worker = worker
        self.code = code

    def __str__(self) -> str:
        return f"worker {self.worker!r} called sys.exit({shown(self.code)})"


class WorkerFailed(SupervisorError):
    """The function raised a `BaseException` that is no `Exception`, which must not reach the event loop as it is.

    Attributes:
        worker: The worker's name.
        error: What was raised; also the `__cause__`.

    Example:
        >>> print(WorkerFailed("load-1", KeyboardInterrupt()))
        worker 'load-1' raised KeyboardInterrupt()
    """

    def __init__(self, worker: str, error: BaseException) -> None:
        super().__init__(worker, error)
        self.worker = worker
        self.error = error

    def __str__(self) -> str:
        return f"worker {self.worker!r} raised {shown(self.error)}"


class RestartLimitExceeded(SupervisorError):
    """A worker has failed more often than its Restart allows, or its last run could not be ended before a restart.

    Its last error is the `__cause__`.

    Attributes:
        worker: The worker's name.
        restarts: How often it had been started again.
        within: The seconds of its Restart.
        kind: What it is: "worker" or "group".
        still_runs: It had to be abandoned before a restart, which would have run it twice.

    Example:
        >>> print(RestartLimitExceeded("poller", 3, 5.0))
        worker 'poller' is given up after 3 restarts (its limit counts those within 5 s)
        >>> print(RestartLimitExceeded("poller", 0, 5.0, still_runs=True))
        worker 'poller' is given up, as its last run could not be ended: it would go on beside the next one
    """

    def __init__(
        self, worker: str, restarts: int, within: float, *, kind: str = "worker", still_runs: bool = False
    ) -> None:
        super().__init__(worker, restarts, within)
        self.worker = worker
        self.restarts = restarts
        self.within = within
        self.kind = kind
        self.still_runs = still_runs

    def __str__(self) -> str:
        if self.still_runs and self.kind == "group":
            return f"group {self.worker!r} is given up, as a worker of it could not be ended: it would run twice"
        if self.still_runs:
            return (
                f"{self.kind} {self.worker!r} is given up, as its last run could not be ended: "
                "it would go on beside the next one"
            )
        return (
            f"{self.kind} {self.worker!r} is given up after {self.restarts} restarts "
            f"(its limit counts those within {self.within:g} s)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.__dict__.copy()
        if self.__cause__ is not None and _can_be_pickled(self.__cause__):
            state["__cause__"] = self.__cause__
        return type(self), (self.worker, self.restarts, self.within), state


class RemoteError(SupervisorError):
    """Stands in for an error that cannot be pickled, or is not kept: its type and its text.

    Example:
        >>> print(RemoteError("socket.timeout: timed out"))
        socket.timeout: timed out
    """


def _can_be_pickled(error: BaseException) -> bool:
    from pickle import dumps  # noqa: PLC0415  # light

    try:
        dumps(error)
    except Exception:
        return False
    return True


def is_a(error: BaseException | None, *types: type[BaseException]) -> bool:
    """Whether an error is of one of these types of ours; unlike `isinstance`, it calls no code of the error's class."""
    return issubclass(type(error), types)


def text_of(error: BaseException) -> str:
    """Returns the text of an error, also where its own `__str__` raises, be it SystemExit."""
    try:
        return plain(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as broken:
        return f"<its text is not to be had: {type_name(broken)}>"


def shown(value: object) -> str:
    """Returns the `repr` of what a user's function has made, as one line, also where that raises."""
    try:
        return printable(repr(value))
    except KeyboardInterrupt:
        raise
    except BaseException as broken:
        return f"<{type_name(value)}, whose repr raises {type_name(broken)}>"


def type_name(value: object) -> str:
    """Returns the name of a type, as one line, whatever its metaclass says."""
    return printable(type.__dict__["__qualname__"].__get__(type(value)))


def described(error: BaseException) -> str:
    """Returns an error as "Type: text"; one that stands in for another as that one."""
    text = text_of(error)
    if isinstance(error, RemoteError) and text:
        return text
    return f"{type_name(error)}: {text}" if text else type_name(error)
