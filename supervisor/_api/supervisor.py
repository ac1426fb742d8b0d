"""The Supervisor, as its users see it. It checks what it is given and waits; the runtime does the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple, cast, get_args

from .._core.errors import SupervisorClosed, SupervisorMisused
from .._core.policy import Kind
from .._core.pools import ANY_SIZE, PoolSettings
from .._core.report import Statistics
from .._core.restart import OnExhausted, Strategy
from .._core.values import checked_count, checked_reason, checked_seconds, plain
from .._core.verdict import error_of_start
from .._loop import aside
from .._loop.outlast import outlast
from .._loop.signals import checked_signals
from .._observe.transitions import Transitions
from .._run import unrun
from .._run.names import qualname
from .._run.origin import keeping_origin, origin
from .._runtime.nodes import GroupNode, Node, WorkerNode
from .._runtime.pools import Pools, statistics_of
from .._runtime.settings import Settings
from .._runtime.shutdown import OnAbandoned
from .._worker.current import shielded
from .binding import Binding
from .checks import (
    WAKE_SIGNAL,
    check_choice,
    check_kind,
    checked_cluster,
    checked_config,
    checked_control,
    checked_dump_signal,
    checked_flag,
    checked_interval,
    checked_limits,
    checked_logger,
    checked_name,
    checked_names,
    checked_optional_count,
    checked_placement,
    checked_policy,
    checked_restart,
    checked_slow_after,
    checked_timeout,
    checked_wake_signal,
)
from .companions import begin_companions
from .cpus import usable_cpus
from .default_executor import DefaultExecutor
from .ending import shut_down
from .executors import PoolExecutor
from .functions import check_fit, check_function, misfit_of_call, unexpected_keywords
from .iteration import BUFFER, Items, Iteration
from .mapping import Results
from .options import Options
from .pool import Pool, default_size, pool_settings, with_config
from .probes import health_by_default
from .signalled import SignalledBody
from .thread_executor import SupervisedThreadPoolExecutor
from .view import LoopView

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor
    from os import PathLike
    from types import TracebackType
    from typing import Never, Protocol, Self

    from .._core.control import Control
    from .._core.incident import Incident
    from .._core.placement import Placement
    from .._core.policy import EscalationPolicy
    from .._core.pools import Limits, On
    from .._core.report import Health, ShutdownReport
    from .._core.restart import Restart
    from .._run.run import WorkerKind
    from .._runtime.runtime import Runtime
    from .._runtime.scopes import PoolScope
    from .._worker.context import WorkerContext
    from ..config import Config
    from .anyio_threads import AnyioThreads
    from .worker import Worker

    class TakesAnything(Protocol):
        """Any function whose parameters nobody knows, as far as type checkers can tell: a `Callable[..., Any]`."""

        def __call__(self, ctx: WorkerContext, /, *args: object, parameters_that_nobody_knows: object) -> object: ...


__all__ = ["Supervisor"]

A = TypeVar("A")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Supervisor:
    """Runs blocking work for an async service, and stops it in a time that is known beforehand.

    May be built before any event loop runs; it binds to the loop that first uses it, and lives once: after its shutdown
    it takes no more work. Use it as an async context manager, or await `shutdown()` in the app's teardown. Its methods
    belong to its event loop's thread; `workers`, `worker`, `incidents`, `stacks`, `statistics`, `health`, `executor`
    and `request_shutdown` may be called from any.

    Args:
        name: For logs, thread names and messages; not empty, without "/", line breaks and control characters, as all
            names.
        policy: The ladder of its workers. None is `EscalationPolicy()`, except that a call's own cancellation or
            timeout then injects nothing: a client that disconnects must not have an exception raised inside the
            connection pool of a service that lives on.
        shutdown_timeout: Seconds within which a shutdown ends everything, 0 or more; longer ladders are shrunk.
        drain: For how many of these seconds calls go on, 0 or more; see `shutdown`.
        max_threads: Calls that run at once, 1 or more. None: the CPUs that this process may use, by its affinity and
            by the CPU quota of its control groups (a container's limit, rounded up), + 4, at most 32. Workers of
            `start()` have threads of their own.
        max_processes: Calls that run in processes at once, 1 or more. None: the CPUs that it may use, as above.
        max_tasks: Calls after which a process of the pool is replaced, 1 or more; None: never.
        max_queued: Calls of each of these kinds that may wait beyond those, 0 or more; None: without bound.
        process_start_timeout: Seconds that a process has to come up, without those of an initializer, which nothing
            bounds; `math.inf` waits for ever.
        strategy: Who is started again together with a worker of `start()` that is: "one_for_one": nobody else;
            "one_for_all": all; "rest_for_one": those that were started after it. They are stopped side by side; once
            all have ended they are started one after the other, in their order. Those without a Restart end with that.
        on_exhausted: What follows where a worker is given up (see RestartLimitExceeded): "give_up": nothing;
            "escalate": the supervisor shuts down, and leaving `async with` raises that error, or adds it to the body's
            own as a note.
        on_abandoned: What follows where a shutdown had to abandon a worker: "report" says so; "exit" ends the process
            with status 1 when the report is logged, and also where the shutdown, once begun, cannot get the interpreter
            (GIL) back.
            For that it uses `faulthandler.dump_traceback_later`, which replaces a timer that the application has set.
        signals: From `async with` on, until it has shut down, SIGTERM and SIGINT (Ctrl-C) cancel the body of the block
            and shut the supervisor down, for a program that nobody else ends; see `wait_for_signal` for what becomes of
            other handlers. The cancellation ends with the block: what comes after it goes on. The shutdown begins when
            the body is left, or else after 0.1 s; a second signal is `shutdown(timeout=1)`. Entering the block raises
            a RuntimeError where the event loop does not run in the main thread.
        wake_signal: The signal that ends blocked system calls of threads that are injected into, on Linux with Python
            3.15 and later: SIGURG, SIGWINCH, SIGUSR1, SIGUSR2 or a real-time signal. A handler in C that does nothing
            is there from the first injection until the last supervisor that uses it has shut down. Where the
            application handles or ignores that signal itself, it is not sent, and the log says so once. None: no signal
            is sent.
        slow_after: Seconds, above 0, after which a call that still runs is logged with its stack, as `worker.slow`;
            again after twice as long, and so on. They count from when its function was entered. None: never. What its
            pool or the call says goes before this; of workers of `start()`, only they themselves do.
        stall_after: Seconds, above 0, for which the event loop may not come to a turn before a thread logs where it is
            blocked, as `loop.stalled`, while it is. None: nobody watches it.
        incidents: How many of the last failures and stops are kept for `incidents()`, 0 or more; 0: none.
        origins: Whether to keep where each call and worker was submitted, for `Worker.submitted_from`, at the cost of
            some microseconds for each.
        control: Whether `python -m supervisor ps` and the like can look into it, by a Unix socket that only this user
            can open: True, or the path of the socket; "write" also lets them stop workers and shut down. See `Control`.
        dump_signal: A signal at which a table of all workers, and the stacks of all threads, are written to the
            standard error. None: none.
        cluster: Where `on="cluster"` runs: a client of Dask's, a cluster of its, or the address of a scheduler, such as
            "tcp://10.0.0.7:8786". It is connected to at the first use, by connections of its own. Needs the extra
            `dask`. None: nowhere.
        cluster_lease: Seconds, 1 to 3600, after which a node that does not hear of this supervisor ends all that it has
            of it, by their ladders. As long, and the ladders, it takes until what ran on a node that cannot be
            reached counts as ended, and may be started again elsewhere.
        config: What `supervisor.config.load` has read. What it says for all workers goes before `policy` and
            `shutdown_timeout` here; what it says for a worker's name goes before the `policy` of its group and of its
            pool, too. What `run` and `start` are given goes before both. What it says of a pool goes before what is
            given to `pool()`, and before `max_threads`, `slow_after` and the like here.
        logger: A structlog logger; None: `structlog.get_logger()` as the application has configured it.

    Raises:
        TypeError, ValueError: An argument is wrong; the message names it.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with Supervisor("doc") as sup:
        ...         return await sup.run(sum, [1, 2, 3])
        >>> asyncio.run(main())
        6
    """

    def __init__(
        self,
        name: str = "supervisor",
        *,
        policy: EscalationPolicy | None = None,
        shutdown_timeout: float = 20.0,
        drain: float = 0.0,
        max_threads: int | None = None,
        max_processes: int | None = None,
        max_tasks: int | None = None,
        max_queued: int | None = None,
        process_start_timeout: float = 30.0,
        strategy: Literal["one_for_one", "one_for_all", "rest_for_one"] = "one_for_one",
        on_exhausted: Literal["give_up", "escalate"] = "give_up",
        on_abandoned: Literal["report", "exit"] = "report",
        signals: bool = False,
        wake_signal: int | None = WAKE_SIGNAL,
        slow_after: float | None = None,
        stall_after: float | None = None,
        incidents: int = 100,
        origins: bool = False,
        control: bool | str | PathLike[str] | Control = False,
        dump_signal: int | None = None,
        cluster: Any = None,
        cluster_lease: float = 10.0,
        config: Config | None = None,
        logger: Any = None,
    ) -> None:
        check_choice("strategy", strategy, get_args(Strategy))
        check_choice("on_exhausted", on_exhausted, get_args(OnExhausted))
        check_choice("on_abandoned", on_abandoned, get_args(OnAbandoned))
        checked_flag("signals", signals)
        logger = checked_logger(logger)
        configured = checked_config(config)
        named, seconds = checked_policy(policy), checked_seconds("shutdown_timeout={!r}", shutdown_timeout)
        drained = checked_seconds("drain={!r}", drain)
        where = checked_cluster(cluster, cluster_lease)
        settings = Settings(
            name=checked_name(name),
            policy=named if configured is None else configured.policy or named,
            shutdown_timeout=seconds if configured is None else configured.shutdown_in(seconds),
            drain=drained if configured is None or configured.drain is None else configured.drain,
            pools=_default_pools(
                max_threads, max_processes, max_tasks, max_queued, configured, on_cluster=where is not None
            ),
            process_start_timeout=checked_seconds("process_start_timeout={!r}", process_start_timeout),
            strategy=strategy,
            on_exhausted=on_exhausted,
            on_abandoned=on_abandoned,
            wake_signal=checked_wake_signal(wake_signal),
            slow_after=_configured_interval("slow_after", slow_after, configured),
            stall_after=_configured_interval("stall_after", stall_after, configured),
            incidents=checked_count("incidents={!r}", incidents, least=0),
            origins=checked_flag("origins", origins),
            control=checked_control(control),
            dump_signal=checked_dump_signal(dump_signal, wake_signal),
            cluster=where,
            config=configured,
            logger=logger,
        )
        binding = Binding(settings, begin_companions)
        self._stand_for(binding, binding.root)
        self._signals = signals

    def _stand_for(self, binding: Binding, scope: GroupNode) -> Self:
        """Makes it what users hold of a scope: of the supervisor itself, or of a group."""
        self._binding = binding
        self._scope = scope
        self._view: LoopView | None = None  # of calls without options, in the pool "thread"
        self._process_view: LoopView | None = None
        self._default: DefaultExecutor | None = None
        self._anyio: AnyioThreads | None = None
        self._entered = False
        self._signals = False
        self._body: SignalledBody | None = None
        if binding.settings.origins:
            self.__dict__.update(run=keeping_origin(self.run), start=keeping_origin(self.start))
        return self

    @property
    def _is_group(self) -> bool:
        return self._scope.group is not None

    @property
    def name(self) -> str:
        """Its name; that of a group has those of the groups around it before it: "feeds/fast"."""
        return self._scope.name or self._binding.settings.name

    @property
    def report(self) -> ShutdownReport | None:
        """What the shutdown met; None until it has ended. Any thread."""
        return self._scope.shutdown.report

    # ------------------------------------------------------------------------------------ work

    async def run(
        self,
        fn: Callable[[*Ts], T],
        /,
        *args: *Ts,
        kind: Literal["thread", "process"] | None = None,
        timeout: float | None = None,
        within: float | None = None,
        policy: EscalationPolicy | None = None,
        name: str | None = None,
        pool: str | Pool | None = None,
        limits: Limits | None = None,
        slow_after: float | None = None,
        on: Literal["cluster"] | None = None,
        resources: Mapping[str, float] | None = None,
        nodes: str | Sequence[str] | None = None,
        **unexpected: Never,
    ) -> T:
        """Calls `fn(*args)` on a thread or process of a pool and returns its result; never leaves it behind unsaid.

        It returns or raises when the function has ended, or was abandoned after the last step of its ladder. Inside,
        `current_context()` gives the WorkerContext. The caller's context variables are visible in threads. Keyword
        arguments go through `functools.partial`.

        Cancelling it stops the work: a queued call never starts, a running one climbs its ladder, and then the
        CancelledError is raised. Further cancellations meanwhile change nothing.

        Args:
            fn: A blocking function. For a process it must be importable there: a function of a module, or, with the
                extra `cloudpickle`, a lambda or closure.
            *args: Its arguments. For a process they are pickled now.
            kind: "thread"; or "process", which can be killed, and where C code that holds the interpreter (GIL) holds
                nobody else. None: that of the pool; without one, "thread".
            timeout: Seconds from now, queueing included, after which it is stopped; its ladder comes on top of them.
                None or `math.inf`: none.
            within: Seconds from now, queueing and ladder included, within which it has ended, or is abandoned: its
                ladder is shrunk to end by then, whatever begins it, and 0.25 s at most are added. Without a `timeout`
                below it, the ladder begins when it needs what is left, and takes a quarter of it all at most. None or
                `math.inf`: as long as it takes.
            policy: Its ladder, followed as it stands; None: what `config` has for its name, else that of its pool, its
                group, or the supervisor.
            name: Its name, unlike that of any live worker or call and without "/"; None: the function's name and a
                number.
            pool: The pool that takes it, or its name; None: that of its kind, which every supervisor has.
            limits: What it may use, in a process; None: what its pool says. Where it uses more it is stopped; without a
                `policy` each grace before Kill is then 0.05 s at most, as what it takes meanwhile, others lack.
            slow_after: Seconds, above 0, from when its function was entered, after which it is logged with its stack
                while it runs, as `worker.slow`; again after twice as long, and so on. `math.inf`: never. None: what its
                pool says, or else the supervisor. It is not stopped for that.
            on: "cluster": on a thread, or in a process, of a node; see `Supervisor(cluster=...)`. None: here, or where
                its pool is.
            resources: How much of which of its node's resources it takes while it runs, such as {"GPU": 1}; it waits
                for a node that has them free. Only on a cluster.
            nodes: The name or address of the node that may take it, or several. Only on a cluster.
            **unexpected: There are no others: keyword arguments of the function go through `functools.partial`.

        Raises:
            Exception: What the function raised, as it is. StopIteration comes as RuntimeError.
            WorkerTimeout: The timeout passed, or too little was left of `within`, whatever the function then did.
            WorkerOverLimit: It used more than its `limits` allow, whatever it then did.
            WorkerStopped: `Worker.stop` or a shutdown ended it before it had a value. A value that it still returns
                in its grace is delivered.
            WorkerExit: It called `sys.exit` with a code other than 0 or None, which are a return of None.
            WorkerFailed: It raised a BaseException that is no Exception.
            WorkerDied: Its process ended by itself: by a signal, by `os._exit`, for want of memory; or its node did.
            RemoteError: Its error or its result cannot be sent back from its process. For any other error from there
                it is the `__cause__`, with the traceback there as its text.
            SupervisorBusy: As many calls wait as `max_queued` allows.
            SupervisorClosed: The supervisor is shutting down, or has shut down.
            SupervisorError: No process could be started; the message has what it wrote to its standard error.
            TypeError, ValueError: An argument is wrong, or cannot be sent to a process; nothing has started.
            RuntimeError: It was called in another event loop than its own, in another process, or under trio.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         return await sup.run(divmod, 17, 5, timeout=1)
            >>> asyncio.run(main())
            (3, 2)
        """
        if unexpected:
            raise unexpected_keywords("run", fn, unexpected, _options())
        del unexpected  # while it waits, there may be many of them
        binding = self._binding
        loop = binding.loop
        if loop is None or loop is not asyncio._get_running_loop():
            loop = binding.bind().loop
        check_function("run", fn)
        if (
            timeout is None
            and within is None
            and policy is None
            and name is None
            and pool is None
            and limits is None
            and slow_after is None
            and on is None
            and resources is None
            and nodes is None
        ):
            view = (
                ((kind is None or kind == "thread") and self._view)
                or (kind == "process" and self._process_view)
                or self._view_of(kind)
            )
        else:
            runtime = binding.bind()
            lane = self._pool_of(runtime, kind, pool, on)
            view = LoopView(
                runtime.calls,
                checked_timeout(timeout),
                checked_timeout(within, "within"),
                checked_policy(policy),
                checked_name(name, optional=True),
                lane,
                checked_limits(limits, lane.name),
                checked_slow_after(slow_after),
                self._placement(lane.settings, resources, nodes),
                scope=self._scope,
            )
        future: Any = loop.run_in_executor(view, fn, *args)  # a CallFuture; `cast` would be a call
        try:
            value: T = await future
        except asyncio.CancelledError:
            if not future.run.over:
                await outlast(binding.bind().escalation.end_of(future.run), cancelled=True)
            raise
        except TypeError as error:
            wrong = misfit_of_call("run", fn, args)
            if wrong is None:
                raise
            raise TypeError(wrong) from error
        else:
            if type(value) in unrun.UNRUN:
                unrun.report(name or qualname(fn), value)
            return value
        finally:
            del future  # it holds the error whose traceback holds this frame

    def iterate(
        self,
        fn: Callable[[*Ts], Iterable[T]],
        /,
        *args: *Ts,
        kind: Literal["thread", "process"] | None = None,
        buffer: int = BUFFER,
        timeout: float | None = None,
        within: float | None = None,
        policy: EscalationPolicy | None = None,
        name: str | None = None,
        pool: str | Pool | None = None,
        limits: Limits | None = None,
        slow_after: float | None = None,
        **unexpected: Never,
    ) -> Iteration[T]:
        """Returns an async iterator over what `fn(*args)` yields, on a thread or process of a pool.

        The function is a generator function, or any that returns an iterable: it is iterated over in its thread or
        process, at most `buffer` items ahead of whoever takes them. It is one call of the pool, from the first item to
        the end, and is supervised as those of `run` are: it has a name, a stack, a ladder and an outcome.

        Whoever leaves it stops it by its ladder; see `Iteration` for the ways to leave. A stop, whatever its cause,
        ends a generator at its next `yield`, at once where it waits there for room: it is closed in its own thread or
        process, and its `finally` blocks run there. What takes long between two items can ask `current_context()`.

        Cancelling whoever waits for an item stops it, and the CancelledError is raised once it has ended.

        Args:
            fn: What makes the items, as in `run`.
            *args: Its arguments.
            kind: "thread" or "process"; None: as in `run`. From a process, each item is pickled when it is made, and
                many are sent at a time, but none is kept from whoever waits for it.
            buffer: How many items may have been made and not been taken, 1 or more.
            timeout: Seconds from its beginning, queueing and the time between two items included; see `run`.
            within: As in `run`.
            policy: As in `run`.
            name: As in `run`.
            pool: As in `run`.
            limits: As in `run`.
            slow_after: As in `run`, the time between two items included.
            **unexpected: There are no others: keyword arguments of the function go through `functools.partial`.

        Raises:
            TypeError, ValueError: An argument is wrong; nothing has started. All else is raised by the iterator, what
                the function raises behind the items that came before it: what `run` raises, and RemoteError where an
                item cannot be pickled or unpickled, which names it.

        Example:
            >>> import asyncio
            >>> def rows(text):
            ...     for line in text.split(";"):
            ...         yield line.split(",")
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         return [row async for row in sup.iterate(rows, "1,2;3,4")]
            >>> asyncio.run(main())
            [['1', '2'], ['3', '4']]
        """
        if unexpected:
            raise unexpected_keywords("iterate", fn, unexpected, _options())
        check_function("iterate", fn, may_yield=True)
        size = checked_count("iterate(buffer={!r})", buffer, least=1)
        lane, where = self._lane_of(kind, pool), self._origin()
        if lane.settings.on is not None:
            raise ValueError(
                f"iterate(pool={pool!r}): is on a cluster, which sends results, not items: have run() return a list"
            )
        options = Options(lane, timeout, within, policy, limits, slow_after, name, submitted_from=where)
        return Items(self._binding, self._scope, fn, args, size, options)

    def map(
        self,
        fn: Callable[[A], T],
        items: Iterable[A] | AsyncIterable[A],
        *,
        kind: Literal["thread", "process"] | None = None,
        ordered: bool = True,
        limit: int | None = None,
        timeout: float | None = None,
        within: float | None = None,
        policy: EscalationPolicy | None = None,
        pool: str | Pool | None = None,
        limits: Limits | None = None,
        slow_after: float | None = None,
        **unexpected: Never,
    ) -> Iteration[T]:
        """Returns an async iterator over the results of `fn(item)` for each item, on threads or processes of a pool.

        Each is one call, as of `run`. The items are read, in the event loop, as there is room for their calls: at most
        `limit` have been read whose results have not been taken. Where one call fails, its error is raised at its
        place; before that, as when it is left, all others that are under way are stopped by their ladders. See
        `Iteration` for the ways to leave. The items are not closed: they are yours.

        Args:
            fn: A blocking function, as in `run`.
            items: An iterable, whose items come without waiting; or an async iterable, read in a task of its own. What
                it raises is raised behind the results of the items that came before.
            kind: As in `run`.
            ordered: The results come in the order of the items; else, each as soon as it is there.
            limit: How many calls may be under way or have a result that waits to be taken, 1 or more. None: as many as
                the pool runs at once. With `ordered`, more of them keep the pool busy while one takes long.
            timeout: Of each call, as in `run`.
            within: Of each call, as in `run`.
            policy: As in `run`.
            pool: As in `run`.
            limits: Of each call, as in `run`.
            slow_after: Of each call, as in `run`.
            **unexpected: There are no others: keyword arguments of the function go through `functools.partial`.

        Raises:
            TypeError, ValueError: An argument is wrong; nothing has started. All else is raised by the iterator: what
                `run` raises, for one of the calls.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         return [length async for length in sup.map(len, ["a", "bc", "def"])]
            >>> asyncio.run(main())
            [1, 2, 3]
        """
        if unexpected:
            raise unexpected_keywords("map", fn, unexpected, _options())
        check_function("map", fn)
        if not isinstance(items, Iterable | AsyncIterable):
            raise TypeError(f"map(items={items!r}): must be an iterable, or an async iterable")
        if not isinstance(ordered, bool):
            raise TypeError(f"map(ordered={ordered!r}): must be True or False")
        most = checked_optional_count("limit", limit, least=1)
        lane, where = self._lane_of(kind, pool), self._origin()
        options = Options(lane, timeout, within, policy, limits, slow_after, submitted_from=where)
        return Results(self._binding, self._scope, fn, items, options, ordered=ordered, limit=most)

    async def start(
        self,
        fn: Callable[[WorkerContext, *Ts], Any] | TakesAnything,
        /,
        *args: *Ts,
        kind: Literal["thread", "process"] = "thread",
        name: str | None = None,
        policy: EscalationPolicy | None = None,
        restart: Restart | None = None,
        heartbeat: float | None = None,
        ready_timeout: float | None = None,
        after: Sequence[str] = (),
        limits: Limits | None = None,
        slow_after: float | None = None,
        on: Literal["cluster"] | None = None,
        resources: Mapping[str, float] | None = None,
        nodes: str | Sequence[str] | None = None,
        **unexpected: Never,
    ) -> Worker:
        """Starts a worker: `fn(ctx, *args)` on a thread or process of its own. Returns when it has been entered.

        The worker lives until its function ends, `Worker.stop` is called, or the supervisor shuts down. How it ended
        is in `Worker.outcome` and in the log; an error of its function does not touch the supervisor.

        Cancelling `start` stops the worker by its ladder, then raises the CancelledError.

        Args:
            fn: A blocking function; its first argument is the WorkerContext.
            *args: Its other arguments.
            kind: "thread" or "process", as in `run`.
            name: Its name, unlike that of any live worker and without "/"; None: the function's name and a number.
            policy: Its ladder; None: what `config` has for its name, else the supervisor's.
            restart: When it is started again after its end, and how often; None: what `config` has for its name, else
                never. It is then one worker with several runs, whose first one must become ready.
            heartbeat: Seconds, above 0, from readiness on: if `ctx.heartbeat()` is silent for so long, the worker is
                stuck: its stack is logged, its ladder is climbed, and `restart` decides what follows. None: none asked.
            ready_timeout: Seconds, above 0, within which each of its runs must call `ctx.ready()`; `start` returns when
                the first one has. None: a run is ready once it has been entered.
            after: Names of live workers: it begins when these are ready, and a shutdown stops it before them.
            limits: What each of its runs may use, in a process, as in `run`. One that uses more has failed: `restart`
                decides what follows. None: no limits.
            slow_after: For a job that should come to its end: seconds, above 0, after which a run of it that has not
                ended is logged, as in `run`; each run anew. None or `math.inf`: never. What the supervisor says is for
                calls alone, as most workers run for as long as the service.
            on: As in `run`; each run of it may be on another node.
            resources: As in `run`.
            nodes: As in `run`.
            **unexpected: There are no others: keyword arguments of the function go through `functools.partial`.

        Raises:
            WorkerTimeout: It was not ready in time, and has been stopped.
            WorkerOverLimit: It used more than its `limits` allow before it was ready.
            WorkerStopped: It was stopped before it was ready.
            WorkerDied: Its process died before it was ready.
            Exception: What it raised before it was ready, where it has a `ready_timeout`.
            SupervisorClosed: The supervisor is shutting down, or has shut down.
            TypeError, ValueError: An argument is wrong, or a live worker has this name; nothing has started.
            SupervisorError: No process could be started.
            RuntimeError: The system has no more threads; or it was called in another event loop than its own, in
                another process, or under trio.

        Example:
            >>> import asyncio
            >>> def poll(ctx, source):
            ...     while not ctx.stop.wait(0.01):
            ...         source.append(ctx.name)
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         await sup.start(poll, [], name="poller")
            ...     return sup.report.counts()
            >>> asyncio.run(main())
            {'stopped': 1}
        """
        runtime = self._binding.bind()
        await runtime.pace.turn()
        if unexpected:
            raise unexpected_keywords("start", fn, unexpected, _options())
        check_function("start", fn)
        check_kind(kind)
        lane = runtime.kinds.get(self._lane_of(kind, None, on).name)
        node = WorkerNode(
            self._scope,
            lane,
            fn,
            args,
            name=checked_name(name, optional=True),
            policy=checked_policy(policy),
            restart=None if restart is None else checked_restart(restart),
            heartbeat=checked_interval("heartbeat", heartbeat),
            ready_timeout=checked_interval("ready_timeout", ready_timeout),
            after=tuple(self._comes_after(other) for other in checked_names("after", after)),
            limits=checked_limits(limits, kind),
            slow_after=checked_slow_after(slow_after),
            submitted_from=self._origin(),
            placement=self._placement(lane.settings, resources, nodes),
        )
        before = [other for around in (node, *node.groups) for other in around.after]
        if before:
            runtime.names.refuse_taken(node)
            await runtime.workers.until_ready(before, node)
        runtime.workers.start(node, partial(check_fit, fn, args))
        worker = cast("Worker", node.worker)
        entry = node.run.entry
        assert entry is not None
        try:
            await entry
            while not node.started and worker.outcome is None:  # its group has its first run begin anew
                await runtime.workers.change_of(node)
        except asyncio.CancelledError:
            await worker.stop("start() was cancelled")
            raise
        if worker.outcome is not None and not node.started:
            climb = node.run.climb
            if climb is None:
                raise error_of_start(worker.outcome, None)
            raise error_of_start(worker.outcome, climb.cause, climb.reason)
        return worker

    def _origin(self) -> str | None:
        """Returns where the caller of a method stands, where that is kept."""
        return origin() if self._binding.settings.origins else None

    def _view_of(self, kind: Kind | None) -> LoopView:
        """Returns what calls without options go through."""
        if kind is not None:
            check_kind(kind)
        runtime = self._binding.bind()
        if kind != "process":
            self._view = LoopView(runtime.calls, scope=self._scope)
            return self._view
        self._process_view = LoopView(runtime.calls, kind=runtime.kinds.get(kind), scope=self._scope)
        return self._process_view

    def _pool_of(self, runtime: Runtime, kind: Kind | None, pool: str | Pool | None, on: On) -> WorkerKind:
        """Returns the pool that takes a call; what says which may be missing."""
        return runtime.kinds.of(self._lane_of(kind, pool, on))

    def _lane_of(self, kind: Kind | None, pool: str | Pool | None, on: On = None) -> PoolScope:
        """Returns the pool that takes a call, whether it is in use or not."""
        pools = self._binding.settings.pools
        if kind is not None:
            check_kind(kind)
        if on is not None:
            self._check_on(on)
        if pool is None:
            return pools.scope(kind or "thread") if on is None else pools.scope(f"cluster-{kind or 'thread'}")
        if isinstance(pool, Pool):
            if pool._binding is not self._binding:
                raise ValueError(f"pool={pool!r}: is not one of supervisor {self._binding.settings.name!r}")
            pool._refuse_if_closed()
            pool = pool.name
        if not isinstance(pool, str):
            raise TypeError(f"pool={pool!r}: must be a Pool, the name of one, or None")
        if pool not in pools:
            there = ", ".join(map(repr, pools.names))
            raise ValueError(
                f"pool={pool!r}: supervisor {self._binding.settings.name!r} has no pool of this name; there are {there}"
            )
        lane = pools.scope(pool)
        if kind is not None and kind != lane.settings.kind:
            raise ValueError(f"kind={kind!r}: the pool {pool!r} is of the kind {lane.settings.kind!r}")
        if on is not None and lane.settings.on != on:
            raise ValueError(f"on={on!r}: the pool {pool!r} runs its calls here")
        check_kind(lane.settings.kind)
        return lane

    def _check_on(self, on: object) -> None:
        if on != "cluster":
            raise ValueError(f'on={on!r}: must be "cluster", or None')
        if self._binding.settings.cluster is None:
            raise ValueError(
                f"on={on!r}: supervisor {self._binding.settings.name!r} has no cluster: give it one, as in "
                "Supervisor(cluster=client)"
            )

    def _placement(self, lane: PoolSettings, resources: object, nodes: object) -> Placement | None:
        """Returns which nodes may take a run; what it says goes before what its pool says."""
        placement = checked_placement(resources, nodes)
        if placement is not None and lane.on is None:
            field = f"resources={resources!r}" if resources is not None else f"nodes={nodes!r}"
            raise ValueError(f'{field}: is for runs on a cluster alone: add on="cluster"')
        return placement

    def _comes_after(self, name: str) -> Node:
        member = self._binding.bind().names.node(self._scope, name)
        if member is None:
            raise ValueError(f"after={name!r}: supervisor {self.name!r} has no live worker or group of this name")
        return member

    def group(
        self,
        name: str,
        *,
        strategy: Literal["one_for_one", "one_for_all", "rest_for_one"] = "one_for_one",
        on_exhausted: Literal["give_up", "escalate"] = "escalate",
        restart: Restart | None = None,
        policy: EscalationPolicy | None = None,
        after: Sequence[str] = (),
    ) -> Supervisor:
        """Makes a group: a Supervisor in the tree of this one, whose workers restart and end together.

        It shares the event loop, the pools and the log; its workers are called "group/worker". Its `shutdown`, and
        leaving its `async with` block, stop its own workers and calls; a shutdown of this supervisor stops it too.

        Where one of its workers is given up, and `on_exhausted` is "escalate", all of them are stopped, and the group
        fails: it is a member of this supervisor, and is started again, with the workers that it then consisted of, as
        `restart` says; new handles stand for them. If it fails too often, this supervisor's own `on_exhausted` applies.

        Args:
            name: Its name, unlike that of any live worker or group here, and without "/".
            strategy: As in `Supervisor`, among its own workers.
            on_exhausted: "escalate", or "give_up": the worker that is given up ends alone.
            restart: When the group is started again; None: `Restart("always")`.
            policy: The ladder of its workers and calls that have none of their own; None: that of this supervisor.
            after: Names of live workers and groups here: its workers begin when these are ready, and a shutdown stops
                them before these.

        Raises:
            SupervisorClosed: This supervisor is shutting down, or has shut down.
            TypeError, ValueError: An argument is wrong, or the name is taken.
            RuntimeError: It was called outside the supervisor's event loop.
        """
        runtime = self._binding.bind()
        check_choice("strategy", strategy, get_args(Strategy))
        check_choice("on_exhausted", on_exhausted, get_args(OnExhausted))
        group = GroupNode(
            self._scope,
            strategy,
            on_exhausted,
            restart=None if restart is None else checked_restart(restart),
            policy=checked_policy(policy),
            after=tuple(self._comes_after(other) for other in checked_names("after", after)),
        )
        runtime.workers.add_group(group, checked_name(name))
        return Supervisor.__new__(Supervisor)._stand_for(self._binding, group)

    def pool(
        self,
        name: str,
        *,
        kind: Literal["thread", "process"],
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
        on: Literal["cluster"] | None = None,
        resources: Mapping[str, float] | None = None,
        nodes: str | Sequence[str] | None = None,
    ) -> Pool:
        """Makes a pool: threads or processes of its own, so that slow calls there never hold up calls elsewhere.

        May be called before any event loop runs. `run(..., pool=name)` and `executor(pool=name)` find it by its name;
        it ends with the supervisor. That of a group is the supervisor's, too, but what its `run` calls is the group's.
        By the names "thread" and "process" it says what holds for the pools that are always there, as long as neither
        a call nor a worker has used them; what it leaves out is as the supervisor was given it.

        Args:
            name: Its name, unlike that of any other pool of the supervisor and without "/".
            kind: How its calls run: "thread" or "process".
            size: How many of them run at once, 1 or more. None: as many as in the supervisor's own pool of this kind
                where nobody has said it.
            max_queued: How many more may wait, 0 or more; None: without bound.
            max_tasks: Calls after which a thread or process is replaced, 1 or more; None: never.
            max_lifetime: Seconds, above 0, after which it is replaced, between two calls; each takes somewhat less, so
                that not all go at once. None: never.
            max_rss: Bytes that a process has resident after a call, above which it is replaced, 1 or more; None: never.
                Only of processes.
            idle_timeout: Seconds, above 0, after which a thread or process that has nothing to do ends, down to `warm`
                of them. None: never.
            initializer: Is called once in each thread or process, before its first call. Where it fails, the calls
                that wait get a SupervisorError with its error as `__cause__`.
            warm: How many are started before there is any call, 0 or more, and at most `size`.
            policy: The ladder of its calls that have none of their own; None: that of their group.
            limits: What each of its calls may use. None: as much as there is. Only of processes.
            slow_after: Seconds, above 0, after which one of its calls that still runs is logged; `math.inf`: never.
                None: what the supervisor says.
            on: "cluster": it is a lane on the nodes, each of which has such a pool for it, as large as the node has
                threads; `size` is how many of its calls run at once in all, None: as many as the nodes take. What is
                said of threads and processes holds for those there. None: here.
            resources: What each of its calls takes, where it says nothing else, as in `run`.
            nodes: Which nodes take its calls, where these say nothing else, as in `run`.

        Raises:
            TypeError, ValueError: An argument is wrong, or cannot be kept by this kind; or the name is taken.
            SupervisorClosed: The supervisor is shutting down, or has shut down.
            RuntimeError: It was called outside the supervisor's event loop, once that has one.
        """
        pools = self._binding.settings.pools
        name = checked_name(name)
        if on is not None:
            self._check_on(on)
        settings = pool_settings(
            name,
            kind=kind,
            size=size,
            max_queued=max_queued,
            max_tasks=max_tasks,
            max_lifetime=max_lifetime,
            max_rss=max_rss,
            idle_timeout=idle_timeout,
            initializer=initializer,
            warm=warm,
            policy=policy,
            limits=limits,
            slow_after=slow_after,
            on=on,
            placement=checked_placement(resources, nodes),
            usual=pools.usual(name),
            config=self._binding.settings.config,
        )
        self._binding.add_pool(settings, self._scope)
        return Pool(self, self._binding, pools.scope(name))

    def executor(self, kind: Literal["thread", "process"] | None = None, *, pool: str | Pool | None = None) -> Executor:
        """Returns the pool as a `concurrent.futures.Executor`, for `loop.run_in_executor` and libraries that take one.

        Each call gives an executor of its own: its `shutdown()` closes that one alone. Any thread may use it. Called in
        an event loop, it binds the supervisor to that loop, unless it is bound already; so the first call may come from
        any thread. It differs from a `ThreadPoolExecutor` in these points:

        - `cancel()` of a running call returns False, as there, and begins to stop it by its ladder. Its future ends
          with WorkerStopped once the work has ended or was abandoned, or with the value if there still was one. So
          `map`, which cancels what is left when it fails, times out or is closed, stops running calls as well.
        - SystemExit, other BaseExceptions and StopIteration arrive as they do from `run`. Coroutine functions are
          refused; so are calls beyond `max_queued`.
        - `shutdown(wait=True)` with calls under way, in the supervisor's own event loop's thread, raises RuntimeError
          where it would block the loop; so do `result()` and `exception()` of a call that is being stopped. The
          functions `concurrent.futures.wait` and `as_completed` cannot see that: do not block the loop with them.
        - Done callbacks of a call that was stopped run in the event loop's thread.
        - When the supervisor shuts down, calls that wait, and running ones that have no value by then, end with
          WorkerStopped; new ones are refused with SupervisorClosed.
        - The interpreter's exit does not wait for calls.
        - Where the system has no more threads, the future fails, and not `submit`.
        - The submitter's context variables are visible to the function.
        - `map` with a `chunksize` gives so many items to one call.
        - That of threads is a ThreadPoolExecutor by its type, for libraries that ask. As the event loop's default
          executor it would serve no longer than the supervisor: for that there is `install_as_default_executor`.

        Args:
            kind: "thread" or "process"; None: that of the pool, or else "thread". Calls in processes need the event
                loop to end: `result()` of one that runs raises RuntimeError in the loop's own thread, rather than
                block it.
            pool: The pool, or its name; None: that of the kind, which every supervisor has.

        Raises:
            TypeError, ValueError: There is no such kind, or no such pool.
            RuntimeError: It was called in an event loop, and the supervisor belongs to the process before a fork.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         loop = asyncio.get_running_loop()
            ...         return await loop.run_in_executor(sup.executor(), pow, 2, 10)
            >>> asyncio.run(main())
            1024
        """
        lane = self._lane_of(kind, pool)
        if asyncio._get_running_loop() is not None:
            self._binding.reach()
        pool_of_calls = None if lane.name == "thread" else lane  # that one never ends alone
        shares_memory = lane.settings.kind == "thread" and lane.settings.on is None
        made = SupervisedThreadPoolExecutor if shares_memory else PoolExecutor
        return made(self.name, pool_of_calls, self._binding.reach, lane.settings.size, self._scope)

    def install_as_default_executor(self) -> None:
        """Has all `asyncio.to_thread` and `run_in_executor(None, ...)` of its event loop run on its threads.

        Those of libraries are among them, and on asyncio's own loops the look-ups of names; uvloop has its own threads
        for these. They are calls like those of `executor()`, with the same differences from a ThreadPoolExecutor:
        they count against `max_threads` and `max_queued`, are in `workers()` and in the log by the name of their
        function, and climb their ladders when they are cancelled and when the supervisor shuts down. Their own
        cancellation injects nothing, though, whatever the policy: what it would hit may be any library's code.

        It lasts as long as the loop, which takes no other one back; a later `set_default_executor` replaces it. Calls
        that come once the supervisor has begun to shut down run under a supervisor of their own, "<name>-late", with
        the same settings. When the loop shuts its default executor down, as `asyncio.run` does at its end, that one,
        and the supervisor too if nobody has done so, is shut down, within `shutdown_timeout`: a call that is stuck
        does not hold that up, nor the interpreter's exit.

        Call it before anything uses the default executor: calls of a former one go on where they are, unseen. Called
        again, it does the same again; of several supervisors, the last one counts.

        Raises:
            SupervisorClosed: The supervisor is shutting down, or has shut down.
            RuntimeError: It was called on a group, in another event loop than the supervisor's own, in another process,
                or under trio.

        Example:
            >>> import asyncio
            >>> from supervisor import current_context
            >>> def who():
            ...     return current_context().name
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         sup.install_as_default_executor()
            ...         return await asyncio.to_thread(who)
            >>> asyncio.run(main())
            'who-1'
        """
        if self._is_group:
            raise SupervisorMisused(
                f"group {self.name!r} cannot be the event loop's default executor, which outlives it: call "
                f"install_as_default_executor() on the supervisor {self._binding.settings.name!r} itself"
            )
        runtime = self._binding.bind()
        runtime.teardown.refuse(self._scope)
        if self._default is None:
            self._default = DefaultExecutor(runtime, self._binding)
        runtime.loop.set_default_executor(self._default)

    def install_as_anyio_threads(self) -> None:
        """Has all `anyio.to_thread.run_sync` of its event loop run on its threads, those of web frameworks included.

        FastAPI and Starlette have it run `def` endpoints, dependencies and background tasks, uploads and file
        responses. They become calls like those of `run`: they are in `workers()` and in the log by the name of their
        function, have stacks, and climb their ladders when the supervisor shuts down, when `Worker.stop` is called, and
        never otherwise. Whoever awaits a call that was stopped gets the value or WorkerStopped.

        All else stays as anyio has it: its capacity limiters, and no setting of the supervisor, say how many run at
        once; a cancellation is shielded until the function has ended, or leaves it running where that was asked for;
        context variables are visible; `anyio.from_thread` works; exceptions arrive as they are, but for SystemExit and
        the like, which become WorkerExit and WorkerFailed as from `run`. Trio, and other loops, go on as they were.

        The calls have a pool of their own, "anyio", which the configuration may give a policy. It lasts until the
        supervisor has shut down: then anyio uses threads of its own again. Calls that come while it shuts down run
        under a supervisor of their own, "<name>-late", which ends after it, or with the event loop where it is the
        loop's default executor, too. Call it before anything uses anyio's threads: calls on these go on where they are,
        unseen. Called again, it does the same again; of several supervisors, the last one counts.

        The installed anyio is tried out the first time, for which the loop stands still for some milliseconds.

        Raises:
            SupervisorClosed: The supervisor is shutting down, or has shut down.
            ValueError: The supervisor has another pool "anyio", or the configuration bounds that one.
            RuntimeError: This release of anyio is not known, or does not behave as it must; or it was called on a
                group, in another event loop than the supervisor's own, in another process, or under trio.

        Example:
            >>> import anyio
            >>> from supervisor import current_context
            >>> def who():
            ...     return current_context().name
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         sup.install_as_anyio_threads()
            ...         return await anyio.to_thread.run_sync(who)
            >>> anyio.run(main)
            'who-1'
        """
        if self._is_group:
            raise SupervisorMisused(
                f"group {self.name!r} cannot have anyio's threads, whose users it may end before: call "
                f"install_as_anyio_threads() on the supervisor {self._binding.settings.name!r} itself"
            )
        runtime = self._binding.bind()
        runtime.teardown.refuse(self._scope)
        from .anyio_proof import proven_seam  # noqa: PLC0415  # most supervisors never need it
        from .anyio_threads import AnyioThreads  # noqa: PLC0415

        seam = proven_seam(self._binding)
        if self._anyio is None:
            self._anyio = AnyioThreads(self._binding)
        self._anyio.install(seam, runtime.loop)

    # ------------------------------------------------------------------------------------ what is there

    def workers(self) -> tuple[Worker, ...]:
        """Returns the workers that have not ended, the oldest first; calls of `run()` are among them. Any thread.

        Example:
            >>> Supervisor().workers()
            ()
        """
        with shielded():
            runtime = self._binding.runtime
            return () if runtime is None else cast("tuple[Worker, ...]", tuple(runtime.snapshot.handles(self._scope)))

    def worker(self, name: str) -> Worker | None:
        """Returns the live worker or call of this name; None where there is none. Any thread.

        Args:
            name: As `Worker.name` and the log have it, with those of its groups before it: "feeds/reader"; also one
                that was generated: "fetch-12". A group finds what is in it, and also by the name that it was given
                there: "reader".

        Raises:
            TypeError: `name` is not a string.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         await sup.start(lambda ctx: ctx.stop.wait(), name="waiter")
            ...         return sup.worker("waiter").state, sup.worker("nobody")
            >>> asyncio.run(main())
            ('running', None)
        """
        if not isinstance(name, str):
            raise TypeError(f"worker(name={name!r}): must be a string")
        with shielded():
            runtime = self._binding.runtime
            found = None if runtime is None else runtime.snapshot.named(self._scope, plain(name))
            return cast("Worker | None", found)

    def incidents(self) -> tuple[Incident, ...]:
        """Returns the last failures and stops, the newest last; see `Incident` for what is one. Any thread.

        As many as `Supervisor(incidents=)` says are kept, for the supervisor and its groups together, also after the
        shutdown. A group returns those of its workers and calls, and of the groups in it, by their names: also those of
        an earlier group of its name.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         try:
            ...             await sup.run(int, "seven", name="parse")
            ...         except ValueError:
            ...             pass
            ...     return [f"{incident.worker} {incident.ended}: {incident.error}" for incident in sup.incidents()]
            >>> asyncio.run(main())
            ["parse failed: ValueError: invalid literal for int() with base 10: 'seven'"]
        """
        with shielded():
            runtime = self._binding.runtime
            return () if runtime is None else runtime.incidents.of(self._scope.name)

    def stacks(self) -> dict[str, str]:
        """Returns where each worker that runs stands now, by its name, as the text of a traceback. Any thread.

        All nodes of a cluster are asked at once. One that does not answer is waited for a second, and not again until
        it does: its workers stand where they were seen last.

        Example:
            >>> Supervisor().stacks()
            {}
        """
        with shielded():
            runtime = self._binding.runtime
            return {} if runtime is None else runtime.snapshot.stacks(self._scope)

    def statistics(self) -> Statistics:
        """Returns how many workers, threads and queued calls there are now. Any thread.

        Those of a group are its own workers and calls; the threads and processes are the supervisor's.

        Example:
            >>> Supervisor("app").statistics().queued
            0
        """
        with shielded():
            runtime = self._binding.runtime
            if runtime is not None:
                return runtime.snapshot.statistics(self._scope)
            pools = {pool.name: statistics_of(pool, None) for pool in self._binding.settings.pools}
            return Statistics(self.name, pools=pools)

    def health(
        self, *, max_abandoned: int | None = None, max_exhausted: int = 0, max_failed: int | None = None
    ) -> Health:
        """Returns whether it takes work, and whether it can go on, for the probes of a platform. Any thread.

        It is ready from the first moment on, also before its first use; no longer once a shutdown has been asked for,
        while a worker that has a `ready_timeout` is not ready, while a group is being started again, and while a pool
        is not ready: its initializer has failed, none is up of those that are kept warm, or all were abandoned that
        there may be. It stays live while it shuts down. A group is ready only while those around it are up, too; for it
        count its own workers and calls, and those of the groups in it, and no pools, which are the supervisor's.

        Args:
            max_abandoned: How many workers and calls may be abandoned and not have come back, 0 or more; with more it
                is not live. None: `max_threads`, beyond which the pool replaces no abandoned thread.
            max_exhausted: How many workers and groups may have been given up alone (`on_exhausted="give_up"`, or a
                group with `Restart("never")`), 0 or more; with more it is not live. One whose name was taken again, by
                `start` or `group`, does not count, nor one in a group that has been shut down. At most 1000 are
                remembered.
            max_failed: How many workers of `start` may have failed or died for good and not have been started again, 0
                or more; with more it is not live. Those that were given up are among them. None: any number, as one
                that has no Restart may be a job whose failure concerns nobody else; the answer has their names.

        Raises:
            TypeError, ValueError: An argument is wrong; the message names it.

        Example:
            >>> Supervisor("app").health()
            Health(supervisor='app', ready=True, live=True, reasons=(), failed=())
        """
        most_abandoned = checked_optional_count("max_abandoned", max_abandoned, least=0)
        most_exhausted = checked_count("max_exhausted={!r}", max_exhausted, least=0)
        most_failed = checked_optional_count("max_failed", max_failed, least=0)
        with shielded():
            return health_by_default(self._binding, self._scope, most_abandoned, most_exhausted, most_failed)

    def transitions(self, *, buffer: int = 1000) -> Transitions:
        """Opens an async iterator over the transitions of all workers from now on, calls included.

        Those of a group are the transitions of its workers and calls. It ends when the supervisor has shut down, or the
        group has ended. May be opened before the first use. Calls that were submitted before
        it was opened may be missing.

        Args:
            buffer: How many transitions wait for a slow reader, 1 or more; beyond them the oldest is lost, and counted
                in `dropped`.

        Raises:
            TypeError, ValueError: `buffer` is wrong.
        """
        size = checked_count("transitions(buffer={!r})", buffer, least=1)
        transitions = Transitions(size, self._binding.bind, self._binding.subscribers, self._scope.name)
        if self.report is not None:
            transitions.end()
        return transitions

    # ------------------------------------------------------------------------------------ the end

    async def wait_for_signal(self, *signals: int) -> signal.Signals | None:
        """Waits for the signal that ends the service, and returns it; None when the supervisor shuts down otherwise.

        The handlers stay until the supervisor has closed: a second signal is `shutdown(timeout=1)`. Then those that
        were there before are put back. A handler that the application had installed, such as a web server's, is
        called as well; that of `asyncio.run` for Ctrl-C, which cancels the main task, is not.

        On a group it returns None also where the group has ended.

        It does not shut down by itself: leave the `async with` block, or call `shutdown()`. Called again, it returns
        the same signal. Cancelling it stops only the waiting.

        Args:
            *signals: Which; none: SIGTERM and SIGINT.

        Raises:
            TypeError, ValueError: One of them is no signal, or none that can be handled.
            RuntimeError: The loop does not run in the main thread; or it was called in another event loop than its
                own, in another process, or under trio.

        Example:
            >>> import asyncio, signal
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGTERM)
            ...         return await sup.wait_for_signal()
            >>> asyncio.run(main()).name
            'SIGTERM'
        """
        wanted = checked_signals(self.name, signals)
        return await self._binding.bind().signals.wait(wanted, self._scope)

    def request_shutdown(self, reason: str = "") -> None:
        """Begins the shutdown soon, and returns at once. Any thread, and signal handlers: it takes no lock.

        Before the first use it is remembered: the supervisor then shuts down when it is first used. Await
        `wait_closed()` or `shutdown()` for the end.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         sup.request_shutdown("enough")
            ...         return await sup.wait_closed()
            >>> asyncio.run(main()).reason
            'enough'
        """
        reason = checked_reason(reason)
        # First written, then looked: a first use that comes in between sees the one or is seen.
        self._scope.shutdown.asked = reason
        runtime = self._binding.runtime
        if runtime is not None:
            try:
                with shielded():
                    aside.call_soon_threadsafe(runtime.loop, runtime.teardown.begin, self._scope, None, reason)
            except RuntimeError:
                if not runtime.loop.is_closed():
                    raise

    async def wait_closed(self) -> ShutdownReport:
        """Waits until a shutdown that somebody else begins has ended. Cancelling it stops only the waiting.

        Raises:
            RuntimeError: It was called in another event loop than its own, in another process, or under trio.
        """
        while self.report is None:
            await self._binding.bind().workers.change_of(self._scope)
        return self._reported()

    async def shutdown(
        self, timeout: float | None = None, *, drain: float | None = None, reason: str = ""
    ) -> ShutdownReport:
        """Stops everything and returns what became of it, within `timeout` + 0.25 s, whatever the workers do.

        That holds whenever the event loop gets the interpreter (GIL); C code that never gives it back holds everything.
        New work is refused, and workers of `start()` are asked to stop, at once. Calls go on for `drain` seconds, and
        queued ones are still taken, but no longer than there are any; then queued ones never start, and running ones
        are asked. All ladders are climbed side by side, and shrunk where they would not end in time.

        A second call shares the report of the first, and can only shorten it: a nearer timeout also ends the drain, but
        for the seconds of one that it names.

        Cancelling it does not stop the ladders: they are climbed to their end, then the CancelledError is raised, and
        the report is in `report`.

        Args:
            timeout: Seconds from now, drain included, 0 or more; None: `shutdown_timeout`.
            drain: Of these seconds, those for which calls go on, 0 or more; at most three quarters, as the rest is for
                the ladders. None: as the supervisor was given it, or as the shutdown has begun.
            reason: Why, for `ctx.reason`, the log and the report.

        Raises:
            TypeError, ValueError: An argument is wrong; nothing was stopped.
            RuntimeError: It was called in another event loop than its own, in another process, or under trio.
        """
        return await shut_down(self._binding, self._scope, timeout, drain, reason)

    if not TYPE_CHECKING:  # type checkers refuse a plain `with` as long as they see none of this

        def __enter__(self) -> None:
            raise SupervisorMisused(f"supervisor {self.name!r}: enter it by `async with`, in a coroutine")

        def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> Self:
        ended = self._scope.over or self.report is not None
        wanted = checked_signals(self.name, (), where="Supervisor(signals=True)") if self._signals else ()
        runtime = self._binding.bind()
        if self._entered and not ended:
            raise SupervisorMisused(f"supervisor {self.name!r} has been entered already: `async with` it once")
        self._entered = True
        if ended and self._is_group:
            raise SupervisorClosed(f"group {self.name!r} has ended and cannot be entered; make a new one")
        if ended:
            raise SupervisorClosed(
                f"supervisor {self.name!r} has shut down and cannot be entered again; build a new one"
            )
        if self._signals:
            self._body = SignalledBody(runtime)
            runtime.signals.listen(wanted, self._body.signalled)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:  # not bool: type checkers would take any block for one that may swallow errors
        by_signal = self._body is not None and self._body.leave(error)
        await self.shutdown()
        failure = None if self._is_group else self._scope.failure  # a group has those around it deal with it
        if failure is not None and (error is None or by_signal):
            raise failure
        if failure is not None and error is not None:
            error.add_note(f"supervisor {self.name!r} has shut down: {failure}")
        return by_signal or None

    def __repr__(self) -> str:
        shutdown = self._scope.shutdown
        if self._is_group:
            how = "ended" if self._scope.over else f"{len(self.workers())} workers"
            return f"<Supervisor, group {self.name!r}: {how}>"
        if self._binding.runtime is None:
            how = "lost in a fork" if self._binding.lost else "not used yet"
        elif shutdown.report is not None:
            how = "shut down"
        else:
            how = f"{'shutting down' if shutdown.begun else 'running'}, {len(self.workers())} workers"
        return f"<Supervisor {self.name!r}: {how}>"

    def _reported(self) -> ShutdownReport:
        assert self.report is not None
        return self.report


def _configured_interval(
    field: Literal["slow_after", "stall_after"], value: object, config: Config | None
) -> float | None:
    """Returns the seconds that a configuration says, or else the code; None: never."""
    seconds = checked_interval(field, value)
    said: float | None = None if config is None else getattr(config, field)
    return seconds if said is None else checked_interval(field, said)


def _default_pools(
    max_threads: int | None,
    max_processes: int | None,
    max_tasks: int | None,
    max_queued: int | None,
    config: Config | None,
    *,
    on_cluster: bool,
) -> Pools:
    """Returns what is set for the pools that are always there: two, and as many on a cluster, where there is one."""
    queued = checked_optional_count("max_queued", max_queued, least=0)
    cpus = usable_cpus() if max_threads is None or max_processes is None else 1
    threads = PoolSettings(
        name="thread",
        kind="thread",
        size=checked_optional_count("max_threads", max_threads, least=1) or default_size("thread", cpus),
        max_queued=queued,
    )
    processes = PoolSettings(
        name="process",
        kind="process",
        size=checked_optional_count("max_processes", max_processes, least=1) or default_size("process", cpus),
        max_tasks=checked_optional_count("max_tasks", max_tasks, least=1),
        max_queued=queued,
    )
    there: list[PoolSettings] = []
    if on_cluster:
        kinds: tuple[Kind, ...] = get_args(Kind)
        there = [
            PoolSettings(name=f"cluster-{kind}", kind=kind, size=ANY_SIZE, max_queued=queued, on="cluster")
            for kind in kinds
        ]
    return Pools(*(with_config(settings, config) for settings in (threads, processes, *there)))


def _options() -> dict[str, list[str]]:
    """Returns the options of the methods that take a function and its arguments."""
    methods = (Supervisor.run, Supervisor.start, Supervisor.iterate, Supervisor.map)
    return {method.__name__: list(method.__kwdefaults__ or ()) for method in methods}
