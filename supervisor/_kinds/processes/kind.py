"""The kind "process": how each step reaches a worker's process, and what follows from what processes say."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pickle import loads
from typing import TYPE_CHECKING, Any, assert_never

from ..._core.errors import RemoteError, SupervisorError, described
from ..._core.ladder import Stopping
from ..._core.policy import Ask, Inject, Kill, ProcessStep, Terminate
from ..._core.values import printable
from ..._core.verdict import converted_from_elsewhere
from ..._loop import aside
from ..._loop.clock import monotonic
from ..._loop.errors import insist, report_error
from ..._run.channel import Producer
from ..._run.names import qualname
from ..._run.readiness import Readiness
from ..._worker.remote_errors import set_cause
from .allowance import Allowance
from .child.produce import Produce
from .handover import answer_to
from .limiting import Meter, before_limited
from .loop_calls import LoopCalls
from .main_module import is_nowhere
from .pickling import pickled_call, pickled_initializer
from .pool import Pool
from .process import Process
from .surroundings import surroundings
from .wire import message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..._core.policy import Kind, Step
    from ..._core.pools import PoolSettings
    from ..._core.usage import Usage
    from ..._run.ports import Services
    from ..._run.run import Run
    from ..._worker.context import WorkerContext

__all__ = ["Processes"]

ASKING_TIME, DYING_TIME, WINDOW = 0.1, 0.05, 0.5
"""Seconds that processes are asked where they stand, and that those which SIGKILL ends are waited for, of so many: the
loop waits meanwhile."""


class Processes:
    """The kind "process". A run's handle is its `Process`; as a `WorkerKind` it says which thread calls what.

    Args:
        supervisor: Its name, for messages.
        start_timeout: Seconds after which a process is killed that has not started; without those of the initializer.
        dump_signal: Does nothing to its processes: whoever sends it means the owner, and may reach them as well.

    Raises:
        TypeError: The initializer cannot be sent to a process.

    Attributes:
        settings: What is set for its pool.
        calls: The calls of the pool that have not concluded, by their number.
        own_calls: There are none: who is not up yet can be killed.
        closing, held: It is shut down alone: it takes no calls, and begins none.
        readiness: How many take calls, and why the pool is not ready.
        pool: All processes, and which one takes which run.
        goes_on_until: When they end by themselves, on `CLOCK_BOOTTIME`, if nothing else is said; None: never.
    """

    name: Kind = "process"
    own_threads = False

    def __init__(
        self,
        supervisor: str,
        settings: PoolSettings,
        services: Services,
        *,
        start_timeout: float,
        dump_signal: int | None = None,
    ) -> None:
        self.settings = settings
        self._supervisor = supervisor
        self._services = services
        self._log = services.forward
        self._start_timeout = start_timeout
        self._unheeded = () if dump_signal is None else (dump_signal,)
        self.calls: dict[int, Run] = {}
        self.own_calls: dict[int, Run] = {}
        self.closing = self.held = False
        self.goes_on_until: float | None = None
        self.readiness = Readiness(settings, services.forward)
        self._main_is_nowhere = is_nowhere()
        self._initializer: bytes | None = None
        if settings.initializer is not None:
            self._initializer = pickled_initializer(settings.initializer, nowhere=self._main_is_nowhere)
        self.pool = Pool(supervisor, settings, services, self.readiness, self._launch)
        self.submit: Callable[[Run], None] = self.pool.submit  # each call takes this way
        self._loop_calls = LoopCalls(services)
        self._meter = Meter()
        self._surroundings = surroundings()
        self._asking = Allowance(ASKING_TIME, WINDOW)
        self._dying = Allowance(DYING_TIME, WINDOW)
        if settings.warm:
            services.post(self.pool.grow)

    @property
    def capacity(self) -> int:
        return self.pool.capacity

    @property
    def alive(self) -> int:
        """How many processes there are: of the pool, of workers, the spare one, and those that were abandoned."""
        return len(self.pool.every)

    @property
    def living(self) -> Iterable[int]:
        return [process.pid for process in tuple(self.pool.every)]

    @property
    def nodes(self) -> tuple[()]:
        """It runs here."""
        return ()

    def resize(self, size: int) -> None:
        """Has so many calls run at once from now on; a process that is one too many leaves after its call."""
        self.settings = replace(self.settings, size=size)
        self.pool.resize(size)

    # -------------------------------------------------------------------------------- starting a run

    def prepare(self, run: Run) -> None:
        """Pickles a run, lets go of what it was given, and notes in which state this process is at the moment.

        Raises:
            TypeError: It cannot be sent to a process.
            ValueError: It has limits, which cannot be kept here.
        """
        own = run.own if run.watched else None
        before = run.before_call if run.limited is None else before_limited(run.limited, run.before_call)
        call = pickled_call(
            run.number, run.name, run.attempt, own, _sent(run.fn), run.args, before, nowhere=self._main_is_nowhere
        )
        if run.own:
            now = surroundings(umask=True)
        else:
            now = self._surroundings = surroundings(self._surroundings)
        run.prepared = now, call
        run.args = ()

    def launch(self, run: Run) -> None:
        self.pool.start(run)

    def _launch(self, initialize: bool) -> Process:
        try:
            initializer = self._initializer if initialize else None
            process = Process(self._services.loop, self, self._start_timeout, initializer, self._unheeded)
        except Exception as error:
            raise SupervisorError(
                f"supervisor {self._supervisor!r}: a worker process cannot be launched: {described(error)}"
            ) from error
        if self.goes_on_until is not None:
            process.control.send(message("until", self.goes_on_until))
        return process

    def let_go_on(self, until: float) -> None:
        """Has all processes end by themselves at a moment, unless a later one is said before: we may stand still."""
        self.goes_on_until = until
        for process in tuple(self.pool.every):
            process.control.send(message("until", until))

    def context_of(self, run: Run) -> WorkerContext:
        """Never called: the run is in a process of its own, and so is its context."""
        raise NotImplementedError

    # -------------------------------------------------------------------------------- the steps

    def catch_up(self, run: Run) -> None:
        process = run.handle
        if isinstance(process, Process) and process.run is run:
            process.catch_up()

    def perform(self, run: Run, step: Step) -> str | None:
        assert isinstance(step, ProcessStep)
        match step:
            case Ask():
                self._ask(run)
            case Inject():
                self._harden(run).inject()
            case Terminate():
                self._harden(run).terminate()
            case Kill():
                self._harden(run).kill()
            case _:
                assert_never(step)
        return None

    def signal(self, run: Run, number: int) -> None:
        """Sends a signal for a run, which is no step, to its process: what handles it there knows for which run it is.

        So it meets no other run, and also one that has not been entered yet.
        """
        process = run.handle
        if isinstance(process, Process) and process.run is run:
            process.control.send(message("signal", run.number, number))

    def _ask(self, run: Run) -> None:
        if not self.pool.take_back(run) and run.climb is not None:
            _process_of(run).control.send(message("stop", run.number, run.climb.reason, _ends_at(run)))

    def _harden(self, run: Run) -> Process:
        """From here on the process is not used again: a late signal must not meet another call."""
        process = _process_of(run)
        process.retired = True
        insist(self._unsaid, self._say_step, process, run)  # the step itself comes in any case
        return process

    def _say_step(self, process: Process, run: Run) -> None:
        process.control.send(message("step", run.number, _ends_at(run)))

    def _unsaid(self, error: Exception) -> None:
        report_error(self._services.loop, f"supervisor {self._supervisor!r}: a process could not be told", error)

    def stack(self, run: Run) -> str | None:
        process = run.handle
        if not isinstance(process, Process) or process.run is not run:
            return None
        with self._asking as left:
            stack = process.stack(ask=left > 0)
        return printable(stack or f"  in {qualname(run.fn)}(), which does not answer\n", lines=True)

    def stacks(self, runs: list[Run]) -> list[str | None]:
        return [self.stack(run) for run in runs]

    def usages(self, runs: list[Run]) -> list[Usage | None]:
        return self._meter.usages(runs)

    # -------------------------------------------------------------------------------- the end

    def abandon(self, run: Run) -> bool:
        """Gives a process up that even SIGKILL has not ended; the kernel is asked a last time whether it has.

        It has a moment for that, once for many: they die at the same time.
        """
        process = _process_of(run)
        if process.killed:
            with self._dying as left:
                process.await_death(left)
        self.catch_up(run)
        if process.run is not run:
            return False
        self.pool.lose(process)
        return True

    def came_back(self, run: Run) -> None:
        """It has died after all: there is nothing to do."""

    def retire(self) -> None:
        # To those that were being stopped already: now sooner.
        aside.call_soon(self._services.loop, self._say_when_it_ends)
        self.pool.retire()

    def _say_when_it_ends(self) -> None:
        for process in tuple(self.pool.every):
            if process.run is not None and isinstance(process.run.state, Stopping):
                self._ask(process.run)

    def when_gone(self, gone: Callable[[], object]) -> None:
        self.pool.when_gone(gone)

    def join(self, seconds: float, but: set[int | None]) -> None:
        """Kills what is left, but for what was given up, and reaps it."""
        self.pool.join(seconds)

    # -------------------------------------------------------------------------------- what processes say

    def up(self, process: Process) -> None:
        self.pool.up(process)

    def gone(self, process: Process) -> None:
        self.pool.gone(process)

    def heard(self, process: Process, what: str, details: tuple[Any, ...]) -> None:
        run = process.run
        match what:
            case "unloadable":
                if run is not None:
                    self.ended(process, None, False, _unloadable(run, *details), None)
            case "entered":
                if run is not None and run.number == details[0]:
                    run.started_at = monotonic()
                    run.owner.entered(run)
                    if run.own:
                        run.prepared = None  # it has been read
            case "readied":
                if run is not None and run.number == details[0]:
                    run.owner.readied(run)
            case "beat":
                if run is not None and run.number == details[0]:
                    run.beat_at = self._services.clock()
            case "items":
                self._items(process, *details)
            case "call":
                self._loop_calls.begin(process, *details)
            case "ask":
                process.control.send(answer_to(*details))
            case "extend":
                self._extend(process, *details)
            case _:
                self._log_heard(process, what, details)

    def _log_heard(self, process: Process, what: str, details: tuple[Any, ...]) -> None:
        """Logs what a process has said of callbacks, of its own log events, or by ending its stream."""
        match what:
            case "callback_failed":  # its call may be over by now, as in the next case
                worker, attempt, callback, trace = details
                event = {"event": "worker.callback_failed", "callback": callback, "exc_info": RemoteError(trace)}
                self._log("error", event, worker=worker, kind=self.name, attempt=attempt)
            case "callback_blocked":
                worker, attempt, callback = details
                event = {"event": "worker.callback_blocked", "callback": callback}
                self._log("warning", event, worker=worker, kind=self.name, attempt=attempt)
            case "log":
                worker, attempt, method, name, data = details
                event = _event(name, data)
                self._log(method, event, worker=worker, kind=self.name, attempt=attempt, pid=process.pid)
            case "logs_dropped":
                worker, number = details
                event = {"event": "worker.logs_dropped", "dropped": number}
                self._log("warning", event, worker=worker, kind=self.name, pid=process.pid)
            case "broken":
                event = {"event": "worker.stream_failed", "reason": printable(described(details[0]))}
                if process.run is not None:
                    event |= {"worker": process.run.name, "attempt": process.run.attempt}
                self._log("error", event, kind=self.name, pid=process.pid)
            case _:
                raise AssertionError(f"{process!r} said {what!r}")

    def ended(self, process: Process, number: int | None, ok: bool, value: Any, trace: str | None) -> None:
        """A call has ended; its process is free, or has been stopped too hard to be used again."""
        run = process.run
        if run is None:  # an interrupt has come after it was forgotten
            self.pool.find_use_again(process)
            return
        if number is not None and number != run.number:
            return
        if run.own and not run.ready:
            process.control.read()  # by another way: that it was ready before
        run.ended_at = monotonic()
        self.pool.vigil.answered(run.ended_at - run.started_at)
        if ok:
            run.value = value
        else:
            if trace is not None:
                set_cause(value, RemoteError(f"in process {process.pid}:\n{trace}"))
            run.error = converted_from_elsewhere(run, value, stopping=run.climb is not None)
        self.pool.lost.discard(process)
        self._services.ended(run)  # before the process forgets it: an interrupt in between has all of this done again
        if run.own:
            process.retired = True
        process.run = run.context = None
        self.pool.free(process)

    def _items(self, process: Process, number: int, first: int, items: list[Any]) -> None:
        """Takes in what a call of `iterate` has made so far."""
        run = process.run
        if run is not None and run.number == number and isinstance(run.fn, Producer):
            run.fn.channel.arrive(first, items, loads, partial(self._say_taken, process, run))

    def _say_taken(self, process: Process, run: Run, count: int) -> None:
        if process.run is run:
            process.control.send(message("taken", run.number, count))

    def _extend(self, process: Process, number: int, seconds: float, question: int) -> None:
        run = process.run
        granted = self._services.extend(run, seconds) if run is not None and run.number == number else 0.0
        ends_at = _ends_at(run) if run is not None else math.inf
        process.control.send(message("granted", question, granted, ends_at))


def _sent(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns what a process is given to call."""
    return Produce(fn.fn, qualname(fn), fn.channel.buffer) if isinstance(fn, Producer) else fn


def _unloadable(run: Run, why: BaseException) -> RemoteError:
    error = RemoteError(f"the result of worker {run.name!r} cannot be unpickled: {described(why)}")
    error.__cause__ = why
    return error


def _event(name: Any, data: bytes) -> dict[str, Any]:
    """Returns a log event; what cannot be unpickled here is left out of it."""
    try:
        event: dict[str, Any] = loads(data)
    except Exception as error:
        return {"event": name, "unreadable": printable(described(error))}
    return event


def _process_of(run: Run) -> Process:
    process = run.handle
    assert isinstance(process, Process)
    return process


def _ends_at(run: Run) -> float:
    """When the present grace ends, on the monotonic clock, which all processes share."""
    state = run.climb.state if run.climb is not None else None
    return state.ends_at if isinstance(state, Stopping) else math.inf
