"""How a run has ended, as its outcome says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.errors import StopRequested, is_a
from .._core.outcome import make_outcome
from .._loop.clock import monotonic

if TYPE_CHECKING:
    from .._core.outcome import Ended, Outcome
    from .._core.policy import StepName
    from .._core.usage import Excess
    from .._run.run import Run

__all__ = ["outcome_of"]


def outcome_of(run: Run, ended: Ended, step: StepName | None, now: float) -> Outcome:
    """Returns how a run has ended that comes to its end `now`, on the loop's clock."""
    climb = run.climb
    finished = ended not in ("abandoned", "cancelled")
    excess = _excess(run)
    ended_at = run.ended_at if finished else monotonic()
    outcome = make_outcome(
        run.name,
        run.kind.name,
        run.attempt,
        ended,
        step,
        run.value if finished else None,
        run.error if finished and not is_a(run.error, StopRequested) else None,
        run.exit_code,
        ended_at - run.started_at if run.started_at else 0.0,
        0.0 if climb is None else now - climb.began_at,
        None if climb is None else climb.stack,
        None if excess is None else excess.limit,
        None if excess is None else excess.allowed,
        None if excess is None else excess.used,
        run.oom_killed,
    )
    place = run.place
    return outcome if place is None else place.amend(run, outcome)


def _excess(run: Run) -> Excess | None:
    """Returns which limit a run has exceeded, where it has ended for that."""
    limited, climb = run.limited, run.climb
    if limited is None:
        return None
    if climb is not None:
        return limited.excess if climb.cause == "limit" else None
    if run.died:
        limited.died(run.exit_code)
    return limited.excess
