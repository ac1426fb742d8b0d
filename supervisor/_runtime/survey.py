"""Looks at all that one supervisor has, for whoever shows it. Any thread, also while the loop is blocked."""

from __future__ import annotations

import os
import platform
import time
from fnmatch import fnmatchcase
from math import inf
from typing import TYPE_CHECKING

from .._core.ladder import Stopping
from .._core.survey import GroupRow, ShutdownProgress, Survey, WorkerRow
from .._loop.clock import monotonic
from .nodes import GroupNode, WorkerNode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Literal

    from .._core.outcome import WorkerState
    from .._core.report import Health, PoolStatistics
    from .._run.run import Run
    from .runtime import Runtime

__all__ = ["survey", "unused"]


def survey(
    runtime: Runtime,
    version: str,
    health: Health,
    *,
    matching: str = "*",
    states: Collection[WorkerState] = (),
    first: int = 0,
    limit: int | None = None,
) -> Survey:
    """Looks at a supervisor that is in use. Any thread.

    Args:
        runtime: The supervisor's.
        version: Of this library.
        health: What it says of itself.
        matching: Only workers whose names match this pattern, as a shell's: `*`, `?`, `[...]`.
        states: Only those in one of these states; none: in any.
        first: How many of the oldest are left out.
        limit: How many are shown at most; None: all.
    """
    shutdown, now = runtime.shutdown, runtime.clock()
    there = sorted(_all(runtime), key=lambda of: of.number)
    wanted = [of for of in there if _is_wanted(of, matching, states)]
    shown = wanted[first:] if limit is None else wanted[first : first + limit]
    report = shutdown.report
    return Survey(
        supervisor=runtime.settings.name,
        pid=os.getpid(),
        version=version,
        python=platform.python_version(),
        at=time.time(),
        state="shut_down" if report is not None else "shutting_down" if shutdown.begun else "running",
        health=health,
        pools=tuple(runtime.snapshot.statistics(runtime.root).pools.values()),
        groups=tuple(_groups_in(runtime.root)),
        workers=tuple(_row(of, now) for of in shown),
        matching=len(wanted),
        unended=len(there),
        shutdown=ShutdownProgress(
            reason=shutdown.reason,
            begun_ago=shutdown.seconds_since(now),
            deadline_in=shutdown.deadline - now,
            draining=shutdown.draining,
            ended=report is not None,
        )
        if shutdown.begun
        else None,
        report=report,
    )


def unused(name: str, version: str, health: Health, pools: tuple[PoolStatistics, ...]) -> Survey:
    """Returns what there is to see of a supervisor that nobody has used yet. Any thread."""
    return Survey(
        supervisor=name,
        pid=os.getpid(),
        version=version,
        python=platform.python_version(),
        at=time.time(),
        state="unused",
        health=health,
        pools=pools,
    )


def _all(runtime: Runtime) -> list[Run | WorkerNode]:
    calls = [run for run in runtime.kinds.calls_in(runtime.root) if not run.over]
    return [*runtime.tree.workers_in(runtime.root), *calls]


def _is_wanted(of: Run | WorkerNode, matching: str, states: Collection[WorkerState]) -> bool:
    return (not states or _state(of) in states) and (matching == "*" or fnmatchcase(of.name, matching))


def _state(of: Run | WorkerNode) -> WorkerState:
    if isinstance(of, WorkerNode):
        return of.worker.state
    return of.state_name


def _row(of: Run | WorkerNode, now: float) -> WorkerRow:
    run = of.run if isinstance(of, WorkerNode) else of
    group = of.group.name if isinstance(of, WorkerNode) else of.scope.name
    state = _state(of)
    climb = run.climb
    position = None if climb is None else climb.state
    stopping = position if isinstance(position, Stopping) else None
    steps_over = stopping is None or stopping.ends_at == inf
    return WorkerRow(
        name=of.name,
        kind=of.kind.name,
        role="worker" if isinstance(of, WorkerNode) else "call",
        state=state,
        pool=None if run.own else run.kind.settings.name,
        group=group or None,
        attempt=of.attempt,
        restarts=of.restarts if isinstance(of, WorkerNode) else 0,
        ready=of.ready if isinstance(of, WorkerNode) else state == "running",
        ident=run.ident,
        pid=run.pid,
        queued_for=now - run.submitted_at if state == "queued" else None,
        running_for=monotonic() - run.started_at if run.started_at and not run.ended_at else None,
        reason=None if climb is None else climb.reason,
        step=None if stopping is None else stopping.step.name,
        step_ends_in=None if stopping is None or steps_over else stopping.ends_at - now,
        next_step=_next_step(stopping),
    )


def _next_step(stopping: Stopping | None) -> Literal["ask", "inject", "terminate", "kill", "abandon"] | None:
    if stopping is None or stopping.ends_at == inf:
        return None
    return stopping.later[0].name if stopping.later else "abandon"


def _groups_in(group: GroupNode) -> Iterator[GroupRow]:
    """Gives the groups in this one, and those in them."""
    for node in tuple(group.members.values()):
        if isinstance(node, GroupNode):
            yield GroupRow(
                name=node.name,
                state=_state_of_group(node),
                strategy=node.strategy,
                workers=len(node.crew),
                calls=len(node.calls),
                restarts=node.restarts,
            )
            yield from _groups_in(node)


def _state_of_group(group: GroupNode) -> Literal["running", "restarting", "stopping", "backing_off"]:
    if group.between_runs:
        return "backing_off"
    if group.shutdown.begun or group.ending:
        return "stopping"
    return "restarting" if group.renewing else "running"
