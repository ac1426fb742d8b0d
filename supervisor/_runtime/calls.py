"""The calls of `run()`, from submit to settle; and the owner of all calls, those of executors included.

The path of a call that nobody stops, and that nobody watches, is in this one slotted class, which the event loop's view
of the pool holds directly.
"""

from __future__ import annotations

import asyncio
from _thread import get_ident
from collections import deque
from concurrent.futures import InvalidStateError
from contextvars import Context, copy_context
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any

from .._core.errors import SupervisorBusy
from .._core.ladder import Exited
from .._core.stop_order import seconds_before_stop
from .._core.verdict import error_of_call
from .._loop import aside
from .._loop.clock import monotonic
from .._loop.inbox import TURN
from .._run.futures import CallFuture, WorkFuture
from .._run.limited import Limited
from .._run.origin import origin
from .._run.run import Run
from .names import full_name
from .nodes import list_call, scope_of, unlist_call
from .outcomes import outcome_of

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable
    from typing import TypeAlias

    from .._core.ladder import Cause
    from .._core.outcome import Ended, Outcome
    from .._core.placement import Placement
    from .._core.policy import EscalationPolicy
    from .._core.pools import Limits
    from .._loop.alarms import Alarms
    from .._loop.inbox import Inbox
    from .._observe.publisher import Publisher
    from .._run.run import WorkerKind
    from .escalation import Escalation
    from .kinds import Kinds
    from .names import Names
    from .nodes import GroupNode
    from .portal import Portal

    AnyFuture: TypeAlias = asyncio.Future[Any] | concurrent.futures.Future[Any]

__all__ = ["AnyFuture", "Calls"]

FAILURES = 100
"""Failures of callbacks that wait to be logged; of further ones it is logged how many there were."""


class Calls:
    """The calls of one supervisor, and the owner of their runs.

    On the loop's thread, but for `prepare`, `refuse_if_busy`, `resolve` and `callback_failed`, which are for any.

    Args:
        supervisor: Its name, for messages.
        next_number: Returns the number of a new call. Any thread.
        root: The scope of calls that belong to no group.
        origins: Keep where each was submitted.
        refuse: Raises where a group, a pool, or the supervisor, takes no new work. Any thread.
        deadline: Returns by when a shutdown must have ended a call, on the loop's clock.
        note_end: Takes the outcome of a call into the reports that are being made.
        close_groups: Is called when a call has ended in a scope whose end may wait for it.

    Attributes:
        post: Has the loop call a function. Any thread; in a worker's own, shielded.
        begun: Is called, in the loop, with the first call after nothing was there that could become slow; None while
            nobody wants to know. Any thread may read it.
        expect: Has a call logged that still runs after so many seconds. Set by who does that.
    """

    __slots__ = (
        "_alarms",
        "_clock",
        "_close_groups",
        "_deadline",
        "_escalation",
        "_failures",
        "_inbox",
        "_kinds",
        "_left_out",
        "_loop",
        "_names",
        "_next_number",
        "_note_end",
        "_origins",
        "_portal",
        "_publisher",
        "_refuse",
        "_rests",
        "_root",
        "_shutdown",
        "_supervisor",
        "_thread",
        "begun",
        "expect",
        "post",
    )

    expect: Callable[[Run, float], object]

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
        origins: bool,
        refuse: Callable[[GroupNode, WorkerKind | None], None],
        deadline: Callable[[Run], float],
        note_end: Callable[[Run, Outcome], object],
        close_groups: Callable[[GroupNode], object],
    ) -> None:
        self._supervisor = supervisor
        self._loop = loop
        self._clock = clock
        self._thread = get_ident()
        self._kinds = kinds
        self._names = names
        self._next_number = next_number
        self._inbox = inbox
        self.post: Callable[[Callable[[], object]], None] = inbox.post
        self.begun: Callable[[], object] | None = None
        self._alarms = alarms
        self._publisher = publisher
        self._portal = portal
        self._escalation = escalation
        self._root = root
        self._origins = origins
        self._shutdown = root.shutdown
        self._refuse = refuse
        self._deadline = deadline
        self._note_end = note_end
        self._close_groups = close_groups
        self._failures: deque[tuple[Run, str, BaseException]] = deque()  # of callbacks, to be logged
        self._left_out = count()
        self._rests = False  # from logging them, until the loop's next turn

    # ------------------------------------------------------------------------------------ a call comes in

    def call(
        self,
        scope: GroupNode,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        timeout: float | None = None,
        within: float | None = None,
        policy: EscalationPolicy | None = None,
        name: str | None = None,
        kind: WorkerKind | None = None,
        limits: Limits | None = None,
        slow_after: float | None = None,
        submitted_from: str | None = None,
        future: CallFuture | None = None,
        placement: Placement | None = None,
    ) -> CallFuture:
        """Submits a call to a pool, by default that of threads; returns the future that `run()` waits for.

        That is a new one, unless its caller has given one.
        """
        if scope is not self._root or self._shutdown.begun:
            self._refuse(scope, None)
        threads = self._kinds.threads
        if kind is None:
            kind = threads
        elif kind.closing:
            self._refuse(scope, kind)
        if kind.settings.max_queued is not None:
            self.refuse_if_busy(kind)
        if future is None:
            future = CallFuture(loop=self._loop)
        now = self._clock()
        if name is not None:
            name = full_name(scope, name)
        run = Run(self, kind, scope, self._next_number(), fn, args, copy_context(), now, future, name, policy)
        future.run = run
        if self._origins:
            run.origin = submitted_from or origin()
        if self._names.looked_at or name is not None:
            self._names.name_call(run)
        if self._publisher.watching:
            run.watched = True
        if placement is not None:
            run.placement = placement
        if kind is not threads or (run.watched and not self._publisher.brief):  # else nobody is to know of it yet
            self.prepare(run, limits)
        if scope is self._root:
            kind.calls[run.number] = run
        else:
            list_call(run)
        if self.begun is not None:
            self.begun()
        if slow_after is not None:
            self.expect(run, slow_after)
        if within is not None:
            run.ends_by = now + within
            timeout = seconds_before_stop(timeout, within, self._escalation.budget(run, "timeout"))
        if timeout is not None:
            run.expires_at = now + timeout
            if kind.settings.initializer is not None:
                run.warmed = kind.readiness.warming(now)
            self._alarms.set(run.expires_at, run)
        if run.watched:
            self.queued(run)
        if timeout == 0:
            self.stop(run, "timeout")  # it has passed: the call never starts
        else:
            kind.submit(run)
        return future

    def queued(self, run: Run) -> None:
        """Publishes that a call waits for its turn."""
        publisher = self._publisher
        if publisher.brief and run.kind.own_threads:
            publisher.moved(run, None, "queued")
        else:
            publisher.transition(run, None, "queued")

    def own_call(self, kind: WorkerKind, fn: Callable[[], object]) -> Run:
        """Makes a call that a kind makes by itself: in no request's context, and nobody gets its value. Any thread."""
        number = self._next_number()
        name = f"{kind.settings.name}-initializer-{number}"
        run = Run(self, kind, self._root, number, fn, (), Context(), self._clock(), None, name, None)
        run.watched = True
        self._publisher.submitted(run)
        kind.own_calls[number] = run
        return run

    def prepare(self, run: Run, limits: Limits | None = None) -> None:
        """Has its kind make it ready to be submitted; without `limits` of its own it has those of its pool. Any thread.

        A call in threads has none, and may come without this.
        """
        self._publisher.submitted(run)
        try:
            limits = limits or run.kind.settings.limits
            if limits is not None:
                run.limited = Limited(limits, self._escalation.budget(run, "limit"))
            run.kind.prepare(run)
        except BaseException as error:
            if run.given_name is not None:
                self._names.release(run.given_name, run)
            self._publisher.refused(run, error)
            run.let_go()  # its future holds it
            raise

    def refuse_if_busy(self, kind: WorkerKind) -> None:
        """Raises where as many calls wait as may. Any thread."""
        max_queued = kind.settings.max_queued
        if max_queued is None:
            return
        room = kind.capacity + max_queued
        if len(kind.calls) >= room and get_ident() == self._thread:
            self._inbox.drain()  # what has ended makes room
        if len(kind.calls) >= room:
            raise SupervisorBusy(
                f"pool {kind.settings.name!r} of supervisor {self._supervisor!r} takes {room} calls, running or queued "
                f"(max_queued={max_queued}), and has as many: try again later, or raise max_queued"
            )

    # ------------------------------------------------------------------------------------ a call ends by itself

    def ended(self, run: Run) -> None:
        """A run has ended. The path of a call that nobody stopped, and that nobody watches, is this function."""
        if run.climb is not None or run.worker is not None or run.reported or run.died:
            self._escalation.feed(run, Exited(run.returned, run.died))
            return
        if run.watched or self._publisher.watching:
            self._watched_ended(run)
            return
        ended: Ended = "returned"
        if not run.returned:
            ended = "failed"
            self._publisher.incidents.note_failure(run)
        if run.future is not None:
            self.resolve(run, run.future, run.value, run.error)
        self.forget(run)
        if run.scope is not self._root and not (scope := scope_of(run)).takes_work:
            self._close_groups(scope)
        if run.worker is not None:  # asked for meanwhile, by another thread
            self._escalation.conclude(run, ended, None)
        elif self._publisher.subscribers.counters:
            self._publisher.call_ended(run, ended)
        run.let_go()

    def _watched_ended(self, run: Run) -> None:
        """The same for a call that somebody watches: its end is published. Idempotent in each part."""
        if run.future is None:  # a call that its kind has made by itself
            self._escalation.feed(run, Exited(run.returned, run.died))
            return
        try:
            if (
                self._publisher.brief
                and run.error is None
                and run.kind.own_threads
                and run.scope is self._root
                and not self._shutdown.begun
                and not run.kind.closing
            ):  # no more is to be said of it than that
                if run.settle is None:
                    self.resolve(run, run.future, run.value, None)
                self.forget(run)
                if run.worker is None:  # or else it was asked for meanwhile, by another thread
                    self._publisher.moved(run, "running", "ended", "returned")
                    run.let_go()
                    return
            if run.given_name is None:
                run.given_name = run.name  # it outlives the function
            self.concluded(run, outcome_of(run, "returned" if run.returned else "failed", None, self._clock()))
            run.let_go()
        except Exception as error:  # for want of memory, say: the machine has it done again, or more simply
            self._publisher.fault("ended", run.name, error)
            self._escalation.feed(run, Exited(run.returned, run.died))

    def resolve(
        self, run: Run, future: AnyFuture, value: Any, error: BaseException | None, *, again: bool = False
    ) -> None:
        """Resolves the future of a call, unless that is done. Any thread."""
        try:
            if future.done():
                if isinstance(future, WorkFuture):
                    future.finish()
            elif error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        except (asyncio.InvalidStateError, InvalidStateError):
            pass  # its caller has cancelled it in between
        except BaseException as problem:  # sys.exit() in a done callback, say, must end neither a thread nor the loop
            if isinstance(future, WorkFuture):
                future.cut_short = True
            if isinstance(problem, KeyboardInterrupt) and get_ident() == self._thread:
                raise
            self.callback_failed(run, "add_done_callback", problem)
            if not again or future.done():  # there was no memory for it, or other callbacks come after this one
                self.resolve(run, future, value, error, again=True)

    def forget(self, run: Run) -> None:
        """Lets go of a run: alarms may still hold it, so it lets go of what it held. Of a worker's run, too."""
        run.over = True
        if run.scope is self._root:
            run.kind.calls.pop(run.number, None)
        else:
            unlist_call(run)
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

    def entered(self, run: Run) -> None:
        """The function is about to be entered."""
        if run.kind.own_threads:
            self._inbox.look_soon()  # the next ones that are entered need not wake the loop
        if run.over or run.asked is not None:
            return
        publisher = self._publisher
        if publisher.brief and run.kind.own_threads and run.climb is None and run.future is not None:
            publisher.moved(run, "queued", "running")
        else:
            publisher.transition(run, "queued", "running")

    def readied(self, run: Run) -> None:
        """Nobody waits for a call to become ready."""

    def expired(self, run: Run) -> None:
        """Its timeout has passed."""
        if run.kind.settings.initializer is None or not self._postponed(run):
            self.stop(run, "timeout")

    def _postponed(self, run: Run) -> bool:
        """Whether a call has more time, as nobody of its pool was past the initializer for a part of it.

        What it has in all, by `within`, stays as it is.
        """
        assert run.expires_at is not None
        warmed = run.kind.readiness.warming(self._clock())
        expires_at = run.expires_at + warmed - run.warmed
        if run.ends_by < inf:
            within = run.ends_by - run.submitted_at
            last = run.submitted_at + seconds_before_stop(None, within, self._escalation.budget(run, "timeout"))
            expires_at = min(expires_at, last)
        if expires_at <= run.expires_at:
            return False
        run.warmed = warmed
        run.expires_at = expires_at
        self._alarms.set(expires_at, run)
        return True

    def deadline(self, run: Run) -> float:
        """Returns by when it must have ended, for its caller or for a shutdown, on the loop's clock."""
        return min(run.ends_by, self._deadline(run))

    def concluded(self, run: Run, outcome: Outcome) -> None:
        """Resolves a call: by what it made of itself, or by what stopped it. Idempotent in each part."""
        climb = run.climb
        # The thread of an executor's call that nobody stops is about to resolve it by itself.
        if run.future is not None and (run.settle is None or climb is not None):
            error = error_of_call(outcome, None if climb is None else climb.cause, returned=run.returned)
            self.resolve(run, run.future, run.value, error)
        self.forget(run)
        if run.future is None:
            run.kind.own_calls.pop(run.number, None)
        if run.worker is not None:
            run.worker.conclude(outcome)
        self._note_end(run, outcome)
        self._publisher.ended(run, outcome)
        if run.scope is not self._root:
            self._close_groups(scope_of(run))

    def callback_failed(self, run: Run, callback: str, error: BaseException) -> None:
        """Reports that a callback of `on_stop`, or of an executor's future, raised. Any thread."""
        if len(self._failures) >= FAILURES:
            next(self._left_out)
            return
        self._failures.append((run, callback, error))
        self._inbox.post(self._log_failure)

    def _log_failure(self) -> None:
        """Logs one. Where that takes long, as tracebacks on a console do, each has a turn of the loop."""
        if self._rests or not self._failures:
            return  # it was logged before an interrupt, or will be
        began = monotonic()
        run, callback, error = self._failures[0]
        passed, self._left_out = self._left_out, count()
        self._publisher.callback_failed(run, callback, error, next(passed))
        self._failures.popleft()
        if monotonic() - began > TURN:
            self._rest()

    def log_rest(self) -> None:
        """The supervisor ends: logs the failures that wait, as many as fit into a turn, and counts the others."""
        until = monotonic() + TURN
        self._rests = False
        while self._failures:
            if len(self._failures) > 1 and monotonic() > until:
                self._failures.popleft()
                next(self._left_out)
            else:
                self._log_failure()
                self._rests = False

    def _rest(self) -> None:
        aside.call_soon(self._loop, self._go_on)
        self._rests = True

    def _go_on(self) -> None:
        self._rests = False
        until = monotonic() + TURN
        while self._failures and not self._rests:
            self._log_failure()
            if monotonic() > until and not self._rests:
                self._rest()
