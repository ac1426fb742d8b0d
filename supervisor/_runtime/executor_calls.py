"""The calls of executors, which come from any thread, and which the thread that carries them out resolves by itself."""

from __future__ import annotations

from _thread import RLock, get_ident
from collections import Counter
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeAlias

from .._core.errors import SupervisorBusy, SupervisorMisused
from .._core.ladder import Exited, StopAsked
from .._core.outcome import Outcome
from .._loop import aside
from .._run.futures import WorkFuture
from .._run.origin import origin
from .._run.run import Run
from .._worker.locks import ScopedLock
from .nodes import list_call, scope_of, unlist_call

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator

    from .._core.outcome import Ended
    from .._loop.inbox import Inbox
    from .._observe.publisher import Publisher
    from .._run.run import WorkerKind
    from .calls import AnyFuture, Calls
    from .escalation import Escalation
    from .kinds import Kinds
    from .names import Names
    from .nodes import GroupNode
    from .portal import Portal

    Resolving: TypeAlias = dict[int, tuple[AnyFuture, Any, BaseException | None]]

__all__ = ["ExecutorCalls"]


class ExecutorCalls:
    """The calls of executors. Any thread.

    Each ends once: `settle` of its run is taken by the thread that ended it, or else by the loop, which then stops it.
    Calls in processes have none: the loop ends them all.

    Args:
        supervisor: Its name, for messages.
        next_number: Returns the number of a new call.
        calls: The owner of their runs.
        root: The scope of calls that belong to no group.
        origins: Keep where each was submitted.
        refuse: Raises where a scope, or a pool, takes no new work.
        close_groups: Is called, in the loop, when a call has ended in a scope whose end may wait for it.
        call_ended: Is called, in the loop, when a call has ended for which a shutdown may wait.
    """

    __slots__ = (
        "_admitting",
        "_call_ended",
        "_calls",
        "_clock",
        "_close_groups",
        "_escalation",
        "_inbox",
        "_kinds",
        "_loop",
        "_names",
        "_next_number",
        "_origins",
        "_portal",
        "_publisher",
        "_refuse",
        "_resolving",
        "_root",
        "_shutdown",
        "_supervisor",
        "_thread",
        "_waiting",
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
        publisher: Publisher,
        portal: Portal,
        escalation: Escalation,
        calls: Calls,
        root: GroupNode,
        *,
        origins: bool,
        refuse: Callable[[GroupNode, WorkerKind | None], None],
        close_groups: Callable[[GroupNode], object],
        call_ended: Callable[[], object],
    ) -> None:
        self._supervisor = supervisor
        self._loop = loop
        self._clock = clock
        self._thread = get_ident()
        self._kinds = kinds
        self._names = names
        self._next_number = next_number
        self._inbox = inbox
        self._publisher = publisher
        self._portal = portal
        self._escalation = escalation
        self._calls = calls
        self._root = root
        self._origins = origins
        self._shutdown = root.shutdown
        self._refuse = refuse
        self._close_groups = close_groups
        self._call_ended = call_ended
        self._admitting = ScopedLock()  # a signal handler may come in between
        self._waiting = Counter[str]()  # by pool: calls whose threads do nothing else meanwhile
        self._resolving: dict[str, Resolving] = {}  # by pool

    def resolving(self, pool: str) -> Resolving:
        """Returns the futures of calls of a pool that have ended and are being resolved, by the numbers of the calls.

        Each has the value or the error with it.
        """
        return self._resolving.setdefault(pool, {})

    # ------------------------------------------------------------------------------------ a call comes in

    def submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        future: WorkFuture,
        kind: WorkerKind,
        scope: GroupNode | None = None,
        no_inject_on_cancel: bool = False,
    ) -> None:
        """Submits an executor's call to a pool; without a scope, that of the supervisor itself."""
        scope = scope or self._root
        if scope is not self._root or self._shutdown.begun or kind.closing:
            self._refuse(scope, kind)
        context, now = copy_context(), self._clock()
        run = Run(self._calls, kind, scope, self._next_number(), fn, args, context, now, future, None, None)
        future.run, future.calls = run, self
        if no_inject_on_cancel:
            run.no_inject_on_cancel = True
        if self._origins:
            run.origin = origin()
        on_threads = kind.own_threads
        if self._names.looked_at:
            self._names.name_call(run)
        if self._publisher.watching:
            run.watched = True
        if on_threads:
            run.settle = RLock()
        if run.watched or not on_threads:
            self._calls.prepare(run)
        if kind.settings.max_queued is None:
            self._list(run)
        else:
            try:
                with self._admitting:
                    self._calls.refuse_if_busy(kind)
                    self._list(run)
            except SupervisorBusy as error:
                self._publisher.refused(run, error)
                run.let_go()  # its future holds it
                raise
        # A shutdown first says that it has begun, and then looks for calls: either it sees this one, or is seen here.
        if (begun := self._calls.begun) is not None:
            self._inbox.post(begun)
        closed = self._shutdown.begun or kind.closing or (scope is not self._root and not scope.takes_work)
        if closed and self._take_back(run):
            self._refuse(scope, kind)
        if on_threads or get_ident() == self._thread:
            kind.submit(run)
        else:
            self._inbox.post(partial(kind.submit, run))

    def _list(self, run: Run) -> None:
        if run.watched:  # published before anybody can find it, and end it
            run.unheard = True
            self._inbox.post(partial(self._escalation.publish_queued, run))
        if run.scope is self._root:
            run.kind.calls[run.number] = run
        else:
            list_call(run)

    def _take_back(self, run: Run) -> bool:
        """Withdraws a call that came too late; False where the shutdown has found it, and ends it."""
        if run.settle is not None and not run.settle.acquire(False):
            return False
        if not run.claim():
            return False
        unlist_call(run)
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
        self._close_groups(scope_of(run))
        self._call_ended()
        run.let_go()

    # ------------------------------------------------------------------------------------ a call ends

    def settle(self, run: Run) -> None:
        """An executor's call has ended; its own thread resolves it, unless the loop is stopping it.

        Its future comes last: what the application does in its callbacks may take any time.
        """
        assert run.settle is not None
        resolving = self._resolving[run.kind.settings.name]
        ending = resolving.get(run.number)
        if ending is None:
            if run.future is None:
                if run.climb is not None or not run.over:
                    self._inbox.post(run)
                return
            # Whoever looks for it finds it among the calls, or else here. Where an exception from outside strikes this
            # thread below, it stays, and all of this is done again.
            ending = resolving[run.number] = (run.future, run.value, run.error)
        future, value, error = ending
        if run.settle.acquire(False) or self._loop.is_closed():
            self._end_unseen(run, "returned" if error is None else "failed", run)
            self._calls.resolve(run, future, value, error)
        else:
            self._inbox.post(run)
        del resolving[run.number]

    def withdrawn(self, run: Run) -> None:
        """An executor's call was cancelled before a thread had taken it."""
        publish = partial(self._withdraw, run)
        if run.settle is not None and run.settle.acquire(False):
            self._end_unseen(run, "cancelled", publish)
        else:
            self._inbox.post(publish)

    def _withdraw(self, run: Run) -> None:
        self._escalation.feed(run, StopAsked("cancel") if run.climb is None else Exited(returned=False))

    def _end_unseen(self, run: Run, ended: Ended, otherwise: Run | Callable[[], object]) -> None:
        """Concludes an executor's call here, where only its future is to be resolved; else has the loop do it."""
        if not (run.watched or run.reported) and run.worker is None:
            run.over = True
            self._portal.unseen_end(run)
            if run.scope is self._root:
                run.kind.calls.pop(run.number, None)
            else:
                unlist_call(run)
            # It was listed until now: a shutdown, or the end of a group, sees it, or is seen here.
            if run.scope is not self._root and not (scope := scope_of(run)).takes_work:
                self._inbox.post(partial(self._close_groups, scope))
            if self._shutdown.begun or run.kind.closing:
                self._inbox.post(self._call_ended)
            if run.worker is None:  # or else another thread has asked for its handle meanwhile
                if ended == "failed":
                    self._publisher.incidents.note_failure(run)
                if self._publisher.subscribers.counters:
                    self._publisher.call_ended(run, ended)
                run.let_go()
                return
        self._inbox.post(otherwise)
        if not run.reported:  # else a shutdown waits for it, until the loop has heard of it
            unlist_call(run)  # it is no longer waiting, whenever that is

    # ------------------------------------------------------------------------------------ what futures ask of it

    def stop_soon(self, run: Run) -> None:
        """Begins to stop a call that its caller has cancelled."""
        self._escalation.stop_soon(run)

    def serves(self, destination: asyncio.Future[Any]) -> bool:
        """Whether a future belongs to this loop."""
        return destination.get_loop() is self._loop

    def hand_on(self, hand_on: Callable[[], object]) -> None:
        """Has the loop call what gives a future's result to that of asyncio's which waits for it."""
        if get_ident() == self._thread:
            hand_on()
            return
        self._inbox.post(hand_on)
        if self._inbox.closed:  # first posted, then looked: or else whoever closes it sees this one
            try:
                aside.call_soon_threadsafe(self._loop, hand_on)
            except RuntimeError:
                pass  # the loop is closed

    def hand_all_on(self) -> None:
        """Does so for all that the inbox still has: nobody listens to it any more. On the loop's thread."""
        for item in self._inbox.left:
            if isinstance(item, MethodType) and item.__func__ is WorkFuture.hand_on:
                item()

    def refuse_blocking(self, what: str) -> None:
        """Raises where `what` would block the event loop's own thread on something that needs the loop."""
        if get_ident() == self._thread and not self._loop.is_closed():
            raise SupervisorMisused(
                f"supervisor {self._supervisor!r}: {what} would block its event loop's own thread, which must go on "
                "to end it; wait in another thread, or await asyncio.wrap_future(...)"
            )

    @contextmanager
    def waiting(self, run: Run) -> Generator[None]:
        """Counts a thread of the pool that waits for a call which is still queued there; refuses to be the last one."""
        pool = run.kind.settings.name
        with self._admitting:
            threads = run.kind.capacity
            if self._waiting[pool] + 1 >= threads:
                size = "max_threads" if pool == "thread" else "size"
                raise SupervisorMisused(
                    f"supervisor {self._supervisor!r}: waiting for the queued call {run.name!r} in a call of the same "
                    f"pool, {pool!r}: all its threads ({size}={threads}) would then wait, for ever, for calls that are "
                    f"queued behind them: make that call where this one is made, wait with a timeout, or raise {size}"
                )
            self._waiting[pool] += 1
        try:
            yield
        finally:
            with self._admitting:
                self._waiting[pool] -= 1

    def futures(self) -> list[AnyFuture]:
        """Returns the futures of all calls that have not ended, or are about to be resolved."""
        futures = [future for run in self._kinds.calls() if (future := run.future) is not None]
        # Looked at after the calls: one is here before it leaves them.
        for resolving in tuple(self._resolving.values()):
            futures += [future for future, _, _ in resolving.copy().values()]
        return futures
