"""Pure: the life of a worker of `start()`, or of a group, across its runs. No clock, no I/O, no await, no dice.

    up ── RunEnded ─▶ backing off ── TimePassed ─▶ held ── TurnCame ─▶ up
     └─── RunEnded, without a pause ─────────────────┘

From anywhere StopAsked leads to over, and so does the end of a run that no other one follows.

How one run is stopped is decided in `ladder`; here is decided whether another one follows it, and when. Which member of
a group has its turn is decided in `strategy`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

if TYPE_CHECKING:
    from .outcome import Ended
    from .restart import Restart

__all__ = [
    "AskTurn",
    "BackingOff",
    "Finish",
    "Held",
    "LifeCommand",
    "LifeEvent",
    "LifeState",
    "NoteRestart",
    "Over",
    "Past",
    "Readied",
    "RestartAsked",
    "RunEnded",
    "StartRun",
    "StopAsked",
    "StopRun",
    "TimePassed",
    "TurnCame",
    "Up",
    "WakeAt",
    "decide_life",
]

# ------------------------------------------------------------------------------------------------ states


@dataclass(frozen=True, slots=True)
class Past:
    """What a worker has behind it, whatever its state.

    Attributes:
        attempt: Its present run, or its last one, counted from 1; 0: it has had none.
        restarts: The moments of the restarts that count against the limit, the oldest first.
        streak: How many restarts in a row have come without a long run in between.
        started: It has been ready once, or its group has started it. Before that, a failure is that of its first start.
    """

    attempt: int = 0
    restarts: tuple[float, ...] = ()
    streak: int = 0
    started: bool = False


@dataclass(frozen=True, slots=True)
class Up:
    """A run is under way, from its launch to its end.

    Attributes:
        since: When it began.
        past: What came before, this run's number included.
        asked: Somebody wants the worker to end with this run.
        kept: That was its group, which starts it again when the group itself is started again.
        again: Somebody wants another run after this one, whatever the policy says.
    """

    since: float
    past: Past
    asked: bool = False
    kept: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class BackingOff:
    """Waits for the moment at which its next run is due.

    Attributes:
        due_at: That moment.
        past: What came before, this restart included.
    """

    due_at: float
    past: Past


@dataclass(frozen=True, slots=True)
class Held:
    """Its next run is due, and waits for its turn in the group, and for what it comes after."""

    past: Past


@dataclass(frozen=True, slots=True)
class Over:
    """There is no other run."""

    past: Past


LifeState: TypeAlias = Up | BackingOff | Held | Over

# ------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class TurnCame:
    """The next run may begin now."""


@dataclass(frozen=True, slots=True)
class Readied:
    """The present run has become ready."""


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run has ended, or was given up.

    Attributes:
        ended: How.
        stuck: It was stopped because its heartbeat was missing, it did not become ready in time, or used too much.
        barred: It raised one of the policy's `never_on`.
        chance: A random number from 0 to 1.
    """

    ended: Ended
    stuck: bool = False
    barred: bool = False
    chance: float = 0.5


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants the worker to end for good; or, where it is `kept`, until its group is started again."""

    kept: bool = False


@dataclass(frozen=True, slots=True)
class RestartAsked:
    """Somebody wants the worker to begin anew."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """It is `now`: perhaps a moment that `WakeAt` named, perhaps earlier."""


LifeEvent: TypeAlias = TurnCame | Readied | RunEnded | StopAsked | RestartAsked | TimePassed

# ------------------------------------------------------------------------------------------------ commands


@dataclass(frozen=True, slots=True)
class NoteRestart:
    """Report that another run follows the one that has ended; its group hears of it where that one has `failed`."""

    failed: bool


@dataclass(frozen=True, slots=True)
class AskTurn:
    """Ask the group for a turn; answer with TurnCame."""


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
        kept: Its group has stopped it, and starts it again when the group itself is started again.
        between_runs: It was stopped while it had no run.
    """

    exhausted: bool = False
    kept: bool = False
    between_runs: bool = False


LifeCommand: TypeAlias = NoteRestart | AskTurn | StartRun | StopRun | WakeAt | Finish
LifeDecision: TypeAlias = tuple[LifeState, tuple[LifeCommand, ...]]

# ------------------------------------------------------------------------------------------------ the table


def decide_life(state: LifeState, event: LifeEvent, now: float, restart: Restart) -> LifeDecision:
    """Returns the next state of a worker and what is to be done. Total: every state answers every event."""
    match state:
        case Up():
            return _up(state, event, now, restart)
        case BackingOff():
            return _backing_off(state, event, now)
        case Held():
            return _held(state, event, now)
        case Over():
            return state, ()
        case _:
            assert_never(state)


def _up(state: Up, event: LifeEvent, now: float, restart: Restart) -> LifeDecision:
    match event:
        case StopAsked(kept=kept):
            return Up(state.since, state.past, asked=True, kept=state.kept or kept), (StopRun(),)
        case RestartAsked():
            return state if state.asked else replace(state, again=True), (StopRun(),)
        case RunEnded():
            return _after_run(state, event, now, restart)
        case Readied():
            return _ready(state), ()
        case TimePassed() | TurnCame():
            return state, ()
        case _:
            assert_never(event)


def _ready(state: Up) -> Up:
    past = state.past
    if past.started:
        return state
    started = Past(past.attempt, past.restarts, past.streak, started=True)
    return Up(state.since, started, state.asked, state.kept, state.again)


def _after_run(state: Up, event: RunEnded, now: float, restart: Restart) -> LifeDecision:
    past = state.past
    lost = event.ended == "abandoned"  # it still goes on: with another run, two of one worker would do so
    wanted = state.again or (past.started and _wanted(event, restart))
    if state.asked or not wanted:
        return Over(past), (Finish(exhausted=state.kept and lost, kept=state.kept),)
    if lost:
        return Over(past), (Finish(exhausted=True),)
    if state.again:
        return Held(replace(past, streak=0)), (NoteRestart(failed=False), AskTurn())
    restarts = tuple(at for at in past.restarts if now - at < restart.within)
    if len(restarts) >= restart.max_restarts:
        return Over(past), (Finish(exhausted=True),)
    streak = 0 if now - state.since >= restart.within else past.streak
    delay = restart.delay(streak, event.chance)
    past = replace(past, restarts=(*restarts, now), streak=streak + 1)
    if delay == 0:
        return Held(past), (NoteRestart(failed=True), AskTurn())
    return BackingOff(now + delay, past), (NoteRestart(failed=True), WakeAt(now + delay))


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
            return Held(state.past), (AskTurn(),)
        case StopAsked(kept=kept):
            return Over(state.past), (Finish(kept=kept, between_runs=True),)
        case RunEnded() | Readied() | TurnCame():
            return state, ()
        case _:
            assert_never(event)


def _held(state: Held, event: LifeEvent, now: float) -> LifeDecision:
    match event:
        case TurnCame():
            return Up(now, replace(state.past, attempt=state.past.attempt + 1)), (StartRun(),)
        case StopAsked(kept=kept):
            return Over(state.past), (Finish(kept=kept, between_runs=True),)
        case RestartAsked() | TimePassed() | RunEnded() | Readied():
            return state, ()  # its next run is due as it is
        case _:
            assert_never(event)
