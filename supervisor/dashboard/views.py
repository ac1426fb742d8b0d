"""Pure: what the pages show, out of one look and of what was asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlencode

from .._core.outcome import WorkerState
from .._core.policy import STEPS
from .texts import key
from .timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .._core.report import ShutdownReport
    from .._core.survey import Survey, WorkerRow
    from .looks import Look
    from .record import Change

__all__ = ["Query", "named", "overview", "worker"]

PAGE = 100
"""Rows of a table."""

MOST_POOLS = MOST_GROUPS = 40
MOST_REASONS = 20
MOST_INCIDENTS = 12
MOST_CHANGES = 15
MOST_CHANGES_OF_ONE = 100
MOST_STOPPING = 12
MOST_OUTCOMES = 40
LONGEST_FILTER = 200

STATES = tuple(state for state in get_args(WorkerState) if state != "ended")
WORST_FIRST = ("abandoned", "killed", "died", "failed", "terminated", "injected", "cancelled", "stopped", "returned")
STEP_NAMES = (*STEPS, "abandon")

SORTS: dict[str, tuple[str, Callable[[WorkerRow], Any] | None]] = {
    "age": ("oldest first", None),
    "name": ("name", lambda row: row.name),
    "state": ("state", lambda row: (STATES.index(row.state) if row.state in STATES else 9, row.name)),
    "time": ("longest first", lambda row: -(row.running_for or row.queued_for or 0.0)),
    "restarts": ("most restarts", lambda row: -row.restarts),
    "step": ("furthest step", lambda row: (-_rank(row.step), row.step_ends_in or 0.0)),
}


@dataclass(frozen=True, slots=True)
class Query:
    """Which workers are shown, and how.

    Attributes:
        q: Part of their names; with `*`, `?` or `[...]` in it, a pattern for all of it.
        state: In which state; empty: in any.
        role: "worker", "call", or empty for both.
        sort: One of SORTS.
        page: Which page, from 1.
    """

    q: str = ""
    state: str = ""
    role: str = ""
    sort: str = "age"
    page: int = 1

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Query:
        """Returns what was asked for; what cannot be understood is left out."""
        state, role, sort, page = (asked.get(name, "") for name in ("state", "role", "sort", "page"))
        return cls(
            asked.get("q", "")[:LONGEST_FILTER].strip(),
            state if state in STATES else "",
            role if role in {"worker", "call"} else "",
            sort if sort in SORTS else "age",
            max(1, int(page)) if page.isdecimal() and len(page) < 7 else 1,
        )

    def url(self, **changed: Any) -> str:
        """Returns the link to the page with some of it changed; back on the first page, if no other is named."""
        to = replace(self, **{"page": 1, **changed})
        asked = {item.name: getattr(to, item.name) for item in fields(to) if getattr(to, item.name) != item.default}
        return f"./?{urlencode(asked)}" if asked else "./"

    @property
    def filtered(self) -> bool:
        """Whether some are left out."""
        return bool(self.q or self.state or self.role)

    def chosen(self, rows: Iterable[WorkerRow]) -> list[WorkerRow]:
        """Returns those that were asked for, in order."""
        matches = _matcher(self.q)
        found = [
            row
            for row in rows
            if (not self.state or row.state == self.state)
            and (not self.role or row.role == self.role)
            and matches(row.name)
        ]
        by = SORTS[self.sort][1]
        return found if by is None else sorted(found, key=by)


def _matcher(q: str) -> Callable[[str], bool]:
    if not q:
        return lambda _: True
    if any(sign in q for sign in "*?["):
        import re  # noqa: PLC0415
        from fnmatch import translate  # noqa: PLC0415  # it keeps what it has compiled; ours is not to fill that

        pattern = re.compile(translate(q), re.IGNORECASE)
        return lambda name: pattern.match(name) is not None
    part = q.lower()
    return lambda name: part in name.lower()


def overview(look: Look, query: Query) -> dict[str, Any]:
    """Returns what the overview shows."""
    survey = look.survey
    chosen = query.chosen(survey.workers)
    pages = max(1, -(-len(chosen) // PAGE))
    query = replace(query, page=min(query.page, pages))
    rows = chosen[(query.page - 1) * PAGE : query.page * PAGE]
    states = Counter(row.state for row in survey.workers)
    return {
        **_head(survey),
        "query": query,
        "rows": rows,
        "found": len(chosen),
        "pages": pages,
        "first": (query.page - 1) * PAGE,
        "states": [(state, states[state]) for state in STATES if states[state] or state in {"running", query.state}],
        "roles": Counter(row.role for row in survey.workers),
        "sorts": [(name, label) for name, (label, _) in SORTS.items()],
        "pools": survey.pools[:MOST_POOLS],
        "more_pools": len(survey.pools) - MOST_POOLS,
        "groups": survey.groups[:MOST_GROUPS],
        "more_groups": len(survey.groups) - MOST_GROUPS,
        "timeline": timeline(look, rows),
        "stopping": _stopping(survey),
        "incidents": survey.incidents[: -MOST_INCIDENTS - 1 : -1],
        "changes": _aged(look, look.changes[: -MOST_CHANGES - 1 : -1]),
        "report": None if survey.report is None else _report(survey.report),
    }


def named(look: Look, wanted: str) -> str:
    """Returns the name that has this key; empty where nobody has one."""
    names = (
        *(row.name for row in look.survey.workers),
        *(change.transition.worker for change in look.changes),
        *(incident.worker for incident in look.survey.incidents),
    )
    return next((name for name in dict.fromkeys(names) if key(name) == wanted), "") if wanted else ""


def worker(look: Look, name: str) -> dict[str, Any] | None:
    """Returns what the page of one worker or call shows; None where nobody knows of it."""
    survey = look.survey
    row = next((row for row in survey.workers if row.name == name), None)
    changes = [change for change in look.changes if change.transition.worker == name]
    incidents = [incident for incident in reversed(survey.incidents) if incident.worker == name]
    if row is None and not changes and not incidents:
        return None
    return {
        **_head(survey),
        "name": name,
        "row": row,
        "timeline": timeline(look, [] if row is None else [row], [name]),
        "incidents": incidents,
        "changes": _aged(look, changes[: -MOST_CHANGES_OF_ONE - 1 : -1]),
        "kept": len(changes),
    }


def _head(survey: Survey) -> dict[str, Any]:
    health = survey.health
    ends = survey.shutdown is not None  # which is a reason that has a place of its own
    reasons = () if ends else health.reasons[:MOST_REASONS]
    return {
        "survey": survey,
        "reasons": reasons,
        "more_reasons": 0 if ends else len(health.reasons) - len(reasons),
        "failed": health.failed[:MOST_REASONS],
        "more_failed": len(health.failed) - MOST_REASONS,
    }


def _aged(look: Look, changes: Iterable[Change]) -> list[tuple[float, Change]]:
    """Returns changes with how long ago each was."""
    return [(look.now - change.at, change) for change in changes]


def _rank(step: str | None) -> int:
    return -1 if step is None else STEP_NAMES.index(step)


def _stopping(survey: Survey) -> dict[str, Any]:
    """Returns who is on which step of its ladder, the furthest first."""
    rows = [row for row in survey.workers if row.step is not None]
    steps = Counter(row.step for row in rows)
    rows.sort(key=lambda row: (-_rank(row.step), row.step_ends_in or 0.0, row.name))
    soonest = min((row.step_ends_in for row in rows if row.step_ends_in is not None), default=None)
    return {
        "rows": rows[:MOST_STOPPING],
        "more": len(rows) - MOST_STOPPING,
        "steps": [(step, steps[step]) for step in STEPS],
        "soonest": soonest,
        "number": len(rows),
    }


def _report(report: ShutdownReport) -> dict[str, Any]:
    """Returns what a shutdown has met, what went wrong first."""
    outcomes = sorted(report.outcomes, key=lambda outcome: WORST_FIRST.index(outcome.ended))
    return {
        "whole": report,
        "counts": report.counts(),
        "outcomes": outcomes[:MOST_OUTCOMES],
        "more": len(outcomes) - MOST_OUTCOMES,
        "earlier": report.earlier[:MOST_OUTCOMES],
        "more_earlier": len(report.earlier) - MOST_OUTCOMES + report.forgotten,
    }
