"""The one port through which metrics, tracing, a service manager and the like reach a supervisor."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import __version__
from .._runtime.pools import statistics_of
from .._runtime.standing import run_of, stacks_of
from .._runtime.survey import loop_blocked_for, survey, unused
from .._worker.current import shielded
from .probes import health_by_default

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from .._core.errors import SupervisorMisused
    from .._core.incident import Incident
    from .._core.outcome import WorkerState
    from .._core.report import PoolStatistics, ShutdownReport
    from .._core.survey import Survey
    from .._observe.counters import Counters, Key
    from .._observe.notices import Subscriber
    from .._runtime.runtime import Runtime
    from .binding import Binding

__all__ = ["Integration", "Snapshot"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a supervisor has at one moment, its groups and their workers included.

    Attributes:
        workers: How many workers and calls have not ended, by kind, role ("call" or "worker") and state.
        abandoned: How many were abandoned and have not come back, by kind.
        capacity: How many calls can run at once, by kind, in all pools.
        threads: How many threads are alive.
        processes: How many processes are alive.
        stopping: Whether a shutdown has begun, or has ended.
        pools: The pools, by their names.
        oldest: For how many seconds the oldest call of each pool has been running, and has been waiting; 0 where there
            is none.
        stalls: How often the loop was blocked, and for how many seconds in all; 0 where nobody watches it.
        nodes: How many nodes its cluster has, by their states.
        settled: The names of those whose sizes are as they will be: of all, once the supervisor is in use.
    """

    workers: Mapping[Key, int]
    abandoned: Mapping[str, int]
    capacity: Mapping[str, int]
    threads: int
    processes: int
    failed: int
    stopping: bool
    pools: Mapping[str, PoolStatistics]
    oldest: Mapping[str, tuple[float, float]]
    stalls: tuple[int, float]
    nodes: Counter[str]
    settled: AbstractSet[str]


class Integration:
    """What an integration knows of one supervisor. Any thread, where a method does not say otherwise."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding

    @property
    def name(self) -> str:
        return self._binding.settings.name

    @property
    def lost(self) -> bool:
        """Whether this process is a copy of the one that uses the supervisor: what is here is of no use."""
        return self._binding.lost is not None

    @property
    def report(self) -> ShutdownReport | None:
        """What the shutdown met; None until it has ended."""
        return self._binding.root.shutdown.report

    # ------------------------------------------------------------------------------------ its event loop

    def bind(self) -> asyncio.AbstractEventLoop:
        """Returns the supervisor's event loop, which is the running one; binds it to that at its first use.

        Raises:
            RuntimeError: This is another loop than the supervisor's, or another process, or trio.
        """
        return self._binding.bind().loop

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The supervisor's event loop, which need not be that of this thread; None before its first use."""
        runtime = self._binding.runtime
        return None if runtime is None else runtime.loop

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of its ladders, which tests may move. Once it is bound."""
        return self._bound.clock

    @property
    def deadline(self) -> float | None:
        """By when the shutdown must have ended, on the clock; None where none has begun."""
        shutdown = self._binding.root.shutdown
        return shutdown.deadline if shutdown.begun else None

    @property
    def reason(self) -> str | None:
        """Why it shuts down; None where no shutdown has begun."""
        shutdown = self._binding.root.shutdown
        return shutdown.reason if shutdown.begun else None

    # ------------------------------------------------------------------------------------ what happens

    def subscribe(self, subscriber: Subscriber, *, watch: bool = True) -> None:
        """Calls `subscriber` with each notice until it is unsubscribed.

        Args:
            subscriber: Must not block; see `Subscriber`.
            watch: It wants to know of every call, which then costs more. Without it, it gets shutdowns, workers, and
                calls that are stopped.
        """
        self._binding.subscribers.subscribe(subscriber, watch=watch)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Ends that; does nothing where it has not subscribed."""
        self._binding.subscribers.unsubscribe(subscriber)

    def count(self, counters: Counters) -> None:
        """Has these count what happens, at the cost of one addition."""
        self._binding.subscribers.add_counters(counters)

    def stop_counting(self, counters: Counters) -> None:
        self._binding.subscribers.remove_counters(counters)

    def log(self, level: int, event: str, **fields: Any) -> None:
        """Writes to the supervisor's log. On the loop's thread, once it is bound."""
        self._bound.log.write(level, event, **fields)

    # ------------------------------------------------------------------------------------ what is there

    @property
    def unended(self) -> int:
        """How many workers and calls have not ended; quicker than a snapshot."""
        runtime = self._binding.runtime
        return (
            0 if runtime is None else len(runtime.tree.workers) + sum(len(kind.calls) for kind in tuple(runtime.kinds))
        )

    def snapshot(self) -> Snapshot:
        """Looks at all that is there."""
        runtime, pools = self._binding.runtime, self._binding.settings.pools
        there = {pool.name: statistics_of(pool, None) for pool in pools}
        if runtime is None:
            made = {pool.name for pool in pools if pools.usual(pool.name) is None}
            return Snapshot(
                {},
                {},
                _capacity(there),
                0,
                0,
                0,
                stopping=False,
                pools=there,
                oldest={},
                stalls=(0, 0.0),
                nodes=Counter(),
                settled=made,
            )
        statistics = runtime.snapshot.statistics(runtime.root)
        return Snapshot(
            runtime.snapshot.census(runtime.root),
            Counter(run.kind.name for run in tuple(runtime.escalation.abandoned.values())),
            _capacity(statistics.pools),
            statistics.threads,
            statistics.processes,
            statistics.failed,
            statistics.stopping,
            statistics.pools,
            runtime.snapshot.oldest(),
            (0, 0.0) if runtime.stalls is None else (runtime.stalls.number, runtime.stalls.total),
            Counter(node.state for node in statistics.nodes),
            frozenset(statistics.pools),
        )

    def survey(
        self,
        *,
        matching: str = "*",
        states: Collection[WorkerState] = (),
        first: int = 0,
        limit: int | None = None,
    ) -> Survey:
        """Looks at its workers, groups and pools, each by itself; also while the loop is blocked, and after the end.

        Args:
            matching: Only workers whose names match this pattern, as a shell's: `*`, `?`, `[...]`.
            states: Only those in one of these states; none: in any.
            first: How many of the oldest are left out.
            limit: How many are shown at most; None: all.
        """
        with shielded():
            runtime, health = self._binding.runtime, health_by_default(self._binding, self._binding.root)
            if runtime is None:
                pools = tuple(statistics_of(pool, None) for pool in self._binding.settings.pools)
                return unused(self.name, __version__, health, pools)
            return survey(runtime, __version__, health, matching=matching, states=states, first=first, limit=limit)

    @property
    def loop_blocked_for(self) -> float | None:
        """For how long its event loop has not come to a turn; None where nobody watches it, or it has."""
        runtime = self._binding.runtime
        return None if runtime is None else loop_blocked_for(runtime)

    def incidents(self) -> tuple[Incident, ...]:
        """Returns the last failures and stops, the newest last."""
        with shielded():
            runtime = self._binding.runtime
            return () if runtime is None else runtime.incidents.of()

    def stack(self, name: str) -> str | None:
        """Returns where a worker or call of this name stands; None where there is none, empty where it does not run."""
        return self.stacks([name]).get(name)

    def stacks(self, names: Iterable[str]) -> dict[str, str]:
        """Returns where the workers and calls of these names stand; of those that do not run, an empty text."""
        with shielded():
            runtime = self._binding.runtime
            found = {} if runtime is None else {name: runtime.names.find(name) for name in names}
            runs = {name: run_of(of) for name, of in found.items() if of is not None}
            stacks = stacks_of(runs.values())
            return {name: stacks.get(run.number, "") for name, run in runs.items()}

    def abandoned_threads(self) -> list[tuple[str, int]]:
        """Returns the names of the runs that were abandoned and still hold a thread, each with that thread."""
        runtime = self._binding.runtime
        runs = () if runtime is None else tuple(runtime.escalation.abandoned.values())
        return [(run.name, run.ident) for run in runs if run.ident is not None]

    def misused(self, how: str) -> SupervisorMisused:
        """Returns the error of an integration that is used in a wrong way."""
        return self._binding.misused(how)

    @property
    def _bound(self) -> Runtime:
        assert self._binding.runtime is not None
        return self._binding.runtime


def _capacity(pools: Mapping[str, PoolStatistics]) -> Counter[str]:
    capacity = Counter[str]()
    for pool in pools.values():
        capacity[pool.kind] += pool.capacity
    return capacity
