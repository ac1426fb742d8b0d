"""Publishes what happens to runs: each transition goes to the log, to the counters and to the subscribers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from .._core.blocked import blocked_at_the_end
from .._core.outcome import Outcome, WorkerState, make_transition
from .._core.policy import STEPS
from .._run.names import qualname
from .._worker.locks import ScopedLock
from .counters import Counters
from .notices import LateReturn, Notice, Refused, RunSubmitted, StateChanged
from .transitions import Buffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.outcome import Ended
    from .._core.policy import StepName
    from .._core.usage import Excess
    from .._run.run import Run
    from .incidents import Incidents
    from .log import Log
    from .notices import Subscriber
    from .subscribers import Subscribers

__all__ = ["Publisher", "blocked_callbacks"]

P = ParamSpec("P")


class Publisher:
    """Publishes what happens in one supervisor. On the loop's thread, unless a method says otherwise.

    Attributes:
        log: The supervisor's log.
        subscribers: Who receives the notices.
        incidents: What is kept of failures and stops.
        watching: Somebody wants to know of each call: the log, at level debug, or a subscriber. Any thread.
        brief: Whoever does so wants no more than its transitions: the log, and those who read `transitions()`;
            nothing counts them.
    """

    def __init__(
        self, supervisor: str, clock: Callable[[], float], log: Log, subscribers: Subscribers, incidents: Incidents
    ) -> None:
        self._supervisor = supervisor
        self._clock = clock
        self.log = log
        self.subscribers = subscribers
        self.incidents = incidents
        self._broken: list[Subscriber] = []  # those that have raised
        self.watching = self.brief = False
        self._listeners: tuple[Buffer, ...] = ()  # while it is brief
        self._looking = ScopedLock()  # a finalizer may come in between, and remove a subscriber
        log.refreshed = subscribers.changed = self._look
        self._look()

    def _look(self) -> None:
        """Looks whether somebody wants to know of each call. Any thread."""
        with self._looking:
            watching = [*self.subscribers]
            listeners = tuple(listener for subscriber in watching if (listener := Buffer.of(subscriber)) is not None)
            self.brief = False
            self._listeners = listeners
            self.brief = len(listeners) == len(watching) and not self.subscribers.counters
            self.watching = self.log.debug is not None or bool(self.subscribers)

    def publish(self, notice: Notice) -> None:
        """Hands a notice to every subscriber. In the thread that the notice names."""
        for subscriber in self.subscribers.each():
            try:
                subscriber(notice)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # sys.exit() in there, say, must end neither a thread nor the loop
                self._subscriber_failed(subscriber, error)

    def _subscriber_failed(self, subscriber: Subscriber, error: BaseException) -> None:
        if subscriber not in self._broken:
            self._broken.append(subscriber)
            self.log.write(logging.ERROR, "supervisor.listener_failed", listener=qualname(subscriber), exc_info=error)

    def submitted(self, run: Run, before: Run | None = None) -> None:
        """Publishes that a run is about to be prepared. Any thread."""
        if self.subscribers:
            self.publish(RunSubmitted(run, before))

    def refused(self, run: Run, error: BaseException) -> None:
        """Publishes that a submitted run is not carried out. Any thread."""
        if self.subscribers:
            self.publish(Refused(run, error))

    def transition(
        self,
        run: Run,
        old: WorkerState | None,
        new: WorkerState,
        *,
        step: StepName | None = None,
        outcome: Outcome | None = None,
        ran: Outcome | None = None,
        reason: str | None = None,
    ) -> None:
        """Publishes a change of a run's state, or a further step; `ran`: its own outcome, not the worker's."""
        if self.subscribers.counters:
            self._count(Counters.transition, run, old, new, step, ran or outcome)
        level = _level(run, step, outcome)
        logged = self.log.wants(level)
        if not logged and not self.subscribers.anybody:
            return
        now = self._clock()
        excess = _excess(run, outcome)
        node, ident, pid = run.carrier
        transition = make_transition(
            self._supervisor,
            run.name,
            run.kind.name,
            run.attempt,
            old,
            new,
            step if outcome is None else outcome.step,
            reason or (None if run.climb is None else run.climb.reason),
            None if outcome is None else outcome.ended,
            now,
            now - run.submitted_at,
            None if new == "queued" else ident,  # a thread may have taken it before this is published
            None if new == "queued" else pid,
            None if excess is None else excess.limit,
            None if excess is None else excess.used,
            None if run.own else run.kind.settings.name,
            node,
        )
        if self.subscribers.anybody:
            self.publish(StateChanged(run, transition, ran or outcome))
        if not logged:
            return
        past_ask = level >= logging.WARNING and run.climb is not None
        self.log.transition(
            level,
            transition,
            exit_code=None if outcome is None else outcome.exit_code,
            oom_killed=outcome is not None and outcome.oom_killed,
            stop_seconds=None if outcome is None or outcome.step is None else outcome.stop_seconds,
            stack=run.climb.stack if past_ask and run.climb is not None else None,
            blocked=None if outcome is None else blocked_at_the_end(outcome),
            error=outcome.error if outcome is not None and level >= logging.ERROR else None,
        )

    def moved(self, run: Run, old: WorkerState | None, new: WorkerState, ended: Ended | None = None) -> None:
        """Publishes a change of a call in threads of this process that nobody stops, and that fails in nothing.

        It says what `transition` says, in fewer steps; only while it is `brief`.
        """
        name = run.given_name
        if name is None:
            name = run.given_name = run.name  # it is asked for again, and outlives the function
        kind = run.kind
        now = self._clock()
        elapsed = now - run.submitted_at
        ident = None if old is None else run.ident  # a thread may have taken it before it is published to be queued
        pool = kind.settings.name
        if self._listeners:
            # The values of a Transition, which is made when it is read: most of what is dropped is never made at all.
            values = (
                self._supervisor,
                name,
                kind.name,
                run.attempt,
                old,
                new,
                None,
                None,
                ended,
                now,
                elapsed,
                ident,
                None,
                None,
                None,
                pool,
            )
            for listener in self._listeners:
                try:
                    listener.add(name, values)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    self._subscriber_failed(listener.receive, error)
        write = self.log.debug
        if write is not None:
            self.log.moved(write, name, kind.name, pool, run.attempt, old, new, ended, elapsed, ident)

    def ended(self, run: Run, outcome: Outcome, *, ran: Outcome | None = None, asked: str | None = None) -> None:
        """Publishes the end of a run, and so of its worker; or of a worker between two runs, for the reason `asked`.

        The outcome is the worker's; where that is given up, `ran` is that of its last run, which is counted and traced.
        """
        if asked is None:
            self.incidents.note(run, outcome)
        before = _before_the_end(run, outcome) if asked is None else "backing_off"
        self.transition(run, before, "ended", outcome=outcome, ran=ran, reason=asked)

    def restarting(self, run: Run, outcome: Outcome) -> None:
        """Publishes that a run has ended, and that another one follows."""
        self.incidents.note(run, outcome)
        self.transition(run, _before_the_end(run, outcome), "backing_off", outcome=outcome)

    def call_ended(self, run: Run, ended: Ended) -> None:
        """Counts a call that nobody stopped and nobody watches, which has ended. Any thread."""
        for counters in self.subscribers.counters:
            try:
                counters.call_ended(run, ended)
            except Exception as error:
                self._cannot_count(counters, error)

    def group_changed(self, event: str, group: str, reason: str) -> None:
        """Logs that a group is started again, or given up."""
        level = logging.ERROR
        if not event.endswith("given_up"):
            level = logging.WARNING
            self._count(Counters.group_restarted)
        self.log.write(level, event, group=group, reason=reason)

    def given_up(self, role: str) -> None:
        """Counts a worker or a group that has failed too often; the log has it by other ways."""
        self._count(Counters.given_up, role)

    def _count(self, count: Callable[Concatenate[Counters, P], object], *args: P.args, **kwargs: P.kwargs) -> None:
        for counters in self.subscribers.counters:
            try:
                count(counters, *args, **kwargs)
            except Exception as error:
                self._cannot_count(counters, error)

    def _cannot_count(self, counters: Counters, error: Exception) -> None:
        """Counters that raise harm nobody, and are removed."""
        self.subscribers.remove_counters(counters)
        self.log.write(logging.ERROR, "supervisor.counting_failed", exc_info=error)

    def stuck(self, run: Run, reason: str, stack: str | None) -> None:
        """Logs that a run gave no sign of life in time, and where it stands."""
        fields = {} if stack is None else {"stack": stack}
        self.log.write(logging.WARNING, "worker.stuck", **_of(run), reason=reason, **fields)

    def slow(self, run: Run, elapsed: float, stack: str, left_out: int) -> None:
        """Logs that a run still runs, so many seconds after it was entered, and how many others do, not logged each."""
        _, ident, pid = run.carrier
        fields: dict[str, str | float | None] = {
            **_of(run),
            "pool": None if run.own or run.kind.settings.name == run.kind.name else run.kind.settings.name,
            "elapsed": round(elapsed, 6),
            "ident": ident,
            "pid": pid,
            "left_out": left_out or None,
            "stack": stack or None,
        }
        self.log.write(
            logging.WARNING, "worker.slow", **{name: value for name, value in fields.items() if value is not None}
        )

    def late_return(self, run: Run) -> None:
        """Publishes that an abandoned run has ended after all."""
        self.incidents.came_back(run.number)
        self.log.write(
            logging.WARNING,
            "worker.late_end",
            **_of(run),
            elapsed=round(self._clock() - run.submitted_at, 6),
        )
        self.publish(LateReturn(run))

    def callback_failed(self, run: Run, callback: str, error: BaseException, left_out: int = 0) -> None:
        """Logs that a callback has raised, and how many have done so before it that are not logged each."""
        more = {"left_out": left_out} if left_out else {}
        self.log.write(logging.ERROR, "worker.callback_failed", **_of(run), callback=callback, **more, exc_info=error)

    def fault(self, doing: str, worker: str, error: BaseException) -> None:
        """Logs that something failed in the supervisor itself, which has gone on by doing it again, or more simply."""
        self.log.write(logging.ERROR, "supervisor.fault", doing=doing, worker=worker, exc_info=error)

    def overdue(self, of: dict[str, str], left: list[str]) -> None:
        """Logs that a shutdown, of a group or a pool, or of the supervisor, has run out of time without these."""
        self.log.write(logging.ERROR, "supervisor.overdue", **of, left=left)

    def loop_call_left(self, run: Run, function: str, stack: str) -> None:
        """Logs that what a worker had the loop do was cancelled, and does not end."""
        self.log.write(logging.WARNING, "worker.call_left", **_of(run), function=function, stack=stack)

    def callbacks_blocked(self, run: Run, callbacks: list[Callable[[], object]]) -> None:
        """Logs each of these callbacks of `on_stop`, which still run."""
        for callback in callbacks:
            event = {**_of(run), "callback": qualname(callback)}
            self.log.write(logging.WARNING, "worker.callback_blocked", **event)


def blocked_callbacks(run: Run) -> list[Callable[[], object]]:
    """Returns the callbacks of `on_stop` that still run. Once the function has ended, nobody knows of them any more."""
    ctx = run.ctx
    return [] if ctx is None else [each.callback for each in tuple(ctx.registrations) if each.running]


def _of(run: Run) -> dict[str, str | int]:
    """Returns the fields that all events of a run have."""
    fields: dict[str, str | int] = {"worker": run.name, "kind": run.kind.name, "attempt": run.attempt}
    return fields if run.place is None else {**fields, "node": run.place.node}


def _excess(run: Run, outcome: Outcome | None) -> Excess | None:
    """Returns which limit a run exceeds, where it is being stopped for that, or has ended for it."""
    if run.limited is None or run.limited.excess is None:
        return None
    if outcome is not None:
        return None if outcome.limit is None else run.limited.excess
    return run.limited.excess if run.climb is not None and run.climb.cause == "limit" else None


def _level(run: Run, step: StepName | None, outcome: Outcome | None) -> int:
    if outcome is not None and (outcome.ended in ("abandoned", "died") or (outcome.ended == "failed" and run.own)):
        return logging.ERROR
    if outcome is None and step is not None and (level := STEPS[step].level) != "usual":
        return logging.ERROR if level == "error" else logging.WARNING
    return logging.INFO if run.own else logging.DEBUG


def _before_the_end(run: Run, outcome: Outcome) -> WorkerState:
    if outcome.step is not None:
        return "stopping"
    if run.started_at:
        return "running"
    return "starting" if run.own else "queued"
