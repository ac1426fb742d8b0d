"""A group as its users see it: a Supervisor in the tree of another one."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, cast

from .._core.errors import SupervisorClosed, SupervisorMisused
from .._core.outcome import WorkerState
from .._core.report import Statistics
from .._core.values import checked_count, checked_reason
from .._observe.transitions import Transitions
from .supervisor import Supervisor

if TYPE_CHECKING:
    import signal
    from types import TracebackType
    from typing import Self

    from .._core.report import Health, ShutdownReport
    from .._runtime.nodes import GroupNode
    from .worker import Worker

__all__ = ["GroupSupervisor"]


class GroupSupervisor(Supervisor):
    """What `Supervisor.group` returns. It shares the loop, the pools, the log and the signals of the root."""

    _group: GroupNode

    def __init__(self, parent: Supervisor, group: GroupNode) -> None:
        self._group = group
        self._binding = parent._binding
        self._view = None
        self._entered = False

    @property
    def name(self) -> str:
        """Its name, with those of the groups around it: "feeds/fast"."""
        return self._group.name

    @property
    def report(self) -> ShutdownReport | None:
        """What its shutdown met; None until it has ended. Any thread."""
        return self._group.shutdown.report

    # ------------------------------------------------------------------------------------ work

    def install_as_default_executor(self) -> None:
        """Refuses: an event loop has one default executor, and a group may end before it."""
        raise SupervisorMisused(
            f"group {self.name!r} cannot be the event loop's default executor, which outlives it: call "
            f"install_as_default_executor() on the supervisor {self._binding.settings.name!r} itself"
        )

    # ------------------------------------------------------------------------------------ what is there

    def workers(self) -> tuple[Worker, ...]:
        """Returns the workers and calls of this group, and of its groups, that have not ended. Any thread."""
        runtime = self._binding.runtime
        return () if runtime is None else cast("tuple[Worker, ...]", tuple(runtime.snapshot.handles(self._group)))

    def statistics(self) -> Statistics:
        """Returns how many workers and queued calls this group has; the threads are the root's. Any thread."""
        states = Counter[WorkerState](worker.state for worker in self.workers())
        stopping = self._group.shutdown.begun or self._group.gone
        return Statistics(self.name, dict(states), queued=states["queued"], stopping=stopping)

    def health(self, *, max_abandoned: int | None = None, max_exhausted: int = 0) -> Health:
        """Returns whether this group takes work, and whether it can go on; see `Supervisor.health`. Any thread.

        It is ready while it, and the groups around it, are up, and live where it has not been given up itself. Counted
        are its own workers and calls, and those of the groups in it.
        """
        return super().health(max_abandoned=max_abandoned, max_exhausted=max_exhausted)

    def transitions(self, *, buffer: int = 1000) -> Transitions:
        """Opens an async iterator over the transitions of this group's workers; see `Supervisor.transitions`."""
        size = checked_count("transitions(buffer={!r})", buffer, least=1)
        transitions = Transitions(size, self._binding.bind, self._binding.subscribers, f"{self.name}/")
        if self.report is not None:
            transitions.end()
        return transitions

    # ------------------------------------------------------------------------------------ the end

    def request_shutdown(self, reason: str = "") -> None:
        """Begins the shutdown of this group soon, and returns at once. Any thread, and signal handlers."""
        reason = checked_reason(reason)
        runtime = self._binding.reach()
        self._group.shutdown.asked = True
        try:
            runtime.loop.call_soon_threadsafe(runtime.teardown.begin, self._group, None, reason)
        except RuntimeError:
            if not runtime.loop.is_closed():
                raise

    async def wait_closed(self) -> ShutdownReport:
        """Waits until this group has been shut down, by itself or with the supervisor."""
        self._binding.bind()
        return await super().wait_closed()

    async def wait_for_signal(self, *signals: int) -> signal.Signals | None:
        """Waits for a signal, as `Supervisor.wait_for_signal` does; None where this group has ended before."""
        waiting = asyncio.ensure_future(super().wait_for_signal(*signals))
        ended = asyncio.ensure_future(self.wait_closed())
        try:
            await asyncio.wait((waiting, ended), return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            for task in (waiting, ended):
                task.cancel()
            await asyncio.wait((waiting, ended))

    async def shutdown(self, *, timeout: float | None = None, reason: str = "") -> ShutdownReport:
        """Stops this group alone, its calls included, and returns what became of it; see `Supervisor.shutdown`."""
        return await super().shutdown(timeout=timeout, reason=reason)

    async def __aenter__(self) -> Self:
        self._binding.bind()
        if self._entered:
            raise SupervisorMisused(f"supervisor {self.name!r} has been entered already: `async with` it once")
        self._entered = True
        if self._group.over or self.report is not None:
            raise SupervisorClosed(f"group {self.name!r} has ended and cannot be entered; make a new one")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown()

    def __repr__(self) -> str:
        how = "ended" if self._group.over else f"{len(self.workers())} workers"
        return f"<Supervisor, group {self.name!r}: {how}>"
