"""The handle of a worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ._errors import SupervisorMisused
from ._loop import outlast
from ._values import checked_reason

if TYPE_CHECKING:
    from ._outcome import Outcome, WorkerState
    from ._policy import Kind
    from ._run import Run

__all__ = ["Worker"]


class Worker:
    """A supervised function: what `Supervisor.start` returns, and what `Supervisor.workers` lists.

    The attributes may be read from any thread; the methods belong to the supervisor's event loop, except `stack`.

    Example:
        >>> import asyncio
        >>> from supervisor import Supervisor
        >>> async def main():
        ...     async with Supervisor() as sup:
        ...         worker = await sup.start(lambda ctx: ctx.stop.wait(), name="waiter")
        ...         return await worker.stop("no longer needed")
        >>> asyncio.run(main()).ended
        'stopped'
    """

    __slots__ = ("_done", "_outcome", "_run", "attempt", "kind", "name")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._done: asyncio.Future[None] | None = None  # made on the loop's thread, when somebody waits
        self._outcome: Outcome | None = None
        self.name: str = run.name
        self.kind: Kind = run.kind.name
        self.attempt: int = run.attempt

    @property
    def state(self) -> WorkerState:
        """Where it is in its life: "queued", "starting", "running", "stopping" or "ended"."""
        return self._run.state_name

    @property
    def ident(self) -> int | None:
        """The identifier of its thread, as `threading.get_ident` gives it; None before it runs and after its end."""
        return None if self._run.over else self._run.ident

    @property
    def pid(self) -> int | None:
        """The number of its process; None for threads, before it runs and after its end."""
        return None if self._run.over else self._run.pid

    @property
    def entered(self) -> bool:
        """Whether the function has ever been entered."""
        return self._run.carrier is not None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None until then."""
        return self._outcome

    async def wait(self) -> Outcome:
        """Waits until the worker has ended, or was abandoned, and returns its outcome.

        Never raises what the worker raised: that is in `outcome.error`. Cancelling it stops only the waiting.

        Raises:
            RuntimeError: It was called in another event loop than the supervisor's.
        """
        self._check_loop("wait")
        if self._outcome is None:
            await asyncio.wait((self._end(),))
        return self._ended()

    async def stop(self, reason: str = "") -> Outcome:
        """Climbs the worker's ladder and returns its outcome, once it has ended or was abandoned.

        Does nothing to a worker that has ended. A cancellation does not stop the ladder: it is raised when the worker
        has ended.

        Args:
            reason: Why, for `ctx.reason` and the log.

        Raises:
            TypeError: `reason` is not a string.
            RuntimeError: It was called in another event loop than the supervisor's.
        """
        checked_reason(reason)
        self._check_loop("stop")
        if self._outcome is None:
            self._run.owner.stop(self._run, "stop", reason)
            if cancelled := await outlast(self._end()):
                raise cancelled
        return self._ended()

    def stack(self) -> str:
        """Returns where it stands now, as the text of a traceback; empty where it does not run. Any thread."""
        return ("" if self._run.over else self._run.kind.stack(self._run)) or ""

    def conclude(self, outcome: Outcome) -> None:
        """Told by the supervisor, on its loop's thread."""
        self._outcome = outcome
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _check_loop(self, method: str) -> None:
        if asyncio.get_running_loop() is not self._run.owner.loop:
            raise SupervisorMisused(
                f"worker {self.name!r} belongs to another event loop: from here, use "
                f"asyncio.run_coroutine_threadsafe(worker.{method}(), loop)"
            )

    def _end(self) -> asyncio.Future[None]:
        if self._done is None:
            self._done = asyncio.get_running_loop().create_future()
            if self._outcome is not None:
                self._done.set_result(None)
        return self._done

    def _ended(self) -> Outcome:
        assert self._outcome is not None
        return self._outcome

    def __repr__(self) -> str:
        how = self.state if self._outcome is None else self._outcome.ended
        return f"<Worker {self.name!r} on a {self.kind}: {how}>"
