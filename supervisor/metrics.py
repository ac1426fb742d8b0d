"""Metrics for Prometheus: `register(sup)` once, and each scrape has the supervisor's numbers. The extra `metrics`.

Gauges are read when a scrape asks for them, on the thread of the scrape. Counters and the histogram are counted as it
happens. No call is watched for that, so that a call pays a fraction of a microsecond and not the events of its life.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args
from weakref import WeakKeyDictionary

from ._api.ports import integration_of
from ._core.outcome import Ended
from ._core.policy import STEPS, STEPS_OF_KIND, Kind
from ._core.report import NodeState
from ._observe.counters import Counters
from ._worker.locks import ScopedLock

try:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
except ImportError as error:
    raise ImportError(
        "supervisor.metrics needs prometheus-client: install the extra stopladder[metrics]", name=error.name
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ._api.integration import Integration, Snapshot
    from ._api.supervisor import Supervisor

__all__ = ["METRICS", "STOP_BUCKETS", "Metric", "register", "unregister"]

STOP_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0)
"""Upper bounds in seconds: the graces of the default ladders end at 5, 7, 10 and 12, a shutdown at 20."""

Family: TypeAlias = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily


class Metric(NamedTuple):
    """One metric as Prometheus sees it.

    Attributes:
        name: Its name, with its unit and, for a counter, `_total`.
        type: "gauge", "counter" or "histogram".
        labels: Its labels, each with the values that it can have; besides them each metric has `supervisor`.
        help: What it is.
    """

    name: str
    type: Literal["gauge", "counter", "histogram"]
    labels: Mapping[str, tuple[str, ...]]
    help: str

    def family(self) -> Family:
        """Returns it without samples."""
        names = ["supervisor", *self.labels]
        match self.type:
            case "gauge":
                return GaugeMetricFamily(self.name, self.help, labels=names)
            case "counter":
                return CounterMetricFamily(self.name, self.help, labels=names)
            case "histogram":
                return HistogramMetricFamily(self.name, self.help, labels=names)


KINDS: tuple[Kind, ...] = get_args(Kind)
STATES = {
    "call": ("queued", "running", "stopping"),
    "worker": ("starting", "running", "stopping", "backing_off"),
}
NEW_STATES = {
    "call": ("queued", "running", "stopping", "ended"),
    "worker": ("running", "stopping", "backing_off", "ended"),
}
_LOST: dict[Kind, tuple[Ended, ...]] = {"thread": ("abandoned",), "process": ("abandoned", "died")}
ENDINGS = {
    kind: ("returned", "failed", *(step.ended for step in steps), *_LOST[kind], "cancelled")
    for kind, steps in STEPS_OF_KIND.items()
}

_KIND = {"kind": KINDS}
_ROLE = {"role": ("call", "worker")}
_MEMBER = {"role": ("worker", "group")}


def _all(values: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for some in values.values() for value in some))


WORKERS = Metric(
    "supervisor_workers", "gauge", _KIND | _ROLE | {"state": _all(STATES)}, "Workers and calls that have not ended."
)
QUEUED = Metric("supervisor_queued_calls", "gauge", _KIND, "Calls that wait for a thread or a process.")
CAPACITY = Metric("supervisor_call_capacity", "gauge", _KIND, "Calls that can run at once.")
THREADS = Metric(
    "supervisor_threads", "gauge", {}, "Threads that are alive: of the pool, of workers, abandoned ones and helpers."
)
PROCESSES = Metric(
    "supervisor_processes", "gauge", {}, "Processes that are alive: of the pool, of workers, and the spare one."
)
ABANDONED = Metric(
    "supervisor_abandoned_workers", "gauge", _KIND, "Workers and calls that were abandoned and have not come back."
)
FAILED = Metric(
    "supervisor_failed_workers", "gauge", {}, "Workers that have failed or died for good and were not started again."
)
STOPPING = Metric("supervisor_stopping", "gauge", {}, "1 once a shutdown has begun, else 0.")
TRANSITIONS = Metric(
    "supervisor_transitions_total",
    "counter",
    _KIND | _ROLE | {"state": _all(NEW_STATES)},
    "Changes of the state of workers and calls, by the new state.",
)
ESCALATIONS = Metric(
    "supervisor_escalations_total", "counter", _KIND | {"step": tuple(STEPS)}, "Steps of ladders that have begun."
)
EXITS = Metric(
    "supervisor_exits_total",
    "counter",
    _KIND | _ROLE | {"ended": get_args(Ended)},
    "Runs of workers, and calls, that have ended, by how they ended.",
)
RESTARTS = Metric("supervisor_restarts_total", "counter", _MEMBER, "Restarts of workers and groups.")
EXHAUSTED = Metric(
    "supervisor_exhausted_total",
    "counter",
    _MEMBER,
    "Workers and groups that were given up: they had failed too often.",
)
STOP_SECONDS = Metric(
    "supervisor_stop_seconds",
    "histogram",
    _KIND,
    "Seconds that workers and calls took to end, or to be abandoned, once their ladder had begun.",
)

_POOL: dict[str, tuple[str, ...]] = {"pool": KINDS}  # and the names of all others
POOL_RUNNING = Metric(
    "supervisor_pool_running_calls", "gauge", _POOL, "Calls of a pool that run, or are being stopped."
)
POOL_QUEUED = Metric("supervisor_pool_queued_calls", "gauge", _POOL, "Calls of a pool that wait.")
POOL_CAPACITY = Metric(
    "supervisor_pool_call_capacity",
    "gauge",
    {"pool": ()},
    "Calls that can run at once in a pool; of those that are always there once the supervisor is in use.",
)
POOL_ALIVE = Metric(
    "supervisor_pool_alive", "gauge", _POOL, "Threads or processes of a pool that are alive, abandoned ones included."
)
POOL_ABANDONED = Metric(
    "supervisor_pool_abandoned_calls", "gauge", _POOL, "Calls of a pool that were abandoned and have not come back."
)
POOL_UNREADY = Metric(
    "supervisor_pool_unready", "gauge", _POOL, "1 while a pool cannot take calls, as its initializer fails, else 0."
)
POOL_EXITS = Metric(
    "supervisor_pool_exits_total",
    "counter",
    _POOL | {"ended": get_args(Ended)},
    "Calls of a pool that have ended, by how they ended.",
)

OLDEST_RUNNING = Metric(
    "supervisor_oldest_running_seconds", "gauge", _POOL, "Seconds for which the oldest call of a pool has been running."
)
OLDEST_QUEUED = Metric(
    "supervisor_oldest_queued_seconds", "gauge", _POOL, "Seconds for which the oldest call of a pool has been waiting."
)
STALLS = Metric(
    "supervisor_loop_stalls_total", "counter", {}, "Times that the event loop was blocked for stall_after and longer."
)
STALLED = Metric(
    "supervisor_loop_stalled_seconds_total", "counter", {}, "Seconds for which it was blocked at these times."
)

NODES = Metric(
    "supervisor_cluster_nodes",
    "gauge",
    {"state": get_args(NodeState)},
    "Nodes of the cluster, once it is in use: that take calls, that take no more, and that cannot be reached.",
)

METRICS = (
    *(WORKERS, QUEUED, CAPACITY, THREADS, PROCESSES, ABANDONED, FAILED, STOPPING),
    *(TRANSITIONS, ESCALATIONS, EXITS, RESTARTS, EXHAUSTED, STOP_SECONDS),
    *(POOL_RUNNING, POOL_QUEUED, POOL_CAPACITY, POOL_ALIVE, POOL_ABANDONED, POOL_UNREADY, POOL_EXITS),
    *(OLDEST_RUNNING, OLDEST_QUEUED, STALLS, STALLED, NODES),
)


# ------------------------------------------------------------------------------------------------ registering


def register(
    sup: Supervisor, *, registry: CollectorRegistry | None = None, buckets: Sequence[float] = STOP_BUCKETS
) -> None:
    """Adds a supervisor to the scrapes of a registry, and begins to count. Any thread; before its first use, too.

    Several supervisors of one process may be registered; the label `supervisor`, their names, tells them apart. The
    workers and calls of groups count for their supervisor. Registering the same one again changes nothing. One that has
    shut down stays, with its last counts, until it is unregistered or one of the same name is registered.

    Args:
        sup: The supervisor; no group.
        registry: Where; None: `prometheus_client.REGISTRY`.
        buckets: The upper bounds of `supervisor_stop_seconds`, in seconds: finite, above 0, each more than the one
            before. `+Inf` is added.

    Raises:
        TypeError: An argument is wrong.
        ValueError: It is a group, or `buckets` are wrong; or a supervisor of this name is registered and has not shut
            down; or others have registered metrics of these names.
        RuntimeError: prometheus-client's multiprocess mode is on, which no collector takes part in, and no registry of
            your own is given.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> from supervisor import Supervisor
        >>> registry = CollectorRegistry()
        >>> register(Supervisor("app"), registry=registry)
        >>> registry.get_sample_value("supervisor_stopping", {"supervisor": "app"})
        0
    """
    integration = _checked(sup)
    registry = _checked_registry(registry)
    bounds = _checked_buckets(buckets)
    if registry is REGISTRY and any(name in os.environ for name in MULTIPROCESS):
        raise RuntimeError(
            f"register({sup!r}): {MULTIPROCESS[0]} is set, and prometheus-client's multiprocess mode merges the files "
            "of its own metrics alone: give registry=CollectorRegistry(), and serve it from each process on a port of "
            "its own"
        )
    with _registering:
        collector = _collectors.get(registry)
        if collector is None:
            collector = _collectors[registry] = Collector()
            try:
                registry.register(collector)
            except BaseException:
                del _collectors[registry]
                raise
        collector.add(sup, integration, bounds)


def unregister(sup: Supervisor, *, registry: CollectorRegistry | None = None) -> None:
    """Takes a supervisor out of the scrapes of a registry, and stops counting for it. Any thread.

    Raises:
        TypeError: An argument is wrong.
        ValueError: It is a group.
        KeyError: It is not registered there.
    """
    _checked(sup)
    registry = _checked_registry(registry)
    with _registering:
        collector = _collectors.get(registry)
        if collector is None or not collector.has(sup):
            raise KeyError(f"unregister({sup!r}): is not registered in this registry")
        collector.remove(sup)
        if collector.empty:
            del _collectors[registry]
            registry.unregister(collector)


MULTIPROCESS = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


def _checked(sup: Supervisor) -> Integration:
    return integration_of(sup, "sup={!r}", no_group="is a group, which its supervisor counts: give that one")


def _checked_registry(registry: object) -> CollectorRegistry:
    if registry is not None and not isinstance(registry, CollectorRegistry):
        raise TypeError(f"registry={registry!r}: must be a prometheus_client.CollectorRegistry or None")
    return registry or REGISTRY


def _checked_buckets(buckets: Sequence[object]) -> tuple[float, ...]:
    numbers = [value for value in buckets if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != len(buckets):
        raise TypeError(f"buckets={buckets!r}: must be numbers of seconds")
    rising = all(before < after for before, after in zip([0, *numbers], numbers, strict=False))
    if not numbers or not rising or math.isinf(numbers[-1]):
        raise ValueError(f"buckets={buckets!r}: must be one or more finite seconds above 0, each more than the last")
    return tuple(float(value) for value in numbers)


# ------------------------------------------------------------------------------------------------ scraping


class Registered(NamedTuple):
    sup: Supervisor
    integration: Integration
    counters: Counters


class Collector:
    """All supervisors of one registry, as the registry asks for them: a scrape may have each name only once."""

    def __init__(self) -> None:
        self._registered: dict[str, Registered] = {}

    @property
    def empty(self) -> bool:
        return not self._registered

    def has(self, sup: Supervisor) -> bool:
        registered = self._registered.get(sup.name)
        return registered is not None and registered.sup is sup

    def add(self, sup: Supervisor, integration: Integration, bounds: tuple[float, ...]) -> None:
        if self.has(sup):
            return
        former = self._registered.get(sup.name)
        if former is not None:
            if former.integration.report is None and not former.integration.lost:
                raise ValueError(
                    f"register({sup!r}): {former.sup!r} is registered under this name: give each supervisor its own"
                )
            self.remove(former.sup)
        counters = Counters(bounds)
        self._registered[sup.name] = Registered(sup, integration, counters)
        integration.count(counters)

    def remove(self, sup: Supervisor) -> None:
        registered = self._registered.pop(sup.name)
        registered.integration.stop_counting(registered.counters)

    def describe(self) -> Iterable[Family]:
        """Returns the metrics without samples, so that names that are taken are found at once."""
        return [metric.family() for metric in METRICS]

    def collect(self) -> Iterable[Family]:
        """Returns the metrics as they are now. Any thread."""
        families = {metric.name: metric.family() for metric in METRICS}
        for name, (_, integration, counters) in sorted(self._registered.copy().items()):
            if integration.lost:
                continue  # it belongs to the process that has been forked, whose own scrapes have it
            snapshot = integration.snapshot()
            for metric, numbers in (*_now(snapshot), *_counted(counters), *_of_pools(snapshot, counters)):
                family = families[metric.name]
                assert not isinstance(family, HistogramMetricFamily)
                for values, number in numbers.items():
                    family.add_metric((name, *values), number)
            histogram = families[STOP_SECONDS.name]
            assert isinstance(histogram, HistogramMetricFamily)
            for kind, rows, total in _stops(counters):
                histogram.add_metric((name, kind), rows, total)
        return families.values()


_registering = ScopedLock()
_collectors: WeakKeyDictionary[CollectorRegistry, Collector] = WeakKeyDictionary()

Numbers: TypeAlias = "Mapping[tuple[str, ...], float]"
"""By the values of the labels, but for `supervisor`."""


def _now(snapshot: Snapshot) -> Iterator[tuple[Metric, Numbers]]:
    """The gauges."""
    workers = Counter(snapshot.workers)
    possible = [(kind, role, state) for kind in KINDS for role, states in STATES.items() for state in states]
    yield WORKERS, _with_zeros(workers, possible)
    yield QUEUED, {(kind,): workers[kind, "call", "queued"] for kind in KINDS}
    yield CAPACITY, {(kind,): snapshot.capacity[kind] for kind in KINDS}
    yield THREADS, {(): snapshot.threads}
    yield PROCESSES, {(): snapshot.processes}
    yield ABANDONED, {(kind,): snapshot.abandoned.get(kind, 0) for kind in KINDS}
    yield FAILED, {(): snapshot.failed}
    yield STOPPING, {(): int(snapshot.stopping)}
    yield NODES, {(state,): snapshot.nodes[state] for state in get_args(NodeState)}
    stalls, seconds = snapshot.stalls
    yield STALLS, {(): stalls}
    yield STALLED, {(): seconds}


def _counted(counters: Counters) -> Iterator[tuple[Metric, Numbers]]:
    """Reads the counters."""
    transitions, exits = Counter(dict(counters.transitions)), Counter(dict(counters.exits))
    for (kind, ended, entered), number in dict(counters.unseen).items():
        exits[kind, "call", ended] += number
        for state in ("queued", "running", "ended") if entered else ("queued", "ended"):
            transitions[kind, "call", state] += number
    roles = _ROLE["role"]
    changes = [(kind, role, state) for kind in KINDS for role in roles for state in NEW_STATES[role]]
    yield TRANSITIONS, _with_zeros(transitions, changes)
    begun = [(kind, step.name) for kind in KINDS for step in STEPS_OF_KIND[kind]]
    yield ESCALATIONS, _with_zeros(dict(counters.escalations), begun)
    ends = [(kind, role, ended) for kind in KINDS for role in roles for ended in ENDINGS[kind]]
    yield EXITS, _with_zeros(exits, ends)
    yield RESTARTS, {(role,): counters.restarts[role] for role in ("worker", "group")}
    yield EXHAUSTED, {(role,): counters.exhausted[role] for role in ("worker", "group")}


def _of_pools(snapshot: Snapshot, counters: Counters) -> Iterator[tuple[Metric, Numbers]]:
    """The numbers by pool."""
    pools = snapshot.pools
    yield POOL_RUNNING, {(name,): pool.running for name, pool in pools.items()}
    yield POOL_QUEUED, {(name,): pool.queued for name, pool in pools.items()}
    yield POOL_CAPACITY, {(name,): pool.capacity for name, pool in pools.items() if name in snapshot.settled}
    yield POOL_ALIVE, {(name,): pool.alive for name, pool in pools.items()}
    yield POOL_ABANDONED, {(name,): pool.abandoned for name, pool in pools.items()}
    yield POOL_UNREADY, {(name,): int(not pool.ready) for name, pool in pools.items()}
    oldest = {name: snapshot.oldest.get(name, (0.0, 0.0)) for name in pools}
    yield OLDEST_RUNNING, {(name,): running for name, (running, _) in oldest.items()}
    yield OLDEST_QUEUED, {(name,): queued for name, (_, queued) in oldest.items()}
    ends = [(name, ended) for name, pool in pools.items() for ended in ENDINGS[pool.kind]]
    yield POOL_EXITS, _with_zeros(dict(counters.pool_exits), ends)


def _stops(counters: Counters) -> Iterator[tuple[str, list[tuple[str, float]], float]]:
    """Reads the histogram: by kind, how many stops took no longer than each bound, and the sum of seconds."""
    bounds = [*map(str, counters.bounds), "+Inf"]
    for kind in KINDS:
        counts, total = counters.stops.get(kind) or ((0,) * len(bounds), 0.0)
        yield kind, list(zip(bounds, accumulate(counts), strict=True)), total


def _with_zeros(numbers: Mapping[tuple[str, ...], float], possible: Iterable[tuple[str, ...]]) -> Numbers:
    """What can occur is there from the first scrape on: `increase` misses the first step of a series that is not."""
    return {**dict.fromkeys(possible, 0), **numbers}
