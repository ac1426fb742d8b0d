"""Pure: how the workers of a group restart together. No clock, no I/O, no await.

    steady ── Failed ─▶ coming down ── the last one is Due or Gone ─▶ going up, one after the other ─▶ steady
                           ▲                                             │
                           └──────────────── Failed ◀────────────────────┘

`_life` decides whether and when a worker is started again; here is decided who else goes down with it, and in which
order all of them come up again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

if TYPE_CHECKING:
    from .restart import Strategy

__all__ = [
    "Anew",
    "Due",
    "End",
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
    """

    down: frozenset[int]
    due: frozenset[int] = frozenset()
    rising: int | None = None


GroupState: TypeAlias = Steady | Restarting

# ------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another worker of the group that has not ended.

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


GroupEvent: TypeAlias = Failed | Due | Ready | Waits | Gone

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
        case Failed():
            return _failed(state, event, strategy)
        case Due(number=number):
            if isinstance(state, Steady):
                return state, (Start(number),)
            rising = None if state.rising == number else state.rising  # it came down before it was ready
            return _go_on(Restarting(state.down - {number}, state.due | {number}, rising))
        case Ready(number=number) | Waits(number=number):
            if isinstance(state, Steady) or state.rising != number:
                return state, ()
            return _go_on(replace(state, rising=None))
        case Gone(number=number):
            if isinstance(state, Steady):
                return state, ()
            rising = None if state.rising == number else state.rising
            return _go_on(Restarting(state.down - {number}, state.due - {number}, rising))
        case _:
            assert_never(event)


def _failed(state: GroupState, event: Failed, strategy: Strategy) -> GroupDecision:
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
        return Restarting(state.down | down, state.due - down, rising), tuple(commands)
    return Restarting(frozenset(down)), tuple(commands)


def _go_on(state: Restarting) -> GroupDecision:
    """Starts the next one, once all are down and the one before it is ready."""
    if state.down or state.rising is not None:
        return state, ()
    if not state.due:
        return Steady(), ()
    first = min(state.due)
    return Restarting(frozenset(), state.due - {first}, first), (Start(first),)
