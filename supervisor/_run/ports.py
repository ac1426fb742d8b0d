"""What a run, its kind and its owner know of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from threading import Thread

    from .._core.ladder import Cause
    from .._core.outcome import Outcome, WorkerState
    from .._core.policy import Kind, Step
    from .._worker.backend import Answer
    from .._worker.context import WorkerContext
    from .loop_call import LoopCall
    from .run import Run

__all__ = ["CallOwner", "Handle", "Owner", "Services", "WorkerKind"]


class Owner(Protocol):
    """Whose a run is: one of the calls, or of a worker of `start()`. On the loop's thread."""

    def stop(self, run: Run, cause: Cause, reason: str = "") -> None:
        """Begins to stop a run."""
        ...

    def entered(self, run: Run) -> None:
        """The function is about to be entered. Comes only for runs that are watched."""
        ...

    def readied(self, run: Run) -> None:
        """The function has called `ctx.ready()`."""
        ...

    def expired(self, run: Run) -> None:
        """The moment has come that stands in its `expires_at`, and nobody stops it yet."""
        ...

    def deadline(self, run: Run) -> float:
        """Returns by when a shutdown must have ended it, on the loop's clock; `inf` outside of one."""
        ...

    def concluded(self, run: Run, outcome: Outcome) -> None:
        """It has ended, or was given up. Idempotent: an interrupt may have this come again."""
        ...


class CallOwner(Owner, Protocol):
    """What the future of an executor's call asks of the calls. Any thread."""

    def stop_soon(self, run: Run) -> None:
        """Begins to stop a call that was cancelled."""
        ...

    def withdrawn(self, run: Run) -> None:
        """A call was cancelled before a thread had taken it."""
        ...

    def refuse_blocking(self, what: str) -> None:
        """Raises where `what` would block the event loop's own thread on something that needs the loop."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What a kind asks of the runtime whose runs it carries out. Given to it when it is made.

    Attributes:
        loop: The event loop.
        clock: The loop's clock. Any thread.
        post: Has the loop take note that a run has ended, or call a function. Any thread; never blocks, never raises.
        ended: Takes note that a run has ended. On the loop's thread.
        settle: Takes note that an executor's call has ended: resolves it here, or has the loop do so. Any thread.
        extend: Grants a run more time on the present step; returns the seconds. Any thread.
        remaining: Returns the seconds until a run's next step. Any thread.
        call: Has the loop call a function for a run, and waits for what comes of it; `cleanup`: also when the run is
            being stopped. Any thread but the loop's; the worker's own must be shielded.
        begin_call: Begins a call to the loop, whose answer goes to its `reply`. May be called again. On the loop's
            thread.
        callback_failed: Reports that a callback of `on_stop` raised; it is named by the text. Any thread.
        forward: Writes what a worker has logged, by the name of a log method. On the loop's thread.
    """

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    post: Callable[[Run | Callable[[], object]], None]
    ended: Callable[[Run], None]
    settle: Callable[[Run], None]
    extend: Callable[[Run, float], float]
    remaining: Callable[[Run], float]
    call: Callable[[Run, Callable[..., Any], tuple[Any, ...], bool], Answer]
    begin_call: Callable[[LoopCall], None]
    callback_failed: Callable[[Run, str, BaseException], None]
    forward: Callable[..., None]


class Handle(Protocol):
    """What users hold of a worker or a call."""

    @property
    def state(self) -> WorkerState:
        """Where it is in its life. Any thread."""
        ...

    def conclude(self, outcome: Outcome) -> None:
        """It has ended for good. On the loop's thread."""
        ...

    async def ready(self) -> None:
        """Waits until a worker is ready; raises where it has ended before."""
        ...


class WorkerKind(Protocol):
    """How a kind starts a run and performs each step on it. All but `stack` on the loop's thread; nothing blocks."""

    name: Kind
    calls: dict[int, Run]
    """The calls of the pool that have not concluded, by their number."""

    @property
    def capacity(self) -> int:
        """How many calls can run at once."""
        ...

    @property
    def alive(self) -> int:
        """How many threads or processes there are."""
        ...

    @property
    def living(self) -> Iterable[Thread | int]:
        """The threads, or the numbers of the processes, that there are. Any thread."""
        ...

    def prepare(self, run: Run) -> None:
        """Makes a run ready to be submitted or launched; raises where it cannot be. Any thread."""
        ...

    def submit(self, run: Run, /) -> None:
        """Runs it on the pool."""
        ...

    def launch(self, run: Run) -> None:
        """Runs it on a thread or process of its own."""
        ...

    def context_of(self, run: Run) -> WorkerContext:
        """Returns the context of a run that is carried out in this process, by its own thread."""
        ...

    def perform(self, run: Run, step: Step) -> str | None:
        """Performs a step of its kind; returns why it cannot be done at present, or None where it was. Idempotent."""
        ...

    def abandon(self, run: Run) -> bool:
        """Gives the run up; False where it has ended meanwhile, and its completion is in the inbox."""
        ...

    def came_back(self, run: Run) -> None:
        """A run that was given up has ended after all."""
        ...

    def retire(self) -> None:
        """Lets the pool's threads or processes end once they have nothing to do."""
        ...

    def when_gone(self, gone: Callable[[], object]) -> None:
        """Calls `gone` once they have, but for those that were abandoned."""
        ...

    def join(self, seconds: float, but: set[int | None]) -> None:
        """Sees to it that none is left, but for those that were abandoned."""
        ...

    def stack(self, run: Run) -> str | None:
        """Where it stands now, as a traceback's text. Any thread."""
        ...
