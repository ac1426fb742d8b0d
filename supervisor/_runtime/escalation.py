"""Drives the climb of each run that is stopped: feeds the state machine, and carries out what it commands."""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING, assert_never

from .._core.failures import WorkerStopped
from .._core.ladder import (
    Abandon,
    Abandoned,
    Command,
    Conclude,
    EndedState,
    Entered,
    Event,
    Exited,
    GraceAsked,
    NoteLateEnd,
    Perform,
    Queued,
    Rules,
    Starting,
    StopAsked,
    Stopping,
    TimePassed,
    WakeAt,
    decide,
    hurried,
)
from .._core.outcome import Outcome
from .._core.policy import Ask, Inject
from .._loop import aside
from .._loop.errors import insist
from .._observe.publisher import blocked_callbacks
from .._run.climb import REASONS, Climb
from .nodes import unlist_call
from .outcomes import outcome_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._core.ladder import Cause
    from .._core.outcome import Ended
    from .._core.policy import Step, StepName
    from .._loop.alarms import Alarms
    from .._loop.inbox import Inbox
    from .._observe.log import Log
    from .._observe.publisher import Publisher
    from .._run.run import Run
    from .portal import Portal
    from .wakeups import WakeUps

__all__ = ["Escalation"]

ASKED_LEAST = 0.05
"""Seconds that a run has for its ladder in any case, unless its caller bounds it."""

CLIMB_ON = 0.02
"""Seconds after which a run climbs on where its alarm could not be set."""

NO_RULES = Rules((), (), 0.0)
"""For runs that nobody stops: the machine does not look at them."""


class Escalation:
    """Stops runs, and concludes them. On the loop's thread, unless a method says otherwise.

    Args:
        rules: Returns the rules of a run.
        wakeups: Wakes the workers that have been asked.
        asks_many: Says whether a shutdown is asking many at once: what is done once for all of them is not done for
            each.
        run_ended: Is called when a run has concluded, or a run that was given up has ended: what waits for that may go
            on.

    Attributes:
        abandoned: The runs that were given up and have not come back, by their numbers.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        inbox: Inbox[Run | Callable[[], object]],
        alarms: Alarms[Run],
        log: Log,
        publisher: Publisher,
        portal: Portal,
        *,
        rules: Callable[[Run], Rules],
        wakeups: WakeUps,
        asks_many: Callable[[], bool],
        run_ended: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._call_soon = partial(aside.call_soon, loop)
        self._clock = clock
        self._inbox = inbox
        self._alarms = alarms
        self._log = log
        self._publisher = publisher
        self._portal = portal
        self._rules = rules
        self._wakeups = wakeups
        self._asks_many = asks_many
        self._run_ended = run_ended
        self._injection_missing = False  # and the log says so
        self._reminds = False  # those that were abandoned are about to be injected into once more
        self.abandoned: dict[int, Run] = {}

    # ------------------------------------------------------------------------------------ stopping

    def stop(self, run: Run, cause: Cause, reason: str = "") -> None:
        """Begins to stop a run; of one that is being stopped, a shutdown can only shorten the ladder.

        So can a limit: what it takes meanwhile, others lack.
        """
        if run.climb is None:
            self._inbox.catch_up()  # it may have been entered, or have ended, unheard
            self.catch_up(run)
        if run.over or run.ending:
            return
        if run.climb is None:
            if not self._asks_many():
                self._log.refresh()
            if not self.give_climb(run, cause, reason):
                return
        elif cause not in ("limit", "shutdown") and isinstance(run.climb.state, Stopping | EndedState):
            self._work_for(run, run.climb)  # else an interrupt has kept the machine from hearing of it
            return
        self.ask_to_stop(run, cause)

    def ask_to_stop(self, run: Run, cause: Cause) -> None:
        """Tells the machine. A shutdown that has no time left gives each a moment: who obeys is not to be given up."""
        deadline = max(run.owner.deadline(run), self._clock() + ASKED_LEAST)
        if cause == "limit":
            deadline = min(deadline, self._clock() + self.budget(run, cause))
        before = None if run.climb is None else run.climb.state
        self.feed(run, StopAsked(cause, min(deadline, run.ends_by)))
        after = None if run.climb is None else run.climb.state
        sooner = isinstance(before, Stopping) and isinstance(after, Stopping) and after != before
        if sooner and not run.kind.own_threads:
            self.have_performed(run, Ask(0.0))  # its process, or its node, hears that it has less time

    def publish_queued(self, run: Run) -> None:
        """Publishes that a call of an executor has come in: when the loop hears of it, or before it is stopped."""
        if run.unheard:
            run.unheard = False
            self._publisher.transition(run, None, "queued")

    def stop_soon(self, run: Run) -> None:
        """Begins to stop a run that its caller has cancelled. Any thread."""
        try:  # not through the inbox, which takes a turn of the loop more
            aside.call_soon_threadsafe(self._loop, self.stop, run, "cancel")
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def ask_alone(self, run: Run) -> None:
        """Asks a thread that carries out a run, and leaves it at that: the loop is gone, and with it the ladder."""
        if run.kind.own_threads and run.handle is not None and run.climb is None and not run.over:
            run.climb = run.asked = Climb(run.state, "shutdown", "the event loop is gone", self._clock(), NO_RULES)
            run.kind.perform(run, Ask(0.0))

    def give_climb(self, run: Run, cause: Cause, reason: str) -> bool:
        """From here on the machine decides about the run; if it has not been entered, it never will be.

        False where the thread that ran an executor's call is just now ending it by itself.
        """
        if run.settle is not None and not run.settle.acquire(False):
            return False
        self.publish_queued(run)
        run.climb = climb = Climb(run.state, cause, reason or REASONS[cause], self._clock(), self._rules(run))
        self._claim(run, climb)
        return True

    def _claim(self, run: Run, climb: Climb) -> None:
        """Sees to it that a run which has not been entered never will be; or else has the machine know that it was.

        After an interrupt it is done again, when the claim may be this thread's own.
        """
        again, climb.claiming = climb.claiming, True
        if run.claim():
            return
        # A process is given its run on this thread: one that was claimed without it has been withdrawn by its caller.
        entered = run.handle is not None or (run.kind.own_threads and not again)
        if entered and isinstance(climb.state, Queued | Starting):
            with climb.lock:  # the worker may ask for more time
                climb.state, _ = decide(climb.state, Entered(), climb.began_at, climb.rules)

    def budget(self, run: Run, cause: Cause) -> float:
        """Returns how many seconds the ladder of a run takes that is stopped for this cause."""
        return math.fsum(step.grace for step in self._rules(run).ladder(cause))

    def end_of(self, run: Run) -> asyncio.Future[None]:
        """Returns a future that is done once a run that is being stopped has concluded."""
        end = self._loop.create_future()
        if run.over or run.climb is None:
            end.set_result(None)
        else:
            run.climb.waiters.append(end)
        return end

    def catch_up(self, run: Run) -> None:
        """What has come in time is heard first; whatever that leads to, the ladder goes on."""
        insist(lambda error: self._publisher.fault("catch_up", run.name, error), run.kind.catch_up, run)

    # ------------------------------------------------------------------------------------ time

    def rung(self, run: Run) -> None:
        """An alarm of a run has rung: it climbs on, or its time is over; what has come in time is heard first."""
        self.catch_up(run)
        if run.over or run.ending:
            return
        if run.climb is not None:
            self.feed(run, TimePassed())
        elif run.expires_at is None:
            return
        elif self._clock() < run.expires_at:
            if run.expires_at < math.inf:
                self._alarms.set(run.expires_at, run)
        elif run.own and run.handle is None:
            aside.call_later(self._loop, 0, self._judge_start, run)  # the loop reads what has come before it calls this
        elif run.own and self._inbox.behind:
            self._inbox.post(partial(self._judge, run))  # what it has said may still be in there
        else:
            run.owner.expired(run)

    def _judge_start(self, run: Run) -> None:
        """Gives a worker its time anew whose process was there, where the loop came too late to hand it over."""
        if run.handle is not None and run.expires_at is not None and self._clock() >= run.expires_at:
            run.expires_at += self._clock() - run.submitted_at
            self._alarms.set(run.expires_at, run)
        else:
            self._judge(run)

    def _judge(self, run: Run) -> None:
        """All has been heard that a worker has said until its time was over."""
        if not (run.over or run.climb is not None or run.expires_at is None) and self._clock() >= run.expires_at:
            run.owner.expired(run)

    def extend(self, run: Run, seconds: float) -> float:
        """Grants more time on the present step. Any thread: the alarm rings too early then, which hurts nobody."""
        climb = run.climb
        if climb is None:
            return 0.0
        with climb.lock:
            before = climb.state
            after, _ = decide(before, GraceAsked(seconds), self._clock(), climb.rules)
            climb.state = after
        if not (isinstance(before, Stopping) and isinstance(after, Stopping)):
            return 0.0
        return seconds if math.isinf(before.ends_at) else after.ends_at - before.ends_at

    def remaining(self, run: Run) -> float:
        """Returns the seconds until the next step. Any thread."""
        state = run.climb.state if run.climb is not None else None
        return max(0.0, state.ends_at - self._clock()) if isinstance(state, Stopping) else math.inf

    # ------------------------------------------------------------------------------------ the machine

    def feed(self, run: Run, event: Event) -> None:
        """Feeds the machine, and carries out what it commands, with what an interrupt has left undone before."""
        climb = run.climb
        if climb is None:
            _, commands = decide(run.state, event, self._clock(), NO_RULES)
            for command in commands:
                self._carry_out_next(run, command)
            return
        if isinstance(climb.state, Queued | Starting):
            self._claim(run, climb)
        with climb.lock:
            state, commands = decide(climb.state, event, self._clock(), climb.rules)
            climb.agenda.todo += commands  # no call stands between these two: an interrupt finds both done, or none
            climb.state = state
        self._work_for(run, climb)

    def _work_for(self, run: Run, climb: Climb) -> None:
        climb.agenda.work(self._call_soon, self._carry_out_next, run)

    def _carry_out_next(self, run: Run, command: Command) -> None:
        if not insist(partial(self._report, run, command), self._carry_out, run, command):
            self._carry_out_simply(run, command)
        if self._portal.open:
            self._portal.fit(run)

    def _report(self, run: Run, command: Command, error: Exception) -> None:
        self._publisher.fault(type(command).__name__, run.name, error)

    def _carry_out_simply(self, run: Run, command: Command) -> None:
        """Does what matters of a command that has failed twice: no failure may keep a ladder from coming to its end."""
        match command:
            case WakeAt():
                aside.call_later(self._loop, CLIMB_ON, self.rung, run)
            case Abandon():
                self._mark_abandoned(run)
            case Conclude(ended=ended, step=step_name):
                self.conclude_simply(run, ended, step_name)
            case Perform(step=step):  # without what is published of it
                run.asked = run.climb
                insist(partial(self._report, run, command), self.have_performed, run, step)
            case NoteLateEnd():
                pass
            case _:
                assert_never(command)

    def _carry_out(self, run: Run, command: Command) -> None:
        match command:
            case Perform(step=step, again=again):
                self._perform(run, step, again)
            case WakeAt(at=at):
                self._alarms.set(at, run)
            case Abandon(inject=inject):
                self.abandon(run, inject)
            case Conclude(ended=ended, step=step_name):
                self.conclude(run, ended, step_name)
            case NoteLateEnd():
                self._note_late_end(run)
            case _:
                assert_never(command)

    def _perform(self, run: Run, step: Step, again: bool) -> None:
        climb = run.climb
        assert climb is not None
        first = run.asked is None
        run.asked = climb
        if not isinstance(step, Ask):
            climb.stack = climb.stack or run.kind.stack(run)
        blocked = [] if first or again else blocked_callbacks(run)  # first: by the step the function may end
        self.have_performed(run, step)
        if isinstance(step, Ask):
            self._wakeups.announce()
        if not again:
            self._publisher.transition(run, "running" if first else "stopping", "stopping", step=step.name)
            self._publisher.callbacks_blocked(run, blocked)

    def have_performed(self, run: Run, step: Step) -> None:
        """Has the run's kind perform a step; where it cannot, that is logged once."""
        missing = run.kind.perform(run, step)
        if missing is None:
            if isinstance(step, Inject) and run.climb is not None:
                run.climb.injected = step
        elif not self._injection_missing:
            self._injection_missing = True
            self._log.write(logging.WARNING, "supervisor.injection_missing", reason=missing)

    def hurry(self, run: Run, climb: Climb) -> None:
        """Has all steps performed at once that are left. The machine knows of each: by the last one the run has ended.

        First the step, then what is known: an interrupt has one performed twice, and leaves none out.
        """
        while isinstance(climb.state, Stopping) and climb.state.later:
            self.have_performed(run, climb.state.later[0])
            with climb.lock:  # the worker may ask for more time
                if isinstance(climb.state, Stopping):
                    climb.state = hurried(climb.state)

    def stepped(self, run: Run, step: StepName, stack: str | None) -> None:
        """Publishes a step that is performed on a run elsewhere, where its ladder is climbed."""
        if run.over:
            return
        if run.climb is not None and stack is not None:
            run.climb.stack = run.climb.stack or stack
        self._publisher.transition(run, "running" if run.climb is None else "stopping", "stopping", step=step)

    # ------------------------------------------------------------------------------------ giving up

    def abandon(self, run: Run, inject: bool) -> None:
        self._inbox.catch_up()
        climb = run.climb
        assert climb is not None
        if isinstance(climb.state, EndedState) or run.ending:
            return  # it has ended meanwhile, and is about to be concluded
        climb.stack = climb.stack or run.kind.stack(run)
        self._publisher.callbacks_blocked(run, blocked_callbacks(run))
        if inject and isinstance(climb.state, Stopping):
            self.have_performed(run, climb.state.step)
        self._mark_abandoned(run)

    def _mark_abandoned(self, run: Run) -> None:
        if run.kind.abandon(run):
            self.abandoned[run.number] = run
            self.feed(run, Abandoned())
        elif not run.over:  # its end has been said by now, and is heard here if it was not
            self.feed(run, Exited(run.returned, run.died))

    def _remind_abandoned(self) -> None:
        """Before Python 3.13 one exception that is delivered keeps the others from being noticed: set them again.

        Once for all that end in this turn of the loop.
        """
        if self.abandoned and not self._reminds:
            self._call_soon(self._remind)
            self._reminds = True

    def _remind(self) -> None:
        try:
            self._reminds = False
            for run in tuple(self.abandoned.values()):
                if run.climb is not None and run.climb.injected is not None:
                    self.have_performed(run, run.climb.injected)
        except (KeyboardInterrupt, SystemExit):
            self._call_soon(self._remind)
            raise

    def _note_late_end(self, run: Run) -> None:
        if self.abandoned.pop(run.number, None) is None:
            return
        run.kind.came_back(run)
        run.let_go()
        run.node = None
        self._publisher.late_return(run)
        self._run_ended()

    # ------------------------------------------------------------------------------------ the end of a run

    def conclude(self, run: Run, ended: Ended, step: StepName | None) -> None:
        """Hands a run's outcome to its owner, and lets go of it. Idempotent in each part."""
        if run.given_name is None:
            run.given_name = run.name  # it outlives the function
        outcome = outcome_of(run, ended, step, self._clock())
        run.owner.concluded(run, outcome)
        self._let_go(run, outcome)
        if ended == "injected":
            self._remind_abandoned()
        self._run_ended()
        self._part(run)
        if ended == "cancelled":
            run.climb = run.asked = None  # nobody was asked; its future may hold the run for long

    def conclude_simply(self, run: Run, ended: Ended, step: StepName | None) -> None:
        """Does the same where that has failed: no part of it keeps the others from being done."""
        outcome = Outcome(run.name, run.kind.name, run.attempt, ended, step)
        report = partial(self._report, run, Conclude(ended, step))
        if not insist(report, run.owner.concluded, run, outcome):
            insist(report, self.answer, run, outcome)
        insist(report, self._let_go, run, outcome)
        insist(report, self._run_ended)
        self._part(run)

    def _part(self, run: Run) -> None:
        """Parts a run from its worker, whose outcome holds an error, whose traceback holds the run by its context."""
        if run.number not in self.abandoned:  # of those, losses want to know
            run.node = None

    def answer(self, run: Run, outcome: Outcome) -> None:
        """Has nobody wait any longer for a run that its owner could not conclude."""
        self._publisher.incidents.note(run, outcome)
        run.over = True
        unlist_call(run)
        if run.future is not None and not run.future.done():
            run.future.set_exception(WorkerStopped(outcome))
        if run.entry is not None and not run.entry.done():
            run.entry.set_result(None)

    def _let_go(self, run: Run, outcome: Outcome) -> None:
        if run.climb is not None:
            if outcome.ended == "abandoned":
                run.climb.outcome = outcome
            for waiter in run.climb.waiters:
                if not waiter.done():
                    waiter.set_result(None)
        run.let_go()
