"""The kind "thread": how each step reaches a worker's thread, and what that thread does for a run."""

from __future__ import annotations

from _thread import get_ident
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from threading import current_thread
from typing import TYPE_CHECKING, assert_never

from ..._core.blocked import blocked
from ..._core.errors import described
from ..._core.policy import Ask, Inject, ThreadStep
from ..._core.values import printable
from ..._core.verdict import converted
from ..._loop.clock import monotonic
from ..._run.names import innermost, qualname
from ..._run.readiness import Readiness
from ..._run.unrun import UNRUN, refused
from ..._worker.context import WorkerContext
from ..._worker.current import current, entered, fire
from ..._worker.stop_event import StopEvent
from ..._worker.unused_shield import warn_of_unused_shield
from . import copies
from .backend import ThreadBackend
from .gate import Gate, Shield, injection_missing
from .injector import Injector
from .launcher import Launcher
from .managed import ManagedPool, is_managed
from .pool import Pool
from .stack import Stacks, stack_of
from .wake_signal import WakeSignal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from threading import Thread

    from ..._core.policy import Kind, Step
    from ..._core.pools import PoolSettings
    from ..._core.usage import Usage
    from ..._run.climb import Climb
    from ..._run.ports import Services
    from ..._run.run import Run
    from ..._worker.stop_event import Chain

__all__ = ["Threads"]


class Threads:
    """The kind "thread". A run's handle is its `Gate`; as a `WorkerKind` it says which thread calls what.

    Args:
        chain: Wakes the workers that wait for their stop Event, one after another.
        resolving: Calls that have ended, whose threads are in the callbacks of their futures.
        wake_signal: Ends the system calls of threads that are injected into, where the interpreter heeds that.

    Attributes:
        settings: What is set for its pool.
        services: What it may ask of the runtime.
        calls: The calls of the pool that have not concluded, by their number.
        own_calls: Those of initializers.
        closing, held: It is shut down alone: it takes no calls, and begins none.
        readiness: How many take calls, and why the pool is not ready.
        launcher: Starts all threads, and knows those that are alive.
        pool: The threads that carry out calls.
    """

    name: Kind = "thread"
    own_threads = True

    def __init__(
        self,
        supervisor: str,
        settings: PoolSettings,
        services: Services,
        chain: Chain,
        resolving: Collection[int] = (),
        wake_signal: int | None = None,
    ) -> None:
        self.settings = settings
        self.services = services
        self._post = services.post
        self._chain = chain
        self._thread = get_ident()
        self._stacks = Stacks(services.loop)
        self.calls: dict[int, Run] = {}
        self.own_calls: dict[int, Run] = {}
        self.closing = self.held = False
        self.readiness = Readiness(settings, services.forward)
        self.launcher = Launcher(supervisor)
        self._wake_signal = WakeSignal(wake_signal, lambda why: self._post(partial(self._log_no_wake_signal, why)))
        self._injector = Injector(self.launcher, self._wake_signal.send)
        make_pool = partial(ManagedPool, own_call=self._own_call) if is_managed(settings) else Pool
        self.pool = make_pool(
            settings, self.calls, resolving, self.launcher, services, self.readiness, self._carry_out, self._lost
        )
        self.submit: Callable[[Run], None] = self.pool.submit  # each call takes this way
        copies.here.add(self)
        self.pool.warm_up()

    def _own_call(self, fn: Callable[[], object]) -> Run:
        return self.services.own_call(self, fn)

    def become_a_copy(self) -> None:
        """This process was forked, perhaps by a worker's function: it is the only thing that goes on here."""
        self.services = copies.of_a_copy(self.services)
        self._post = copies.leave
        self.pool.close()

    @property
    def capacity(self) -> int:
        return self.pool.capacity

    @property
    def alive(self) -> int:
        """How many threads there are: of the pool, of workers, those that were abandoned, and helpers."""
        return len(self.launcher.living)

    @property
    def living(self) -> Iterable[Thread]:
        return self.launcher.living.copy()

    @property
    def nodes(self) -> tuple[()]:
        """It runs here."""
        return ()

    def resize(self, size: int) -> None:
        self.settings = replace(self.settings, size=size)
        self.pool.resize(size)

    def lend(self, more: int) -> None:
        """Has so many more calls run at once, or fewer, whatever its size is. Any thread."""
        self.pool.lend(more)

    # -------------------------------------------------------------------------------- starting a run

    def prepare(self, run: Run) -> None:
        """There is nothing to prepare."""

    def launch(self, run: Run) -> None:
        self.launcher.start_unawaited(
            run.name,
            target=lambda: self._carry_out_alone(run),
            failed=lambda error: self._unstarted(run, error),
        )

    def _unstarted(self, run: Run, error: RuntimeError) -> None:
        if run.claim():
            run.error = error
            self._post(run)

    # -------------------------------------------------------------------------------- the steps

    def catch_up(self, run: Run) -> None:
        """Nothing is on its way: what threads say is in the inbox at once."""

    def perform(self, run: Run, step: Step) -> str | None:
        assert isinstance(step, ThreadStep)  # a policy gives threads no others
        match step:
            case Ask():
                self._ask(run)
                return None
            case Inject():
                return self._inject(run)
            case _:
                assert_never(step)

    def _ask(self, run: Run) -> None:
        """Sets the stop Event, which `Chain.start` announces, and has the callbacks run on a thread of their own."""
        ctx = run.ctx
        if ctx is None:
            return  # whoever makes it sees `run.asked`
        registrations = tuple(ctx.registrations)  # first: it may end at once. Who comes later sees `run.asked`
        ctx.stop.set()
        if registrations:
            self.launcher.start(
                f"{run.name}/on_stop",
                target=lambda: fire(ctx, registrations),
                failed=lambda error: self.services.callback_failed(run, "all of them", error),
            )

    def _inject(self, run: Run) -> str | None:
        """Has the exception raised as soon as the run's gate lets it through."""
        missing = injection_missing()
        gate = run.handle
        if missing is None and isinstance(gate, Gate):  # else a thread takes the run this very moment
            self._wake_signal.prepare()
            still_waiting = self._injector.inject(gate)
            if still_waiting:
                self._log_waiting(run)
        return missing

    def raise_in(self, run: Run, exception: type[BaseException]) -> str | None:
        """Raises an exception in the function of a run, which is no step: the run goes on, if it handles it.

        Returns:
            Why that is not possible at present; None where it was done, will be, or comes too late.
        """
        missing = injection_missing()
        gate = run.handle
        if missing is None and isinstance(gate, Gate):
            self._wake_signal.prepare()
            self._injector.inject(gate, exception)
        return missing

    def _log_waiting(self, run: Run) -> None:
        event = {"event": "worker.injection_waits", "worker": run.name, "attempt": run.attempt}
        stack = self.stack(run)
        if stack is not None:
            what, freed_by = blocked(stack)
            event |= {"stack": stack, "blocked_in": printable(what), "freed_by": freed_by}
        self.services.forward("warning", event, kind=self.name)

    def _log_no_wake_signal(self, reason: str) -> None:
        self.services.forward("warning", {"event": "supervisor.wake_signal_missing", "reason": reason})

    def stack(self, run: Run) -> str | None:
        if run.ident is None:
            return None
        on_the_loop = get_ident() == self._thread
        stack = self._stacks.of(run.ident, run.started_at) if on_the_loop else stack_of(run.ident)
        if stack == "":
            return f"  in {qualname(run.fn)}(), which is no Python code\n"
        return stack

    # -------------------------------------------------------------------------------- the end

    def stacks(self, runs: list[Run]) -> list[str | None]:
        return [self.stack(run) for run in runs]

    def usages(self, runs: list[Run]) -> list[Usage | None]:
        """Nobody knows what one thread uses."""
        return [None for _ in runs]

    def abandon(self, run: Run) -> bool:
        climb = run.climb
        assert climb is not None
        with climb.lock:
            if climb.left and not climb.abandoned:
                return False
            climb.abandoned = True
        if not run.own:
            self.pool.lose(run)
        return True

    def came_back(self, run: Run) -> None:
        if not run.own:
            self.pool.regain(run)

    def retire(self) -> None:
        self.pool.retire()

    def when_gone(self, gone: Callable[[], object]) -> None:
        self.pool.when_gone(gone)

    def join(self, seconds: float, but: set[int | None]) -> None:
        self._wake_signal.close()
        self.launcher.join(seconds, but)

    # -------------------------------------------------------------------------------- in the worker's thread

    def context_of(self, run: Run) -> WorkerContext:
        if run.ctx is None:
            gate = run.handle
            assert isinstance(gate, Gate)
            with Shield(gate) if gate.ident else nullcontext():
                stop = StopEvent(self._chain)
                run.ctx = WorkerContext(run, ThreadBackend(run, gate, self), stop)
                if run.asked is not None:  # asked while nobody could hear it
                    stop.set()
        return run.ctx

    def _carry_out_alone(self, run: Run) -> None:
        try:
            self._carry_out(run)
        except BaseException as error:
            run.claim()
            self._lost(run, error)

    def _lost(self, run: Run | None, error: BaseException) -> bool:
        """An exception of another library has struck this thread outside of any function, and ends it.

        The run that it was about to carry out, or just had, ends with that. Returns whether it had been abandoned.
        """
        self._post(partial(self._log_lost, printable(current_thread().name), printable(described(error))))
        entered(None)
        if run is None or not run.claimed or run.ident not in (None, get_ident()):
            return False
        if not run.over:
            run.ended_at = run.ended_at or monotonic()
            if run.value is None and run.error is None:
                run.error = converted(run, error, stopping=run.climb is not None)
        if run.settle is not None:
            self.services.settle(run)  # also of one that is over: its future may not be resolved
        elif not run.over:
            self._post(lambda: None if run.over else self.services.ended(run))
        return run.climb is not None and _leave(run.climb)

    def _log_lost(self, thread: str, reason: str) -> None:
        event = {"event": "worker.thread_lost", "thread": thread, "reason": reason}
        self.services.forward("error", event, kind=self.name)

    def _carry_out(self, run: Run) -> bool:
        """Carries out a run, unless it was withdrawn; returns whether this thread was abandoned over it."""
        context, fn, args = run.context, run.fn, run.args  # first: once it is claimed, it may be given up, and let go
        if ((run.scope.held or self.held) and not run.own) or not run.claim():
            return False
        run.ident = get_ident()
        run.started_at = monotonic()  # before anybody can see that it runs
        gate = run.handle = Gate()
        assert context is not None
        current.source = run
        if run.own:
            args = (self.context_of(run), *args)
        if run.own:
            self._post(partial(run.owner.entered, run))
        elif run.watched:
            self.services.post_notice(partial(run.owner.entered, run), run.started_at)
        value, error = gate.run(context.run, (fn, *args))
        run.ended_at = monotonic()
        current.source = None
        if run.ctx is not None:
            run.ctx.registrations.clear()  # each holds the list that holds it
            if error is None and gate.unused > 0 and run.climb is None:  # else an injection may have come before `with`
                error = warn_of_unused_shield(run.name, innermost(fn))
        run.context = run.ctx = None
        run.args = ()
        if error is None and run.own and type(value) in UNRUN:
            run.error = refused(run.name, value)
        elif error is None:
            run.value = value
        else:
            try:
                run.error = converted(run, error, stopping=run.climb is not None)
            except Exception as broken:  # an error whose own code fails is still an error of this run alone
                run.error = broken
        del value, error, fn, args, context
        run.ending = True
        if run.settle is None:
            self._post(run)
        else:
            self.services.settle(run)
        # Only after the completion is in the inbox does this thread look whether it was given up. So if the loop finds
        # no completion and no `left`, this thread is certain to see `abandoned`.
        return run.climb is not None and _leave(run.climb)


def _leave(climb: Climb) -> bool:
    """Notes that the thread of a run that is being stopped is done with it; returns whether it was given up before."""
    with climb.lock:
        climb.left = True
        return climb.abandoned
