"""What the threads of Dask's own executor offer to the tasks that they run, offered by a supervisor's threads too.

`distributed.secede`, with which `worker_client` begins, and `rejoin` ask a variable of their thread for its executor,
and reach into that.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from .._core.errors import StopInjected, StopRequested
from .._kinds.threads.kind import Threads
from .._run.names import qualname
from .._run.run import Run
from .._worker.current import current, shielded

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SUBMITTER", "Task"]

SUBMITTER = "distributed.utils"
"""The module whose functions a Dask worker submits."""

RUNS_TASKS, KEY = "_run_task", 3
"""What those functions call for a task, and which of its arguments is the task's key."""


class Task:
    """A task of Dask, which goes by its key, as it does on Dask's own pages.

    Args:
        call: What the Dask worker has submitted.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self.__qualname__ = _key_of(call) or qualname(call)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state: Any = sys.modules["distributed.threadpoolexecutor"].thread_state
        place = state.executor = _Place()
        try:
            return _unless_stopped(self._call(*args, **kwargs))
        finally:
            place.leave()
            del state.executor


class _Place:
    """One thread's place in its pool, with the names that `secede` and `rejoin` know of the executor of a thread.

    A thread that has left its place goes on, and the pool may have one more meanwhile.
    """

    def __init__(self) -> None:
        self._threads = {threading.current_thread()}
        self._rejoin_list: list[tuple[threading.Thread, threading.Event]] = []
        self._rejoin_lock = threading.Lock()
        self._lent = 0

    def _adjust_thread_count(self) -> None:
        """The thread has left its place."""
        self._lend(1)

    def submit(self, _awaken: Callable[[], object]) -> None:
        """The thread wants its place back, and waits to be told that it has it.

        It has it at once, and the pool has one thread too many until one of its calls has ended: whoever waits here for
        that would wait behind all calls that are queued.
        """
        thread, place_is_free = self._rejoin_list.pop()
        self._threads.add(thread)
        self.leave()
        place_is_free.set()

    def leave(self) -> None:
        """The thread needs no place beside this one any more; idempotent."""
        self._lend(0)

    def _lend(self, number: int) -> None:
        run = current.source
        if not isinstance(run, Run) or not isinstance(run.kind, Threads):
            return  # a fake, in tests
        with shielded():
            more, self._lent = number - self._lent, number
            if more:
                run.kind.lend(more)


def _unless_stopped(message: Any) -> Any:
    """Returns what a task's function has said of its end; raises what the supervisor has stopped it with.

    Dask would raise that as it is where somebody waits for the task, in another service perhaps: no Exception, and
    nobody has stopped that.
    """
    try:
        error = message["actual_exception"]
    except (TypeError, KeyError):
        return message
    if isinstance(error, StopInjected | StopRequested):
        raise error
    return message


def _key_of(call: Any) -> str | None:
    try:
        inside = dict(zip(call.__code__.co_freevars, call.__closure__, strict=True))
        if inside["func"].cell_contents.__name__ == RUNS_TASKS:
            return str(inside["args"].cell_contents[KEY])
    except Exception:  # another version of Dask
        return None
    return None
