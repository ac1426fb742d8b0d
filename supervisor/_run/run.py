"""One run of a worker: the record that travels from the caller to a thread or process and back."""

from __future__ import annotations

from _thread import allocate_lock
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from .._core.ladder import EndedState, Queued, Running, Starting, State, Stopping

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    import contextvars
    from _thread import RLock
    from collections.abc import Callable

    from .._core.outcome import WorkerState
    from .._core.policy import EscalationPolicy
    from .._runtime.nodes import GroupNode, WorkerNode
    from .._worker.context import WorkerContext
    from .climb import Climb
    from .ports import Handle, Owner, WorkerKind
from .names import qualname

__all__ = ["Run"]


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
        handle: What its kind keeps of it, and only its kind looks into; not None once it has been claimed.
        ident, pid: The thread, or the process, that carries it out.
        prepared: What its kind has made of it before its start, where that needs it.
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
        "before_call",
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
        "handle",
        "ident",
        "kind",
        "ladder",
        "life",
        "no_inject_on_cancel",
        "number",
        "over",
        "own",
        "owner",
        "pid",
        "policy",
        "prepared",
        "ready",
        "reason",
        "settle",
        "started_at",
        "submitted_at",
        "trace",
        "value",
        "watched",
        "worker",
    )

    def __init__(
        self,
        owner: Owner,
        kind: WorkerKind,
        number: int,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        submitted_at: float,
        *,
        future: asyncio.Future[Any] | concurrent.futures.Future[Any] | None = None,
        name: str | None = None,
        policy: EscalationPolicy | None = None,
        life: WorkerNode | None = None,
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
        self.group: GroupNode | None = None
        self.ready = False
        self.beat_at = 0.0
        self.future = future
        self.given_name = name
        self.policy = policy
        self.claim = allocate_lock()
        self.settle: RLock | None = None
        self.no_inject_on_cancel = False
        self.entry: asyncio.Future[None] | None = None
        self.worker: Handle | None = None
        self.expires_at: float | None = None
        self.handle: object = None
        self.ident: int | None = None
        self.pid: int | None = None
        self.prepared: Any = None
        self.before_call: Callable[[], Callable[[], object]] | None = None
        self.trace: Any = None
        self.died = False
        self.exit_code: int | None = None
        self.ctx: WorkerContext | None = None
        self.started_at = self.ended_at = 0.0
        self.value: Any = None
        self.error: BaseException | None = None
        self.reason: str | None = None
        self.ladder: Climb | None = None
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
    def returned(self) -> bool:
        return self.error is None and not self.died

    def let_go(self) -> None:
        """Drops what it held: alarms, and those who waited for it, may hold it for longer."""
        self.future = self.worker = self.entry = self.value = self.error = self.prepared = None
        # An alarm holds it, or the queue of the pool, or the future of an executor's call.
        if self.expires_at is not None or self.handle is None or self.settle is not None:
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
