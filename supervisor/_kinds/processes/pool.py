"""Workers on processes: the pool of calls, the processes of long-lived workers, and how each step reaches them."""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from pickle import dumps, loads
from time import monotonic
from typing import TYPE_CHECKING, Any, assert_never

from ..._core.errors import RemoteError, SupervisorError, SupervisorMisused, described
from ..._core.ladder import Stopping
from ..._core.policy import Ask, Inject, Kill, ProcessStep, Terminate
from ..._core.verdict import converted
from ..._run import loop_call
from ..._run.names import qualname
from .pickling import pickled_call
from .process import Process
from .remote_errors import provable, set_cause
from .wire import message

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.policy import Kind, Step
    from ..._run.ports import Services
    from ..._run.run import Run
    from ..._worker.backend import How
    from ..._worker.context import WorkerContext
    from .wire import Part

__all__ = ["Processes"]

KEPT = 1 << 20
"""Bytes of a call up to which it is kept while it runs: its process may be dead, and not have read it."""

RETRY_DELAY = 0.2
"""Seconds after which another process is started in place of one that could not."""


ASKING_TIME, ASKING_WINDOW = 0.1, 0.5
"""Seconds that processes are asked where they stand, of so many: the loop waits for their answers."""


class Processes:
    """The kind "process". On the loop's thread, but for `prepare` and `stack`.

    Each call has a process to itself while it runs; nothing is shared between processes, so none can hold another up.
    One more is kept warm than is in use, so that losing one does not cost the start of another.

    Attributes:
        calls: The calls of the pool that have not concluded, by their number.
    """

    name: Kind = "process"

    def __init__(
        self,
        supervisor: str,
        services: Services,
        *,
        max_processes: int,
        max_tasks: int | None,
        start_timeout: float,
    ) -> None:
        self._supervisor = supervisor
        self._services = services
        self._loop = services.loop
        self._settle = services.ended
        self._log = services.forward
        self._max_processes = max_processes
        self._max_tasks = max_tasks
        self._start_timeout = start_timeout
        self.calls: dict[int, Run] = {}
        self._waiting: deque[Run] = deque()
        self._again: deque[Run] = deque()  # their processes were dead before they had read them
        self._idle: list[Process] = []
        self._pool: set[Process] = set()  # those that count: idle, busy, or being started
        self._spare: Process | None = None
        self._all: set[Process] = set()
        self._lost: dict[Process, Run] = {}
        self._retired = False
        self._gone: Callable[[], object] | None = None
        self._asking_since = self._asked = 0.0

    # -------------------------------------------------------------------------------- starting a run

    @property
    def capacity(self) -> int:
        """How many calls can run at once."""
        return self._max_processes

    @property
    def alive(self) -> int:
        """How many processes there are: of the pool, of workers, the spare one, and those that were abandoned."""
        return len(self._all)

    def prepare(self, run: Run) -> None:
        """Packs a run, and lets go of what it was given. Any thread.

        Raises:
            TypeError: It cannot be sent to a process.
        """
        tell = run.own if run.watched else None
        run.prepared = pickled_call(run.number, run.name, run.attempt, tell, run.fn, run.args, run.before_call)
        run.args = ()

    def submit(self, run: Run) -> None:
        """Runs a call on the next process of the pool that is free."""
        if self._idle:
            self._give(self._idle.pop(), run)
            return
        if not run.over:
            self._waiting.append(run)
            self._grow()

    def launch(self, run: Run) -> None:
        """Runs a worker on a process of its own."""
        try:
            process, self._spare = self._spare or self._new(), None
        except SupervisorError as error:
            self._loop.call_soon(self._fail, run, error)  # its starter waits for it by then
            return
        process.run = run
        if process.ready:
            self._give(process, run)

    def _grow(self) -> None:
        """Starts processes for the calls that wait, as far as there may be more."""
        while self._waiting and self._waiting[0].over:
            self._waiting.popleft()
        starting = sum(not process.ready for process in self._pool)
        while (
            len(self._waiting) + len(self._again) > starting
            and len(self._pool) < self._max_processes
            and not self._retired
        ):
            try:
                process, self._spare = self._spare or self._new(), None
            except SupervisorError as error:
                if not self._pool:
                    self._fail_all(error)
                return
            self._pool.add(process)
            if process.ready:
                self._next(process)
            else:
                starting += 1

    def _new(self) -> Process:
        try:
            process = Process(self._loop, self, self._start_timeout)
        except Exception as error:
            raise SupervisorError(
                f"supervisor {self._supervisor!r}: a worker process cannot be launched: {described(error)}"
            ) from error
        self._all.add(process)
        return process

    def _give(self, process: Process, run: Run) -> None:
        """Sends a run to a process that is free."""
        process.run = None
        if not run.claim.acquire(False):  # withdrawn meanwhile
            self._next(process)
            return
        self._send(process, run)
        if run.own:
            run.prepared = None

    def _send(self, process: Process, run: Run) -> None:
        process.run = run
        run.handle = process
        run.pid = process.pid
        run.started_at = monotonic()
        parts: list[Part] = run.prepared
        process.data.send(parts)
        if len(parts) > 1 and sum(memoryview(part).nbytes for part in parts) > KEPT and not process.data.unread:
            run.prepared = None

    def _next(self, process: Process) -> None:
        """Gives a process what it can do next."""
        if process.retired or process.dying or (self._max_tasks is not None and process.tasks >= self._max_tasks):
            self._dismiss(process)
            return
        if process not in self._pool:
            self._keep(process)
            return
        if self._again:
            run = self._again.popleft()
            self._send(process, run)
            run.prepared = None  # once is enough: perhaps it is what processes die of
            return
        while self._waiting:
            run = self._waiting.popleft()
            if not run.over and not run.claim.locked():
                self._give(process, run)
                return
        if self._retired:
            self._dismiss(process)
        else:
            self._idle.append(process)

    def _keep(self, process: Process) -> None:
        """A process that nobody has a use for: the spare one, or one too many."""
        if self._spare in (None, process) and not self._retired:
            self._spare = process
        else:
            self._dismiss(process)

    def _dismiss(self, process: Process) -> None:
        """Lets a process go, and has another take its place."""
        if process in self._pool:
            self._pool.discard(process)
            process.leave()
            self._grow()
        else:
            process.leave()

    def _provide(self) -> None:
        """Sees to it that one more process is warm."""
        if self._spare is None and not self._retired:
            try:
                self._spare = self._new()
            except SupervisorError:
                pass  # whoever needs a process will hear of it

    # -------------------------------------------------------------------------------- what processes say

    def up(self, process: Process) -> None:
        if process.run is not None:
            self._give(process, process.run)
        else:
            self._next(process)

    def heard(self, process: Process, word: str, details: tuple[Any, ...]) -> None:
        run = process.run
        match word:
            case "ended":
                number, *rest = details
                if run is not None and number in (None, run.number):
                    self._ended(process, run, *rest)
            case "unloadable":
                if run is not None:
                    text = f"the result of worker {run.name!r} cannot be unpickled: {described(details[0])}"
                    error = RemoteError(text)
                    error.__cause__ = details[0]
                    self._ended(process, run, False, error, None)
            case "entered":
                if run is not None and run.number == details[0]:
                    run.started_at = monotonic()
                    run.owner.entered(run)
            case "readied":
                if run is not None and run.number == details[0]:
                    run.owner.readied(run)
            case "beat":
                if run is not None and run.number == details[0]:
                    run.beat_at = self._services.clock()
            case "errand":
                self._errand(process, *details)
            case "extend":
                self._extend(process, *details)
            case "callback_failed":  # its call may be over by now, as in the next case
                worker, callback, trace = details
                event = {"event": "worker.callback_failed", "callback": callback, "exc_info": RemoteError(trace)}
                self._log("error", event, worker=worker)
            case "callback_blocked":
                worker, callback = details
                self._log("warning", {"event": "worker.callback_blocked", "callback": callback}, worker=worker)
            case "log":
                worker, attempt, method, event = details
                self._log(method, event, worker=worker, kind=self.name, attempt=attempt, pid=process.pid)
            case "logs_dropped":
                worker, number = details
                event = {"event": "worker.logs_dropped", "dropped": number}
                self._log("warning", event, worker=worker, kind=self.name, pid=process.pid)
            case _:
                raise AssertionError(f"{process!r} said {word!r}")

    def _ended(self, process: Process, run: Run, ok: bool, value: Any, trace: str | None) -> None:
        """A call has ended; its process is free, or has been stopped too hard to be used again."""
        run.ended_at = monotonic()
        if ok:
            run.value = value
        else:
            if trace is not None:
                set_cause(value, RemoteError(f"in process {process.pid}:\n{trace}"))
            try:
                run.error = converted(run, value)
            except BaseException as broken:  # an error whose own code fails is still an error of this run alone
                run.error = RemoteError(described(broken))
        self._lost.pop(process, None)
        self._settle(run)  # before the process forgets it: an interrupt in between has all of this done again
        process.run = run.context = None
        process.tasks += 1
        if run.own:
            process.retired = True
        self._next(process)
        self._provide()

    def _errand(self, process: Process, number: int, question: int, name: str, cleanup: bool, data: bytes) -> None:
        """A run wants something of the loop. May be heard twice."""
        answer = partial(self._answer, process, question, name)
        run = process.run
        if run is None or run.number != number:
            answer("error", SupervisorMisused(f"call(fn={name}): its worker has ended, and cannot call any more"))
            return
        if question not in process.errands:
            try:
                fn, args = loads(data)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                text = f"call(fn={name}): cannot be unpickled in the supervisor's process: {described(error)}"
                answer("error", RemoteError(text))
                return
            assert run.context is not None
            process.errands[question] = loop_call.LoopCall(run, fn, args, run.context.copy(), cleanup, answer)
        self._services.begin_call(process.errands[question])

    def _answer(self, process: Process, question: int, name: str, how: How, what: Any) -> None:
        """Sends the answer to an errand."""
        trace = None
        if how == "error" and what.__traceback__ is not None:
            what, trace = provable(what, loop_call.__file__)
        try:
            data = dumps(what, 5)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            how, data = "error", dumps(RemoteError(f"what {name}() returned cannot be pickled: {described(error)}"), 5)
        process.control.send(message("answered", question, how, data, trace))
        process.errands.pop(question, None)

    def _extend(self, process: Process, number: int, seconds: float, question: int) -> None:
        run = process.run
        granted = self._services.extend(run, seconds) if run is not None and run.number == number else 0.0
        ends_at = _ends_at(run) if run is not None else math.inf
        process.control.send(message("granted", question, granted, ends_at))

    def gone(self, process: Process) -> None:
        self._all.discard(process)
        counted = process in self._pool
        self._pool.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        if process is self._spare:
            self._spare = None
        run = process.run
        self._lost.pop(process, None)
        if run is not None and process.ready:
            if process.data.unread and run.prepared is not None and run.ladder is None and not self._retired:
                self._again.append(run)  # it never began
            else:
                run.exit_code = process.code
                self._died(run)
        elif not process.ready and not process.retired:
            self._could_not_start(process, run, counted)
        process.run = None
        while self._again and self._idle:
            self._next(self._idle.pop())
        if counted and process.ready:
            self._grow()
        elif counted and (self._waiting or self._again):
            self._loop.call_later(RETRY_DELAY, self._grow)
        if self._gone is not None and not self._all - self._lost.keys():
            self._gone()

    def _died(self, run: Run) -> None:
        run.died = True
        run.ended_at = monotonic()
        self._settle(run)
        run.context = None

    def _could_not_start(self, process: Process, run: Run | None, counted: bool) -> None:
        """Calls that wait fail with the last one that could not: what keeps one from starting keeps them all.

        While others of the pool live, another is started in its place, though not at once.
        """
        if process.killed_late:
            how = f"was not ready within {self._start_timeout:g} s"
        else:
            how = f"ended with exit code {process.code} before it was ready"
        text = process.errors().strip()
        error = SupervisorError(
            f"supervisor {self._supervisor!r}: a worker process {how}; "
            + (f"it wrote:\n{text}" if text else "it wrote nothing to its standard error")
        )
        if run is not None:
            self._fail(run, error)
        elif counted and not self._pool:
            self._fail_all(error)

    def _fail_all(self, error: SupervisorError) -> None:
        while self._again:
            self._died(self._again.popleft())
        while self._waiting:
            self._fail(self._waiting.popleft(), error)

    def _fail(self, run: Run, error: SupervisorError) -> None:
        if run.claim.acquire(False):
            run.error = error
            self._settle(run)

    # -------------------------------------------------------------------------------- the steps

    def perform(self, run: Run, step: Step) -> str | None:
        """Performs a step. Processes have them all, and none is ever missing."""
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

    def _ask(self, run: Run) -> None:
        process = run.handle
        assert isinstance(process, Process)
        if run in self._again:
            self._again.remove(run)
            self._died(run)
            return
        process.control.send(message("stop", run.number, run.reason, _ends_at(run)))

    def _harden(self, run: Run) -> Process:
        """From here on the process is not used again: a late signal must not meet another call."""
        process = run.handle
        assert isinstance(process, Process)
        process.retired = True
        process.control.send(message("step", run.number, _ends_at(run)))
        return process

    def abandon(self, run: Run) -> bool:
        """Gives a process up that even SIGKILL has not ended."""
        process = run.handle
        assert isinstance(process, Process)
        self._lost[process] = run
        self._pool.discard(process)
        if not self._retired:
            self._grow()
        return True

    def came_back(self, run: Run) -> None:
        """It has died after all."""

    def context_of(self, run: Run) -> WorkerContext:
        """It is in the process of the run."""
        raise NotImplementedError

    def stack(self, run: Run) -> str | None:
        process = run.handle
        if not isinstance(process, Process) or process.run is not run:
            return None
        began = monotonic()
        if began >= self._asking_since + ASKING_WINDOW:
            self._asking_since, self._asked = began, 0.0
        stack = process.stack(ask=self._asked < ASKING_TIME)
        self._asked += monotonic() - began
        return stack or f"  in {qualname(run.fn)}(), which does not answer\n"

    # -------------------------------------------------------------------------------- the end

    def retire(self) -> None:
        """Lets each process go once it has nothing to do."""
        self._loop.call_soon(self._tell_ends)  # of those that were being stopped already, now sooner
        if self._retired:
            return
        self._retired = True
        for process in tuple(self._all):
            if not process.ready:
                process.retired = True
                process.kill()
            elif process.run is None:
                process.leave()
        self._idle.clear()

    def _tell_ends(self) -> None:
        for process in tuple(self._all):
            if process.run is not None and isinstance(process.run.state, Stopping):
                self._ask(process.run)

    def when_gone(self, gone: Callable[[], object]) -> None:
        """Calls `gone` once there are no processes left, but for those that were abandoned."""
        self._gone = gone
        if not self._all - self._lost.keys():
            gone()

    def join(self, seconds: float, but: set[int | None]) -> None:
        """Kills what is left, but for what was abandoned, and reaps it."""
        until = monotonic() + seconds
        left = tuple(self._all - self._lost.keys())
        for process in left:
            process.kill()
        for process in left:
            process.end_now(max(0.0, until - monotonic()))
            self._all.discard(process)


def _ends_at(run: Run) -> float:
    """When the present grace ends, on the monotonic clock, which all processes share."""
    state = run.ladder.state if run.ladder is not None else None
    return state.ends_at if isinstance(state, Stopping) else math.inf
