"""Draws the life of a run, that of a worker across its runs, and that of a group, as the three machines have them.

Asks `decide`, `decide_life` and `decide_group` about every state and event, and writes `machine.svg`, `life.svg` and
`group.svg`. `python docs/diagram.py` writes them anew; a test compares them with what the machines say.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import hypot
from pathlib import Path
from typing import Any

from supervisor._core import lifecycle as _life
from supervisor._core.ladder import (
    Abandoned,
    EndedState,
    Entered,
    Event,
    Exited,
    GraceAsked,
    Queued,
    Rules,
    Running,
    Starting,
    State,
    StopAsked,
    Stopping,
    TimePassed,
    decide,
)
from supervisor._core.lifecycle import (
    BackingOff,
    Held,
    LifeEvent,
    LifeState,
    Over,
    Past,
    Readied,
    RestartAsked,
    RunEnded,
    TurnCame,
    Up,
    decide_life,
)
from supervisor._core.policy import Ask, Inject
from supervisor._core.restart import Restart
from supervisor._core.strategy import (
    Begun,
    Due,
    Emptied,
    EndAsked,
    Ending,
    Failed,
    Gone,
    GroupEvent,
    GroupState,
    Ready,
    Restarting,
    Sibling,
    Steady,
    Waits,
    decide_group,
)

LADDER = (Ask(5.0), Inject(2.0))
RULES = Rules(LADDER, LADDER, 20.0)
STATES: dict[str, State] = {
    "queued": Queued(),
    "starting": Starting(),
    "running": Running(),
    "stopping": Stopping("stop", Ask(5.0), LADDER[1:], began_at=0.0, ends_at=5.0),
    "ended": EndedState("abandoned", "inject"),
}
EVENTS: tuple[Event, ...] = (
    Entered(),
    StopAsked("shutdown", 3.0),
    TimePassed(),
    GraceAsked(1.0),
    Exited(returned=True),
    Abandoned(),
)
NOW = 5.0  # the grace of the step is over, and so is the pause

RESTART = Restart("failure", max_restarts=1)
PAST = Past(attempt=1, started=True)
LIFE_STATES: dict[str, LifeState] = {
    "up": Up(0.0, PAST),
    "backing off": BackingOff(NOW, PAST),
    "held": Held(PAST),
    "over": Over(PAST),
}
LIFE_EVENTS: tuple[LifeEvent, ...] = (
    TurnCame(),
    Readied(),
    RunEnded("failed"),
    RunEnded("returned"),
    _life.TimePassed(),
    RestartAsked(),
    _life.StopAsked(),
)

# Of two workers, 1 and 2, that restart together.
GROUP_STATES: dict[str, tuple[GroupState, ...]] = {
    "steady": (Steady(),),
    "coming down": (Restarting(frozenset({1, 2})), Restarting(frozenset({2}), frozenset({1}))),
    "going up": (Restarting(frozenset(), frozenset({2}), 1), Restarting(frozenset(), frozenset(), 2)),
    "ending": (Ending(),),
}
GROUP_EVENTS: tuple[GroupEvent, ...] = (
    Failed(1, (Sibling(2, revived=True, up=True),)),
    *(event(number) for event in (Due, Gone, Ready, Waits) for number in (1, 2)),
    EndAsked(),
    Emptied(),
    Begun(frozenset({1, 2})),
)


def _phase(state: GroupState) -> str:
    if isinstance(state, Steady | Ending):
        return type(state).__name__.lower()
    return "coming down" if state.down else "going up"


@dataclass(frozen=True)
class Drawing:
    """What is drawn of a machine, where its states stand, and where the drawing goes.

    A state that has several shapes comes with a sample of each; `name_of` says which state a shape belongs to.
    """

    title: str
    file: str
    size: tuple[int, int]
    states: Mapping[str, Any]
    events: Sequence[Any]
    decide: Callable[[Any, Any], tuple[Any, tuple[Any, ...]]]
    places: Mapping[str, tuple[int, int]]
    name_of: Callable[[Any], str] | None = None

    @property
    def target(self) -> Path:
        return Path(__file__).parent / self.file

    def edges(self) -> dict[tuple[str, str], list[str]]:
        """(state, next state) -> the events that lead there, those left out that change and command nothing."""
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        shapes = [
            (name, shape)
            for name, state in self.states.items()
            for shape in (state if isinstance(state, tuple) else (state,))
        ]
        for (name, shape), event in product(shapes, self.events):
            after, commands = self.decide(shape, event)
            if after != shape or commands:
                target = self.name_of(after) if self.name_of else _by_type(after, shapes)
                if _said(event) not in found[name, target]:
                    found[name, target].append(_said(event))
        return {edge: events for edge, events in found.items() if events}

    def svg(self) -> str:
        width, height = BOX
        edges = self.edges()
        parts = [HEAD.format(width=self.size[0], height=self.size[1], title=self.title)]
        for (old, new), events in edges.items():
            (x1, y1), (x2, y2) = self.places[old], self.places[new]
            label = " | ".join(events)
            if old == new:
                parts.append(_text(x1, y1 - height / 2 - 8, f"↻ {label}"))
                continue
            (x1, y1), (x2, y2) = _border(x1, y1, x2, y2), _border(x2, y2, x1, y1)
            label_x, label_y = (x1 + x2) / 2, (y1 + y2) / 2 - 6
            if (new, old) in edges:  # two arrows, one beside the other, each with its label on the outside
                (across, up), beside = _left_of(x1, y1, x2, y2), 14
                x1, y1, x2, y2 = x1 + beside * across, y1 + beside * up, x2 + beside * across, y2 + beside * up
                label_x = (x1 + x2) / 2 + across * (8 + 3.4 * len(label))
                label_y = (y1 + y2) / 2 + up * 12 + 5
            parts.append(
                f'<path d="M{x1:.0f} {y1:.0f}L{x2:.0f} {y2:.0f}" stroke="#888" fill="none" marker-end="url(#tip)"/>'
            )
            parts.append(_text(label_x, label_y, label))
        for name, (x, y) in self.places.items():
            parts.append(
                f'<rect x="{x - width / 2:.0f}" y="{y - height / 2:.0f}" width="{width}" height="{height}" rx="8" '
                'fill="#2a6f97"/>'
            )
            parts.append(f'<text x="{x}" y="{y + 5}" text-anchor="middle" fill="#fff">{name}</text>')
        return "\n".join([*parts, "</svg>", ""])


BOX = (120, 44)
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">
<title>{title}</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#888"/></marker></defs>"""

RUN = Drawing(
    "The life of a run",
    "machine.svg",
    (780, 370),
    STATES,
    EVENTS,
    lambda state, event: decide(state, event, NOW, RULES),
    {"queued": (90, 60), "starting": (90, 190), "running": (350, 125), "stopping": (650, 125), "ended": (370, 320)},
)
WORKER = Drawing(
    "The life of a worker across its runs",
    "life.svg",
    (780, 330),
    LIFE_STATES,
    LIFE_EVENTS,
    lambda state, event: decide_life(state, event, NOW, RESTART),
    {"up": (110, 80), "backing off": (670, 80), "held": (390, 180), "over": (390, 300)},
)
GROUP = Drawing(
    "Workers that restart, and end, together",
    "group.svg",
    (820, 440),
    GROUP_STATES,
    GROUP_EVENTS,
    lambda state, event: decide_group(state, event, "one_for_all"),
    {"steady": (140, 80), "coming down": (640, 80), "going up": (640, 330), "ending": (240, 400)},
    _phase,
)
DRAWINGS = (RUN, WORKER, GROUP)


def _by_type(state: object, shapes: Sequence[tuple[str, object]]) -> str:
    return next(name for name, shape in shapes if type(shape) is type(state))


def _said(event: object) -> str:
    """How an event is called in a drawing; the end of a run, with how it has ended."""
    name = type(event).__name__
    return f"{name} ({event.ended})" if isinstance(event, RunEnded) else name


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle" fill="#888">{text}</text>'


def _border(x: float, y: float, towards_x: float, towards_y: float) -> tuple[float, float]:
    """Where the line from the middle of a box leaves the box."""
    dx, dy = towards_x - x, towards_y - y
    scale = min(BOX[0] / 2 / abs(dx) if dx else 1.0, BOX[1] / 2 / abs(dy) if dy else 1.0)
    return x + dx * scale, y + dy * scale


def _left_of(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float]:
    """The direction that is on the left hand of whoever goes along an arrow."""
    length = hypot(x2 - x1, y2 - y1)
    return (y2 - y1) / length, (x1 - x2) / length


if __name__ == "__main__":
    for drawing in DRAWINGS:
        drawing.target.write_text(drawing.svg())
