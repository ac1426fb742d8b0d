"""Pure: the life of a worker of `start()` across its runs. No clock, no I/O, no await, no dice.

    up ── RunEnded ─▶ backing off ── TimePassed ─▶ up          and from anywhere StopAsked, and what is not
       │                  ▲                                    to be started again, lead to over
       └── RunEnded, with another restart allowed ─┘

How one run is stopped is decided in `_machine`; here is decided whether another one follows it, and when.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

if TYPE_CHECKING:
    from .outcome import Ended
    from .restart import Restart

__all__ = [
    "BackingOff",
    "Finish",
    "LifeCommand",
    "LifeEvent",
    "LifeState",
    "Over",
    "RestartAsked",
    "RunEnded",
    "StartRun",
    "StopAsked",
    "StopRun",
    "TimePassed",
    "Up",
    "WakeAt",
    "decide_life",
]

# ------------------------------------------------------------------------------------------------ states


@dataclass(frozen=True, slots=True)
class Up:
    """A run is under way, from its launch to its end.

    Attributes:
        since: When it began.
        restarts: The moments of the restarts that count against the limit, the oldest first.
        streak: How many restarts in a row have come without a long run in between.
        asked: Somebody wants the worker to end with this run.
        again: Somebody wants another run after this one, whatever the policy says.
    """

    since: float
    restarts: tuple[float, ...] = ()
    streak: int = 0
    asked: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class BackingOff:
    """Waits for its next run.

    Attributes:
        due_at: When that is due.
        restarts, streak: As in `Up`, this restart included.
    """

    due_at: float
    restarts: tuple[float, ...]
    streak: int


@dataclass(frozen=True, slots=True)
class Over:
    """There is no other run."""


LifeState: TypeAlias = Up | BackingOff | Over

# ------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run has ended, or was given up.

    Attributes:
        ended: How.
        stuck: It was stopped because its heartbeat was missing, or it did not become ready in time.
        barred: It raised one of the policy's `never_on`.
        chance: A random number from 0 to 1.
    """

    ended: Ended
    stuck: bool = False
    barred: bool = False
    chance: float = 0.5


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants the worker to end for good."""


@dataclass(frozen=True, slots=True)
class RestartAsked:
    """Somebody wants the worker to begin anew."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """It is `now`: perhaps a moment that `WakeAt` named, perhaps earlier."""


LifeEvent: TypeAlias = RunEnded | StopAsked | RestartAsked | TimePassed

# ------------------------------------------------------------------------------------------------ commands


@dataclass(frozen=True, slots=True)
class StartRun:
    """Begin the next run."""


@dataclass(frozen=True, slots=True)
class StopRun:
    """Climb the ladder of the run that is under way."""


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send TimePassed at this moment."""

    at: float


@dataclass(frozen=True, slots=True)
class Finish:
    """The worker has ended; this comes exactly once in a life.

    Attributes:
        exhausted: The limit of restarts was exceeded, or the run that another was to follow has not really ended.
    """

    exhausted: bool = False


LifeCommand: TypeAlias = StartRun | StopRun | WakeAt | Finish
LifeDecision: TypeAlias = tuple[LifeState, tuple[LifeCommand, ...]]

# ------------------------------------------------------------------------------------------------ the table


def decide_life(state: LifeState, event: LifeEvent, now: float, restart: Restart) -> LifeDecision:
    """Returns the next state of a worker and what is to be done. Total: every state answers every event."""
    match state:
        case Up():
            return _up(state, event, now, restart)
        case BackingOff():
            return _backing_off(state, event, now)
        case Over():
            return state, ()
        case _:
            assert_never(state)


def _up(state: Up, event: LifeEvent, now: float, restart: Restart) -> LifeDecision:
    match event:
        case StopAsked():
            return Up(state.since, state.restarts, state.streak, asked=True), (StopRun(),)
        case RestartAsked():
            return state if state.asked else replace(state, again=True), (StopRun(),)
        case RunEnded():
            return _after_run(state, event, now, restart)
        case TimePassed():
            return state, ()
        case _:
            assert_never(event)


def _after_run(state: Up, event: RunEnded, now: float, restart: Restart) -> LifeDecision:
    if state.asked:
        return Over(), (Finish(),)
    if not state.again and not _wanted(event, restart):
        return Over(), (Finish(),)
    if event.ended == "abandoned":
        return Over(), (Finish(exhausted=True),)  # two runs of one worker would go on side by side
    if state.again:
        return Up(now, state.restarts), (StartRun(),)
    restarts = tuple(at for at in state.restarts if now - at < restart.within)
    if len(restarts) >= restart.max_restarts:
        return Over(), (Finish(exhausted=True),)
    streak = 0 if now - state.since >= restart.within else state.streak
    delay = restart.delay(streak, event.chance)
    waiting = BackingOff(now + delay, (*restarts, now), streak + 1)
    return _backing_off(waiting, TimePassed(), now) if delay == 0 else (waiting, (WakeAt(waiting.due_at),))


def _wanted(event: RunEnded, restart: Restart) -> bool:
    """Whether the policy has another run follow this one."""
    if restart.when == "never" or event.barred:
        return False
    failed = event.stuck or event.ended in ("failed", "died")
    return failed or (restart.when == "always" and event.ended == "returned")


def _backing_off(state: BackingOff, event: LifeEvent, now: float) -> LifeDecision:
    match event:
        case TimePassed() if now < state.due_at:
            return state, (WakeAt(state.due_at),)
        case TimePassed() | RestartAsked():
            return Up(now, state.restarts, state.streak), (StartRun(),)
        case StopAsked():
            return Over(), (Finish(),)
        case RunEnded():
            return state, ()
        case _:
            assert_never(event)
