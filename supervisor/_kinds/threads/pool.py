"""Workers on OS threads: the pool of calls, the threads of long-lived workers, and how each step reaches them.

All threads are daemons of our own. Those of the standard pools are joined when the interpreter exits, which is exactly
what a stuck one must not hold up.
"""

from __future__ import annotations

import threading
from _thread import RLock, get_ident
from contextlib import nullcontext
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, assert_never

from ..._core.policy import Ask, Inject, ThreadStep
from ..._core.verdict import converted
from ..._run.names import qualname
from ..._worker.context import WorkerContext
from ..._worker.current import entered
from ..._worker.stop_event import StopEvent
from .gate import Gate, Shield, injection_missing
from .stack import stack_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ..._core.policy import Kind, Step
    from ..._run.ports import Services
    from ..._run.run import Run
    from ..._worker.stop_event import Chain
from .backend import ThreadBackend
from .launcher import Launcher

__all__ = ["Threads"]


class Threads:
    """The kind "thread".

    Attributes:
        calls: The calls of the pool that have not concluded, by their number.
        size: Threads of the pool that take calls, or are being started.
        stuck: Threads of the pool that were abandoned and have not come back.
    """

    name: Kind = "thread"

    def __init__(
        self, supervisor: str, max_threads: int, services: Services, chain: Chain, resolving: Collection[int] = ()
    ) -> None:
        self._supervisor = supervisor
        self._max_threads = max_threads
        self._services = services
        self._post = services.post
        self._chain = chain
        self._resolving = resolving  # calls that have ended, whose threads are in the callbacks of their futures
        self._queue: SimpleQueue[Run | None] = SimpleQueue()
        self._launcher = Launcher()
        self._named = 0
        self._members: set[threading.Thread] = set()
        self.calls: dict[int, Run] = {}
        self._counting = RLock()  # executors grow the pool from any thread, and a signal handler may come in between
        self.size = 0
        self.stuck = 0
        self._retired = False
        self._gone: Callable[[], object] | None = None

    # -------------------------------------------------------------------------------- starting a run

    @property
    def capacity(self) -> int:
        """How many calls can run at once: abandoned threads are replaced, up to as many as there may be."""
        return max(0, min(self._max_threads, 2 * self._max_threads - self.stuck))

    @property
    def alive(self) -> int:
        """How many threads there are: of the pool, of workers, those that were abandoned, and helpers."""
        return len(self._members)

    def prepare(self, run: Run) -> None:
        """There is nothing to prepare."""

    def submit(self, run: Run) -> None:
        """Runs a call on the next thread of the pool that is free. Any thread."""
        self._queue.put(run)
        if self._short:
            self._grow()

    def launch(self, run: Run) -> None:
        """Runs a worker on a thread of its own."""
        self._start(
            run.name,
            target=lambda: self._carry_out(run),
            failed=lambda error: self._unstarted(run, error),
        )

    @property
    def _short(self) -> bool:
        """Whether there are fewer threads than calls, and there may be more."""
        return len(self.calls) + len(self._resolving) > self.size < self.capacity

    def _grow(self) -> None:
        with self._counting:
            if self._retired or not self._short:
                return
            self.size += 1
            self._named += 1
            name = f"thread-{self._named}"
        self._start(name, self._serve, self._unserved)

    def _start(self, name: str, target: Callable[[], object], failed: Callable[[RuntimeError], object]) -> None:
        thread = threading.Thread(name=f"{self._supervisor}/{name}", daemon=True, target=self._begin, args=(target,))
        self._launcher.start(thread, failed)

    def _unstarted(self, run: Run, error: RuntimeError) -> None:
        if run.claim.acquire(False):
            run.error = error
            self._post(run)

    def _unserved(self, error: RuntimeError) -> None:
        """A thread of the pool cannot be started: the others serve its call, or all calls that wait fail."""
        self._post(lambda: self._shrunk(error))

    def _shrunk(self, error: RuntimeError) -> None:
        self._left()
        if self.size > 0:
            return
        while True:
            try:
                run = self._queue.get_nowait()  # never blocks: a thread that has come up meanwhile may be faster
            except Empty:
                return
            if run is not None:
                self._unstarted(run, error)

    def _left(self) -> None:
        with self._counting:
            self.size -= 1
        if self.size == 0 and self._gone is not None:
            self._gone()

    # -------------------------------------------------------------------------------- the steps

    def perform(self, run: Run, step: Step) -> str | None:
        """Performs a step; returns why it cannot be done at present, or None. A policy gives threads no others."""
        assert isinstance(step, ThreadStep)
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
            return  # whoever makes it sees `run.reason`
        ctx.stop.set()
        if ctx.registrations:
            self._start(
                f"{run.name}/on_stop",
                target=lambda: self._fire(ctx, run),
                failed=lambda error: self._services.callback_failed(run, "all of them", error),
            )

    def _inject(self, run: Run) -> str | None:
        """Has the exception raised as soon as the run's gate lets it through."""
        missing = injection_missing()
        gate: Gate | None = run.handle
        if missing is None and gate is not None:  # else it is claimed this very moment
            gate.inject()
        return missing

    def abandon(self, run: Run) -> bool:
        """Gives the thread up, and replaces it; False where the run has ended and its completion is in the inbox."""
        ladder = run.ladder
        assert ladder is not None
        with ladder.lock:
            if ladder.left or ladder.abandoned:
                return ladder.abandoned
            ladder.abandoned = True
        if not run.own:
            with self._counting:
                self.size -= 1
                self.stuck += 1
            self._replace()
        return True

    def came_back(self, run: Run) -> None:
        """An abandoned thread has ended after all."""
        if not run.own:
            with self._counting:
                self.stuck -= 1
            self._replace()

    def _replace(self) -> None:
        if self._short:
            self._grow()

    def stack(self, run: Run) -> str | None:
        stack = None if run.ident is None else stack_of(run.ident)
        if stack == "":
            return f"  in {qualname(run.fn)}(), which is no Python code\n"
        return stack

    def _fire(self, ctx: WorkerContext, run: Run) -> None:
        for registration in tuple(ctx.registrations):
            try:
                registration.fire()
            except BaseException as error:  # sys.exit() in a callback, say: this thread is a helper, the worker goes on
                self._services.callback_failed(run, qualname(registration.callback), error)

    # -------------------------------------------------------------------------------- the end

    def retire(self) -> None:
        """Lets each thread of the pool end after its present call."""
        with self._counting:
            leaving = 0 if self._retired else self.size
            self._retired = True
        for _ in range(leaving):
            self._queue.put(None)

    def when_gone(self, gone: Callable[[], object]) -> None:
        """Calls `gone` once the pool's threads have ended, but for those that were abandoned."""
        self._gone = gone
        if self.size == 0:
            gone()

    def join(self, seconds: float, but: set[int | None]) -> None:
        """Waits for threads that are past their last line, so that none is seen alive after a shutdown."""
        until = monotonic() + seconds
        for thread in tuple(self._members):
            if thread.ident not in but:
                thread.join(max(0.0, until - monotonic()))

    # -------------------------------------------------------------------------------- in the threads

    def context_of(self, run: Run) -> WorkerContext:
        """Returns the run's context, made when it is first asked for, by the worker's thread."""
        if run.ctx is None:
            gate: Gate = run.handle
            with Shield(gate) if gate.ident else nullcontext():
                stop = StopEvent(self._chain)
                run.ctx = WorkerContext(ThreadBackend(run, gate, self._services), stop)
                if run.reason is not None:  # asked while nobody could hear it
                    stop.set()
        return run.ctx

    def _begin(self, target: Callable[[], object]) -> None:
        self._launcher.next()
        thread = threading.current_thread()
        self._members.add(thread)
        try:
            target()
        finally:
            self._members.discard(thread)

    def _serve(self) -> None:
        get = self._queue.get
        while True:
            run = get()
            if run is None:
                break
            if self._carry_out(run):
                return  # abandoned: it has been replaced, and does not count
            del run  # or it would live on while this thread waits
        self._post(self._left)

    def _carry_out(self, run: Run) -> bool:
        """Carries out a run, unless it was withdrawn; returns whether this thread was abandoned over it."""
        context, fn, args = run.context, run.fn, run.args  # first: once it is claimed, it may be given up, and let go
        if not run.claim.acquire(False):
            return False
        run.ident = get_ident()
        gate = run.handle = Gate()
        assert context is not None
        entered(run)
        if run.own:
            args = (self.context_of(run), *args)
        if run.watched:
            self._post(partial(run.owner.entered, run))
        run.started_at = monotonic()
        value, error = gate.run(context.run, (fn, *args))
        run.ended_at = monotonic()
        entered(None)
        run.context = run.ctx = None
        run.args = ()
        if error is None:
            run.value = value
        else:
            try:
                run.error = converted(run, error)
            except Exception as broken:  # an error whose own code fails is still an error of this run alone
                run.error = broken
        del value, error, fn, args, context
        if run.settle is None:
            self._post(run)
        else:
            self._services.settle(run)
        # Only after the completion is in the inbox does this thread look whether it was given up. So if the loop finds
        # no completion and no `left`, this thread is certain to see `abandoned`.
        ladder = run.ladder
        if ladder is None:
            return False
        with ladder.lock:
            ladder.left = True
            return ladder.abandoned
