"""One run of a worker: the record that travels from the caller to a thread or process and back.

Beside it stand the protocols that it is typed by: whose it is, how it runs, and what users hold of it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .._core.ladder import EndedState, Queued, Running, Starting, State, Stopping
from .names import qualname

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    import contextvars
    from _thread import RLock
    from collections.abc import Callable, Iterable
    from threading import Thread

    from .._core.ladder import Cause
    from .._core.outcome import Outcome, WorkerState
    from .._core.placement import Placement
    from .._core.policy import EscalationPolicy, Kind, Step
    from .._core.pools import PoolSettings
    from .._core.report import NodeStatistics
    from .._core.usage import Usage
    from .._worker.context import WorkerContext
    from .climb import Climb
    from .limited import Limited
    from .readiness import Readiness

__all__ = ["Handle", "Owner", "Place", "Run", "Scope", "WorkerKind"]


class Scope(Protocol):
    """What a run belongs to: a supervisor, or a group of it."""

    @property
    def name(self) -> str:
        """Its name, with those of the groups around it; that of a supervisor is empty here."""
        ...

    @property
    def held(self) -> bool:
        """Whether it is being shut down: calls that still wait in it never begin. Any thread."""
        ...


class Owner(Protocol):
    """Whose a run is: one of the calls, or of a worker of `start()`. On the loop's thread."""

    def stop(self, run: Run, cause: Cause, reason: str = "") -> None:
        """Begins to stop a run."""
        ...

    def entered(self, run: Run) -> None:
        """The function is about to be entered. Comes only for runs that are watched."""
        ...

    def readied(self, run: Run) -> None:
        """The function has called `ctx.ready()`."""
        ...

    def expired(self, run: Run) -> None:
        """The moment has come that stands in its `expires_at`, and nobody stops it yet."""
        ...

    def deadline(self, run: Run) -> float:
        """Returns by when it must have ended, on the loop's clock: for a shutdown, or its caller; `inf`: no matter."""
        ...

    def concluded(self, run: Run, outcome: Outcome) -> None:
        """It has ended, or was given up. Idempotent: an interrupt may have this come again."""
        ...


class WorkerKind(Protocol):
    """All that a kind of workers implements: how it starts a run, performs each step on it, and gives it up.

    On the loop's thread, where nothing else is said; nothing blocks, but for `stack` and `join`. A KeyboardInterrupt
    may strike within a method, which is then called again: each one is idempotent.

    What it does with a run: it drops one that is `held`. It calls `claim`, and drops the run where somebody else has
    it. Then it sets `handle`, `ident` or `pid`, and `started_at`, and calls the function; where the run is `watched`,
    it calls `owner.entered` on the loop's thread. At the end it sets `ended_at`, and `value`, or `error` as `converted`
    returns it, or `died` and what is known of the `exit_code`. It says so once, by `Services.ended` on the loop's
    thread, or by `Services.post` with the run from any other; or, where the run has a `settle`, by `Services.settle`.
    The same holds for one that cannot be carried out: it is claimed, gets its `error`, and ends.

    Besides this, a kind has its name and its steps in `_core.policy`, and a branch where the runtime makes it.

    Attributes:
        name: What users call it.
        settings: What is set for its pool.
        own_threads: Threads of its own take the calls, and end them. So `submit` may be called by any thread, and a run
            may have been claimed and not have its handle yet.
        calls: The calls of the pool that have not concluded, by their number. Kept by the runtime, from any thread.
        own_calls: Calls that the kind makes by itself, as for an initializer, and that have not concluded, by their
            number. A shutdown stops them, too.
        closing: The pool is shut down alone, and takes no new calls. Set by the runtime; any thread reads it.
        held: It is so, and its calls that still wait never begin. Set and read in the same way.
    """

    name: Kind
    settings: PoolSettings
    own_threads: bool
    calls: dict[int, Run]
    own_calls: dict[int, Run]
    closing: bool
    held: bool

    @property
    def readiness(self) -> Readiness:
        """How many take calls, and why the pool is not ready."""
        ...

    @property
    def capacity(self) -> int:
        """How many calls can run at once. Any thread."""
        ...

    @property
    def alive(self) -> int:
        """How many threads or processes there are. Any thread."""
        ...

    @property
    def living(self) -> Iterable[Thread | int]:
        """The threads, or the numbers of the processes, that there are. Any thread."""
        ...

    @property
    def nodes(self) -> tuple[NodeStatistics, ...]:
        """The nodes that its cluster has, as far as is known here; none where it runs here. Any thread."""
        ...

    def resize(self, size: int) -> None:
        """Has so many calls run at once from now on, as its `settings` then say; who is one too many ends its call.

        Where its `settings` have `warm`, it starts so many by itself when it is made.
        """
        ...

    # -------------------------------------------------------------------------------- starting a run

    def prepare(self, run: Run) -> None:
        """Makes a run ready to be submitted or launched; raises where it cannot be. Any thread.

        A kind with `own_threads` has nothing to prepare: it is left out for calls that nobody watches.
        """
        ...

    def submit(self, run: Run, /) -> None:
        """Runs a call on the pool, as soon as there is room; never raises. With `own_threads`, any thread."""
        ...

    def launch(self, run: Run) -> None:
        """Runs a worker on a thread or process of its own, whatever the pool is doing; never raises."""
        ...

    def context_of(self, run: Run) -> WorkerContext:
        """Returns the context of a run, made when it is first asked for. In the worker's own thread.

        Only of runs that the kind has passed to `_worker.current.entered`, in this process.
        """
        ...

    # -------------------------------------------------------------------------------- stopping it

    def catch_up(self, run: Run) -> None:
        """Takes in what a run's worker has said up to now, before its time is judged to be over.

        The loop may have stood still, or the whole process: what came in time is not to be late.
        """
        ...

    def perform(self, run: Run, step: Step) -> str | None:
        """Performs a step that the kind has, on a run that has been claimed; it may have ended meanwhile.

        It only begins the step, and does not wait for what comes of it. The same step may come again.

        Returns:
            Why the step cannot be performed at present, for the log; None where it was.
        """
        ...

    def stack(self, run: Run) -> str | None:
        """Returns where a run stands now, as a traceback's text; None where it does not run. Any thread.

        It may block for some milliseconds, also the loop.
        """
        ...

    def stacks(self, runs: list[Run]) -> list[str | None]:
        """Returns the same of several, which may be quicker: those elsewhere are asked at once. Any thread."""
        ...

    def usages(self, runs: list[Run]) -> list[Usage | None]:
        """Returns what each of these runs uses now, with all that it has started; None where that is not known.

        Only of runs that have limits.
        """
        ...

    def abandon(self, run: Run) -> bool:
        """Gives a run up, which nothing has ended, and makes room for others in its place.

        From then on nothing waits for it, but its end is said all the same.

        Returns:
            False where it has ended meanwhile, and its end has been said, but the loop has not heard of it.
        """
        ...

    def came_back(self, run: Run) -> None:
        """A run that was given up has ended after all, and has been heard of."""
        ...

    # -------------------------------------------------------------------------------- the end

    def retire(self) -> None:
        """Lets all that there is end once it has nothing to do: a shutdown has begun, or has less time. Any thread."""
        ...

    def when_gone(self, gone: Callable[[], object]) -> None:
        """Calls `gone` once the pool has ended, but for what was given up; at once, where it has."""
        ...

    def join(self, seconds: float, but: set[int | None]) -> None:
        """Waits until nothing is left, for so long at most; ends by force what it can.

        Args:
            seconds: How long it may block.
            but: The threads, by their idents, that were given up.
        """
        ...


class Handle(Protocol):
    """What users hold of a worker or a call."""

    @property
    def state(self) -> WorkerState:
        """Where it is in its life. Any thread."""
        ...

    def conclude(self, outcome: Outcome) -> None:
        """It has ended for good. On the loop's thread."""
        ...

    async def ready(self) -> None:
        """Waits until a worker is ready; raises where it has ended before."""
        ...


class Place(Protocol):
    """The node of a cluster that has a run, and what carries it out there."""

    @property
    def node(self) -> str:
        """The name of the node."""
        ...

    @property
    def ident(self) -> int | None:
        """The thread there."""
        ...

    @property
    def pid(self) -> int | None:
        """The process there."""
        ...

    def amend(self, run: Run, outcome: Outcome) -> Outcome:
        """Returns how a run has ended, by what its node has said of it."""
        ...


class Run:
    """One run: what is called, who waits for it, and where it stands. Also the stop token of its worker.

    The path of a call that nobody stops touches nothing but this record; the state machine is woken when a stop begins
    and lives in `climb`.

    Attributes:
        owner: Whose it is: one of the calls, or of the workers of `start()`.
        kind: How it runs.
        number: Counts the runs of a supervisor, from 1.
        node: The worker of `start()` whose run this is, as its owner knows it; None for a call, and once it has
            concluded and does not run any more.
        scope: The supervisor, or the group, that it belongs to.
        own: It has a thread or process of its own, as all runs of workers have.
        attempt: Which run of its worker, from 1.
        ready: It has been entered; or, where its worker has a `ready_timeout`, it has called `ctx.ready()`.
        beat_at: When it last gave a heartbeat, on the loop's clock.
        fn, args, context: What is called, with what, and with which context variables.
        given_name: The name that the user gave, if any; also a generated one that outlives the function.
        policy: The ladder that the user named for it, if any.
        future: Who waits for its value; None for a worker of `start()`.
        no_inject_on_cancel: Its own cancellation injects nothing, whatever its ladder says.
        settle: Of an executor's call: taken once, by the thread that ran it, which then resolves the future by itself,
            or by the loop, to which the end then comes as that of any other run. None for all others.
        entry: Done once it is ready or has ended, where somebody waits for that.
        worker: Its handle, once somebody asked for one.
        unclaimed: It is there until `claim` takes it.
        watched: The loop wants to know when the function is entered.
        unheard: It is watched, and nothing of it has been published yet.
        reported: It is a call that a shutdown has met: its end belongs into the report, also where it is not stopped.
        placement: Which nodes of a cluster may take it. Only set where somebody has said it of this run.
        placed: The node that has it. Only set on a cluster, from the moment at which it is sent there.
        submitted_at: On the loop's clock.
        expires_at: When its time is over, on the loop's clock: its timeout, its time to become ready, its heartbeat.
        warmed: The seconds in which its pool was being set up, and of which that takes account. Only set where it has a
            timeout, and the pool an initializer.
        ends_by: By when its caller wants it to have ended, ladder included, on the loop's clock.
        handle: What its kind keeps of it, and only its kind looks into; not None once it has been claimed.
        ident, pid: The thread, or the process, that carries it out.
        prepared: What its kind has made of it before its start, where that needs it.
        before_call: Of a process: what it calls before the function, where somebody wants that. It can be pickled, and
            returns what the process calls after the function.
        taken: Is called when a process has taken it, where somebody wants to know that. On the loop's thread. Who sets
            it later looks whether there is a `pid` already.
        trace: What a subscriber that traces it keeps of it.
        died: Its process has ended without a word.
        exit_code: What is known of how its process ended.
        oom_killed: It was most likely the kernel's out-of-memory killer that has ended it.
        ctx: Its context, once the worker's function asked for it.
        ending: Its end is in the inbox, or about to be: nothing is left to be stopped.
        origin: Where it was submitted, as "path:line"; only set where the supervisor keeps that.
        started_at, ended_at: When the function was entered and left, on the monotonic clock.
        value, error: What came of it; `returned` tells which.
        slow_after: Seconds after which it is to be logged where it still runs. Only set where somebody has said it of
            this run.
        slow_at: When it is to be logged again, on the loop's clock. Only set once it has been.
        limited: Its limits, and what it has used; None where it has none.
        climb: Where it stands on its ladder, and why; None until a stop begins.
        asked: The same, from the moment at which the worker is asked to stop. Its thread looks here.
        over: It has concluded.
    """

    __slots__ = (
        "args",
        "asked",
        "attempt",
        "beat_at",
        "before_call",
        "climb",
        "context",
        "ctx",
        "died",
        "ended_at",
        "ending",
        "ends_by",
        "entry",
        "error",
        "exit_code",
        "expires_at",
        "fn",
        "future",
        "given_name",
        "handle",
        "ident",
        "kind",
        "limited",
        "no_inject_on_cancel",
        "node",
        "number",
        "oom_killed",
        "origin",
        "over",
        "own",
        "owner",
        "pid",
        "placed",
        "placement",
        "policy",
        "prepared",
        "ready",
        "reported",
        "scope",
        "settle",
        "slow_after",
        "slow_at",
        "started_at",
        "submitted_at",
        "taken",
        "trace",
        "unclaimed",
        "unheard",
        "value",
        "warmed",
        "watched",
        "worker",
    )

    warmed: float
    origin: str | None
    slow_after: float
    slow_at: float
    placement: Placement
    placed: Place

    def __init__(
        self,
        owner: Owner,
        kind: WorkerKind,
        scope: Scope,
        number: int,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        context: contextvars.Context,
        submitted_at: float,
        future: asyncio.Future[Any] | concurrent.futures.Future[Any] | None,
        name: str | None,
        policy: EscalationPolicy | None,
    ) -> None:
        # Without defaults and keywords: so the interpreter makes a record in two thirds of the time.
        self.owner = owner
        self.kind = kind
        self.scope = scope
        self.number = number
        self.fn = fn
        self.args = args
        self.context: contextvars.Context | None = context
        self.submitted_at = submitted_at
        self.node: object = None
        self.own = self.watched = self.ending = self.oom_killed = self.unheard = self.reported = False
        self.attempt = 1
        self.ready = False
        self.beat_at = 0.0
        self.future = future
        self.given_name = name
        self.policy = policy
        self.unclaimed: Literal[True] = True
        self.settle: RLock | None = None
        self.no_inject_on_cancel = False
        self.entry: asyncio.Future[None] | None = None
        self.worker: Handle | None = None
        self.expires_at: float | None = None
        self.ends_by = inf
        self.handle: object = None
        self.ident: int | None = None
        self.pid: int | None = None
        self.prepared: Any = None
        self.before_call: Callable[[], Callable[[], object]] | None = None
        self.taken: Callable[[Run], object] | None = None
        self.trace: Any = None
        self.died = False
        self.exit_code: int | None = None
        self.ctx: WorkerContext | None = None
        self.limited: Limited | None = None
        self.started_at = self.ended_at = 0.0
        self.value: Any = None
        self.error: BaseException | None = None
        self.climb: Climb | None = None
        self.asked: Climb | None = None
        self.over = False

    def claim(self) -> bool:
        """Takes it: to carry it out, or to make sure that nobody will. True once, whoever else tries. Any thread."""
        try:
            del self.unclaimed  # one step for the interpreter, and no lock for each run
        except AttributeError:
            return False
        return True

    def claim_for(self, mine: list[None]) -> bool:
        """The same, for whom an interrupt may strike: `mine` has something in it exactly where it was taken for that.

        No signal is looked for within one call of C.
        """
        try:
            mine.extend(map(delattr, (self,), ("unclaimed",)))
        except AttributeError:
            return False
        return True

    @property
    def claimed(self) -> bool:
        """Whether somebody has claimed it. Any thread."""
        return not hasattr(self, "unclaimed")

    @property
    def name(self) -> str:
        if self.given_name is not None:
            return self.given_name
        name = f"{qualname(self.fn)}-{self.number}"
        return f"{self.scope.name}/{name}" if self.scope.name else name

    @property
    def state(self) -> State:
        """Where it stands, as the machine says it."""
        if self.climb is not None:
            return self.climb.state
        if self.handle is not None:
            return Running()
        return Starting() if self.own else Queued()

    @property
    def state_name(self) -> WorkerState:
        return "ended" if self.over else STATE_NAMES[type(self.state)]

    def worker_context(self) -> WorkerContext:
        """Returns its context, made when it is first asked for, in its worker's own thread."""
        return self.kind.context_of(self)

    @property
    def held(self) -> bool:
        """Whether it is a call that must not begin any more: its kind leaves it to the loop. Any thread."""
        return (self.scope.held or self.kind.held) and not self.own

    @property
    def returned(self) -> bool:
        return self.error is None and not self.died

    @property
    def submitted_from(self) -> str | None:
        """Where it was submitted, as "path:line"; None where that is not kept."""
        return getattr(self, "origin", None)

    @property
    def place(self) -> Place | None:
        """The node of a cluster that has it; None where it runs here, or has not been sent yet."""
        return getattr(self, "placed", None)

    @property
    def carrier(self) -> tuple[str | None, int | None, int | None]:
        """The node that has it, and the thread or the process that carries it out: that node's, where it has one."""
        place = self.place
        return (None, self.ident, self.pid) if place is None else (place.node, place.ident, place.pid)

    def let_go(self) -> None:
        """Drops what it held: alarms, the pool's queue, its context, and its future may hold it for longer."""
        self.future = self.worker = self.entry = self.value = self.error = self.prepared = None
        self.fn, self.args, self.context = let_go, (), None

    def __repr__(self) -> str:
        return f"<Run {self.name!r} {self.state_name}>"


STATE_NAMES: dict[type[State], WorkerState] = {
    Queued: "queued",
    Starting: "starting",
    Running: "running",
    Stopping: "stopping",
    EndedState: "ended",
}


def let_go() -> None:
    """Stands in for the function of a run that is over."""
