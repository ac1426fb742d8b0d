"""The portal: what workers have the event loop do for them, by `ctx.call`.

A worker waits, shielded, for the answer to its call; so whatever happens, it gets one. Three things make sure of that:
the end of the call's task, the end of the worker's run, and a moment at which the call takes its next step. That moment
is fitted to the ladder: half of the grace that remains, so that the worker has the other half for itself.
"""

from __future__ import annotations

import math
from _thread import allocate_lock, get_ident
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core.errors import SupervisorClosed, SupervisorMisused
from .._core.ladder import Stopping
from .._loop import aside
from .._loop.errors import report_error
from .._run.frames import text_of_frames
from .._run.loop_call import LoopCall, called
from .._run.names import qualname
from .loop_items import LoopItems, Pipe
from .nodes import scope_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterable, Callable, Coroutine
    from types import FrameType

    from .._loop.alarms import Alarms
    from .._loop.inbox import Inbox
    from .._observe.publisher import Publisher
    from .._run.run import Run
    from .._worker.backend import Answer, How
    from .nodes import GroupNode

__all__ = ["Portal"]

LOOK_AGAIN = 1.0
"""Seconds after which a thread that waits looks whether there still is a loop: one that is closed answers nobody."""

LEFT_GRACE = 1.0
"""Seconds that a cancelled task has to end once nobody waits for its answer; a shutdown's deadline may cut them."""

LEFT_LEAST = 0.03
"""Seconds of these that stay, deadline or not: one that obeys needs a turn of the loop."""


class Portal:
    """The calls of one supervisor's workers to the loop. On the loop's thread, but for the first part.

    Attributes:
        open: Those that are not over, by their runs. A shutdown waits for them.
        relay: Has the loop of the worker's owner carry out a call, where that is another one, and waits for it. It is
            cancelled once more where nobody waits any longer. None: this is the owner's.

    Args:
        deadline: Returns by when a shutdown must have ended a run, on the loop's clock.
        changed: Is called where a call is over, with the scope that it was in.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        inbox: Inbox[Any],
        alarms: Alarms[Any],
        publisher: Publisher,
        deadline: Callable[[Run], float],
        changed: Callable[[GroupNode], object],
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
        self.relay: Callable[[LoopCall], Coroutine[Any, Any, Any]] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()  # the loop itself holds them weakly; also those that were given up

    # ------------------------------------------------------------------------------------ in the worker's thread

    def carry_out(self, run: Run, fn: Callable[..., Any], args: tuple[Any, ...], cleanup: bool) -> Answer:
        """Has the loop call a function, and waits for the answer. Any thread; the worker's own must be shielded.

        Raises:
            RuntimeError: This is the loop's own thread.
        """
        self._refuse_loops_thread(run, fn)
        waiter = Waiter()
        call = self._posted(LoopCall(run, fn, args, copy_context(), cleanup, waiter.reply))
        while not waiter.wait(LOOK_AGAIN):
            self.attend(call)
        return waiter.answer

    def iterate(self, run: Run, items: AsyncIterable[Any], buffer: int) -> LoopItems:
        """Has the loop read an async iterator, for a thread of a run; the worker's own must be shielded.

        Raises:
            RuntimeError: This is the loop's own thread.
        """
        pipe = Pipe(items, buffer, self._inbox.post)
        self._refuse_loops_thread(run, pipe)
        call = self._posted(LoopCall(run, pipe, (), copy_context(), False, pipe.reply))
        return LoopItems(run, call, pipe, self)

    def _posted(self, call: LoopCall) -> LoopCall:
        if not self._loop.is_closed():
            self._inbox.post(partial(self.begin, call))
        return call

    def _refuse_loops_thread(self, run: Run, fn: Callable[..., Any]) -> None:
        if get_ident() == self._thread and not self._loop.is_closed():
            raise SupervisorMisused(
                f"worker {run.name!r}: call(fn={qualname(fn)}) in the event loop's own thread would wait for itself; "
                "await it there"
            )

    def attend(self, call: LoopCall) -> None:
        """Answers a call where nobody else will: of what is here, no loop will hear. Any thread."""
        if self._loop.is_closed() or (call.run.over and call.task is None):
            self._refuse(call)

    def unseen_end(self, run: Run) -> None:
        """A run is over, which the loop may not hear of otherwise. Any thread."""
        if run in self.open:  # first it was over, then this; `begin` does it the other way round: one sees the other
            self._inbox.post(partial(self.end, run))

    # ------------------------------------------------------------------------------------ on the loop's thread

    def begin(self, call: LoopCall) -> None:
        """Begins a call, unless it is too late for it. Idempotent."""
        run = call.run
        if call.over or call.reply is None:
            return
        self.open.setdefault(run, set()).add(call)
        for group in scope_of(run).groups_around:
            group.calling[run] = None
        if call.task is None:
            if run.over or (run.asked is not None and not call.cleanup):
                self._refuse(call)
                self._close(call)
                return
            try:
                call.task = self._task(call)
            except Exception as error:  # the application's task factory
                call.answer("error", error)
                self._close(call)
                return
        self._tasks.add(call.task)
        aside.when_done(call.task, partial(self._ended, call))
        self.fit(run)

    def _task(self, call: LoopCall) -> asyncio.Task[Any]:
        may_be_eager = self._loop.get_task_factory() is not None
        fn, args = (call.fn, call.args) if self.relay is None else (self.relay, (call,))
        coroutine = called(fn, args, may_be_eager)
        name = f"{call.run.name}/{call.name}"
        try:
            return call.context.run(partial(self._loop.create_task, coroutine, name=name))
        except BaseException:
            coroutine.close()
            raise

    def _refuse(self, call: LoopCall) -> None:
        run = call.run
        if run.asked is not None:
            call.answer("stopped")
        elif run.over:
            error: Exception = SupervisorMisused(
                f"worker {run.name!r} has ended: its context cannot call the event loop any more"
            )
            call.answer("error", error)
        else:
            error = SupervisorClosed(f"worker {run.name!r} cannot call its event loop, which is closed")
            call.answer("error", error)

    def fit(self, run: Run) -> None:
        """A run's ladder has moved: its calls are cancelled, or bounded by half of the grace that remains."""
        state = None if run.climb is None else run.climb.state
        if not isinstance(state, Stopping) or run.asked is None:
            return
        for call in tuple(self.open.get(run, ())):
            if call.phase == "running" and not call.cleanup:
                self._cancel(call)
            if call.phase != "left":
                now = self._clock()
                self._due(call, now + max(0.0, state.ends_at - now) / 2)

    def end(self, run: Run) -> None:
        """A run is over: nobody waits for its calls, or nobody should."""
        for call in tuple(self.open.get(run, ())):
            self.leave(call)

    def hasten(self) -> None:
        """A shutdown, of a group even, has begun or has less time: those nobody waits for have no more than that."""
        for calls in tuple(self.open.values()):
            for call in tuple(calls):
                if call.phase == "left":
                    self._due(call, self._given_up_at(call))

    def rung(self, call: LoopCall) -> None:
        """The moment may have come for its next phase."""
        if self._clock() < call.due_at:
            self._alarms.set(call.due_at, call)
        elif call.phase == "running":
            call.due_at = math.inf
            self._cancel(call)
            self.fit(call.run)
        elif call.phase == "cancelled":
            self.leave(call)
        else:
            self._give_up(call)

    def _due(self, call: LoopCall, at: float) -> None:
        if at < call.due_at:
            call.due_at = at
            self._alarms.set(at, call)

    def _cancel(self, call: LoopCall) -> None:
        if call.task is not None:
            call.task.cancel()
        call.phase = "cancelled"

    def cut(self, call: LoopCall) -> None:
        """The worker wants no more of it, and waits for its end."""
        if call.phase == "running":
            call.due_at = math.inf  # that was for its cancellation
            self._cancel(call)
            self.fit(call.run)

    def leave(self, call: LoopCall) -> None:
        """The worker goes on without the answer."""
        if call.phase == "running":
            self._cancel(call)
        if call.phase == "cancelled":
            call.stopped()
            call.due_at = math.inf
            call.phase = "left"
            if self.relay is not None and call.task is not None:
                call.task.cancel()  # it waits for the end of the function elsewhere
            self._due(call, self._given_up_at(call))

    def _given_up_at(self, call: LoopCall) -> float:
        now = self._clock()
        return max(now + LEFT_LEAST, min(now + LEFT_GRACE, self._deadline(call.run)))

    def give_up(self, run: Run) -> None:
        """Waits no longer for the calls of a run, nor has it wait."""
        for call in tuple(self.open.get(run, ())):
            self.leave(call)
            self._give_up(call)

    def _give_up(self, call: LoopCall) -> None:
        """Its task does not end: that is logged, and no shutdown waits for it any more."""
        if not call.over and call.task is not None:
            self._publisher.loop_call_left(call.run, call.name, _stack(call.task))
        self._close(call)

    def _ended(self, call: LoopCall, task: asyncio.Task[Any]) -> None:
        """Its task has ended: the worker gets what came of it."""
        try:
            if task.cancelled():
                call.stopped()
            elif (error := task.exception()) is not None:
                if call.phase == "left" and task in self._tasks:
                    self._unheard(call, task, error)
                call.answer("error", error)
            else:
                call.answer("value", task.result())
            self._tasks.discard(task)
            self._close(call)
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self._ended, call, task)  # all of it can be done twice
            raise

    def _unheard(self, call: LoopCall, task: asyncio.Task[Any], error: BaseException) -> None:
        message = f"worker {call.run.name!r}: its call of {call.name}() failed when nobody waited for it"
        report_error(self._loop, message, error, task=task)

    def _close(self, call: LoopCall) -> None:
        calls = self.open.get(call.run)
        if calls is not None:
            calls.discard(call)
            if not calls:
                for group in scope_of(call.run).groups_around:
                    group.calling.pop(call.run, None)
                del self.open[call.run]
        if not call.over:
            call.over = True
            if call.due_at < math.inf:
                self._alarms.forget()
        self._changed(scope_of(call.run))


class Waiter:
    """Where a thread waits for the answer to its call."""

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
    return text_of_frames(frames)
