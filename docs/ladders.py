"""Draws the ladders of a worker in a thread and of one in a process, as the default policy has them.

`python docs/ladders.py` writes `ladder-thread-light.svg` and the like, one for a light page and one for a dark one. A
test compares them with the policy: its steps, their graces, and how a worker ends that needed them.
"""

from dataclasses import dataclass
from pathlib import Path

from supervisor import EscalationPolicy
from supervisor._core.policy import Kind, Step

WIDTH, MARGIN, GAP = 860, 10, 10
LOWEST, RISE, FOOT = 122, 24, 62
"""The height of the first stair, how much higher the next one is, and what stands below all of them."""


@dataclass(frozen=True)
class Paper:
    """The colours of what stands on the page itself; those of the stairs are the same on each."""

    name: str
    ink: str
    faint: str


PAPERS = (Paper("light", "#1f2933", "#52606d"), Paper("dark", "#e4e7eb", "#9aa5b1"))
FILLS = {"ask": "#23705a", "inject": "#2a6496", "terminate": "#8a5300", "kill": "#a1322d", "abandon": "#4d5763"}

LEGEND = "The climb is over as soon as the worker has ended. The word at the bottom is what its outcome says then."
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="system-ui, sans-serif" \
font-size="13.5">"""

TEXTS: dict[tuple[Kind, str], tuple[str, ...]] = {
    ("thread", "ask"): ("its stop Event is set, its", "on_stop callbacks are called"),
    ("thread", "inject"): ("StopInjected is raised at its", "next bytecode, outside shields"),
    ("thread", "abandon"): ("its stack is in the report;", "a daemon, it delays no exit"),
    ("process", "ask"): ("its stop Event is", "set, on_stop called"),
    ("process", "inject"): ("a signal's handler", "raises StopInjected"),
    ("process", "terminate"): ("a signal's default", "action; ends C code"),
    ("process", "kill"): ("SIGKILL, also to all", "that it has started"),
    ("process", "abandon"): ("only if the kernel", "cannot end it"),
}


@dataclass(frozen=True)
class Stair:
    """One step of a ladder, as it is drawn."""

    name: str
    title: str
    ended: str
    begins: float
    ends: float | None


def stairs(kind: Kind) -> list[Stair]:
    """The steps of the default ladder, and what comes after the last one."""
    found, at = [], 0.0
    steps: tuple[Step, ...] = EscalationPolicy().for_kind(kind)
    for step in steps:
        found.append(Stair(step.name, step.name.capitalize(), step.ended, at, at + step.grace))
        at += step.grace
    return [*found, Stair("abandon", "Give up", "abandoned", at, None)]


def target(kind: Kind, paper: Paper) -> Path:
    return Path(__file__).parent / f"ladder-{kind}-{paper.name}.svg"


def svg(kind: Kind, paper: Paper) -> str:
    """A staircase from left to right, each stair as wide as the others, with the time at its edges."""
    rising = stairs(kind)
    wide = (WIDTH - 2 * MARGIN - GAP * (len(rising) - 1)) / len(rising)
    floor = 20 + LOWEST + RISE * (len(rising) - 1)
    parts = [
        HEAD.format(width=WIDTH, height=floor + FOOT),
        f"<title>{described(kind)}</title>",
    ]
    for number, stair in enumerate(rising):
        left, high = MARGIN + number * (wide + GAP), LOWEST + RISE * number
        top = floor - high
        parts += [
            f'<rect x="{left:.0f}" y="{top}" width="{wide:.0f}" height="{high}" rx="9" fill="{FILLS[stair.name]}"/>',
            _text(left + 14, top + 29, stair.title, "#fff", 'font-size="18" font-weight="700"'),
            *(
                _text(left + 14, top + 54 + 19 * line, text, "#fff")
                for line, text in enumerate(TEXTS[kind, stair.name])
            ),
            _text(
                left + 14, floor - 15, stair.ended, "#fff", 'font-family="ui-monospace, monospace" font-weight="700"'
            ),
            f'<path d="M{left:.0f} {floor + 8}v10" stroke="{paper.faint}" stroke-width="2"/>',
            _text(left + 8, floor + 24, _moment(stair), paper.ink),
        ]
    parts.append(_text(MARGIN, floor + FOOT - 12, LEGEND, paper.faint))
    return "\n".join([*parts, "</svg>", ""])


def described(kind: Kind) -> str:
    """The picture in words."""
    *steps, last = stairs(kind)
    climb = "; ".join(f"{stair.title} at {stair.begins:g} s, who ends then is {stair.ended}" for stair in steps)
    return f"The ladder of a worker in a {kind}: {climb}; at {last.begins:g} s it is {last.ended}"


def _moment(stair: Stair) -> str:
    """When a stair begins."""
    return "0 s: a stop begins" if stair.begins == 0 else f"{stair.begins:g} s"


def _text(x: float, y: float, text: str, fill: str, more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{fill}"{" " * bool(more)}{more}>{text}</text>'


KINDS: tuple[Kind, ...] = ("thread", "process")
DRAWINGS = [(kind, paper) for kind in KINDS for paper in PAPERS]

if __name__ == "__main__":
    for drawing in DRAWINGS:
        target(*drawing).write_text(svg(*drawing))
