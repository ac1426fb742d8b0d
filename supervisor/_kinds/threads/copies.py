"""What is left of a supervisor's threads in a process that a worker has forked: nothing but the function that forked.

The loop and all other threads have stayed behind. So nothing is asked of the supervisor there, and the process ends
when the function does.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from weakref import WeakSet

from ..._core.errors import SupervisorMisused, WorkerExit

if TYPE_CHECKING:
    from ..._run.ports import Services
    from ..._run.run import Run

    class Kind(Protocol):
        """The kind of a supervisor's threads, as far as this module knows it."""

        services: Services

        def become_a_copy(self) -> None: ...


__all__ = ["here", "leave", "of_a_copy"]

here: WeakSet[Kind] = WeakSet()
"""The kinds of this process."""


def of_a_copy(services: Services) -> Services:
    """Returns what a copy may ask of the runtime: nothing. What ends a run ends the process."""
    refuse = _refuse
    return replace(
        services, clock=refuse, post=refuse, extend=refuse, call=refuse, iterate=refuse, ended=leave, settle=leave
    )


def _refuse(*_: object) -> NoReturn:
    raise SupervisorMisused(
        f"process {os.getpid()} was forked by a worker: it cannot ask the worker's supervisor, which is in process "
        f"{os.getppid()} or above"
    )


def leave(run: Run | Any) -> NoReturn:
    """Ends the process, as the end of a program does, after the function that has forked it."""
    error: BaseException | None = getattr(run, "error", None)
    code = 0
    if isinstance(error, WorkerExit):
        code = error.code if isinstance(error.code, int) else 1
    elif error is not None:
        sys.excepthook(error.__class__, error, error.__traceback__)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: PERF203, S110  # the function has closed it
            pass
    os._exit(code & 0xFF)


def _after_fork() -> None:
    for kind in tuple(here):
        kind.become_a_copy()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
