"""Errands: what workers have the event loop do for them, by `ctx.call`.

A worker waits, shielded, for the answer to its errand; so whatever happens, it gets one. Three things make sure of
that: the end of the errand's task, the end of its run, and a moment at which the errand takes its next step. That
moment is fitted to the ladder: half of the grace that remains, so that the worker has the other half for itself.
"""

from __future__ import annotations

import math
import traceback
from _thread import allocate_lock, get_ident
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core.errors import SupervisorClosed, SupervisorMisused
from .._core.ladder import Stopping
from .._run.loop_call import LoopCall, called
from .._run.names import qualname

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

    from .._loop.alarms import Alarms
    from .._loop.inbox import Inbox
    from .._observe.publisher import Publisher
    from .._run.run import Run
    from .._worker.backend import Answer, How

__all__ = ["Portal"]

LOOK_AGAIN = 1.0
"""Seconds after which a thread that waits looks whether there still is a loop: one that is closed answers nobody."""

LEFT_GRACE = 1.0
"""Seconds that a cancelled task has to end once nobody waits for its answer; a shutdown's deadline may cut them."""

LEFT_LEAST = 0.03
"""Seconds of these that stay, deadline or not: one that obeys needs a turn of the loop."""


class Portal:
    """The errands of one supervisor's workers. On the loop's thread, but for `carry_out` and `unseen_end`.

    Attributes:
        open: Those that are not over, by their runs. A shutdown waits for them.

    Args:
        deadline: Returns by when a shutdown must have ended a run, on the loop's clock.
        changed: Is called where an errand is over.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        inbox: Inbox[Any],
        alarms: Alarms[Any],
        publisher: Publisher,
        deadline: Callable[[Run], float],
        changed: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._inbox = inbox
        self._alarms = alarms
        self._publisher = publisher
        self._deadline = deadline
        self._changed = changed
        self._thread = get_ident()
        self.open: dict[Run, set[LoopCall]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()  # the loop itself holds them weakly; also those that were given up

    # ------------------------------------------------------------------------------------ in the worker's thread

    def carry_out(self, run: Run, fn: Callable[..., Any], args: tuple[Any, ...], cleanup: bool) -> Answer:
        """Has the loop call a function, and waits for the answer. Any thread; the worker's own must be shielded.

        Raises:
            RuntimeError: This is the loop's own thread.
        """
        if get_ident() == self._thread and not self._loop.is_closed():
            raise SupervisorMisused(
                f"worker {run.name!r}: call(fn={qualname(fn)}) in the event loop's own thread would wait for itself; "
                "await it there"
            )
        waiter = Waiter()
        errand = LoopCall(run, fn, args, copy_context(), cleanup, waiter.reply)
        if not self._loop.is_closed():
            self._inbox.post(partial(self.begin, errand))
        while not waiter.wait(LOOK_AGAIN):
            if self._loop.is_closed() or (run.over and errand.task is None):
                self._refuse(errand)  # nobody else will: of what is here, no loop will hear
        return waiter.answer

    def unseen_end(self, run: Run) -> None:
        """A run is over, which the loop may not hear of otherwise. Any thread."""
        if run in self.open:  # first it was over, then this; `begin` does it the other way round: one sees the other
            self._inbox.post(partial(self.end, run))

    # ------------------------------------------------------------------------------------ on the loop's thread

    def begin(self, errand: LoopCall) -> None:
        """Begins an errand, unless it is too late for it. May be called again."""
        run = errand.run
        if errand.over or errand.reply is None:
            return
        self.open.setdefault(run, set()).add(errand)
        if errand.task is None:
            if run.over or (run.reason is not None and not errand.cleanup):
                self._refuse(errand)
                self._close(errand)
                return
            try:
                errand.task = self._task(errand)
            except Exception as error:  # the application's task factory
                errand.answer("error", error)
                self._close(errand)
                return
        self._tasks.add(errand.task)
        errand.task.add_done_callback(partial(self._ended, errand))
        self.fit(run)

    def _task(self, errand: LoopCall) -> asyncio.Task[Any]:
        may_be_eager = self._loop.get_task_factory() is not None
        coroutine = called(errand.fn, errand.args, may_be_eager)
        name = f"{errand.run.name}/{errand.name}"
        try:
            return errand.context.run(partial(self._loop.create_task, coroutine, name=name))
        except BaseException:
            coroutine.close()
            raise

    def _refuse(self, errand: LoopCall) -> None:
        run = errand.run
        if run.reason is not None:
            errand.answer("stopped")
        elif run.over:
            error: Exception = SupervisorMisused(
                f"worker {run.name!r} has ended: its context cannot call the event loop any more"
            )
            errand.answer("error", error)
        else:
            error = SupervisorClosed(f"worker {run.name!r} cannot call its event loop, which is closed")
            errand.answer("error", error)

    def fit(self, run: Run) -> None:
        """A run's ladder has moved: its errands are cancelled, or bounded by half of the grace that remains."""
        state = None if run.ladder is None else run.ladder.state
        if not isinstance(state, Stopping) or run.reason is None:
            return
        for errand in tuple(self.open.get(run, ())):
            if errand.phase == "running" and not errand.cleanup:
                self._cancel(errand)
            if errand.phase != "left":
                now = self._clock()
                self._due(errand, now + max(0.0, state.ends_at - now) / 2)

    def end(self, run: Run) -> None:
        """A run is over: nobody waits for its errands, or nobody should."""
        for errand in tuple(self.open.get(run, ())):
            self._leave(errand)

    def hasten(self) -> None:
        """A shutdown, of a group even, has begun or has less time: those nobody waits for have no more than that."""
        for errands in tuple(self.open.values()):
            for errand in tuple(errands):
                if errand.phase == "left":
                    self._due(errand, self._given_up_at(errand))

    def rung(self, errand: LoopCall) -> None:
        """The moment may have come for its next phase."""
        if self._clock() < errand.due_at:
            self._alarms.set(errand.due_at, errand)
        elif errand.phase == "running":
            errand.due_at = math.inf
            self._cancel(errand)
            self.fit(errand.run)
        elif errand.phase == "cancelled":
            self._leave(errand)
        else:
            self._give_up(errand)

    def _due(self, errand: LoopCall, at: float) -> None:
        if at < errand.due_at:
            errand.due_at = at
            self._alarms.set(at, errand)

    def _cancel(self, errand: LoopCall) -> None:
        if errand.task is not None:
            errand.task.cancel()
        errand.phase = "cancelled"

    def _leave(self, errand: LoopCall) -> None:
        """The worker goes on without the answer."""
        if errand.phase == "running":
            self._cancel(errand)
        if errand.phase == "cancelled":
            errand.stopped()
            errand.due_at = math.inf
            errand.phase = "left"
            self._due(errand, self._given_up_at(errand))

    def _given_up_at(self, errand: LoopCall) -> float:
        now = self._clock()
        return max(now + LEFT_LEAST, min(now + LEFT_GRACE, self._deadline(errand.run)))

    def _give_up(self, errand: LoopCall) -> None:
        """Its task does not end: it is told of, and no shutdown waits for it any more."""
        if not errand.over and errand.task is not None:
            self._publisher.loop_call_left(errand.run, errand.name, _stack(errand.task))
        self._close(errand)

    def _ended(self, errand: LoopCall, task: asyncio.Task[Any]) -> None:
        """Its task has ended: the worker gets what came of it."""
        try:
            if task.cancelled():
                errand.stopped()
            elif (error := task.exception()) is not None:
                if errand.phase == "left" and task in self._tasks:
                    self._unheard(errand, task, error)
                errand.answer("error", error)
            else:
                errand.answer("value", task.result())
            self._tasks.discard(task)
            self._close(errand)
        except (KeyboardInterrupt, SystemExit):
            self._loop.call_soon(self._ended, errand, task)  # all of it can be done twice
            raise

    def _unheard(self, errand: LoopCall, task: asyncio.Task[Any], error: BaseException) -> None:
        message = f"worker {errand.run.name!r}: its call of {errand.name}() failed when nobody waited for it"
        self._loop.call_exception_handler({"message": message, "exception": error, "task": task})

    def _close(self, errand: LoopCall) -> None:
        errands = self.open.get(errand.run)
        if errands is not None:
            errands.discard(errand)
            if not errands:
                del self.open[errand.run]
        if not errand.over:
            errand.over = True
            if errand.due_at < math.inf:
                self._alarms.forget()
        self._changed()


class Waiter:
    """Where a thread waits for the answer to its errand."""

    __slots__ = ("_answered", "answer")

    def __init__(self) -> None:
        self.answer: Answer = ("stopped", None)
        self._answered = allocate_lock()
        self._answered.acquire()

    def reply(self, how: How, what: Any) -> None:
        """Hands the answer over; after an interrupt, once more."""
        self.answer = (how, what)
        try:
            self._answered.release()
        except RuntimeError:
            pass  # it has been answered: before an interrupt, or by this thread and the loop at once

    def wait(self, seconds: float) -> bool:
        return self._answered.acquire(True, seconds)


def _stack(task: asyncio.Task[Any]) -> str:
    """Where a task stands: all coroutines of it that wait for each other, the innermost last."""
    frames: list[tuple[FrameType, int]] = []
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None and frame.f_code is not called.__code__:
            frames.append((frame, frame.f_lineno))
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return "".join(traceback.StackSummary.extract(iter(frames)).format())
