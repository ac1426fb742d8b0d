"""Pure: a survey as plain text, for a terminal or a log, bounded and without anything that a terminal would obey."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .values import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .survey import GroupRow, ShutdownProgress, Survey, WorkerRow

__all__ = ["MOST_ROWS", "text_of_survey"]

MOST_ROWS = 200
"""Workers, and groups, that are shown; how many more there are is said."""

WIDEST = 60
"""Characters of a name or a reason that are shown."""

HEAD = ("worker", "kind", "state", "pool", "run", "since", "thread or process", "stop")


def text_of_survey(survey: Survey) -> str:
    """Returns what there is to see of a supervisor, as lines."""
    return "".join(f"{line}\n" for line in _lines(survey))


def _lines(survey: Survey) -> Iterator[str]:
    health = survey.health
    state = "ready" if health.ready else "live, not ready" if health.live else "not live"
    because = f" ({_cut('; '.join(health.reasons))})" if health.reasons else ""
    yield f"supervisor {printable(survey.supervisor)}: {survey.state}, {state}{because}, {survey.unended} unended"
    if survey.loop_blocked_for is not None:
        yield f"its event loop has been blocked for {survey.loop_blocked_for:.1f} s"
    if survey.shutdown is not None:
        yield _shutdown(survey.shutdown)
    for pool in survey.pools:
        lost = f", {pool.abandoned} abandoned" if pool.abandoned else ""
        yield (
            f"pool {printable(pool.name)} ({pool.kind}): {pool.running} of {pool.capacity} running, "
            f"{pool.queued} queued{lost}"
        )
    yield from (_group(group) for group in survey.groups[:MOST_ROWS])
    shown = survey.workers[:MOST_ROWS]
    if shown:
        rows = [HEAD, *map(_row, shown)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        yield from ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    if survey.unended > len(shown):
        yield f"and {survey.unended - len(shown)} more, those that are queued among them"


def _shutdown(shutdown: ShutdownProgress) -> str:
    because = f" ({_cut(shutdown.reason)})" if shutdown.reason else ""
    if shutdown.ended:
        return f"shutdown{because}: has ended"
    left = f"{shutdown.deadline_in:.1f} s left" if shutdown.deadline_in >= 0 else "overdue"
    draining = ", draining" if shutdown.draining else ""
    return f"shutdown{because}: begun {shutdown.begun_ago:.1f} s ago, {left}{draining}"


def _group(group: GroupRow) -> str:
    restarts = f", {group.restarts} restarts" if group.restarts else ""
    return f"group {_cut(group.name)}: {group.state}, {group.workers} workers, {group.calls} calls{restarts}"


def _row(worker: WorkerRow) -> tuple[str, ...]:
    since = worker.running_for if worker.queued_for is None else worker.queued_for
    where = "-" if worker.ident is None else str(worker.ident)
    where = where if worker.pid is None else f"pid {worker.pid}"
    return (
        _cut(worker.name),
        worker.kind,
        worker.state if worker.ready or worker.state != "running" else "running, not ready",
        _cut(worker.pool or "-"),
        str(worker.attempt),
        "-" if since is None else f"{since:.1f} s",
        where if worker.node is None else f"{where} on {_cut(worker.node)}",
        _stop(worker),
    )


def _stop(worker: WorkerRow) -> str:
    if worker.step is None and worker.reason is None:
        return ""
    then = "" if worker.step_ends_in is None else f", {worker.next_step} in {max(0.0, worker.step_ends_in):.1f} s"
    because = f" ({_cut(worker.reason)})" if worker.reason else ""
    return f"{worker.step or 'begun'}{then}{because}"


def _cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."
