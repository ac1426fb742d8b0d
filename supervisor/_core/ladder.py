"""Pure: the life of one run, as a table. No clock, no I/O, no await.

`decide` takes the state, what happened, the present moment and the rules, and answers with the next state and with
the commands that the runtime is to carry out. Everything that decides how a worker is stopped is in this file.

    queued ──┐
    starting ┴─ Entered ─▶ running ─ StopAsked ─▶ stopping ─ Exited | Abandoned ─▶ ended
       │                      │                    │    ▲
       └ StopAsked, Exited    └ Exited             └────┘ TimePassed (the next step), StopAsked (a nearer deadline),
         ─▶ ended               ─▶ ended                  GraceAsked (more time)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never

from .policy import LADDER, Ask, Inject, Kill, Step, StepName

if TYPE_CHECKING:
    from .outcome import Ended

__all__ = [
    "Abandon",
    "Abandoned",
    "Cause",
    "Command",
    "Conclude",
    "EndedState",
    "Entered",
    "Event",
    "Exited",
    "GraceAsked",
    "NoteLateEnd",
    "Perform",
    "Queued",
    "Rules",
    "Running",
    "Starting",
    "State",
    "StopAsked",
    "Stopping",
    "TimePassed",
    "WakeAt",
    "decide",
    "hurried",
]

LAST_LEAST = 0.05
"""Seconds below which the grace of a last step is not shrunk, as long as those before it can give them."""

KILL_LEAST = 0.1
"""The same for a process that was killed; the kernel has as many whatever the policy says."""

Cause: TypeAlias = Literal["cancel", "timeout", "stop", "stuck", "limit", "shutdown"]
"""Why a stop began. The first cause stays: it decides how `run()` ends."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is fixed for one run.

    Attributes:
        steps: Its ladder.
        own_steps: Its ladder when a call's own cancellation or timeout is the cause.
        patience: Seconds from the beginning of a stop beyond which `extend` cannot push its end, outside a shutdown.
        limit_steps: Its ladder when it uses more than it may; None: `steps`.
    """

    steps: tuple[Step, ...]
    own_steps: tuple[Step, ...]
    patience: float
    limit_steps: tuple[Step, ...] | None = None

    def ladder(self, cause: Cause) -> tuple[Step, ...]:
        steps = self.own_steps if cause in ("cancel", "timeout") else self.steps
        if cause == "limit" and self.limit_steps is not None:
            steps = self.limit_steps
        if steps and isinstance(steps[-1], Kill) and steps[-1].grace < KILL_LEAST:
            return (*steps[:-1], replace(steps[-1], grace=KILL_LEAST))
        return steps

    def elsewhere(self, margin: float) -> Rules:
        """Returns the rules of who has all of this done elsewhere: one step, with the time of all, and a margin."""
        causes: tuple[Cause, ...] = ("stop", "cancel", "limit")
        ladder, own, limit = ((Ask(math.fsum(step.grace for step in self.ladder(cause)) + margin),) for cause in causes)
        return Rules(ladder, own, self.patience + margin, limit)


# ------------------------------------------------------------------------------------------------ states


@dataclass(frozen=True, slots=True)
class Queued:
    """Waits for a thread or process of the pool."""


@dataclass(frozen=True, slots=True)
class Starting:
    """Its own thread or process is being started."""


@dataclass(frozen=True, slots=True)
class Running:
    """The function has been entered."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """Climbs the ladder.

    Attributes:
        cause: Why; the first cause stays.
        step: The present step.
        later: The steps still to come, with their graces as they are now.
        began_at: When the stop began.
        ends_at: When the grace of the present step ends; `inf` once nothing is left to try.
        again_at: When the present step is performed again; `inf` for never.
        deadline: When the last grace must have ended; `inf` outside a shutdown.
    """

    cause: Cause
    step: Step
    later: tuple[Step, ...]
    began_at: float
    ends_at: float
    again_at: float = math.inf
    deadline: float = math.inf


@dataclass(frozen=True, slots=True)
class EndedState:
    """Concluded, once and for all."""

    ended: Ended
    step: StepName | None = None


State: TypeAlias = Queued | Starting | Running | Stopping | EndedState

# ------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Entered:
    """The function has been entered."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants it stopped. To a run that has not been entered, this promises that it never will be."""

    cause: Cause
    deadline: float = math.inf


@dataclass(frozen=True, slots=True)
class TimePassed:
    """It is `now`: perhaps a moment that `WakeAt` named, perhaps earlier."""


@dataclass(frozen=True, slots=True)
class GraceAsked:
    """The worker asks for more time on the present step."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Exited:
    """The run has really ended: its function, or its process."""

    returned: bool
    died: bool = False


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The run was given up while it still goes on: nothing waits for it any more."""


Event: TypeAlias = Entered | StopAsked | TimePassed | GraceAsked | Exited | Abandoned

# ------------------------------------------------------------------------------------------------ commands


@dataclass(frozen=True, slots=True)
class Perform:
    """Carry out a step; `again` where it has been carried out before."""

    step: Step
    again: bool = False


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send TimePassed at this moment."""

    at: float


@dataclass(frozen=True, slots=True)
class Abandon:
    """Give the run up, and answer with Abandoned; or, if it has ended meanwhile, with Exited.

    Attributes:
        inject: Leave an exception pending, so that a thread that is blocked in C dies when its call returns.
    """

    inject: bool


@dataclass(frozen=True, slots=True)
class Conclude:
    """Hand the outcome to everybody who waits; this comes exactly once for a run."""

    ended: Ended
    step: StepName | None = None


@dataclass(frozen=True, slots=True)
class NoteLateEnd:
    """An abandoned run has ended after all: say so, change nothing."""


Command: TypeAlias = Perform | WakeAt | Abandon | Conclude | NoteLateEnd
Decision: TypeAlias = tuple[State, tuple[Command, ...]]

# ------------------------------------------------------------------------------------------------ the table


def decide(state: State, event: Event, now: float, rules: Rules) -> Decision:
    """Returns the next state of a run and what is to be done. Total: every state answers every event."""
    match state:
        case Queued() | Starting():
            return _before_entry(state, event)
        case Running():
            return _running(state, event, now, rules)
        case Stopping():
            return _stopping(state, event, now, rules)
        case EndedState():
            return _ended(state, event)
        case _:
            assert_never(state)


def _before_entry(state: Queued | Starting, event: Event) -> Decision:
    match event:
        case Entered():
            return Running(), ()
        case StopAsked():
            return _conclude("cancelled")
        case Exited(returned=returned):  # it could not be started, or was over before anybody looked
            return _conclude("returned" if returned else "failed")
        case TimePassed() | GraceAsked() | Abandoned():
            return state, ()
        case _:
            assert_never(event)


def _running(state: Running, event: Event, now: float, rules: Rules) -> Decision:
    match event:
        case StopAsked(cause=cause, deadline=deadline):
            step, *later = rules.ladder(cause) or (Ask(0.0),)  # nobody is given up without having been asked
            begun = _begin(cause, step, tuple(later), now, began_at=now, deadline=deadline)
            return _climb(_fit(begun, now), now, [Perform(step)])
        case Exited(returned=returned, died=died):
            return _conclude("died" if died else "returned" if returned else "failed")
        case Entered() | TimePassed() | GraceAsked() | Abandoned():
            return state, ()
        case _:
            assert_never(event)


def _stopping(state: Stopping, event: Event, now: float, rules: Rules) -> Decision:
    match event:
        case TimePassed():
            return _climb(state, now, [])
        case StopAsked(cause=cause, deadline=deadline):
            # A shutdown brings the whole ladder to a run that was being stopped by a shorter one.
            later = _joined(state, rules.ladder(cause))
            nearer = replace(state, later=later, deadline=min(state.deadline, deadline))
            return _climb(state if nearer == state else _fit(nearer, now), now, [])
        case GraceAsked(seconds=seconds):
            return _extended(state, seconds, rules), ()
        case Exited():
            return _conclude(state.step.ended, state.step.name)
        case Abandoned():
            return _conclude("abandoned", state.step.name)
        case Entered():
            return state, ()
        case _:
            assert_never(event)


def _ended(state: EndedState, event: Event) -> Decision:
    match event:
        case Exited() if state.ended == "abandoned":
            return state, (NoteLateEnd(),)
        case Exited() | Entered() | StopAsked() | TimePassed() | GraceAsked() | Abandoned():
            return state, ()
        case _:
            assert_never(event)


def _conclude(ended: Ended, step: StepName | None = None) -> Decision:
    return EndedState(ended, step), (Conclude(ended, step),)


# ------------------------------------------------------------------------------------------------ the ladder's times


def _climb(state: Stopping, now: float, commands: list[Command]) -> Decision:
    """Begins every step whose time has come; a grace of 0 is over at once."""
    while state.ends_at <= now:
        if not state.later:
            commands.append(Abandon(inject=isinstance(state.step, Inject)))
            return replace(state, ends_at=math.inf, again_at=math.inf), tuple(commands)
        step, *later = state.later
        # Fitted anew, as the alarm may have come late: lateness does not add up.
        begun = _begin(state.cause, step, tuple(later), now, began_at=state.began_at, deadline=state.deadline)
        state = _fit(begun, now)
        if not later:  # the last one keeps its moment: who obeys at once is not to be given up as the loop was late
            state = replace(state, ends_at=max(state.ends_at, now + min(step.grace, _least(step))))
        commands.append(Perform(step))
    if state.again_at <= now and isinstance(state.step, Inject):
        state = replace(state, again_at=now + state.step.every)
        commands.append(Perform(state.step, again=True))
    wake_at = min(state.ends_at, state.again_at)
    if wake_at < math.inf:
        commands.append(WakeAt(wake_at))
    return state, tuple(commands)


def _begin(
    cause: Cause, step: Step, later: tuple[Step, ...], now: float, *, began_at: float, deadline: float
) -> Stopping:
    again_at = now + step.every if isinstance(step, Inject) else math.inf
    return Stopping(cause, step, later, began_at, now + step.grace, again_at, deadline)


def _fit(state: Stopping, now: float) -> Stopping:
    """Shrinks all remaining graces where they would not end by the deadline; an infinite one counts as what is left."""
    if state.deadline == math.inf:
        return state
    left = max(0.0, state.deadline - now)
    graces = [max(0.0, state.ends_at - now), *(step.grace for step in state.later)]
    if math.fsum(graces) <= left:
        return state
    last = state.later[-1] if state.later else state.step
    finite = [left if math.isinf(grace) else grace for grace in graces]
    present, *later = _shrunk(finite, left, _least(last))
    return replace(
        state,
        ends_at=min(now + present, state.deadline),
        later=tuple(replace(step, grace=grace) for step, grace in zip(state.later, later, strict=True)),
    )


def _shrunk(graces: list[float], left: float, least: float) -> list[float]:
    """Shrinks all by one factor, so that each step still happens; the last one has `least`, or half of what is left."""
    *before, last = graces
    total = math.fsum(graces)
    factor = left / total if total > left else 1.0
    kept = max(last * factor, min(last, least, left / 2))
    if before and kept > last * factor:
        factor = (left - kept) / math.fsum(before)
    return [*(grace * factor for grace in before), kept]


def _least(step: Step) -> float:
    return KILL_LEAST if isinstance(step, Kill) else LAST_LEAST


def hurried(state: Stopping) -> Stopping:
    """Returns the state once its next step, if any, has been performed before its time; no alarm is to ring for it."""
    if not state.later:  # who has heard of the step has acted on it
        return state
    step, *later = state.later
    return replace(state, step=step, later=tuple(later), ends_at=math.inf, again_at=math.inf)


def _joined(state: Stopping, ladder: tuple[Step, ...]) -> tuple[Step, ...]:
    """Returns the steps still to come, with those of `ladder` that stand above the present one and are missing."""
    planned = {type(step) for step in state.later}
    above = LADDER[LADDER.index(type(state.step)) + 1 :]
    missing = (step for step in ladder if type(step) in above and type(step) not in planned)
    return tuple(sorted((*state.later, *missing), key=lambda step: LADDER.index(type(step))))


def _extended(state: Stopping, seconds: float, rules: Rules) -> Stopping:
    """Moves the end of the present step, never into the graces that come after it."""
    limit = state.deadline if state.deadline < math.inf else state.began_at + rules.patience
    reserved = math.fsum(step.grace for step in state.later if step.grace < math.inf)
    return replace(state, ends_at=max(state.ends_at, min(state.ends_at + seconds, limit - reserved)))
