"""Draws the life of a run as the machine has it: asks `decide` about every state and event, and writes `machine.svg`.

`python docs/diagram.py` writes it anew; a test compares it with what the machine says.
"""

from collections import defaultdict
from pathlib import Path

from supervisor._machine import (
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
from supervisor._policy import Ask, Inject

TARGET = Path(__file__).parent / "machine.svg"

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
NOW = 5.0  # the grace of the step is over
PLACES = {"queued": (90, 60), "starting": (90, 190), "running": (350, 125), "stopping": (650, 125), "ended": (370, 320)}
BOX = (120, 44)
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 370" font-family="sans-serif" font-size="13">
<title>The life of a run</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#888"/></marker></defs>"""


def edges() -> dict[tuple[str, str], list[str]]:
    """(state, next state) -> the events that lead there, those left out that change and command nothing."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, state in STATES.items():
        for event in EVENTS:
            after, commands = decide(state, event, NOW, RULES)
            if after != state or commands:
                target = next(other for other, sample in STATES.items() if type(sample) is type(after))
                found[name, target].append(type(event).__name__)
    return found


def drawing() -> str:
    width, height = BOX
    parts = [HEAD]
    for (old, new), events in edges().items():
        (x1, y1), (x2, y2) = PLACES[old], PLACES[new]
        label = " | ".join(events)
        if old == new:
            parts.append(_text(x1, y1 - height / 2 - 8, f"↻ {label}"))
            continue
        (x1, y1), (x2, y2) = _border(x1, y1, x2, y2), _border(x2, y2, x1, y1)
        parts.append(
            f'<path d="M{x1:.0f} {y1:.0f}L{x2:.0f} {y2:.0f}" stroke="#888" fill="none" marker-end="url(#tip)"/>'
        )
        parts.append(_text((x1 + x2) / 2, (y1 + y2) / 2 - 6, label))
    for name, (x, y) in PLACES.items():
        parts.append(
            f'<rect x="{x - width / 2:.0f}" y="{y - height / 2:.0f}" width="{width}" height="{height}" rx="8" '
            'fill="#2a6f97"/>'
        )
        parts.append(f'<text x="{x}" y="{y + 5}" text-anchor="middle" fill="#fff">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle" fill="#888">{text}</text>'


def _border(x: float, y: float, towards_x: float, towards_y: float) -> tuple[float, float]:
    """Where the line from the middle of a box leaves the box."""
    dx, dy = towards_x - x, towards_y - y
    scale = min(BOX[0] / 2 / abs(dx) if dx else 1.0, BOX[1] / 2 / abs(dy) if dy else 1.0)
    return x + dx * scale, y + dy * scale


if __name__ == "__main__":
    TARGET.write_text(drawing())
