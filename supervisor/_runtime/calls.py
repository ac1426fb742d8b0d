"""The calls of `run()` and of executors: from submit to settle.

The path of a call that nobody stops, and that nobody watches, is in this one slotted class, which the event loop's view
of the pool and the executors hold directly.
"""

from __future__ import annotations

import asyncio
from _thread import RLock, get_ident
from concurrent.futures import InvalidStateError
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core.errors import SupervisorBusy, SupervisorMisused
from .._core.ladder import Exited, StopAsked
from .._core.outcome import Outcome
from .._core.verdict import error_of_call
from .._run.futures import CallFuture
from .._run.run import Run
from .names import full_name
from .nodes import scope_of

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable
    from typing import TypeAlias

    from .._core.ladder import Cause
    from .._core.outcome import Ended
    from .._core.policy import EscalationPolicy
    from .._loop.alarms import Alarms
    from .._loop.inbox import Inbox
    from .._observe.publisher import Publisher
    from .._run.futures import WorkFuture
    from .._run.run import WorkerKind
    from .escalation import Escalation
    from .kinds import Kinds
    from .names import Names
    from .nodes import GroupNode
    from .portal import Portal

    AnyFuture: TypeAlias = asyncio.Future[Any] | concurrent.futures.Future[Any]

__all__ = ["Calls", "forget_unseen"]


class Calls:
    """The calls of one supervisor, and the owner of their runs.

    On the loop's thread, but for `submit`, `settle`, `withdrawn`, `callback_failed` and `futures`.

    Args:
        supervisor: Its name, for messages.
        next_number: Returns the number of a new call. Any thread.
        root: The scope of calls that belong to no group.
        max_queued: Calls of a kind that may wait; None: without bound.
        refuse: Raises where a group, or the supervisor, takes no new work. Any thread.
        deadline: Returns by when a shutdown must have ended what is in a group, on the loop's clock.
        note_end: Takes the outcome of a call into the reports that are being made.
        close_groups: Is called when a call has ended for which the end of a group may wait.
        call_ended: Is called when a call has ended for which a shutdown may wait.

    Attributes:
        thread: The thread of the loop.
        resolving: The futures of executors' calls that have ended and are being resolved, by the numbers of the calls.
    """

    __slots__ = (
        "_admitting",
        "_alarms",
        "_call_ended",
        "_close_groups",
        "_deadline",
        "_escalation",
        "_inbox",
        "_kinds",
        "_max_queued",
        "_names",
        "_next_number",
        "_note_end",
        "_portal",
        "_publisher",
        "_refuse",
        "_root",
        "_shutdown",
        "clock",
        "loop",
        "resolving",
        "supervisor",
        "thread",
    )

    def __init__(
        self,
        supervisor: str,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        kinds: Kinds,
        names: Names,
        next_number: Callable[[], int],
        inbox: Inbox[Run | Callable[[], object]],
        alarms: Alarms[Run],
        publisher: Publisher,
        portal: Portal,
        escalation: Escalation,
        root: GroupNode,
        *,
        max_queued: int | None,
        refuse: Callable[[GroupNode], None],
        deadline: Callable[[GroupNode], float],
        note_end: Callable[[Run, Outcome], object],
        close_groups: Callable[[], object],
        call_ended: Callable[[], object],
    ) -> None:
        self.supervisor = supervisor
        self.loop = loop
        self.clock = clock
        self.thread = get_ident()
        self.resolving: dict[int, AnyFuture] = {}
        self._kinds = kinds
        self._names = names
        self._next_number = next_number
        self._inbox = inbox
        self._alarms = alarms
        self._publisher = publisher
        self._portal = portal
        self._escalation = escalation
        self._root = root
        self._shutdown = root.shutdown
        self._max_queued = max_queued
        self._refuse = refuse
        self._deadline = deadline
        self._note_end = note_end
        self._close_groups = close_groups
        self._call_ended = call_ended
        self._admitting = RLock()  # a signal handler may come in between

    # ------------------------------------------------------------------------------------ a call comes in

    def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        timeout: float | None = None,
        policy: EscalationPolicy | None = None,
        name: str | None = None,
        kind: WorkerKind | None = None,
        *,
        scope: GroupNode,
    ) -> CallFuture:
        """Submits a call to a pool, by default that of threads; returns the future that `run()` waits for."""
        if scope is not self._root or self._shutdown.begun:
            self._refuse(scope)
        threads = self._kinds.threads
        if kind is None:
            kind = threads
        if self._max_queued is not None:
            self._refuse_if_busy(kind, self._max_queued)
        future = CallFuture(loop=self.loop)
        now = self.clock()
        if name is not None:
            name = full_name(scope, name)
        run = Run(self, kind, scope, self._next_number(), fn, args, now, future=future, name=name, policy=policy)
        future.run = run
        if self._names.taken or name is not None:
            self._names.name_call(run)
        if self._publisher.watching:
            run.watched = True
        if run.watched or kind is not threads:
            self._prepare(run)
        kind.calls[run.number] = run
        if timeout is not None:
            run.expires_at = now + timeout
            self._alarms.set(run.expires_at, run)
        if run.watched:
            self._publisher.transition(run, None, "queued")
        if timeout == 0:
            self.stop(run, "timeout")  # it has passed: the call never starts
        else:
            kind.submit(run)
        return future

    def submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        future: WorkFuture,
        kind: WorkerKind,
        scope: GroupNode | None = None,
        no_inject_on_cancel: bool = False,
    ) -> None:
        """Submits an executor's call to a pool; without a scope, that of the supervisor itself. Any thread."""
        scope = scope or self._root
        if scope is not self._root or self._shutdown.begun:
            self._refuse(scope)
        run = Run(self, kind, scope, self._next_number(), fn, args, self.clock(), future=future)
        future.run, future.calls = run, self
        run.no_inject_on_cancel = no_inject_on_cancel
        on_threads = kind.own_threads
        if self._names.taken:
            self._names.name_call(run)
        if self._publisher.watching:
            run.watched = True
        if on_threads:
            run.settle = RLock()
        if run.watched or not on_threads:
            self._prepare(run)
        if self._max_queued is None:
            self._list(run)
        else:
            try:
                with self._admitting:
                    self._refuse_if_busy(kind, self._max_queued)
                    self._list(run)
            except SupervisorBusy as error:
                self._publisher.refused(run, error)
                raise
        # A shutdown first says that it has begun, and then looks for calls: either it sees this one, or is seen here.
        closed = self._shutdown.begun or (scope is not self._root and not scope.takes_work)
        if closed and self._take_back(run):
            self._refuse(scope)
        if on_threads or get_ident() == self.thread:
            kind.submit(run)
        else:
            self._inbox.post(partial(kind.submit, run))

    def _list(self, run: Run) -> None:
        if run.watched:  # published before anybody can find it, and end it
            self._inbox.post(partial(self._publisher.transition, run, None, "queued"))
        run.kind.calls[run.number] = run

    def _take_back(self, run: Run) -> bool:
        """Withdraws a call that came too late; False where the shutdown has found it, and ends it."""
        if run.settle is not None and not run.settle.acquire(False):
            return False
        if not run.claim.acquire(False):
            return False
        run.kind.calls.pop(run.number, None)
        self._inbox.post(partial(self._taken_back, run))  # a shutdown may have seen it, and wait for it
        return True

    def _taken_back(self, run: Run) -> None:
        if run.climb is not None:
            return  # a shutdown has found it as well, and published its end
        outcome = Outcome(run.name, run.kind.name, ended="cancelled")
        run.over = True
        if run.worker is not None:
            run.worker.conclude(outcome)
        if run.watched:
            self._publisher.ended(run, outcome)
        self._close_groups()
        self._call_ended()

    def _prepare(self, run: Run) -> None:
        self._publisher.submitted(run)
        try:
            run.kind.prepare(run)
        except BaseException as error:
            if run.given_name is not None:
                self._names.release(run.given_name, run)
            self._publisher.refused(run, error)
            raise

    def _refuse_if_busy(self, kind: WorkerKind, max_queued: int) -> None:
        room = kind.capacity + max_queued
        if len(kind.calls) >= room and get_ident() == self.thread:
            self._inbox.drain()  # what has ended makes room
        if len(kind.calls) >= room:
            raise SupervisorBusy(
                f"supervisor {self.supervisor!r} takes {room} {kind.name} calls, running or queued "
                f"(max_queued={max_queued}), and has as many: try again later, or raise max_queued"
            )

    # ------------------------------------------------------------------------------------ a call ends by itself

    def ended(self, run: Run) -> None:
        """A run has ended. The path of a call that nobody stopped, and that nobody watches, is this function."""
        if run.climb is not None or run.worker is not None or run.watched or run.died or self._publisher.watching:
            self._escalation.feed(run, Exited(run.returned, run.died))
            return
        ended: Ended = "returned" if run.returned else "failed"
        if run.future is not None:
            self._resolve(run, run.future, run.value, run.error)
        self.forget(run)
        if run.scope is not self._root and not scope_of(run).takes_work:
            self._close_groups()
        if run.worker is not None:  # asked for meanwhile, by another thread
            self._escalation.conclude(run, ended, None)
        elif self._publisher.subscribers.counters:
            self._publisher.call_ended(run, ended)
        run.let_go()

    def settle(self, run: Run) -> None:
        """An executor's call has ended; its own thread resolves it, unless the loop is stopping it. Any thread.

        Its future comes last: what the application does in its callbacks may take any time.
        """
        assert run.settle is not None
        future, value, error = run.future, run.value, run.error
        if future is None:
            self._inbox.post(run)
            return
        self.resolving[run.number] = future  # whoever looks for it finds it among the calls, or else here
        try:
            if not run.settle.acquire(False) and not self.loop.is_closed():
                self._inbox.post(run)
                return
            self._end_unseen(run, "returned" if error is None else "failed", run)
            self._resolve(run, future, value, error)
        finally:
            del self.resolving[run.number]

    def withdrawn(self, run: Run) -> None:
        """An executor's call was cancelled before a thread had taken it. Any thread."""
        publish = partial(self._withdraw, run)
        if run.settle is not None and run.settle.acquire(False):
            self._end_unseen(run, "cancelled", publish)
        else:
            self._inbox.post(publish)

    def _withdraw(self, run: Run) -> None:
        self._escalation.feed(run, StopAsked("cancel") if run.climb is None else Exited(returned=False))

    def _end_unseen(self, run: Run, ended: Ended, otherwise: Run | Callable[[], object]) -> None:
        """Concludes an executor's call here, where only its future is to be resolved; else has the loop do it."""
        if not run.watched and run.worker is None:
            run.over = True
            self._portal.unseen_end(run)
            run.kind.calls.pop(run.number, None)
            if (
                run.scope is not self._root and not scope_of(run).takes_work
            ):  # as with a shutdown: one of the two sees the other
                self._inbox.post(self._close_groups)
            if self._shutdown.begun:  # the same: it may have looked before this was gone
                self._inbox.post(self._call_ended)
            if run.worker is None:  # or else another thread has asked for its handle meanwhile
                if self._publisher.subscribers.counters:
                    self._publisher.call_ended(run, ended)
                run.let_go()
                return
        self._inbox.post(otherwise)
        run.kind.calls.pop(run.number, None)  # it is no longer waiting, whenever the loop hears of it

    def _resolve(self, run: Run, future: AnyFuture, value: Any, error: BaseException | None) -> None:
        """Resolves the future of a call, unless that is done. Any thread."""
        try:
            if future.done():
                pass
            elif error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        except (asyncio.InvalidStateError, InvalidStateError):
            pass  # its caller has cancelled it in between
        except BaseException as problem:  # sys.exit() in a done callback, say, must end neither a thread nor the loop
            if isinstance(problem, KeyboardInterrupt) and get_ident() == self.thread:
                raise
            self.callback_failed(run, "add_done_callback", problem)

    def forget(self, run: Run) -> None:
        """Lets go of a run: alarms may still hold it, so it lets go of what it held. Of a worker's run, too."""
        run.over = True
        run.kind.calls.pop(run.number, None)
        if run.given_name is not None:
            self._names.release(run.given_name, run)
        if run.expires_at is not None or run.climb is not None:
            self._alarms.forget()
        if self._portal.open:
            self._portal.end(run)

    # ------------------------------------------------------------------------------------ the owner of its runs

    def stop(self, run: Run, cause: Cause, reason: str = "") -> None:
        """Begins to stop a call."""
        self._escalation.stop(run, cause, reason)

    def stop_soon(self, run: Run) -> None:
        """Begins to stop a call that its caller has cancelled. Any thread."""
        self._escalation.stop_soon(run)

    def entered(self, run: Run) -> None:
        """The function is about to be entered."""
        if not run.over and run.asked is None:
            self._publisher.transition(run, "queued", "running")

    def readied(self, run: Run) -> None:
        """Nobody waits for a call to become ready."""

    def expired(self, run: Run) -> None:
        """Its timeout has passed."""
        self.stop(run, "timeout")

    def deadline(self, run: Run) -> float:
        """Returns by when a shutdown must have ended it, on the loop's clock."""
        return self._deadline(scope_of(run))

    def concluded(self, run: Run, outcome: Outcome) -> None:
        """Resolves a call: by what it made of itself, or by what stopped it. Idempotent in each part."""
        climb = run.climb
        # The thread of an executor's call that nobody stops is about to resolve it by itself.
        if run.future is not None and (run.settle is None or climb is not None):
            error = error_of_call(outcome, None if climb is None else climb.cause, returned=run.returned)
            self._resolve(run, run.future, run.value, error)
        self.forget(run)
        if run.worker is not None:
            run.worker.conclude(outcome)
        self._note_end(run, outcome)
        self._publisher.ended(run, outcome)
        if run.scope is not self._root:
            self._close_groups()

    def callback_failed(self, run: Run, callback: str, error: BaseException) -> None:
        """Reports that a callback of `on_stop`, or of an executor's future, raised. Any thread."""
        self._inbox.post(partial(self._publisher.callback_failed, run, callback, error))

    def refuse_blocking(self, what: str) -> None:
        """Raises where `what` would block the event loop's own thread on something that needs the loop. Any thread."""
        if get_ident() == self.thread and not self.loop.is_closed():
            raise SupervisorMisused(
                f"supervisor {self.supervisor!r}: {what} would block its event loop's own thread, which must go on "
                "to end it; wait in another thread, or await asyncio.wrap_future(...)"
            )

    # ------------------------------------------------------------------------------------ what is there

    def futures(self) -> list[AnyFuture]:
        """Returns the futures of all calls that have not ended, or are about to be resolved. Any thread."""
        futures = [future for run in self._kinds.calls() if (future := run.future) is not None]
        futures += self.resolving.copy().values()  # looked at after the calls: it is here before it leaves them
        return futures


def forget_unseen(run: Run) -> None:
    """Forgets a call that ends this very moment, as its thread is about to do, without publishing that."""
    if not run.watched and run.worker is None:
        run.kind.calls.pop(run.number, None)
