"""What the environment, Celery's configuration and its command line say of the pool."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from .._core.policy import Ask, EscalationPolicy, Inject, Kill, Terminate
from ..config import load

if TYPE_CHECKING:
    from .._core.policy import Kind
    from ..config import Config

__all__ = ["Settings", "settings_of"]

POOL = "celery"
"""The name of the supervisor, and of its pool in the configuration."""

KIND, FILE = "SUPERVISOR_CELERY_KIND", "SUPERVISOR_CONFIG"
"""Variables that go before what Celery's configuration says."""

POLICY = EscalationPolicy(Ask(0.5), Inject(2.0, every=0.5), Terminate(2.0), Kill(2.0))
"""Few tasks look whether they are to stop: they have half a second for that."""

SHUTDOWN_TIMEOUT = 20.0
"""Seconds within which a warm shutdown ends everything."""

MOST_DRAIN = 0.75
"""The part of them for which tasks go on, at most and by default: the rest is for the ladders."""

KIBIBYTE = 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What is set for the pool.

    Attributes:
        kind: Where tasks run: "process" or "thread".
        config: What the file and the environment say of ladders and times.
        hostname: The name of Celery's worker.
        soft, hard: The limits of tasks that have none of their own, in seconds; infinite: none.
        max_tasks: Tasks after which a process or thread is replaced.
        max_rss: Bytes above which a process is replaced.
        shutdown_timeout: Seconds within which a warm shutdown ends everything.
        drain: For how many of these tasks go on.
        rest: Those that are left for the ladders of tasks after that.
        ladder: Seconds within which a cold shutdown ends everything: those of the ladder of a task.
        ignored: What is set and cannot be kept, as a sentence; empty: nothing.
    """

    kind: Kind
    config: Config
    hostname: str
    soft: float
    hard: float
    max_tasks: int | None
    max_rss: int | None
    shutdown_timeout: float
    drain: float
    rest: float
    ladder: float
    ignored: str = ""


def settings_of(app: Any, options: dict[str, Any]) -> Settings:
    """Returns what is set.

    Args:
        app: Celery's app.
        options: What Celery gives to its pools.

    Raises:
        ValueError: There is no such kind, or the file has mistakes.
    """
    kind = _kind(os.environ.get(KIND) or app.conf.get("supervisor_kind") or "process")
    memory = options.get("max_memory_per_child")
    ignored = ""
    if kind == "thread" and memory:
        ignored = "worker_max_memory_per_child is ignored: threads share one memory"
        memory = None
    config = load(os.environ.get(FILE) or app.conf.get("supervisor_config") or None)
    policy = config.pool(POOL).policy or config.policy or POLICY
    timeout = config.shutdown_in(SHUTDOWN_TIMEOUT)
    drain = min(inf if config.drain is None else config.drain, MOST_DRAIN * timeout)
    ladder = min(policy.budget(kind), timeout)
    return Settings(
        kind,
        config,
        str(options["initargs"][1]) if options.get("initargs") else "",
        options.get("soft_timeout") or inf,
        options.get("timeout") or inf,
        options.get("maxtasksperchild") or None,
        memory * KIBIBYTE if memory else None,
        timeout,
        drain,
        ladder if drain == inf else timeout - drain,
        ladder,
        ignored,
    )


def _kind(said: object) -> Kind:
    kinds: dict[object, Kind] = {"process": "process", "thread": "thread"}
    if said not in kinds:
        raise ValueError(
            f'{KIND}={said!r}, or supervisor_kind in Celery\'s configuration: must be "process" or "thread"'
        )
    return kinds[said]
