"""The pool of the processes: which process takes which run."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..._core.errors import SupervisorError
from ..._loop import aside
from ..._loop.clock import monotonic
from ..._loop.errors import insist, report_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.pools import PoolSettings
    from ..._run.ports import Services
    from ..._run.run import Run
    from .process import Process
    from .wire import Part

__all__ = ["Pool"]

KEPT = 1 << 20
"""Bytes of a call up to which it is kept while it runs: its process may be dead, and not have read it."""

RETRY_DELAY = 0.2
"""Seconds after which another process is started in place of one that could not."""

STARTS = 3
"""Processes in a row that die while they start, after which those who wait for one hear of it."""


class Pool:
    """Each run has a process to itself while it runs. On the loop's thread.

    Nothing is shared between processes, so none can block another. One more is kept warm than is in use, so that losing
    one does not cost the start of another.

    Args:
        supervisor: Its name, for messages.
        settings: What is set for it.
        launch: Launches a process; it says when it is up, and when it is gone. Raises SupervisorError.

    Attributes:
        every: All processes, those of workers, the spare one and those that were given up included.
        lost: Those that were given up, as even SIGKILL has not ended them, and whose runs have not ended since.
    """

    def __init__(
        self,
        supervisor: str,
        settings: PoolSettings,
        services: Services,
        launch: Callable[[], Process],
    ) -> None:
        self._supervisor = supervisor
        self._loop = services.loop
        self._ended = services.ended
        self._measure = services.measure
        self._launch = launch
        self._size = settings.size
        self._max_tasks = settings.max_tasks
        self.every: set[Process] = set()
        self.lost: set[Process] = set()
        self._counted: set[Process] = set()  # those that are for calls: idle, busy, or being started
        self._idle: list[Process] = []
        self._spare: Process | None = None
        self._waiting: deque[Run] = deque()
        self._again: deque[Run] = deque()  # their processes were dead before they had read them
        self._failed_starts = 0  # in a row
        self._retired = False
        self._when_gone: Callable[[], object] | None = None

    @property
    def capacity(self) -> int:
        """How many calls can run at once."""
        return self._size

    # -------------------------------------------------------------------------------- runs come in

    def submit(self, run: Run) -> None:
        """Runs a call on the next process that is free."""
        while self._idle:
            process = self._idle.pop()
            if not process.broken:  # else its death is about to be known
                self._give(process, run)
                return
        if not run.over:
            self._waiting.append(run)
            self._grow()

    def start(self, run: Run) -> None:
        """Runs a worker on a process of its own."""
        try:
            process = self._take_spare()
        except SupervisorError as error:
            aside.call_soon(self._loop, self._fail, run, error)  # its starter waits for it by then
            return
        process.run = run
        if process.ready:
            self._give(process, run)

    def take_back(self, run: Run) -> bool:
        """Ends a run whose process was dead before it had read it, where no other has got it yet."""
        if run not in self._again:
            return False
        self._again.remove(run)
        self._died(run)
        return True

    def _grow(self) -> None:
        """Starts processes for the calls that wait, as far as there may be more."""
        while self._waiting and self._waiting[0].over:
            self._waiting.popleft()
        starting = sum(not process.ready for process in self._counted)
        while (
            len(self._waiting) + len(self._again) > starting and len(self._counted) < self._size and not self._retired
        ):
            try:
                process = self._take_spare()
            except SupervisorError as error:
                if not self._counted:
                    self._fail_all(error)
                return
            self._counted.add(process)
            if process.ready:
                self._next(process)
            else:
                starting += 1

    def _take_spare(self) -> Process:
        """Returns the spare process, or a new one; raises SupervisorError."""
        process = self._spare
        if process is None or process.broken:
            process = self._new()
        self._spare = None
        return process

    def _new(self) -> Process:
        process = self._launch()
        self.every.add(process)
        return process

    # -------------------------------------------------------------------------------- a process takes a run

    def _give(self, process: Process, run: Run) -> None:
        """Sends a run to a process that is free."""
        process.run = None
        if run.held or not run.claim.acquire(False):  # withdrawn meanwhile
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
        if run.limited is not None:
            self._measure(run)
        parts: list[Part]
        owners, parts = run.prepared
        process.surround(owners)
        process.data.send(parts)
        if len(parts) > 1 and sum(memoryview(part).nbytes for part in parts) > KEPT and not process.data.unread:
            run.prepared = None

    def up(self, process: Process) -> None:
        """A process has started."""
        self._failed_starts = 0
        self.every.add(process)  # where an interrupt has kept it out
        if process.run is not None:
            self._give(process, process.run)
        else:
            self._next(process)

    def free(self, process: Process) -> None:
        """A process has carried out its run."""
        process.tasks += 1
        self._next(process)
        if self._spare is None and not self._retired:
            # In the next turn: what has come of the run need not live for as long as that takes.
            aside.call_soon(self._loop, self._make_spare)

    def _make_spare(self) -> None:
        if self._spare is None and not self._retired:
            try:
                self._spare = self._new()
            except SupervisorError:
                pass  # whoever needs a process will hear of it

    def _next(self, process: Process) -> None:
        """Gives a process what it can do next."""
        used_up = process.retired or process.dying or process.broken
        if used_up or (self._max_tasks is not None and process.tasks >= self._max_tasks):
            self._dismiss(process)
            return
        if process not in self._counted:
            self._keep(process)
            return
        if self._again:
            run = self._again.popleft()
            self._send(process, run)
            run.prepared = None  # once is enough: perhaps it is what processes die of
            return
        while self._waiting:
            run = self._waiting.popleft()
            if not (run.over or run.held or run.claim.locked()):
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
        if process in self._counted:
            self._counted.discard(process)
            process.leave()
            self._grow()
        else:
            process.leave()

    # -------------------------------------------------------------------------------- a process is gone

    def gone(self, process: Process) -> None:
        """A process is dead, and so is its run; unless the process had not read it yet."""
        self.every.discard(process)
        counted = process in self._counted
        self._counted.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        if process is self._spare:
            self._spare = None
        run = process.run
        self.lost.discard(process)
        if run is not None and run.over and run.climb is None:
            pass  # it had ended when the stream failed
        elif run is not None and process.ready:
            if process.data.unread and run.prepared is not None and run.climb is None and not self._retired:
                self._again.append(run)  # it never began
            else:
                run.exit_code, run.oom_killed = process.code, process.oom_killed
                self._died(run)
        elif not process.ready and not process.retired:
            self._could_not_start(process, run, counted)
        process.run = None
        while self._again and self._idle:
            self._next(self._idle.pop())
        if counted and process.ready:
            self._grow()
        elif counted and (self._waiting or self._again):
            aside.call_later(self._loop, RETRY_DELAY, self._grow)
        if self._when_gone is not None and not self.every - self.lost:
            self._when_gone()

    def _could_not_start(self, process: Process, run: Run | None, counted: bool) -> None:
        """Another is started in its place, though not at once: nothing has been sent to it, so that nothing is lost.

        Where several have died in a row, or one was not ready in time, what it was for fails with that. Calls that wait
        fail all together, as what keeps one from starting keeps them all; while others of the pool live, they do not.
        """
        if run is not None or counted:
            self._failed_starts += 1
        if self._failed_starts < STARTS and not process.killed_late and not self._retired:
            if run is not None:
                aside.call_later(self._loop, RETRY_DELAY, self._start_again, run)
            return
        error = SupervisorError(f"supervisor {self._supervisor!r}: a worker process {process.why_not_ready()}")
        if run is not None:
            self._fail(run, error)
        elif counted and not self._counted:
            self._failed_starts = 0
            self._fail_all(error)

    def _start_again(self, run: Run) -> None:
        if not run.claim.locked():  # else it was stopped meanwhile
            self.start(run)

    def _fail_all(self, error: SupervisorError) -> None:
        while self._again:
            self._died(self._again.popleft())
        while self._waiting:
            self._fail(self._waiting.popleft(), error)

    def _fail(self, run: Run, error: SupervisorError) -> None:
        if run.claim.acquire(False):
            run.error = error
            self._ended(run)

    def _died(self, run: Run) -> None:
        run.died = True
        run.ended_at = monotonic()
        self._ended(run)
        run.context = None

    def lose(self, process: Process) -> None:
        """A process was given up: another takes its place. It is killed once more, in case that its ladder has not."""
        process.kill()
        self.lost.add(process)
        self._counted.discard(process)
        if not self._retired:
            self._grow()

    # -------------------------------------------------------------------------------- the end

    def retire(self) -> None:
        """Lets each process go once it has nothing to do."""
        if self._retired:
            return
        self._retired = True
        for process in tuple(self.every):
            if not process.ready:
                process.retired = True
                process.kill()
            elif process.run is None:
                process.leave()
        self._idle.clear()

    def when_gone(self, gone: Callable[[], object]) -> None:
        """Calls `gone` once there are no processes left, but for those that were given up."""
        self._when_gone = gone
        if not self.every - self.lost:
            gone()

    def join(self, seconds: float) -> None:
        """Kills what is left, but for what was given up, and reaps it."""
        until = monotonic() + seconds
        left = tuple(self.every - self.lost)
        for process in left:
            insist(self._report, process.kill)
        for process in left:
            insist(self._report, process.end_now, max(0.0, until - monotonic()))
            self.every.discard(process)

    def _report(self, error: Exception) -> None:
        report_error(self._loop, f"supervisor {self._supervisor!r}: a worker process could not be ended", error)
