"""The handle of a worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._core.errors import SupervisorMisused
from .._core.values import checked_reason
from .._core.verdict import error_of_wait
from .._loop.clock import is_replaced
from .._loop.outlast import outlast
from .._runtime import standing
from .._runtime.nodes import WorkerNode

if TYPE_CHECKING:
    from typing import Literal

    from .._core.outcome import Outcome, WorkerState
    from .._core.policy import Kind, StepName
    from .._run.run import Run
    from .._runtime.runtime import Runtime

__all__ = ["Worker"]


class Worker:
    """A supervised function: what `Supervisor.start` returns, and what `Supervisor.workers` lists.

    The attributes may be read from any thread; the methods belong to the supervisor's event loop, except `stack`. Once
    the worker has ended, its handle holds the outcomes, and nothing of what the worker was given. An error in there has
    its traceback, which holds the variables of its functions: `traceback.clear_frames` lets go of these.

    Attributes:
        name: Its name, with those of its groups before it: "feeds/reader".
        kind: "thread" or "process".
        pool: The name of its pool, where it is a call; None where it has a thread or process of its own.
        group: The name of the group that it is in, with those of the groups around that; None: none.
        submitted_from: Where it was submitted, as "path:line" of the code that has called `run`, `start`, `iterate`,
            `map`, an executor or `asyncio.to_thread`; None without `Supervisor(origins=True)`, or where no such code is
            to be found, as for what a library submits in a callback.

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

    __slots__ = (
        "_is_call",
        "_last_outcome",
        "_of",
        "_outcome",
        "_runtime",
        "_waiting",
        "group",
        "kind",
        "name",
        "pool",
        "submitted_from",
    )

    def __init__(self, runtime: Runtime, of: Run | WorkerNode) -> None:
        """Of a call, or of a worker of `start()`."""
        self._runtime = runtime
        self._of: Run | WorkerNode | None = of  # until it has ended: other threads look at it once, and then use that
        self._is_call = not isinstance(of, WorkerNode)
        self._waiting: dict[asyncio.Future[None], None] | None = None  # made when somebody waits. On the loop's thread
        self._outcome: Outcome | None = None
        self._last_outcome: Outcome | None = None
        self.name: str = of.name
        self.kind: Kind = of.kind.name
        self.pool: str | None = standing.pool_of(of)
        self.group: str | None = standing.group_of(of)
        self.submitted_from: str | None = of.submitted_from

    @property
    def _run(self) -> Run | None:
        """The present run, or the last one; None once it has ended for good."""
        of = self._of
        return None if of is None else standing.run_of(of)

    @property
    def state(self) -> WorkerState:
        """Where it is in its life: "queued", "starting", "running", "stopping", "backing_off" or "ended"."""
        of = self._of
        return "ended" if self._outcome is not None or of is None else standing.state_of(of)

    @property
    def attempt(self) -> int:
        """Which run of the worker this is, from 1."""
        of, outcome = self._of, self._outcome
        return outcome.attempt if of is None and outcome is not None else standing.attempt_of(of)  # type: ignore[arg-type]

    @property
    def restarts(self) -> int:
        """How often it has been started again."""
        of = self._of
        return of.restarts if isinstance(of, WorkerNode) else self.attempt - 1

    @property
    def restarts_left(self) -> int | None:
        """How often it would still be started again, if it failed now, and again at once.

        Counted as its Restart does, within its `within`. None where it is never started again: it is a call, has no
        Restart, has ended, or its supervisor shuts down.
        """
        of = self._of
        return None if of is None else standing.restarts_left(of, self._runtime.clock())

    @property
    def is_ready(self) -> bool:
        """Whether its present run is ready, as `ready()` awaits it, and nobody stops it; of a call: whether it runs."""
        of = self._of
        return of is not None and self._outcome is None and standing.is_ready(of)

    @property
    def started_at(self) -> float | None:
        """When its present run was entered, in seconds on the event loop's clock, as `Transition.at`.

        None before it runs, between two runs, and after its end. Under `supervisor.testing.VirtualTime`, which stands
        while a worker is started, it is when the run was submitted.
        """
        of = self._of
        return None if of is None else standing.started_at(of, replaced=is_replaced(self._runtime.clock))

    @property
    def beat_at(self) -> float | None:
        """When its present run last gave a sign of life, in seconds on the event loop's clock.

        That is `ctx.heartbeat()`, or, of a worker that has to give these, its readiness. None where it gave none, and
        after its end.
        """
        of = self._of
        return None if of is None else standing.beat_at(of)

    @property
    def step(self) -> StepName | None:
        """On which step of its ladder it is: "ask", "inject", "terminate", "kill"; None where nobody stops it."""
        position = self._position
        return None if position is None else position.step

    @property
    def next_step(self) -> StepName | Literal["abandon"] | None:
        """The step that comes next, or "abandon" after the last one; None where none comes."""
        position = self._position
        return None if position is None else position.next_step

    @property
    def next_step_at(self) -> float | None:
        """When that comes, in seconds on the event loop's clock; `ctx.extend` moves it. None where none comes."""
        position = self._position
        return None if position is None else position.next_at

    @property
    def _position(self) -> standing.Position | None:
        of = self._of
        return None if of is None else standing.position_of(of)

    @property
    def ident(self) -> int | None:
        """The identifier of its thread, as `threading.get_ident` gives it; None before it runs and after its end.

        Where it has a `node`, it is a thread there.
        """
        run = self._run
        return None if run is None or run.over else run.carrier[1]

    @property
    def pid(self) -> int | None:
        """The number of its process; None for threads, before it runs and after its end.

        Where it has a `node`, it is a process there.
        """
        run = self._run
        return None if run is None or run.over else run.carrier[2]

    @property
    def node(self) -> str | None:
        """The name of the node of the cluster that has it.

        None where it runs here, before it is sent to a node, and after its end, when `outcome.node` has it.
        """
        run = self._run
        return None if run is None or run.over else run.carrier[0]

    @property
    def outcome(self) -> Outcome | None:
        """How it ended for good; None until then."""
        return self._outcome

    @property
    def last_outcome(self) -> Outcome | None:
        """How its last run ended, which another one may have followed; None during the first."""
        of = self._of
        return of.last_outcome if isinstance(of, WorkerNode) else self._last_outcome

    async def wait(self) -> Outcome:
        """Waits until the worker has ended, or was abandoned, and returns its outcome.

        Never raises what the worker raised: that is in `outcome.error`. Cancelling it stops only the waiting.

        Raises:
            RuntimeError: It was called in another event loop than the supervisor's.
        """
        self._check_loop("wait")
        if self._outcome is None:
            await self._wait()
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
        of = self._of
        if of is not None and self._outcome is None:
            if isinstance(of, WorkerNode):
                self._runtime.tree.dismiss(of, reason)
            else:
                self._runtime.escalation.stop(of, "stop", reason)
            del of  # it is not to be held until its end
            await self._outlast()
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
        if self._is_call:
            raise SupervisorMisused(f"worker {self.name!r} is a call, which cannot be restarted")
        node = self._of
        if self._outcome is None and isinstance(node, WorkerNode):
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
        if self._is_call:
            raise SupervisorMisused(f"worker {self.name!r} is a call, which cannot become ready")
        node = self._of
        if isinstance(node, WorkerNode):
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
        run = self._run
        return ("" if run is None or run.over else run.kind.stack(run)) or ""

    def conclude(self, outcome: Outcome) -> None:
        """Is called by the supervisor, on its loop's thread."""
        self._last_outcome = self.last_outcome or outcome
        self._outcome = outcome
        self._of = None
        for end in tuple(self._waiting or ()):
            if not end.done():
                end.set_result(None)

    def _check_loop(self, method: str) -> None:
        if asyncio.get_running_loop() is not self._runtime.loop:
            raise SupervisorMisused(
                f"worker {self.name!r} belongs to another event loop: from here, use "
                f"asyncio.run_coroutine_threadsafe(worker.{method}(), loop)"
            )

    async def _wait(self) -> None:
        """Waits until it has ended. Each has a future of its own, which its cancellation may cancel."""
        if self._outcome is not None:
            return
        end = self._end()
        try:
            await end
        finally:
            if self._waiting is not None:
                self._waiting.pop(end, None)

    async def _outlast(self) -> None:
        """Does the same, but a cancellation is raised when it has ended."""
        try:
            await self._wait()
        except asyncio.CancelledError:
            if self._outcome is None:
                await outlast(self._end(), cancelled=True)
            raise

    def _end(self) -> asyncio.Future[None]:
        if self._waiting is None:
            self._waiting = {}
        end = self._runtime.loop.create_future()
        self._waiting[end] = None
        return end

    def _ended(self) -> Outcome:
        assert self._outcome is not None
        return self._outcome

    def __repr__(self) -> str:
        how = self.state if self._outcome is None else self._outcome.ended
        return f"<Worker {self.name!r} on a {self.kind}: {how}>"
