"""The pools of one supervisor, each of which is one more of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._worker.locks import ScopedLock
from .pools import statistics_of, why_not_ready
from .scopes import PoolScope, is_root, pool_closed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .._core.pools import PoolSettings
    from .._core.report import NodeStatistics, PoolStatistics
    from .._run.run import Run, WorkerKind
    from .pools import Pools
    from .scopes import AnyScope

__all__ = ["Kinds"]


class Kinds:
    """The pools of one supervisor, as far as they are in use. Any thread.

    Each is an instance of its kind, with threads or processes of its own. The two that are always there have the names
    of their kinds, and carry out the workers of `start()`, too.

    Args:
        supervisor: Its name, for messages.
        make: Makes a pool, when it is first asked for.
        pools: What is set for each.

    Attributes:
        threads: The pool "thread".
    """

    threads: WorkerKind

    def __init__(self, supervisor: str, make: Callable[[PoolSettings], WorkerKind], pools: Pools) -> None:
        self._supervisor = supervisor
        self._make = make
        self._pools = pools
        self._made: dict[str, WorkerKind] = {}
        self._replaced: list[WorkerKind] = []  # another thread may be about to submit a call to one
        self._ended: list[WorkerKind] = []  # of pools that were shut down alone, with threads that were given up
        self._making = ScopedLock()  # a signal handler may come in between

    def __iter__(self) -> Iterator[WorkerKind]:
        return iter((*self._made.values(), *self._replaced, *self._ended))

    def statistics(self, abandoned: Collection[Run] = ()) -> dict[str, PoolStatistics]:
        """Counts what each pool has, those included that nobody has used."""
        return {pool.name: statistics_of(pool, self._made.get(pool.name), abandoned) for pool in self._pools}

    @property
    def nodes(self) -> tuple[NodeStatistics, ...]:
        """The nodes of the cluster, which all pools on it share."""
        return next((kind.nodes for kind in self if kind.settings.on is not None), ())

    def unready(self) -> dict[str, str]:
        """Returns why pools cannot take calls, by the names of these; that one is shut down is wanted."""
        kinds = [kind for kind in tuple(self._made.values()) if not kind.closing]
        reasons = {kind.settings.name: why_not_ready(kind) for kind in kinds}
        return {name: reason for name, reason in reasons.items() if reason}

    def begin(self) -> None:
        """Makes the pool that is there from the beginning."""
        self.threads = self.get("thread")

    def get(self, name: str) -> WorkerKind:
        """Returns a pool by its name; makes it when it is first asked for."""
        kind = self._made.get(name)
        if kind is not None:
            return kind
        with self._making:
            if name not in self._made:
                self._made[name] = self._make(self._pools[name])
            return self._made[name]

    def of(self, pool: PoolScope) -> WorkerKind:
        """Returns what carries out the calls of a pool.

        First taken, then looked: once its shutdown has begun, it may end, and another pool have its name.

        Raises:
            SupervisorClosed: It is shutting down, or has shut down.
        """
        try:
            kind = self.get(pool.name)
        except KeyError:
            raise pool_closed(self._supervisor, pool.name) from None
        if pool.shutdown.begun:
            raise pool_closed(self._supervisor, pool.name)
        return kind

    def made(self, name: str) -> WorkerKind | None:
        """Returns a pool that is in use; None where nobody has asked for it."""
        return self._made.get(name)

    def used(self, name: str) -> bool:
        """Whether a pool has had any work. The one that is there from the beginning may have had none."""
        kind = self._made.get(name)
        return kind is not None and (kind is not self.threads or bool(kind.calls or kind.alive))

    def renew(self, name: str) -> None:
        """Has a pool that was not used made anew, by what is set for it now."""
        with self._making:
            kind = self._made.get(name)
            if kind is not None:
                self._replaced.append(kind)
                self._made[name] = self.threads = self._make(self._pools[name])

    def remove(self, name: str) -> None:
        """A pool has ended, and its name is free; it is seen for as long as something of it is left. Idempotent."""
        with self._making:
            kind = self._made.get(name)
            ended = self._ended if kind is None or kind in self._ended else [*self._ended, kind]
            self._ended = [other for other in ended if other.alive]
            self._made.pop(name, None)

    def warm_up(self) -> None:
        """Makes the pools that have something started before there is any call. On the loop's thread."""
        for settings in self._pools:
            if settings.warm:
                self.get(settings.name)

    def calls(self) -> list[Run]:
        """Returns the calls that have not concluded, those of the pools' own included."""
        return [run for kind in self for run in (*list(kind.calls.values()), *list(kind.own_calls.values()))]

    def calls_in(self, scope: AnyScope) -> list[Run]:
        """Returns those in a scope, and in the groups in it."""
        return self.calls() if is_root(scope) else list(scope.calls.values())

    def used_in(self, scope: AnyScope) -> bool:
        """Whether a call in a scope has not concluded that somebody has made, and not its pool itself."""
        if isinstance(scope, PoolScope):
            return scope.kind is not None and bool(scope.kind.calls)
        return bool(scope.calls) if scope.group is not None else any(kind.calls for kind in self)

    def have_calls(self) -> bool:
        """Whether any call has not concluded."""
        return any(kind.calls or any(not run.over for run in list(kind.own_calls.values())) for kind in self)

    def call_numbered(self, number: int) -> Run | None:
        """Returns the call of this number, unless it has concluded."""
        return next((run for kind in self if (run := kind.calls.get(number)) is not None), None)
