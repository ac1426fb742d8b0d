"""The handle of a worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._core.errors import SupervisorMisused
from .._core.values import checked_reason
from .._core.verdict import error_of_wait
from .._loop.outlast import outlast
from .._runtime.nodes import WorkerNode

if TYPE_CHECKING:
    from .._core.outcome import Outcome, WorkerState
    from .._core.policy import Kind
    from .._run.run import Run
    from .._runtime.runtime import Runtime

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

    __slots__ = ("_call", "_done", "_node", "_outcome", "_runtime", "kind", "name")

    def __init__(self, runtime: Runtime, of: Run | WorkerNode) -> None:
        """Of a call, or of a worker of `start()`."""
        self._runtime = runtime
        self._node = of if isinstance(of, WorkerNode) else None
        self._call = None if isinstance(of, WorkerNode) else of
        self._done: asyncio.Future[None] | None = None  # made on the loop's thread, when somebody waits
        self._outcome: Outcome | None = None
        self.name: str = of.name
        self.kind: Kind = of.kind.name

    @property
    def _run(self) -> Run:
        """The present run, or the last one."""
        return self._node.run if self._node is not None else self._call  # type: ignore[return-value]

    @property
    def state(self) -> WorkerState:
        """Where it is in its life: "queued", "starting", "running", "stopping", "backing_off" or "ended"."""
        if self._outcome is not None:
            return "ended"
        if self._node is not None and self._node.between_runs:
            return "backing_off"
        return self._run.state_name

    @property
    def attempt(self) -> int:
        """Which run of the worker this is, from 1."""
        return self._run.attempt

    @property
    def restarts(self) -> int:
        """How often it has been started again."""
        return 0 if self._node is None else self._node.restarts

    @property
    def ident(self) -> int | None:
        """The identifier of its thread, as `threading.get_ident` gives it; None before it runs and after its end."""
        return None if self._run.over else self._run.ident

    @property
    def pid(self) -> int | None:
        """The number of its process; None for threads, before it runs and after its end."""
        return None if self._run.over else self._run.pid

    @property
    def outcome(self) -> Outcome | None:
        """How it ended for good; None until then."""
        return self._outcome

    @property
    def last_outcome(self) -> Outcome | None:
        """How its last run ended, which another one may have followed; None during the first."""
        return self._outcome if self._node is None else self._node.last_outcome

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
        reason = checked_reason(reason)
        self._check_loop("stop")
        if self._outcome is None:
            if self._node is None:
                self._runtime.escalation.stop(self._run, "stop", reason)
            else:
                self._runtime.tree.dismiss(self._node, reason)
            if cancelled := await outlast(self._end()):
                raise cancelled
        return self._ended()

    async def restart(self) -> None:
        """Stops the present run by its ladder and begins another, whatever the Restart says; returns when it is ready.

        It does not count against the limit of the Restart. During a pause before a restart it ends the pause.
        Cancelling it stops only the waiting.

        Raises:
            WorkerStopped: The worker has ended, or was stopped for good meanwhile.
            RestartLimitExceeded: Its run had to be abandoned; there cannot be another beside it.
            RuntimeError: It is a call of `run()`; or this is another event loop than the supervisor's.
        """
        self._check_loop("restart")
        node = self._node
        if node is None:
            raise SupervisorMisused(f"worker {self.name!r} is a call, which cannot be restarted")
        if self._outcome is None:
            before = node.attempt
            self._runtime.tree.restart(node)
            while self.outcome is None and node.readied <= before:
                await self._runtime.workers.change_of(node)
        self._raise_if_over()

    async def ready(self) -> None:
        """Waits until its present run, or the next one, is ready. Cancelling it stops only the waiting.

        Ready means entered, or, where the worker has a `ready_timeout`, that it has called `ctx.ready()`.

        Raises:
            WorkerStopped: The worker has ended before that.
            RestartLimitExceeded: It has failed too often.
            RuntimeError: It is a call of `run()`; or this is another event loop than the supervisor's.
        """
        self._check_loop("ready")
        node = self._node
        if node is None:
            raise SupervisorMisused(f"worker {self.name!r} is a call, which cannot become ready")
        before = node.readied
        while self._outcome is None and not node.ready and node.readied == before:
            await self._runtime.workers.change_of(node)
        self._raise_if_over()

    def _raise_if_over(self) -> None:
        outcome = self._outcome
        if outcome is not None:
            raise error_of_wait(outcome)

    def stack(self) -> str:
        """Returns where it stands now, as the text of a traceback; empty where it does not run. Any thread."""
        return ("" if self._run.over else self._run.kind.stack(self._run)) or ""

    def conclude(self, outcome: Outcome) -> None:
        """Is called by the supervisor, on its loop's thread."""
        self._outcome = outcome
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _check_loop(self, method: str) -> None:
        if asyncio.get_running_loop() is not self._runtime.loop:
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
