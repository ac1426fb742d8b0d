"""Pure: the last minutes as a picture, with a bar for each worker."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .._core.outcome import CLEAN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._core.survey import WorkerRow
    from .looks import Look
    from .record import Change

__all__ = ["Bar", "Mark", "Timeline", "timeline"]

LONG, SHORT = 300.0, 60.0
"""For how many seconds back it goes; and for how many where there is no more to be shown."""

SLOTS = 150
"""Into how many parts the time is divided: a bar has one state in each, the most telling one."""

MOST_BARS = 20
MOST_ENDED = 5
"""Bars of workers that have ended."""

MOST_MARKS = 20
"""Of one bar."""

TELLING = ("starting", "queued", "running", "backing_off", "stopping")
"""The states, the most telling one last."""


class Mark(NamedTuple):
    """Something that went wrong: where, in percent of the width, and what."""

    x: float
    ended: str
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """What one worker did.

    Attributes:
        name: Its name.
        paths: For each state the outline of its parts, in slots.
        marks: What went wrong.
        ended: Whether it has ended.
    """

    name: str
    paths: list[tuple[str, str]]
    marks: list[Mark]
    ended: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """The picture.

    Attributes:
        title: What it shows.
        bars: One for each worker.
        shutdown: Where a shutdown has begun, in percent.
        ticks: What can be read at its foot, and where, in percent.
    """

    title: str
    bars: list[Bar]
    shutdown: float | None
    ticks: list[tuple[float, str]]
    slots: int = SLOTS


def timeline(look: Look, rows: Sequence[WorkerRow], of: Iterable[str] | None = None) -> Timeline:
    """Draws the bars of these workers, and of some that have ended.

    Args:
        look: What there is.
        rows: Those that have not ended.
        of: Of whom; None: of these, and of those who have ended lately.
    """
    scale = Scale(look.now, SHORT if look.now - look.since < SHORT else LONG)
    changes: dict[str, list[Change]] = defaultdict(list)
    for change in look.changes:
        if change.at > scale.begin:
            changes[change.transition.worker].append(change)
    live = {row.name: row for row in rows}
    if of is None:
        unended = {row.name for row in look.survey.workers}
        ended = [name for name in reversed(list(changes)) if name not in unended][:MOST_ENDED]
        names = [*list(live)[: MOST_BARS - len(ended)], *ended]
    else:
        names = list(of)
    shutdown = look.survey.shutdown
    return Timeline(
        scale.title,
        [_bar(name, changes.get(name, []), live.get(name), scale) for name in names],
        None if shutdown is None else scale.percent(look.now - shutdown.begun_ago),
        scale.ticks(),
    )


class Scale(NamedTuple):
    """The time from left to right: its end, on the clock of `monotonic`, and how many seconds there are."""

    now: float
    seconds: float

    @property
    def begin(self) -> float:
        return self.now - self.seconds

    @property
    def title(self) -> str:
        return "The last minute" if self.seconds <= SHORT else f"The last {self.seconds / 60:.0f} minutes"

    def slot(self, at: float) -> int:
        return max(0, int((at - self.begin) / self.seconds * SLOTS))

    def percent(self, at: float) -> float:
        return round(min(100.0, max(0.0, 100 * (at - self.begin) / self.seconds)), 1)

    def ticks(self) -> list[tuple[float, str]]:
        unit, name = (15, "s") if self.seconds <= SHORT else (60, "min")
        return [
            (self.percent(self.now - ago), f"{ago if name == 's' else ago // 60} {name} ago")
            for ago in range(int(self.seconds) - unit, 0, -unit)
        ]


def _bar(name: str, changes: list[Change], row: WorkerRow | None, scale: Scale) -> Bar:
    slots = [-1] * SLOTS
    for begin, end, state in _stretches(changes, row, scale):
        rank = TELLING.index(state) if state in TELLING else 0
        for slot in range(scale.slot(begin), min(SLOTS, scale.slot(end) + 1)):
            slots[slot] = max(slots[slot], rank)
    marks = [
        Mark(scale.percent(change.at), change.transition.ended, f"{change.transition.ended}  {change.error}".strip())
        for change in changes
        if change.transition.ended is not None and change.transition.ended not in CLEAN
    ]
    return Bar(name, _outlines(slots), marks[-MOST_MARKS:], row is None)


def _stretches(changes: list[Change], row: WorkerRow | None, scale: Scale) -> Iterable[tuple[float, float, str]]:
    """Gives from when until when it was in which state."""
    if not changes:
        if row is not None:
            known = row.running_for if row.queued_for is None else row.queued_for
            yield scale.now - (scale.seconds if known is None else known), scale.now, row.state
        return
    first = changes[0]
    if first.transition.old is not None:
        yield first.at - first.transition.elapsed, first.at, first.transition.old
    ends = [*(change.at for change in changes[1:]), scale.now]
    for change, end in zip(changes, ends, strict=True):
        if change.transition.new != "ended":
            yield change.at, end, change.transition.new


def _outlines(slots: list[int]) -> list[tuple[str, str]]:
    """Returns for each state the rectangles of its slots, as the path of a picture."""
    paths: dict[str, str] = defaultdict(str)
    begin = 0
    for slot in range(1, SLOTS + 1):
        if slot == SLOTS or slots[slot] != slots[begin]:
            if slots[begin] >= 0:
                paths[TELLING[slots[begin]]] += f"M{begin} 0h{slot - begin}v1h-{slot - begin}z"
            begin = slot
    return list(paths.items())
