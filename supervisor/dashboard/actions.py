"""What can be done from a page, where that is on: to stop and to restart a worker, and to shut down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from .._core.errors import SupervisorError
from .._loop import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from .._api.integration import Integration
    from .._api.supervisor import Supervisor
    from .._api.worker import Worker

__all__ = ["ACTIONS", "Actions"]

ACTIONS = ("stop", "restart", "shutdown")

LONGEST_REASON = 200


class Actions:
    """Begins what was asked for, and does not wait for its end. On any event loop, the supervisor's or another."""

    def __init__(self, supervisor: Supervisor, integration: Integration) -> None:
        self._supervisor = supervisor
        self._integration = integration
        self._tasks: set[asyncio.Task[Any]] = set()  # a loop holds its tasks only weakly

    def begin(self, action: str, name: str, reason: str) -> None:
        """Begins one of ACTIONS.

        Raises:
            HTTPException: There is no such worker, or it is a call, which cannot be restarted.
        """
        reason = " ".join(reason[:LONGEST_REASON].split())
        reason = f"dashboard: {reason}" if reason else "dashboard"
        if action == "shutdown":
            self._supervisor.request_shutdown(reason)
            return
        worker = self.worker(name)
        if action == "stop":
            self._start(lambda: worker.stop(reason))
        elif worker.pool is None:
            self._start(worker.restart)
        else:
            raise HTTPException(409, "A call cannot be restarted.")

    def worker(self, name: str) -> Worker:
        """Returns the worker or call that has this name."""
        found = self._supervisor.worker(name)
        if found is None:
            raise HTTPException(404, "There is no worker of this name any more.")
        return found

    def _start(self, act: Callable[[], Coroutine[Any, Any, object]]) -> None:
        loop = self._integration.loop
        if loop is not None:
            try:
                aside.call_soon_threadsafe(loop, self._run, act)
            except RuntimeError:
                raise HTTPException(409, "The supervisor's event loop has ended.") from None

    def _run(self, act: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """On the supervisor's loop."""
        task = asyncio.get_running_loop().create_task(_quietly(act))
        self._tasks.add(task)
        aside.when_done(task, self._tasks.discard)


async def _quietly(act: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """What comes of it is on the page, and in the log."""
    try:
        await act()
    except SupervisorError:
        return  # it has ended meanwhile, or fails as any run of it does
