"""Pure: how the workers of a group restart, and end, together. No clock, no I/O, no await.

    steady ── Failed ─▶ coming down ── the last one is Due or Gone ─▶ going up, one after the other ─▶ steady
                           ▲                                             │
                           └──────────────── Failed ◀────────────────────┘

From anywhere EndAsked leads to ending, and Begun to going up.

`lifecycle` decides whether and when a worker is started again; here is decided who else goes down with it, and in which
order all of them come up again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

from .numbers import Numbers

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from .restart import Strategy

__all__ = [
    "Anew",
    "Begun",
    "Due",
    "Emptied",
    "End",
    "EndAsked",
    "Ending",
    "Failed",
    "Gone",
    "GroupCommand",
    "GroupEvent",
    "GroupState",
    "Ready",
    "Restarting",
    "Sibling",
    "Start",
    "Steady",
    "Waits",
    "decide_group",
]

# ------------------------------------------------------------------------------------------------ states


@dataclass(frozen=True, slots=True)
class Steady:
    """Each worker lives its own life."""


@dataclass(frozen=True, slots=True)
class Restarting:
    """Several workers are being restarted together.

    Attributes:
        down: Those that have not come down yet, or whose pause is not over.
        due: Those that are down, and wait for their turn.
        rising: The one that has been started, and is not ready yet.
        whole: The group itself was started again, and not all in it have become ready since.
    """

    down: AbstractSet[int]
    due: AbstractSet[int] = Numbers()
    rising: int | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """All workers are being stopped; none of them is started again."""


GroupState: TypeAlias = Steady | Restarting | Ending

# ------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another worker of the group that has not ended, and that it has not stopped for a restart already.

    Attributes:
        number: Its number; who was started later has a higher one.
        revived: It is started again where the group stops it.
        up: It has a run.
    """

    number: int
    revived: bool
    up: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A run of a worker has ended by itself, and is to be followed by another one."""

    number: int
    siblings: tuple[Sibling, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """A worker is down, and its pause is over."""

    number: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The run of a worker has become ready."""

    number: int


@dataclass(frozen=True, slots=True)
class Waits:
    """The turn of a worker has come, but what it comes after is not ready: the others go first."""

    number: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker has ended for good."""

    number: int


@dataclass(frozen=True, slots=True)
class EndAsked:
    """All workers are to end: the group is stopped, or has failed."""


@dataclass(frozen=True, slots=True)
class Emptied:
    """The last worker of a group that was to end has ended."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The group is started again: all of these are due."""

    due: AbstractSet[int]


GroupEvent: TypeAlias = Failed | Due | Ready | Waits | Gone | EndAsked | Emptied | Begun

# ------------------------------------------------------------------------------------------------ commands


@dataclass(frozen=True, slots=True)
class Anew:
    """Stop a worker; it is to be Due then."""

    number: int


@dataclass(frozen=True, slots=True)
class End:
    """Stop a worker for good; it is to be Gone then."""

    number: int


@dataclass(frozen=True, slots=True)
class Start:
    """Begin the next run of a worker that is due."""

    number: int


GroupCommand: TypeAlias = Anew | End | Start
GroupDecision: TypeAlias = tuple[GroupState, tuple[GroupCommand, ...]]

# ------------------------------------------------------------------------------------------------ the table


def decide_group(state: GroupState, event: GroupEvent, strategy: Strategy) -> GroupDecision:
    """Returns the next state of a group and what is to be done. Total: every state answers every event."""
    match event:
        case EndAsked():
            return Ending(), ()
        case Begun(due=due):
            return _go_on(Restarting(Numbers(), Numbers(due), whole=True))
        case Emptied():
            return (Steady() if isinstance(state, Ending) else state), ()
        case Failed() | Due() | Ready() | Waits() | Gone():
            return _of_a_worker(state, event, strategy)
        case _:
            assert_never(event)


def _of_a_worker(state: GroupState, event: Failed | Due | Ready | Waits | Gone, strategy: Strategy) -> GroupDecision:
    match state:
        case Ending():
            return state, ()
        case Steady():
            return _steady(state, event, strategy)
        case Restarting():
            return _restarting(state, event, strategy)
        case _:
            assert_never(state)


def _steady(state: Steady, event: Failed | Due | Ready | Waits | Gone, strategy: Strategy) -> GroupDecision:
    match event:
        case Failed():
            return _failed(state, event, strategy)
        case Due(number=number):
            return state, (Start(number),)
        case Ready() | Waits() | Gone():
            return state, ()
        case _:
            assert_never(event)


def _restarting(state: Restarting, event: Failed | Due | Ready | Waits | Gone, strategy: Strategy) -> GroupDecision:
    number = event.number
    rising = None if state.rising == number else state.rising
    match event:
        case Failed():
            return _failed(state, event, strategy)
        case Due():  # if it was rising, it came down before it was ready
            return _go_on(replace(state, down=state.down - {number}, due=state.due | {number}, rising=rising))
        case Ready() | Waits():
            return _go_on(replace(state, rising=rising)) if state.rising == number else (state, ())
        case Gone():
            return _go_on(replace(state, down=state.down - {number}, due=state.due - {number}, rising=rising))
        case _:
            assert_never(event)


def _failed(state: Steady | Restarting, event: Failed, strategy: Strategy) -> GroupDecision:
    if strategy == "one_for_one":
        return state, ()
    affected = [
        sibling
        for sibling in event.siblings
        if sibling.up and (strategy == "one_for_all" or sibling.number > event.number)
    ]
    down = {event.number, *(sibling.number for sibling in affected)}
    commands: list[GroupCommand] = [
        Anew(sibling.number) if sibling.revived else End(sibling.number) for sibling in affected
    ]
    if isinstance(state, Restarting):  # it begins again, with those that are down already
        rising = state.rising if state.rising not in down else None
        return replace(state, down=state.down | down, due=state.due - down, rising=rising), tuple(commands)
    return Restarting(Numbers(down)), tuple(commands)


def _go_on(state: Restarting) -> GroupDecision:
    """Starts the next one, once all are down and the one before it is ready."""
    if state.down or state.rising is not None:
        return state, ()
    if not state.due:
        return Steady(), ()
    first = state.due.least if isinstance(state.due, Numbers) else min(state.due)
    return replace(state, due=state.due - {first}, rising=first), (Start(first),)
