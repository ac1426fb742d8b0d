"""Why a process could not start, as those who waited for one get it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from ..._core.errors import RemoteError, SupervisorError, WorkerExit
from ..._core.verdict import converted
from ..._run.names import qualname

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.pools import PoolSettings
    from .process import Process

__all__ = ["copy_of", "failed_for_good", "why_not_started"]

KILLED = -getattr(signal, "SIGKILL", 9)


def failed_for_good(process: Process) -> bool:
    """Whether another one would do no better: it was too slow, or its initializer has failed.

    Where SIGKILL has ended the initializer, it was somebody else: the kernel for want of memory, or a person.
    """
    return process.killed_late or (process.initializing and (process.failure is not None or process.code != KILLED))


def why_not_started(process: Process, supervisor: str, settings: PoolSettings) -> SupervisorError:
    """Returns the error for a process that has ended before it was ready; the initializer's own is its cause."""
    if not process.initializing or settings.initializer is None:
        return SupervisorError(f"supervisor {supervisor!r}: a worker process {process.why_not_ready()}")
    name = _Name(settings.initializer)
    why = process.why_not_ready()
    error = SupervisorError(f"supervisor {supervisor!r}: initializer {name.name}() of pool {settings.name!r} {why}")
    failure = process.failure
    if failure is None:
        failure = RemoteError(f"process {process.pid} ended with exit code {process.code} in {name.name}()")
    elif not isinstance(failure, Exception):
        failure = converted(name, failure, stopping=False) or _exit(name, failure)
    error.__cause__ = failure
    return error


def copy_of(error: SupervisorError) -> SupervisorError:
    """Returns the same error for somebody else, who raises it, too."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


class _Name:
    def __init__(self, function: Callable[..., object]) -> None:
        self.name = qualname(function)


def _exit(name: _Name, error: BaseException) -> WorkerExit:
    """An initializer that calls `sys.exit(0)` has ended its process, and so has failed."""
    exit_ = WorkerExit(name.name, error.code if isinstance(error, SystemExit) else None)
    exit_.__cause__ = error
    return exit_
