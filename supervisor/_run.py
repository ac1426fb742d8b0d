"""One run of a worker: the record that travels from the caller to a thread or process and back."""

from __future__ import annotations

import asyncio
import functools
from _thread import allocate_lock
from collections import deque
from contextvars import Context, copy_context
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any, Protocol

from ._machine import EndedState, Queued, Running, Starting, State, Stopping

if TYPE_CHECKING:
    import concurrent.futures
    import contextvars
    from _thread import RLock
    from collections.abc import Callable

    from ._context import WorkerContext
    from ._errands import Errands
    from ._lives import Group, Life, Lives, Member
    from ._machine import Cause, Command, Rules
    from ._outcome import WorkerState
    from ._policy import EscalationPolicy, Kind
    from ._worker import Worker
    from .processes._wire import Part

__all__ = ["CallFuture", "Ladder", "Run", "Stopper", "WorkerKind", "innermost", "qualname", "runs_in_context"]


class Stopper(Protocol):
    """What a run knows of the supervisor that owns it."""

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    """The loop's clock. Any thread."""
    lives: Lives
    errands: Errands

    def end_of(self, run: Run) -> asyncio.Future[None]:
        """Returns a future that is done once a run that is being stopped has concluded."""
        ...

    def stop(self, run: Run, cause: Cause, reason: str = "") -> None:
        """Begins to stop a run. On the loop's thread."""
        ...

    async def change_of(self, member: Member) -> None:
        """Waits until something has happened to a worker of `start()`."""
        ...

    def extend(self, run: Run, seconds: float) -> float:
        """Grants more time on the present step. Any thread."""
        ...

    def remaining(self, run: Run) -> float:
        """Returns the seconds until the next step. Any thread."""
        ...

    def entered(self, run: Run) -> None:
        """The function is about to be entered. On the loop's thread."""
        ...

    def settle(self, run: Run) -> None:
        """An executor's call has ended: resolves it, or has the loop do so. Any thread."""
        ...

    def readied(self, run: Run) -> None:
        """The function has called `ctx.ready()`. On the loop's thread."""
        ...

    def callback_failed(self, run: Run, callback: str, error: BaseException) -> None:
        """A callback of `on_stop`, or of an executor's future, raised. Any thread."""
        ...


class WorkerKind(Protocol):
    """How a kind starts a run and performs each step on it. All but `stack` on the loop's thread; nothing blocks."""

    name: Kind
    calls: dict[int, Run]
    """The calls of the pool that have not concluded, by their number."""

    @property
    def capacity(self) -> int:
        """How many calls can run at once."""
        ...

    @property
    def alive(self) -> int:
        """How many threads or processes there are."""
        ...

    @property
    def injection_missing(self) -> str | None:
        """Says why nothing can be injected at present; None where it can."""
        ...

    def prepare(self, run: Run) -> None:
        """Makes a run ready to be submitted or launched; raises where it cannot be. Any thread."""
        ...

    def submit(self, run: Run) -> None:
        """Runs it on the pool."""
        ...

    def launch(self, run: Run) -> None:
        """Runs it on a thread or process of its own."""
        ...

    def context_of(self, run: Run) -> WorkerContext:
        """Returns the context of a run that is carried out in this process, by its own thread."""
        ...

    def ask(self, run: Run) -> None:
        """Performs Ask."""
        ...

    def inject(self, run: Run) -> str:
        """Performs Inject; returns what became of it."""
        ...

    def abandon(self, run: Run) -> bool:
        """Gives the run up; False where it has ended meanwhile, and its completion is in the inbox."""
        ...

    def came_back(self, run: Run) -> None:
        """A run that was given up has ended after all."""
        ...

    def retire(self) -> None:
        """Lets the pool's threads or processes end once they have nothing to do."""
        ...

    def when_gone(self, gone: Callable[[], object]) -> None:
        """Calls `gone` once they have, but for those that were abandoned."""
        ...

    def join(self, seconds: float, but: set[int | None]) -> None:
        """Sees to it that none is left, but for those that were abandoned."""
        ...

    def terminate(self, run: Run) -> None:
        """Performs Terminate."""
        ...

    def kill(self, run: Run) -> None:
        """Performs Kill."""
        ...

    def stack(self, run: Run) -> str | None:
        """Where it stands now, as a traceback's text. Any thread."""
        ...


class CallFuture(asyncio.Future[Any]):
    """What `run()` waits for. Cancelling it really cancels the waiter, and begins to stop the work."""

    __slots__ = ("run",)

    run: Run

    def cancel(self, msg: Any = None) -> bool:
        if super().cancel(msg=msg):
            self.run.owner.stop(self.run, "cancel")
            return True
        return False


class Ladder:
    """What a run carries from the moment at which somebody wants it stopped.

    Attributes:
        state: Where on the ladder it is. Changed under `lock`: by the loop's thread, and by `extend` in the worker's.
        cause: Why, for the machine; the first cause stays.
        reason: Why, for people.
        began_at: When, on the loop's clock.
        rules: What the machine is told of the run.
        left: The worker's thread has posted its completion and is free. Under `lock`.
        abandoned: The run was given up before that; its thread takes no other work. Under `lock`.
        stack: Where it stood at the first step past Ask.
        injected: An exception was injected.
        busy: Its commands are being carried out.
        claiming: The loop has begun to claim the run, so that no thread takes it.
        todo: What the machine has commanded and nobody has carried out yet.
        waiters: Futures of those who wait for the end of the run, whatever becomes of the call.
    """

    __slots__ = (
        "abandoned",
        "began_at",
        "busy",
        "cause",
        "claiming",
        "injected",
        "left",
        "lock",
        "reason",
        "rules",
        "stack",
        "state",
        "todo",
        "waiters",
    )

    def __init__(self, state: State, cause: Cause, reason: str, began_at: float, rules: Rules) -> None:
        self.lock = allocate_lock()
        self.state = state
        self.cause = cause
        self.reason = reason
        self.began_at = began_at
        self.rules = rules
        self.left = False
        self.abandoned = False
        self.stack: str | None = None
        self.injected = False
        self.busy = self.claiming = False
        self.todo: deque[Command] = deque()
        self.waiters: list[asyncio.Future[None]] = []


class Run:
    """One run: what is called, who waits for it, and where it stands. Also the stop token of its worker.

    The path of a call that nobody stops touches nothing but this record; the state machine is woken when a stop begins
    and lives in `ladder`.

    Attributes:
        owner: The shell of the supervisor.
        kind: How it runs.
        number: Counts the runs of a supervisor, from 1.
        life: The worker of `start()` whose run this is; None for a call of `run()`.
        group: The group that it belongs to; None for the supervisor itself.
        own: It has a thread or process of its own, as all runs of a life have.
        attempt: Which run of its life, from 1.
        ready: It has been entered; or, where its life has a `ready_timeout`, it has called `ctx.ready()`.
        beat_at: When it last gave a heartbeat, on the loop's clock.
        fn, args, context: What is called, with what, and with which context variables.
        given_name: The name that the user gave, if any.
        policy: The ladder that the user named for it, if any.
        future: Who waits for its value; None for a worker of `start()`.
        spared: Its own cancellation injects nothing, whatever its ladder says.
        settle: Of an executor's call: taken once, by the thread that ran it, which then resolves the future by itself,
            or by the loop, which is then told of the end as it is of any other run. None for all others.
        entry: Done once it is ready or has ended, where somebody waits for that.
        worker: Its handle, once somebody asked for one.
        claim: Taken once: by the thread that carries it out, or by who makes sure that none will.
        watched: The loop wants to know when the function is entered.
        submitted_at: On the loop's clock.
        expires_at: When its time is over, on the loop's clock: its timeout, its time to become ready, its heartbeat.
        carrier: What its kind keeps of it; not None once it has been claimed.
        ident, pid: The thread, or the process, that carries it out.
        parcel: Of a process: the frame that is to be sent.
        preface: Of a process: what it calls before the function, where somebody wants that. It can be pickled, and
            returns what the process calls after the function.
        trace: What a listener that traces it keeps of it.
        died: Its process has ended without a word.
        exit_code: What is known of how its process ended.
        ctx: Its context, once the worker's function asked for it.
        started_at, ended_at: When the function was entered and left, on the monotonic clock.
        value, error: What came of it; `returned` tells which.
        reason: Why it was asked to stop; None until then.
        ladder: Where it stands on its ladder; None until a stop begins.
        over: It has concluded.
    """

    __slots__ = (
        "args",
        "attempt",
        "beat_at",
        "carrier",
        "claim",
        "context",
        "ctx",
        "died",
        "ended_at",
        "entry",
        "error",
        "exit_code",
        "expires_at",
        "fn",
        "future",
        "given_name",
        "group",
        "ident",
        "kind",
        "ladder",
        "life",
        "number",
        "over",
        "own",
        "owner",
        "parcel",
        "pid",
        "policy",
        "preface",
        "ready",
        "reason",
        "settle",
        "spared",
        "started_at",
        "submitted_at",
        "trace",
        "value",
        "watched",
        "worker",
    )

    def __init__(
        self,
        owner: Stopper,
        kind: WorkerKind,
        number: int,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        submitted_at: float,
        *,
        future: asyncio.Future[Any] | concurrent.futures.Future[Any] | None = None,
        name: str | None = None,
        policy: EscalationPolicy | None = None,
        life: Life | None = None,
    ) -> None:
        self.owner = owner
        self.kind = kind
        self.number = number
        self.fn = fn
        self.args = args
        self.context: contextvars.Context | None = copy_context() if life is None else life.context.copy()
        self.submitted_at = submitted_at
        self.life = life
        self.own = self.watched = life is not None
        self.attempt = 1 if life is None else life.attempt
        self.group: Group | None = None
        self.ready = False
        self.beat_at = 0.0
        self.future = future
        self.given_name = name
        self.policy = policy
        self.claim = allocate_lock()
        self.settle: RLock | None = None
        self.spared = False
        self.entry: asyncio.Future[None] | None = None
        self.worker: Worker | None = None
        self.expires_at: float | None = None
        self.carrier: Any = None
        self.ident: int | None = None
        self.pid: int | None = None
        self.parcel: list[Part] | None = None
        self.preface: Callable[[], Callable[[], object]] | None = None
        self.trace: Any = None
        self.died = False
        self.exit_code: int | None = None
        self.ctx: WorkerContext | None = None
        self.started_at = self.ended_at = 0.0
        self.value: Any = None
        self.error: BaseException | None = None
        self.reason: str | None = None
        self.ladder: Ladder | None = None
        self.over = False

    @property
    def name(self) -> str:
        if self.given_name is not None:
            return self.given_name
        name = f"{qualname(self.fn)}-{self.number}"
        return name if self.group is None else f"{self.group.name}/{name}"

    @property
    def state(self) -> State:
        """Where it stands, as the machine says it."""
        if self.ladder is not None:
            return self.ladder.state
        if self.carrier is not None:
            return Running()
        return Starting() if self.own else Queued()

    @property
    def state_name(self) -> WorkerState:
        return "ended" if self.over else STATE_NAMES[type(self.state)]

    def worker_context(self) -> WorkerContext:
        """Returns its context, made when it is first asked for, in its worker's own thread."""
        return self.kind.context_of(self)

    @property
    def returned(self) -> bool:
        return self.error is None and not self.died

    def let_go(self) -> None:
        """Drops what it held: alarms, and those who waited for it, may hold it for longer."""
        self.future = self.worker = self.entry = self.value = self.error = self.parcel = None
        # An alarm holds it, or the queue of the pool, or the future of an executor's call.
        if self.expires_at is not None or self.carrier is None or self.settle is not None:
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


def qualname(fn: Callable[..., Any]) -> str:
    """Returns how a function is called in names and messages: through partials, and for callable objects too."""
    fn = innermost(fn)
    try:
        name = fn.__qualname__
    except Exception:  # what a user's object does there is its own affair
        name = None
    return (name if isinstance(name, str) and name else type(fn).__qualname__).replace("/", "_")


def innermost(fn: Any) -> Any:
    """Returns the function that is called in the end: through partials, and through `Context.run`."""
    while isinstance(fn, functools.partial):
        fn = fn.args[0] if fn.args and runs_in_context(fn.func) else fn.func
    return fn


def context_within(fn: Any) -> Context | None:
    """Returns the Context in which a function has the one that it calls run, as asyncio.to_thread does, if any."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn.__self__ if runs_in_context(fn) else None


def runs_in_context(fn: Any) -> bool:
    """Whether it is the `run` of a contextvars.Context, which calls its first argument: asyncio.to_thread has it so."""
    is_method = isinstance(fn, BuiltinMethodType | MethodType)
    return is_method and isinstance(fn.__self__, Context) and fn.__name__ == "run"


def let_go() -> None:
    """Stands in for the function of a run that is over."""
