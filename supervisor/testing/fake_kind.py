"""The kind that only pretends: its runs follow scripts, with no thread and no process."""

from __future__ import annotations

import functools
import signal
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, assert_never

from .._api.executors import Chunk
from .._core.errors import StopInjected, StopRequested
from .._core.policy import LADDER, Ask, Inject, Kill, Terminate
from .._core.usage import Usage
from .._core.values import checked_seconds
from .._core.verdict import converted
from .._loop.clock import call_at, monotonic
from .._run.channel import Producer
from .._run.names import qualname, runs_in_context
from .._run.readiness import Readiness

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.policy import Kind, Step, StepName
    from .._core.pools import PoolSettings
    from .._run.ports import Services
    from .._run.run import Run
    from .._worker.context import WorkerContext

__all__ = ["FakeRun"]

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
        usage: What its process uses, for `Limits`.
    """

    def __init__(self, run: Run, kind: FakeKind, script: Script) -> None:
        self.name = run.name
        self.kind: Kind = kind.name
        self.attempt = run.attempt
        self.fn, self.args = _called(run.fn, run.args)
        self.steps: list[StepName] = []
        self.over = False
        self.usage = Usage(0, 0.0)
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

    def use(self, *, rss: int = 0, cpu_seconds: float = 0.0) -> None:
        """Has it use so many bytes of memory from now on, and so many seconds of CPU since it began."""
        self.usage = Usage(rss, cpu_seconds)

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
            run.value = self._returned(value)
        self._home.ended(run)

    def yields(self, *items: Any) -> None:
        """Has the function of `Supervisor.iterate` yield these.

        Raises:
            RuntimeError: It is no call of `iterate`.
        """
        fn = self._run.fn
        if not self.over and not isinstance(fn, Producer):
            raise RuntimeError(f"FakeRun {self.name!r}: is no call of iterate(), and cannot yield")
        if isinstance(fn, Producer):
            fn.channel.give(items)

    def _returned(self, value: Any) -> Any:
        """What comes of a call that returns this value: of an executor's `map`, for each item; of `iterate`, items."""
        fn: Any = self._run.fn
        args: tuple[Any, ...] = self._run.args
        if isinstance(fn, Chunk):
            return [value] * len(args[0])
        if isinstance(fn, Producer):
            fn.channel.give(value or ())
            return None
        return value

    def __repr__(self) -> str:
        how = "over" if self.over else "running"
        return f"<FakeRun of {self.kind} worker {self.name!r}, run {self.attempt}: {how}, met {self.steps}>"


class FakeKind:
    """Stands for the kind "thread" or "process". A run's handle is its `FakeRun`.

    Args:
        settings: What is set for its pool.
        script_of: Returns what a run is to do; None where nobody has said so.
        began: Takes note of a run that has begun.
    """

    own_threads = False  # whichever kind it stands for

    def __init__(
        self,
        settings: PoolSettings,
        services: Services,
        script_of: Callable[[Run], Script | None],
        began: Callable[[FakeRun], None],
    ) -> None:
        self.name: Kind = settings.kind
        self.settings = settings
        self.calls: dict[int, Run] = {}
        self.own_calls: dict[int, Run] = {}
        self.closing = self.held = False
        self.readiness = Readiness(replace(settings, warm=0, initializer=None), services.forward)
        self.capacity = settings.size
        self.services = services
        self._script_of = script_of
        self._began = began
        self._waiting: deque[Run] = deque()
        self._running: set[Run] = set()

    @property
    def alive(self) -> int:
        return len(self._running)

    @property
    def living(self) -> tuple[()]:
        """There are no threads, and no processes."""
        return ()

    @property
    def nodes(self) -> tuple[()]:
        """There is no cluster."""
        return ()

    def resize(self, size: int) -> None:
        self.settings = replace(self.settings, size=size)
        self.capacity = size
        self.services.post(self._next)

    def prepare(self, run: Run) -> None:
        if self._script_of(run) is None:
            raise _unscripted(run)

    def context_of(self, run: Run) -> WorkerContext:
        """No function runs, so nobody asks."""
        raise NotImplementedError

    def submit(self, run: Run) -> None:
        self._waiting.append(run)
        self.services.post(self._next)

    def launch(self, run: Run) -> None:
        self.services.post(lambda: self._enter(run))

    def _next(self) -> None:
        while self._waiting and sum(not run.own for run in self._running) < self.capacity:
            self._enter(self._waiting.popleft())

    def _enter(self, run: Run) -> None:
        if run.held or not run.claim():
            return  # it was withdrawn
        run.started_at = monotonic()
        script = self._script_of(run)
        fake = run.handle = FakeRun(run, self, script or Script())
        self._running.add(run)
        if run.watched:
            run.owner.entered(run)
        if run.limited is not None:
            self.services.measure(run)
        self._began(fake)
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

    def catch_up(self, run: Run) -> None:
        """Nothing is on its way: what fake workers do happens at once."""

    def perform(self, run: Run, step: Step) -> str | None:
        """The run takes note of the step, and ends where its script says that it obeys."""
        _fake_of(run).meet(step)
        return None

    def usages(self, runs: list[Run]) -> list[Usage | None]:
        return [_fake_of(run).usage for run in runs]

    def abandon(self, run: Run) -> bool:
        if _fake_of(run).over:
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

    def stacks(self, runs: list[Run]) -> list[str | None]:
        return [self.stack(run) for run in runs]


def _fake_of(run: Run) -> FakeRun:
    fake = run.handle
    assert isinstance(fake, FakeRun)
    return fake


def _unscripted(run: Run) -> LookupError:
    return LookupError(f"fake worker {run.name!r} has no script: say what it does by fakes.script({qualname(run.fn)})")


def _called(fn: Any, args: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Returns what the user has called, and with what: without the wrapping of `asyncio.to_thread` and of `map`."""
    if isinstance(fn, Chunk):
        return fn.fn, args[0][0] if len(args[0]) == 1 else args[0]
    if isinstance(fn, Producer):
        return fn.fn, args
    outer: Any = fn
    if isinstance(outer, functools.partial) and outer.args and runs_in_context(outer.func):
        inner: Callable[..., Any] = outer.args[0]
        args = (*outer.args[1:], *args)
        return _called(functools.partial(inner, **outer.keywords) if outer.keywords else inner, args)
    return fn, args
