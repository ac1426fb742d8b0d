"""What the tools for tests need to know of supervisors, beyond what integrations do."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, cast

from .._observe.notices import StateChanged
from .._worker.current import shielded
from .binding import everyone
from .integration import Integration
from .ports import binding_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from .._core.outcome import Outcome
    from .._core.policy import EscalationPolicy
    from .._observe.notices import Notice
    from .._run.run import Run
    from .._runtime.runtime import Runtime
    from .supervisor import Supervisor
    from .worker import Worker

__all__ = ["Inspection", "inspection_of", "inspections"]


def inspection_of(supervisor: Supervisor) -> Inspection:
    """Returns the port of a supervisor, which is no group."""
    return Inspection(binding_of(supervisor, "supervisor={!r}", no_group="is a group; give its supervisor"))


def inspections() -> list[Inspection]:
    """Returns the ports of all supervisors of this process that somebody still holds."""
    return [Inspection(binding) for binding in everyone()]


class Inspection(Integration):
    """What a tool for tests knows of one supervisor. Any thread."""

    @property
    def identity(self) -> object:
        """What tells it from others, and lives as long as it: there may be several ports of one supervisor."""
        return self._binding

    # ------------------------------------------------------------------------------------ before its first use

    def prepare(
        self, *, ladder: EscalationPolicy, bound: Callable[[], object], abandoned: Callable[[Outcome], object]
    ) -> None:
        """Says how it is to be made at its first use.

        Args:
            ladder: That of whoever has named none. It is no policy of the user: a call's own timeout injects nothing.
            bound: Is called just before it is bound, in the loop that it is bound to.
            abandoned: Is called with each outcome of a run that was abandoned.
        """
        seen: set[Run] = set()

        def receive(notice: Notice) -> None:
            match notice:
                case StateChanged(run, _, outcome) if outcome and outcome.ended == "abandoned" and run not in seen:
                    seen.add(run)  # after an interrupt it may come again
                    abandoned(outcome)
                case _:
                    pass

        self._binding.default_policy = ladder
        self._binding.when_bound = bound
        for subscribers in (self._binding.subscribers, self._binding.late_subscribers):
            subscribers.subscribe(receive, watch=False)

    # ------------------------------------------------------------------------------------ what it is bound to

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Its event loop; None before its first use."""
        return self._binding.loop

    @property
    def shutdown_timeout(self) -> float:
        return self._binding.settings.shutdown_timeout

    @property
    def open(self) -> bool:
        """Whether it has been used, and has not shut down."""
        return self._binding.runtime is not None and self.report is None

    @property
    def stranded(self) -> bool:
        """Whether its event loop was closed before it could shut down."""
        loop = self._binding.loop
        return loop is not None and loop.is_closed() and self.report is None

    # ------------------------------------------------------------------------------------ what it has

    def workers(self) -> list[Worker]:
        """Returns its workers and calls that have not ended, and the late calls of its default executor."""
        with shielded():
            return [
                cast("Worker", handle)
                for runtime in self._binding.runtimes()
                for handle in runtime.snapshot.handles(runtime.root)
            ]

    def threads(self) -> set[Thread]:
        """Returns its threads that are alive, but for those that were abandoned."""
        return set(self._binding.companions) | {
            thread
            for runtime in self._binding.runtimes()
            for thread in _living(runtime)
            if isinstance(thread, Thread)
            and thread.ident not in {run.ident for run in tuple(runtime.escalation.abandoned.values())}
        }

    def pids(self) -> set[int]:
        """Returns the numbers of its processes that are alive, but for those that were abandoned."""
        return {
            pid
            for runtime in self._binding.runtimes()
            for pid in _living(runtime)
            if isinstance(pid, int) and pid not in {run.pid for run in tuple(runtime.escalation.abandoned.values())}
        }


def _living(runtime: Runtime) -> Iterator[Thread | int]:
    for kind in tuple(runtime.kinds):
        yield from tuple(kind.living)
