"""Telling of runs: each transition goes to the log, and to whoever listens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from .._core.outcome import Outcome, Transition, WorkerState
from .._core.policy import Ask, Kill
from .._run.names import qualname
from .counters import Counters
from .notices import LateReturn, Notice, Refused, RunSubmitted, StateChanged

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.outcome import Ended
    from .._core.policy import StepName
    from .._run.run import Run
    from .log import Log
    from .notices import Subscriber
    from .subscribers import Subscribers

__all__ = ["Publisher"]

P = ParamSpec("P")


class Publisher:
    """Tells of the runs of one supervisor. On the loop's thread.

    Attributes:
        log: The supervisor's log.
        listeners: Who listens to transitions.
    """

    def __init__(self, supervisor: str, clock: Callable[[], float], log: Log, listeners: Subscribers) -> None:
        self._supervisor = supervisor
        self._clock = clock
        self.log = log
        self.listeners = listeners
        self._broken: list[Subscriber] = []  # those that have raised

    def news(self, news: Notice) -> None:
        """Tells whoever listens. Any thread, where the news say so."""
        for listener in self.listeners.each():
            try:
                listener(news)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # sys.exit() in there, say, must end neither a thread nor the loop
                self._listener_failed(listener, error)

    def _listener_failed(self, listener: Subscriber, error: BaseException) -> None:
        if listener not in self._broken:
            self._broken.append(listener)
            self.log.write(logging.ERROR, "supervisor.listener_failed", listener=qualname(listener), exc_info=error)

    def begun(self, run: Run, before: Run | None = None) -> None:
        """Tells that a run is about to be prepared. Any thread."""
        if self.listeners:
            self.news(RunSubmitted(run, before))

    def refused(self, run: Run, error: BaseException) -> None:
        """Tells that a run that had begun is not carried out. Any thread."""
        if self.listeners:
            self.news(Refused(run, error))

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
        """Tells of a change of a run's state, or of a further step; `ran`: its own outcome, not the worker's."""
        self._count(Counters.told, run, old, new, step, ran or outcome)
        level = _level(run, step, outcome)
        logged = self.log.wants(level)
        if not logged and not self.listeners.heard:
            return
        now = self._clock()
        transition = Transition(
            self._supervisor,
            run.name,
            run.kind.name,
            run.attempt,
            old,
            new,
            step=step if outcome is None else outcome.step,
            reason=reason or (run.reason if run.ladder is None else run.ladder.reason),
            ended=None if outcome is None else outcome.ended,
            at=now,
            elapsed=now - run.submitted_at,
            ident=None if new == "queued" else run.ident,  # a thread may have taken it before this is told
            pid=None if new == "queued" else run.pid,
        )
        if self.listeners.heard:
            self.news(StateChanged(run, transition, ran or outcome))
        if not logged:
            return
        past_ask = level >= logging.WARNING and run.ladder is not None
        self.log.transition(
            level,
            transition,
            stack=run.ladder.stack if past_ask and run.ladder is not None else None,
            error=outcome.error if outcome is not None and level >= logging.ERROR else None,
        )

    def end(self, run: Run, outcome: Outcome, *, ran: Outcome | None = None, asked: str | None = None) -> None:
        """Tells that a run, and with it the worker, has concluded; or a worker between two runs, which was so asked.

        The outcome is the worker's; where that is given up, `ran` is that of its last run, which is counted and traced.
        """
        before = _before_the_end(run, outcome) if asked is None else "backing_off"
        self.transition(run, before, "ended", outcome=outcome, ran=ran, reason=asked)

    def restarting(self, run: Run, outcome: Outcome) -> None:
        """Tells that a run has ended, and that another one follows."""
        self.transition(run, _before_the_end(run, outcome), "backing_off", outcome=outcome)

    def call_ended(self, run: Run, ended: Ended) -> None:
        """Tells of a call that nobody stopped, and that nobody watches, that it has ended. Any thread."""
        for tally in self.listeners.tallies:
            try:
                tally.call_ended(run, ended)
            except Exception as error:
                self._cannot_count(tally, error)

    def group(self, event: str, group: str, reason: str) -> None:
        """Tells that a group is started again, or given up."""
        level = logging.ERROR
        if not event.endswith("given_up"):
            level = logging.WARNING
            self._count(Counters.group_restarted)
        self.log.write(level, event, group=group, reason=reason)

    def given_up(self, role: str) -> None:
        """Tells those who count of a worker or a group that has failed too often; the log has it by other ways."""
        self._count(Counters.given_up, role)

    def _count(self, count: Callable[Concatenate[Counters, P], object], *args: P.args, **kwargs: P.kwargs) -> None:
        for tally in self.listeners.tallies:
            try:
                count(tally, *args, **kwargs)
            except Exception as error:
                self._cannot_count(tally, error)

    def _cannot_count(self, tally: Counters, error: Exception) -> None:
        """One that fails to count harms nobody, and is left out from then on."""
        self.listeners.remove_tally(tally)
        self.log.write(logging.ERROR, "supervisor.counting_failed", exc_info=error)

    def stuck(self, run: Run, reason: str, stack: str | None) -> None:
        """Tells that a run gave no sign of life in time, and where it stands."""
        fields = {"worker": run.name, "kind": run.kind.name, "attempt": run.attempt, "reason": reason}
        if stack is not None:
            fields["stack"] = stack
        self.log.write(logging.WARNING, "worker.stuck", **fields)

    def late_end(self, run: Run) -> None:
        """Tells that an abandoned run has ended after all."""
        self.log.write(
            logging.WARNING,
            "worker.late_end",
            worker=run.name,
            kind=run.kind.name,
            attempt=run.attempt,
            elapsed=round(self._clock() - run.submitted_at, 6),
        )
        self.news(LateReturn(run))

    def callback_failed(self, run: Run, callback: str, error: BaseException) -> None:
        self.log.write(logging.ERROR, "worker.callback_failed", worker=run.name, callback=callback, exc_info=error)

    def errand_left(self, run: Run, function: str, stack: str) -> None:
        """Tells that what a worker had the loop do was cancelled, and does not end."""
        fields = {"worker": run.name, "kind": run.kind.name, "attempt": run.attempt, "function": function}
        self.log.write(logging.WARNING, "worker.call_left", **fields, stack=stack)

    def callback_blocked(self, run: Run, callback: str) -> None:
        self.log.write(logging.WARNING, "worker.callback_blocked", worker=run.name, callback=callback)

    def blocked_callbacks(self, run: Run) -> None:
        """Tells of each callback of `on_stop` that still runs."""
        ctx = run.ctx
        for registration in () if ctx is None else tuple(ctx.registrations):
            if registration.running:
                self.callback_blocked(run, qualname(registration.callback))


def _level(run: Run, step: StepName | None, outcome: Outcome | None) -> int:
    if outcome is not None and (outcome.ended in ("abandoned", "died") or (outcome.ended == "failed" and run.own)):
        return logging.ERROR
    if outcome is None and step == Kill.name:
        return logging.ERROR
    if outcome is None and step is not None and step != Ask.name:
        return logging.WARNING
    return logging.INFO if run.own else logging.DEBUG


def _before_the_end(run: Run, outcome: Outcome) -> WorkerState:
    if outcome.step is not None:
        return "stopping"
    if run.started_at:
        return "running"
    return "starting" if run.own else "queued"
