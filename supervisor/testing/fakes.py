"""Workers that only pretend: no thread and no process is there, and a script says what each does."""

from __future__ import annotations

import asyncio
import functools
import signal
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, assert_never

from .._api.executors import Chunk
from .._core.errors import StopInjected, StopRequested
from .._core.policy import LADDER, Ask, Inject, Kill, Terminate
from .._core.values import checked_seconds
from .._core.verdict import converted
from .._loop.clock import call_at
from .._run.names import innermost, qualname, runs_in_context
from .._runtime import runtime as _runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from .._core.policy import Kind, Step, StepName
    from .._run.ports import Services
    from .._run.run import Run, WorkerKind
    from .._worker.context import WorkerContext

__all__ = ["FakeRun", "FakeWorkers"]

RANKS: dict[StepName, int] = {step.name: rank for rank, step in enumerate(LADDER)}

KILLED: int = -getattr(signal, "SIGKILL", 9)


@dataclass(frozen=True, slots=True)
class Script:
    """What the runs of a function do; the fields are the arguments of `FakeWorkers.script`."""

    obeys: StepName | None = "ask"
    delay: float = 0.0
    after: float | None = None
    returns: Any = None
    raises: BaseException | None = None
    exit_code: int | None = None
    ready: bool = True


class FakeRun:
    """One run of a fake worker, which a test may also drive by hand. On the loop's thread.

    Its `name`, `kind` and `attempt` say which run of which worker it is.

    Attributes:
        fn, args: What was to be called; of a worker of `start()` the arguments are those after the context, of a call
            by an executor's `map` with a `chunksize` they are the tuples of its items' arguments.
        steps: The names of the steps that it has met so far, repeated injections included.
        over: It has ended.
    """

    def __init__(self, run: Run, kind: FakeKind, script: Script) -> None:
        self.name = run.name
        self.kind: Kind = kind.name
        self.attempt = run.attempt
        self.fn, self.args = _called(run.fn, run.args)
        self.steps: list[StepName] = []
        self.over = False
        self._run = run
        self._home = kind
        self._script = script
        self._leaving = False

    def finish(self, value: Any = None) -> None:
        """Has the function return `value`; of one that was abandoned this is the late end. Once it is over: nothing."""
        self._end(value=value)

    def fail(self, error: BaseException) -> None:
        """Has the function raise `error`."""
        self._end(error=error)

    def die(self, exit_code: int = KILLED) -> None:
        """Has its process end by itself, with an exit code as in `subprocess`.

        Raises:
            RuntimeError: It is a thread.
        """
        if self.kind != "process":
            raise RuntimeError(f"FakeRun {self.name!r}: is a thread, which cannot die; let it fail")
        self._end(exit_code=exit_code)

    def ready(self) -> None:
        """Has it call `ctx.ready()`."""
        self._run.owner.readied(self._run)

    def heartbeat(self) -> None:
        """Has it call `ctx.heartbeat()`."""
        self._run.beat_at = self._home.services.clock()

    def extend(self, seconds: float) -> float:
        """Has it call `ctx.extend(seconds)`."""
        return self._home.services.extend(self._run, checked_seconds("extend(seconds={!r})", seconds))

    def begin(self) -> None:
        """The function is entered."""
        if self._script.ready:
            self.ready()
        if self._script.after is not None:
            self._home.later(self._script.after, self._end_by_itself)

    def meet(self, step: Step) -> None:
        """A step of the ladder is performed on it."""
        self.steps.append(step.name)
        obeys = self._script.obeys
        if obeys is not None and RANKS[step.name] >= RANKS[obeys] and not self._leaving:
            self._leaving = True
            self._home.later(self._script.delay, lambda: self._end_by(step))

    def _end_by_itself(self) -> None:
        script = self._script
        if script.exit_code is None:
            self._end(value=script.returns, error=script.raises)
            return
        try:
            self.die(script.exit_code)
        except RuntimeError as error:
            self.fail(error)

    def _end_by(self, step: Step) -> None:
        """What the script returns or raises it does on Ask; a process that is ended by a signal does neither."""
        script = self._script
        match step:
            case Ask():
                unwinds = script.returns is None and script.raises is None
                self._end(value=script.returns, error=StopRequested() if unwinds else script.raises)
            case Inject():
                self._end(error=StopInjected())
            case Terminate():
                self._end(exit_code=-signal.SIGTERM)
            case Kill():
                self._end(exit_code=KILLED)
            case _:
                assert_never(step)

    def _end(self, *, value: Any = None, error: BaseException | None = None, exit_code: int | None = None) -> None:
        if self.over:
            return
        self.over = True
        run = self._run
        run.ended_at = monotonic()
        if exit_code is not None:
            run.died, run.exit_code = True, exit_code
        elif error is not None:
            run.error = converted(run, error, stopping=run.climb is not None)
        else:
            args: tuple[Any, ...] = run.args
            run.value = [value] * len(args[0]) if isinstance(run.fn, Chunk) else value
        self._home.ended(run)

    def __repr__(self) -> str:
        how = "over" if self.over else "running"
        return f"<FakeRun of {self.kind} worker {self.name!r}, run {self.attempt}: {how}, met {self.steps}>"


class FakeWorkers:
    """Has supervisors run nothing: their workers follow scripts, at once and without a thread or a process.

    Each supervisor that is first used inside the `with` block keeps its fakes for good, for both kinds. All else is
    real: queues, names, ladders and their times, restarts, groups, outcomes, the report, the log. So what your code
    makes of a timeout, of an abandoned worker, of a process that died can be tried without making it happen. Together
    with `VirtualTime` it takes no time either.

    Functions are never called, and what is given to processes is not pickled. A function without a script fails, with
    a LookupError that names it. One is in force at a time, in all threads of the process.

    Attributes:
        runs: All runs so far, the oldest first.

    Example:
        >>> import asyncio
        >>> from supervisor import Supervisor, WorkerTimeout
        >>> def render(page):
        ...     raise AssertionError("never called")
        >>> async def main():
        ...     with FakeWorkers() as fakes:
        ...         fakes.script(render, obeys="ask", delay=0.1)
        ...         async with Supervisor() as sup:
        ...             try:
        ...                 await sup.run(render, "index", kind="process", timeout=0.01)
        ...             except WorkerTimeout as error:
        ...                 return error.outcome.ended, fakes.runs[0].steps
        >>> asyncio.run(main())
        ('stopped', ['ask'])
    """

    def __init__(self) -> None:
        self.runs: list[FakeRun] = []
        self._scripts: list[tuple[Callable[..., Any] | str, Script]] = []
        self._unseen: deque[FakeRun] = deque()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def script(
        self,
        worker: Callable[..., Any] | str,
        /,
        *,
        obeys: StepName | None = "ask",
        delay: float = 0.0,
        after: float | None = None,
        returns: Any = None,
        raises: BaseException | None = None,
        exit_code: int | None = None,
        ready: bool = True,
    ) -> None:
        """Says what runs that begin from now on do; replaces what was said of the same worker before.

        Args:
            worker: The function as it is given to the supervisor, `functools.partial` taken off, be it by way of
                `asyncio.to_thread` or of an executor's `map`, each item of which gets what it returns; or the worker's
                name, which goes before the function, with the groups around it: "feeds/poller".
            obeys: The step that ends it, or a higher one where the ladder lacks it; None: none does, and it is
                abandoned. Mind that threads meet "ask" and "inject" alone.
            delay: Seconds from that step to its end, on the supervisor's clock.
            after: Seconds from its entry, on that clock, after which it ends by itself; None: it does not.
            returns: What it returns then, or on Ask.
            raises: What it raises then, or on Ask. With neither of the two, Ask unwinds it by StopRequested.
            exit_code: With this exit code its process ends by itself, `after` so many seconds; a thread, which cannot,
                fails with a RuntimeError then.
            ready: It calls `ctx.ready()` when it is entered. Otherwise `FakeRun.ready` does it.

        Raises:
            TypeError, ValueError: An argument is wrong; the message names it.
        """
        if not callable(worker) and not isinstance(worker, str):
            raise TypeError(f"script({worker!r}): must be a function or the name of a worker")
        if obeys is not None and obeys not in RANKS:
            raise ValueError(f"script(obeys={obeys!r}): must be one of {', '.join(map(repr, RANKS))}, or None")
        if raises is not None and not isinstance(raises, BaseException):
            raise TypeError(f"script(raises={raises!r}): must be an exception")
        if exit_code is not None and after is None:
            raise ValueError(f"script(exit_code={exit_code!r}): needs after=, the seconds after which it dies")
        script = Script(
            obeys,
            checked_seconds("script(delay={!r})", delay),
            None if after is None else checked_seconds("script(after={!r})", after),
            returns,
            raises,
            exit_code,
            ready,
        )
        target = worker if isinstance(worker, str) else _bare(worker)
        self._scripts = [(known, said) for known, said in self._scripts if known != target]
        self._scripts.append((target, script))

    async def next_run(self) -> FakeRun:
        """Waits for the next run that begins, and returns it; each run is returned once, the oldest first.

        Cancelling it stops only the waiting.
        """
        while not self._unseen:
            loop = asyncio.get_running_loop()
            begun: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, begun))
            try:
                await begun
            finally:
                with suppress(ValueError):  # it was notified
                    self._waiting.remove((loop, begun))
        return self._unseen.popleft()

    # ------------------------------------------------------------------------------------ what the kinds ask of it

    def script_of(self, run: Run) -> Script | None:
        """Returns what a run is to do, where the test has said so."""
        said = [script for target, script in self._scripts if target == run.name]
        said += [script for target, script in self._scripts if target == _bare(run.fn)]
        return said[0] if said else None

    def began(self, fake: FakeRun) -> None:
        """Takes note of a run that has begun."""
        self.runs.append(fake)
        self._unseen.append(fake)
        waiting, self._waiting = self._waiting, []
        for loop, begun in waiting:
            try:
                loop.call_soon_threadsafe(_set_done, begun)
            except RuntimeError:
                if not loop.is_closed():  # else nobody waits there any more
                    raise

    # ------------------------------------------------------------------------------------ being in force

    def __enter__(self) -> Self:
        """Puts it in force.

        Raises:
            RuntimeError: Another one is.
        """
        if _runtime.stand_in is not None:
            raise RuntimeError("FakeWorkers: there are some in force already; use those, or leave their block first")
        _runtime.stand_in = self._kinds
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _runtime.stand_in = None

    def _kinds(self, services: Services, max_threads: int, max_processes: int) -> list[WorkerKind]:
        return [FakeKind("thread", services, self, max_threads), FakeKind("process", services, self, max_processes)]


class FakeKind:
    """Stands for the kind "thread" or "process"."""

    def __init__(self, name: Kind, services: Services, fakes: FakeWorkers, capacity: int) -> None:
        self.name: Kind = name
        self.calls: dict[int, Run] = {}
        self.capacity = capacity
        self.services = services
        self._fakes = fakes
        self._waiting: deque[Run] = deque()
        self._running: set[Run] = set()

    @property
    def alive(self) -> int:
        return len(self._running)

    @property
    def living(self) -> tuple[()]:
        """There are no threads, and no processes."""
        return ()

    def prepare(self, run: Run) -> None:
        if self._fakes.script_of(run) is None:
            raise _unscripted(run)

    def context_of(self, run: Run) -> WorkerContext:
        """No function runs, so nobody asks."""
        raise NotImplementedError

    def submit(self, run: Run) -> None:
        """Any thread."""
        run.settle = None  # an executor's call has no thread of its own that could settle it: the loop does
        self._waiting.append(run)
        self.services.post(self._next)

    def launch(self, run: Run) -> None:
        self.services.post(lambda: self._enter(run))

    def _next(self) -> None:
        while self._waiting and sum(not run.own for run in self._running) < self.capacity:
            self._enter(self._waiting.popleft())

    def _enter(self, run: Run) -> None:
        if not run.claim.acquire(False):
            return  # it was withdrawn
        run.started_at = monotonic()
        script = self._fakes.script_of(run)
        fake = run.handle = FakeRun(run, self, script or Script())
        self._running.add(run)
        if run.watched:
            run.owner.entered(run)
        self._fakes.began(fake)
        if script is None:
            fake.fail(_unscripted(run))
        else:
            fake.begin()

    def later(self, seconds: float, callback: Callable[[], object]) -> None:
        if seconds == 0:
            self.services.post(callback)
        else:
            services = self.services
            call_at(services.loop, services.clock, services.clock() + seconds, callback)

    def ended(self, run: Run) -> None:
        self._running.discard(run)
        self.services.post(run)
        self.services.post(self._next)

    def perform(self, run: Run, step: Step) -> str | None:
        """The run takes note of the step, and ends where its script says that it obeys."""
        fake = run.handle
        assert isinstance(fake, FakeRun)
        fake.meet(step)
        return None

    def abandon(self, run: Run) -> bool:
        fake = run.handle
        assert isinstance(fake, FakeRun)
        if fake.over:
            return False
        self._running.discard(run)  # it has been replaced
        self._next()
        return True

    def came_back(self, run: Run) -> None:
        """It has ended after all."""

    def retire(self) -> None:
        """There is nobody to let go."""

    def when_gone(self, gone: Callable[[], object]) -> None:
        gone()

    def join(self, seconds: float, but: set[int | None]) -> None:
        """There is nobody to wait for."""

    def stack(self, run: Run) -> str | None:
        return f"  in {qualname(run.fn)}(), a fake worker\n"


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _unscripted(run: Run) -> LookupError:
    return LookupError(f"fake worker {run.name!r} has no script: say what it does by fakes.script({qualname(run.fn)})")


def _bare(fn: Callable[..., Any]) -> Callable[..., Any]:
    fn = innermost(fn)
    return _bare(fn.fn) if isinstance(fn, Chunk) else fn


def _called(fn: Any, args: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Returns what the user has called, and with what: without the wrapping of `asyncio.to_thread` and of `map`."""
    if isinstance(fn, Chunk):
        return fn.fn, args[0][0] if len(args[0]) == 1 else args[0]
    outer: Any = fn
    if isinstance(outer, functools.partial) and outer.args and runs_in_context(outer.func):
        inner: Callable[..., Any] = outer.args[0]
        args = (*outer.args[1:], *args)
        return _called(functools.partial(inner, **outer.keywords) if outer.keywords else inner, args)
    return fn, args
