"""Named pools, as users hold them, and what may be set for one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar, TypeVarTuple

from .._core.placement import ANYWHERE
from .._core.pools import ANY_SIZE, PoolSettings
from .._core.values import checked_count
from .._run.origin import keeping_origin
from .._runtime.pools import statistics_of
from .._runtime.scopes import pool_closed
from .._worker.current import shielded
from .checks import (
    check_kind,
    checked_interval,
    checked_limits,
    checked_optional_count,
    checked_policy,
    checked_slow_after,
)
from .cpus import usable_cpus
from .ending import shut_down
from .functions import check_function
from .iteration import BUFFER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterable, Callable, Iterable
    from concurrent.futures import Executor
    from typing import Never

    from .._core.placement import Placement
    from .._core.policy import EscalationPolicy, Kind
    from .._core.pools import Limits, On
    from .._core.report import PoolStatistics, ShutdownReport
    from .._runtime.scopes import PoolScope
    from ..config import Config
    from .binding import Binding
    from .iteration import Iteration

__all__ = ["Pool", "default_size", "pool_settings", "with_config"]

A = TypeVar("A")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Home(Protocol):
    """What a pool asks of the supervisor, or the group, through which it was made: that carries out its calls."""

    async def run(
        self,
        fn: Callable[[*Ts], T],
        /,
        *args: *Ts,
        timeout: float | None = None,
        within: float | None = None,
        policy: EscalationPolicy | None = None,
        name: str | None = None,
        pool: str | Pool | None = None,
        limits: Limits | None = None,
        slow_after: float | None = None,
        **unexpected: Never,
    ) -> T: ...

    def iterate(
        self,
        fn: Callable[[*Ts], Iterable[T]],
        /,
        *args: *Ts,
        buffer: int = BUFFER,
        timeout: float | None = None,
        within: float | None = None,
        policy: EscalationPolicy | None = None,
        name: str | None = None,
        limits: Limits | None = None,
        slow_after: float | None = None,
        pool: str | Pool | None = None,
        **unexpected: Never,
    ) -> Iteration[T]: ...

    def map(
        self,
        fn: Callable[[A], T],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        limit: int | None = None,
        timeout: float | None = None,
        within: float | None = None,
        policy: EscalationPolicy | None = None,
        pool: str | Pool | None = None,
        limits: Limits | None = None,
        slow_after: float | None = None,
        **unexpected: Never,
    ) -> Iteration[T]: ...

    def executor(self, *, pool: str | Pool | None = None) -> Executor: ...


class Pool:
    """A lane of its own for calls: threads, or processes, that no call of another pool holds up.

    What `Supervisor.pool` returns. Its calls are those of the supervisor, or of the group, whose `pool()` has made it:
    their names, ladders, logs and their end are as those of all calls.

    Example:
        >>> import asyncio
        >>> from supervisor import Supervisor
        >>> async def main():
        ...     async with Supervisor() as sup:
        ...         mail = sup.pool("mail", kind="thread", size=2)
        ...         return await mail.run(str.upper, "sent"), mail.name, mail.kind, mail.size
        >>> asyncio.run(main())
        ('SENT', 'mail', 'thread', 2)
    """

    __slots__ = ("__dict__", "_binding", "_home", "_scope", "kind", "name")

    def __init__(self, home: Home, binding: Binding, scope: PoolScope) -> None:
        self._home = home
        self._binding = binding
        self._scope = scope
        self.name: str = scope.name
        self.kind: Kind = scope.settings.kind
        if binding.settings.origins:
            self.__dict__.update(run=keeping_origin(self.run))

    @property
    def size(self) -> int:
        """How many of its calls run at once. Any thread."""
        return self._scope.settings.size

    def statistics(self) -> PoolStatistics:
        """Returns how many calls it has, how many threads or processes, and whether it is ready. Any thread."""
        with shielded():
            runtime, scope = self._binding.runtime, self._scope
            if runtime is None:
                return statistics_of(scope.settings, None)
            closed = scope.shutdown.begun  # another pool may have its name
            kind = scope.kind if closed else runtime.kinds.made(self.name)
            found = statistics_of(scope.settings, kind, tuple(runtime.escalation.abandoned.values()))
            return replace(found, ready=False, reason="is shutting down, or has shut down") if closed else found

    def resize(self, size: int) -> None:
        """Has another number of calls run at once from now on.

        Further threads or processes start as calls wait for them. Those that there are too many of end once they have
        nothing to do: no call is stopped.

        Args:
            size: How many, 1 or more, and at least as many as are kept `warm`.

        Raises:
            TypeError, ValueError: `size` is wrong.
            SupervisorClosed: The pool is shutting down, or has shut down.
            RuntimeError: It was called outside the supervisor's event loop, once that has one.
        """
        self._refuse_if_closed()
        self._binding.resize_pool(self.name, checked_count("resize(size={!r})", size, least=1))

    async def ready(self) -> None:
        """Waits until as many threads or processes as are kept `warm` are up, and past their initializer.

        On a cluster: on each node that takes runs, and there is one. Cancelling it stops only the waiting.

        Raises:
            SupervisorError: The initializer has failed; its error is the `__cause__`. It is tried again for the next
                call alone.
            SupervisorClosed: The pool, or the supervisor, is shutting down, or has shut down.
            RuntimeError: It was called in another event loop than the supervisor's own, in another process, or under
                trio.
        """
        self._refuse_if_closed()
        runtime = self._binding.bind()
        up: asyncio.Future[None] = runtime.loop.create_future()

        def told(fault: Exception | None) -> None:
            if up.done():
                return  # nobody waits any more
            if fault is None:
                up.set_result(None)
            else:
                up.set_exception(fault)

        runtime.kinds.get(self.name).readiness.when_ready(told)
        await up

    async def run(
        self,
        fn: Callable[[*Ts], T],
        /,
        *args: *Ts,
        timeout: float | None = None,
        within: float | None = None,
        policy: EscalationPolicy | None = None,
        name: str | None = None,
        limits: Limits | None = None,
        slow_after: float | None = None,
        **unexpected: Never,
    ) -> T:
        """Calls `fn(*args)` on a thread or process of this pool and returns its result: `Supervisor.run` with `pool=`.

        All arguments, errors and what a cancellation does are as there.
        """
        return await self._home.run(
            fn,
            *args,
            timeout=timeout,
            within=within,
            policy=policy,
            name=name,
            pool=self,
            limits=limits,
            slow_after=slow_after,
            **unexpected,
        )

    def iterate(
        self,
        fn: Callable[[*Ts], Iterable[T]],
        /,
        *args: *Ts,
        buffer: int = BUFFER,
        timeout: float | None = None,
        within: float | None = None,
        policy: EscalationPolicy | None = None,
        name: str | None = None,
        limits: Limits | None = None,
        slow_after: float | None = None,
        **unexpected: Never,
    ) -> Iteration[T]:
        """Returns an async iterator over what `fn(*args)` yields in this pool: `Supervisor.iterate` with `pool=`.

        All arguments and errors are as there.
        """
        return self._home.iterate(
            fn,
            *args,
            buffer=buffer,
            timeout=timeout,
            within=within,
            policy=policy,
            name=name,
            limits=limits,
            slow_after=slow_after,
            pool=self,
            **unexpected,
        )

    def map(
        self,
        fn: Callable[[A], T],
        items: Iterable[A] | AsyncIterable[A],
        *,
        ordered: bool = True,
        limit: int | None = None,
        timeout: float | None = None,
        within: float | None = None,
        policy: EscalationPolicy | None = None,
        limits: Limits | None = None,
        slow_after: float | None = None,
        **unexpected: Never,
    ) -> Iteration[T]:
        """Returns an async iterator over the results of `fn(item)` for each item, in this pool: `Supervisor.map`.

        All arguments and errors are as there.
        """
        return self._home.map(
            fn,
            items,
            ordered=ordered,
            limit=limit,
            timeout=timeout,
            within=within,
            policy=policy,
            limits=limits,
            slow_after=slow_after,
            pool=self,
            **unexpected,
        )

    def executor(self) -> Executor:
        """Returns the pool as a `concurrent.futures.Executor`; see `Supervisor.executor`. Any thread."""
        return self._home.executor(pool=self)

    async def shutdown(
        self, timeout: float | None = None, *, drain: float | None = None, reason: str = ""
    ) -> ShutdownReport:
        """Closes this pool alone, and returns what became of its calls, within `timeout` + 0.25 s.

        New calls are refused at once. Those of the pool, of whatever group, go on for `drain` seconds, and then climb
        their ladders, as in `Supervisor.shutdown`; so does what a second call changes. Then its threads or processes
        end, and its name is free: `Supervisor.pool` can make another one of this name. This one stays closed.

        A shutdown of the supervisor includes it, whichever ends first.

        Args:
            timeout: Seconds from now, drain included, 0 or more; None: `shutdown_timeout`.
            drain: Of these seconds, those for which its calls go on, 0 or more, at most three quarters. None: as the
                supervisor was given it, or as the shutdown has begun.
            reason: Why, for `ctx.reason`, the log and the report.

        Raises:
            TypeError, ValueError: An argument is wrong; nothing was stopped.
            RuntimeError: It is one of the two pools that every supervisor has, which end with it; or it was called in
                another event loop than the supervisor's own, in another process, or under trio.

        Example:
            >>> import asyncio
            >>> from supervisor import Supervisor
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         mail = sup.pool("mail", kind="thread")
            ...         sent = asyncio.ensure_future(mail.run(str.upper, "sent"))
            ...         await asyncio.sleep(0)
            ...         report = await mail.shutdown(drain=5)
            ...         return await sent
            >>> asyncio.run(main())
            'SENT'
        """
        if self._binding.settings.pools.is_always_there(self.name):
            raise self._binding.misused(f"has the pool {self.name!r} for as long as it lives: shut the supervisor down")
        return await shut_down(self._binding, self._scope, timeout, drain, reason)

    def _refuse_if_closed(self) -> None:
        if self._scope.shutdown.begun:
            raise pool_closed(self._binding.settings.name, self.name)

    def __repr__(self) -> str:
        how = "shut down" if self._scope.shutdown.begun else f"{self.size} {_PLURALS[self.kind]}"
        return f"<Pool {self.name!r} of supervisor {self._binding.settings.name!r}: {how}>"


_PLURALS: dict[Kind, str] = {"thread": "threads", "process": "processes"}


# ------------------------------------------------------------------------------------------------ what is set for one


def pool_settings(  # noqa: D417  # as in Supervisor.pool
    name: str,
    *,
    kind: Kind,
    size: int | None = None,
    max_queued: int | None = None,
    max_tasks: int | None = None,
    max_lifetime: float | None = None,
    max_rss: int | None = None,
    idle_timeout: float | None = None,
    initializer: Callable[[], object] | None = None,
    warm: int = 0,
    policy: EscalationPolicy | None = None,
    limits: Limits | None = None,
    slow_after: float | None = None,
    on: On = None,
    placement: Placement | None = None,
    usual: PoolSettings | None = None,
    config: Config | None = None,
) -> PoolSettings:
    """Checks what is to be set for a pool, and returns it; each error names the field.

    Args:
        name: Its name, which has been checked.
        placement: Which nodes take its calls, which was checked.
        usual: What holds for a pool that is always there, where nothing else is said.
        config: What it says of the pool goes before all this.
    """
    check_kind(kind)
    if placement is not None and on is None:
        raise ValueError('resources and nodes are for pools on a cluster alone: add on="cluster"')
    if usual is not None:
        if on != usual.on:
            raise ValueError(f"on={on!r}: the pool {name!r}, which is always there, is for on={usual.on!r}")
        if kind != usual.kind:
            raise ValueError(f"kind={kind!r}: the pool {name!r}, which is always there, is of the kind {usual.kind!r}")
        size = usual.size if size is None else size
        max_queued = usual.max_queued if max_queued is None else max_queued
        max_tasks = usual.max_tasks if max_tasks is None else max_tasks
    if initializer is not None:
        check_function("initializer", initializer)
    settings = PoolSettings(
        name=name,
        kind=kind,
        size=checked_optional_count("size", size, least=1) or (ANY_SIZE if on else default_size(kind, usable_cpus())),
        max_queued=checked_optional_count("max_queued", max_queued, least=0),
        max_tasks=checked_optional_count("max_tasks", max_tasks, least=1),
        max_lifetime=checked_interval("max_lifetime", max_lifetime),
        max_rss=checked_optional_count("max_rss", max_rss, least=1),
        idle_timeout=checked_interval("idle_timeout", idle_timeout),
        initializer=initializer,
        warm=checked_count("warm={!r}", warm, least=0),
        policy=checked_policy(policy),
        limits=checked_limits(limits, kind),
        slow_after=checked_slow_after(slow_after),
        on=on,
        placement=placement or ANYWHERE,
    )
    return with_config(settings, config)


def with_config(settings: PoolSettings, config: Config | None) -> PoolSettings:
    """Returns the settings with what a configuration says of the pool; refuses what the pool cannot keep."""
    if config is None:
        _check_keepable(settings)
        return settings
    config._unmatched_pools.see(settings.name)
    layer = config.pool(settings.name)
    settings = layer.over(settings)
    try:
        _check_keepable(settings)
    except ValueError as error:
        if said := layer.said():
            error.add_note(f"the configuration says of the pool {settings.name!r}: {', '.join(said)}")
        raise
    return settings


def default_size(kind: Kind, cpus: int) -> int:
    """Returns how many calls of a kind run at once, with so many CPUs, where nobody has said it."""
    return min(32, cpus + 4) if kind == "thread" else cpus


def _check_keepable(settings: PoolSettings) -> None:
    """Refuses what a pool of this kind, or of this size, cannot keep."""
    if settings.warm > settings.size:
        raise ValueError(f"warm={settings.warm!r}: must not be more than size={settings.size!r}")
    if settings.kind != "process" and settings.max_rss is not None:
        raise ValueError(
            f"max_rss={settings.max_rss!r}: cannot be kept by a pool of threads, which share one memory: "
            'use kind="process"'
        )
    checked_limits(settings.limits, settings.kind)
