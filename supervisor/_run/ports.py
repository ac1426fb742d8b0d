"""What a kind asks of the runtime, and what the future of a call asks of its owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterable, Callable
    from contextlib import AbstractContextManager

    from .._core.policy import EscalationPolicy, StepName
    from .._worker.backend import Answer, LoopIterator
    from .loop_call import LoopCall
    from .run import Run, WorkerKind

__all__ = ["CallOwner", "Services", "Write"]


class CallOwner(Protocol):
    """What the future of an executor's call asks of the calls. Any thread."""

    def stop_soon(self, run: Run) -> None:
        """Begins to stop a call that was cancelled."""
        ...

    def withdrawn(self, run: Run) -> None:
        """A call was cancelled before a thread had taken it."""
        ...

    def serves(self, destination: asyncio.Future[Any]) -> bool:
        """Whether a future belongs to the loop that hears of their ends."""
        ...

    def hand_on(self, hand_on: Callable[[], object]) -> None:
        """Has the loop call what gives a future's result to that of asyncio's which waits for it; idempotent."""
        ...

    def waiting(self, run: Run) -> AbstractContextManager[None]:
        """Surrounds the waiting of a call for another one, queued on the same threads; raises where none is left."""
        ...

    def refuse_blocking(self, what: str) -> None:
        """Raises where `what` would block the event loop's own thread on something that needs the loop."""
        ...


class Write(Protocol):
    """Writes an event to the supervisor's log, by its level."""

    def __call__(self, level: int, event: str, /, **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """What a kind asks of the runtime whose runs it carries out. Given to it when it is made.

    Attributes:
        loop: The event loop.
        clock: The loop's clock. Any thread.
        post: Has the loop take note that a run has ended, or call a function. Any thread; never blocks, never raises.
        post_notice: The same for what is only to be published, and may wait for about a millisecond; with the moment,
            on the monotonic clock.
        ended: Takes note that a run has ended. On the loop's thread.
        settle: Takes note that an executor's call has ended: resolves it here, or has the loop do so. Any thread.
        extend: Grants a run more time on the present step; returns the seconds. Any thread.
        remaining: Returns the seconds until a run's next step. Any thread.
        call: Has the loop call a function for a run, and waits for what comes of it; `cleanup`: also when the run is
            being stopped. Any thread but the loop's; the worker's own must be shielded.
        iterate: Has the loop read an async iterator for a run, so many items ahead; returns an iterator. Any thread but
            the loop's; the worker's own must be shielded.
        begin_call: Begins a call to the loop, whose answer goes to its `reply`. May be called again. On the loop's
            thread.
        cut_call: Cancels such a call, for whose end its worker waits. On the loop's thread.
        leave_call: Cancels such a call, for which nobody waits any more. On the loop's thread.
        own_call: Makes the run of a call that a kind makes by itself, in no request's context, and lists it. Its end is
            said as that of any other. Any thread.
        callback_failed: Reports that a callback of `on_stop` raised; it is named by the text. Any thread.
        measure: Has what a run uses that has limits be measured from here on. Before it begins, on the loop's thread.
        forward: Writes what a worker has logged, by the name of a log method. On the loop's thread.
        write: Writes an event, by its level. On the loop's thread.
        named: Returns the policy that was named for a run, if any. On the loop's thread.
        stepped: Publishes a step that a run's node performs on it, and where it stood. On the loop's thread.
    """

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    post: Callable[[Run | Callable[[], object]], None]
    post_notice: Callable[[Callable[[], object], float], None]
    ended: Callable[[Run], None]
    settle: Callable[[Run], None]
    extend: Callable[[Run, float], float]
    remaining: Callable[[Run], float]
    call: Callable[[Run, Callable[..., Any], tuple[Any, ...], bool], Answer]
    iterate: Callable[[Run, AsyncIterable[Any], int], LoopIterator[Any]]
    begin_call: Callable[[LoopCall], None]
    cut_call: Callable[[LoopCall], None]
    leave_call: Callable[[LoopCall], None]
    own_call: Callable[[WorkerKind, Callable[[], object]], Run]
    callback_failed: Callable[[Run, str, BaseException], None]
    measure: Callable[[Run], None]
    forward: Callable[..., None]
    write: Write
    named: Callable[[Run], EscalationPolicy | None]
    stepped: Callable[[Run, StepName, str | None], None]
