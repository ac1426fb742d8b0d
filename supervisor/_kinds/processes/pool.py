"""The pool of the processes: which process takes which run."""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..._core.errors import SupervisorError
from ..._core.pools import delay_after
from ..._loop import aside
from ..._loop.clock import monotonic
from ..._loop.errors import insist, report_error
from .recycling import Due, Recycling
from .spare import Spare
from .starts import copy_of, failed_for_good, why_not_started
from .tending import Tending
from .usage import rss
from .vigil import Vigil

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.pools import PoolSettings
    from ..._run.limited import Limited
    from ..._run.ports import Services
    from ..._run.readiness import Readiness
    from ..._run.run import Run
    from .process import Process
    from .wire import Part

__all__ = ["Pool"]

KEPT = 1 << 20
"""Bytes of a call up to which it is kept while it runs: its process may be dead, and not have read it."""

STARTS = 3
"""Processes in a row that die while they start, after which those who wait for one hear of it."""


class Pool:
    """Each run has a process to itself while it runs. On the loop's thread.

    Nothing is shared between processes, so none can block another. One more is kept warm than is in use, so that losing
    one does not cost the start of another, and so that one that has served its time leaves when that is ready. Where
    there is an initializer, which may take long and hold much, it is started only where a process is to be replaced.

    Args:
        supervisor: Its name, for messages.
        settings: What is set for it.
        readiness: Is told how many there are, and why there are none.
        launch: Launches a process, which calls the initializer or not; it says when it is up, and when it is gone.
            Raises SupervisorError.

    Attributes:
        every: All processes, those of workers, the spare one and those that were given up included.
        lost: Those that were given up, as even SIGKILL has not ended them, and whose runs have not ended since.
    """

    def __init__(
        self,
        supervisor: str,
        settings: PoolSettings,
        services: Services,
        readiness: Readiness,
        launch: Callable[[bool], Process],
    ) -> None:
        self._supervisor = supervisor
        self._settings = settings
        self._loop = services.loop
        self._clock = services.clock
        self._ended = services.ended
        self._measure = services.measure
        self._readiness = readiness
        self._launch = launch
        self._size = settings.size
        self._initializes = settings.initializer is not None
        self._recycling = Recycling(settings)
        self._recycles = bool(self._recycling)
        self.vigil = Vigil(services.loop)  # each answer takes this way
        self.every: set[Process] = set()
        self.lost: set[Process] = set()
        self._counted: set[Process] = set()  # those that are for calls: idle, busy, or being started
        self._idle: list[Process] = []
        self._tending = Tending(settings, services, self._counted, self._idle, self._dismiss, self._replace)
        self._spare = self._tending.spare = Spare(
            services.clock, partial(self._new, self._initializes), self._wants_spare
        )
        self._waiting: deque[Run] = deque()
        self._again: deque[Run] = deque()  # their processes were dead before they had read them
        self._tries = 1  # since one has come up
        self._not_before = -math.inf
        self._owed = 0  # those that have left and are about to be replaced
        self._retired = False
        self._when_gone: Callable[[], object] | None = None

    @property
    def capacity(self) -> int:
        """How many calls can run at once."""
        return self._size

    def resize(self, size: int) -> None:
        """Has so many calls run at once; who is one too many leaves after its call."""
        self._size = size
        starting = [process for process in self._counted if not process.ready]
        for process in starting[: max(0, len(self._counted) - size)]:
            self._counted.discard(process)
            process.retired = True
            process.kill()
        while len(self._counted) > size and self._idle:
            self._dismiss(self._idle[0])
        self.grow()
        self._note()

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
            self.grow()

    def start(self, run: Run, tries: int = 1) -> None:
        """Runs a worker on a process of its own, which calls no initializer."""
        try:
            process = self._new(False) if self._initializes else self._spare.take()
        except SupervisorError as error:
            aside.call_soon(self._loop, self._fail, run, error)  # its starter waits for it by then
            return
        process.run = run
        process.tries = tries
        if process.ready:
            self._give(process, run)

    def take_back(self, run: Run) -> bool:
        """Ends a run whose process was dead before it had read it, where no other has got it yet."""
        if run not in self._again:
            return False
        self._again.remove(run)
        self._died(run)
        return True

    def grow(self) -> None:
        """Starts processes for the calls that wait, and those that are to be warm, as far as there may be more."""
        while self._waiting and self._waiting[0].over:
            self._waiting.popleft()
        while self._is_short():
            try:
                process = self._spare.take()
            except SupervisorError as error:
                self._readiness.failed(error)
                if not self._counted:
                    self._fail_all(error)
                return
            share = 1 if self._owed else 1 - len(self._counted) / self._size
            self._owed = max(0, self._owed - 1)
            self._begin(process, share)

    def _is_short(self) -> bool:
        """Whether one more is to be started. While others live, one that cannot start is not tried again at once."""
        if self._retired or len(self._counted) >= self._size:
            return False
        if self._counted and self._clock() < self._not_before:
            return False
        starting = sum(not process.ready for process in self._counted)
        too_few = len(self._counted) < self._settings.warm and self._readiness.fault is None
        return too_few or len(self._waiting) + len(self._again) > starting

    def _begin(self, process: Process, share: float) -> None:
        self._join(process, share)
        if process.ready:
            self._next(process)

    def _join(self, process: Process, share: float) -> None:
        """A process is for calls from now on. Of several that begin together, each has less time than the last."""
        process.service.share = share
        process.tries = self._tries
        self._counted.add(process)
        if process.ready:
            self._recycling.begin(process.service, self._clock())
        self._note()

    def _new(self, initialize: bool) -> Process:
        process = self._launch(initialize)
        self.every.add(process)
        return process

    def _note(self) -> None:
        ready = sum(process.ready for process in self._counted)
        under_way = len(self._counted) - ready + (self._tries > 1)  # who has died while it started is tried again
        self._readiness.note(under_way, ready, self._clock())

    # -------------------------------------------------------------------------------- a process takes a run

    def _give(self, process: Process, run: Run) -> None:
        """Sends a run to a process that is free."""
        process.run = None
        if run.limited is not None and self._has_no_room(process, run.limited):
            self._waiting.appendleft(run)  # what others have left in there is not to be its undoing
            self._dismiss(process)
            return
        if run.held or not run.claim():  # withdrawn meanwhile
            self._next(process)
            return
        self._send(process, run)

    def _has_no_room(self, process: Process, limited: Limited) -> bool:
        """Whether what others have left in a process is more than a run may use, and a new process would have less."""
        if self._retired or not process.service.tasks:
            return False
        return limited.is_exceeded_by(rss(process.pid))

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
        self.vigil.sent(run.started_at)
        if len(parts) > 1 and sum(memoryview(part).nbytes for part in parts) > KEPT and not process.data.unread:
            run.prepared = None
        if run.taken is not None:
            run.taken(run)

    def up(self, process: Process) -> None:
        """A process has started."""
        self.every.add(process)  # where an interrupt has kept it out
        if process in self._counted:
            self._tries = 1
            self._not_before = -math.inf
            self._recycling.begin(process.service, self._clock())
        self._note()
        if process.service.due and self._initializes:
            self._spare.make()
        if len(self._counted) < self._settings.warm:  # where nobody came up before
            aside.call_soon(self._loop, self.grow)
        # After an interrupt all of this is done again, and one that has got a run must not get another.
        if process.run is None:
            self.find_use_again(process)
        elif process.run.handle is not process:
            self._give(process, process.run)

    def free(self, process: Process) -> None:
        """A process has carried out its run."""
        process.service.tasks += 1
        self._next(process)
        if self._spare.process is None and self._wants_spare():
            # In the next turn: what has come of the run need not live for as long as that takes.
            aside.call_soon(self._loop, self._spare.make)

    def _next(self, process: Process) -> None:
        """Gives a process what it can do next."""
        try:
            self._find_use(process)
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self.find_use_again, process)
            raise

    def find_use_again(self, process: Process) -> None:
        """Gives a process that has nothing to do what it can do, unless it has found something already."""
        if process.run is None and not (process in self._idle or process.reaped):
            self._next(process)

    def _find_use(self, process: Process) -> None:
        if process.retired or process.dying or process.broken:
            self._dismiss(process)
            return
        if process not in self._counted:
            self._keep(process)
            return
        if self._recycles and self._is_due(process) and self._replace(process):
            return
        if len(self._counted) > self._size:
            self._dismiss(process)
            return
        if self._again:
            run = self._again.popleft()
            self._send(process, run)
            run.prepared = None  # once is enough: perhaps it is what processes die of
            return
        while self._waiting:
            run = self._waiting.popleft()
            try:
                if not (run.over or run.held or run.claimed):
                    self._give(process, run)
                    return
            except (KeyboardInterrupt, SystemExit):
                if not run.claimed and run not in self._waiting:
                    self._waiting.appendleft(run)
                raise
        if self._retired:
            self._dismiss(process)
        else:
            self._tending.rest(process)
            self._idle.append(process)

    def _dismiss(self, process: Process) -> None:
        """Lets a process go, and has another take its place."""
        process.leave()
        if process in self._counted:
            self._counted.discard(process)
            if process in self._idle:
                self._idle.remove(process)
            self.grow()
            self._note()

    # -------------------------------------------------------------------------------- processes are replaced

    def _is_due(self, process: Process) -> bool:
        service = process.service
        if service.tasks:  # each carries out one call at least, whatever is set
            missing = self._owed or any(not other.ready for other in self._counted)
            self._recycling.judge(service, process.pid, self._clock(), alone=not missing)
        return service.due >= Due.ONCE_REPLACED

    def _replace(self, process: Process) -> bool:
        """Lets a process go that is due, and has the spare one take its place.

        False where it goes on: until another one is ready, or as none can be had.
        """
        if self._spare.is_up and not self._retired:
            other = self._spare.take()
            self._join(other, share=1.0)
            self._dismiss(process)
            self._next(other)
        elif process.service.due is Due.NOW and self._readiness.fault is None:
            self._owed += not self._retired
            self._dismiss(process)
            aside.call_soon(self._loop, self._refill)
        else:
            self._spare.make()
            return False
        return True

    def _refill(self) -> None:
        """Starts others in the place of those that have left before one was ready, where no call has had it done."""
        while self._owed > 0:
            self._owed -= 1
            if len(self._counted) < self._size and not self._retired:
                with suppress(SupervisorError):  # whoever needs one will hear of it
                    self._begin(self._spare.take(), share=1.0)

    def _wants_spare(self) -> bool:
        return not self._retired and (not self._initializes or any(each.service.due for each in self._counted))

    def _keep(self, process: Process) -> None:
        """A process that nobody has a use for: the spare one, or one too many."""
        if process.initialized is self._initializes and self._spare.keep(process):
            self._tending.rest(process)
            self._tending.replace_idle()
            self._spare.make()
        else:
            self._dismiss(process)

    def renew(self) -> None:
        """Lets all processes go, each once it has nothing to do, and has others take their places."""
        spare, self._spare.process = self._spare.process, None
        for process in (*tuple(self._counted), *(() if spare is None else (spare,))):
            process.retired = True
            if not process.ready:
                self._counted.discard(process)
                process.kill()
            elif process.run is None:
                self._dismiss(process)
        self.grow()
        self._note()

    # -------------------------------------------------------------------------------- a process is gone

    def gone(self, process: Process) -> None:
        """A process is dead, and so is its run; unless the process had not read it yet."""
        self.every.discard(process)
        counted = process in self._counted
        self._counted.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        self._spare.died(process)
        run = process.run
        self.lost.discard(process)
        if run is not None and run.over and run.climb is None:
            pass  # it had ended when the stream failed
        elif run is not None and run.handle not in (None, process):
            pass  # after an interrupt: another has it by now
        elif run is not None and process.ready:
            if process.data.unread and run.prepared is not None and run.climb is None and not self._retired:
                self._send_again(run, process.tries)  # it never began
            else:
                run.exit_code, run.oom_killed = process.code, process.oom_killed
                self._died(run)
        elif not process.ready and not process.retired:
            self._could_not_start(process, run, counted)
        process.run = None
        while self._again and self._idle:
            self._next(self._idle.pop())
        self._note()
        if process.ready or not counted:  # the latter also where an interrupt has all of this done again
            self.grow()
        elif not failed_for_good(process) and (self._waiting or self._again or self._settings.warm):
            aside.call_later(self._loop, max(0.0, self._not_before - self._clock()), self._try_again)
        if self._when_gone is not None and not self.every - self.lost:
            self._when_gone()

    def _send_again(self, run: Run, tries: int) -> None:
        if not run.own:
            self._again.append(run)
        elif tries >= STARTS:
            self._died(run)
        else:
            run.handle = run.pid = None
            run.unclaimed = True  # all is as it was before: it may be stopped meanwhile
            self._start_again(run, tries + 1)

    def _could_not_start(self, process: Process, run: Run | None, counted: bool) -> None:
        """Another is started in its place, though not at once: nothing has been sent to it, so that nothing is lost.

        Where several have died in a row, or it would be of no use, what it was for fails with that. Calls that wait
        fail all together, as what keeps one from starting keeps them all; while others of the pool live, they do not.
        """
        delay = delay_after(process.tries)
        if counted:
            self._not_before = self._clock() + delay
            self._tries += process.tries == self._tries  # those that die together count as one
        if not (failed_for_good(process) or process.tries >= STARTS or self._retired):
            if run is not None:
                aside.call_later(self._loop, delay, self._start_again, run, process.tries + 1)
            return
        error = why_not_started(process, self._supervisor, self._settings)
        if run is not None:
            self._fail(run, error)
        elif process.initializing or (counted and not self._counted):
            self._readiness.failed(error)
        if counted and not self._counted:
            self._tries = 1
            self._fail_all(error)

    def _try_again(self) -> None:
        self._not_before = -math.inf
        self.grow()

    def _start_again(self, run: Run, tries: int) -> None:
        if not run.claimed:  # else it was stopped meanwhile
            self.start(run, tries)

    def _fail_all(self, error: SupervisorError) -> None:
        while self._again:
            self._died(self._again.popleft())
        while self._waiting:
            self._fail(self._waiting.popleft(), copy_of(error))

    def _fail(self, run: Run, error: SupervisorError) -> None:
        if run.claim():
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
            self.grow()
            self._note()

    # -------------------------------------------------------------------------------- the end

    def retire(self) -> None:
        """Lets each process go once it has nothing to do."""
        if self._retired:
            return
        self._retired = True
        self._tending.close()
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
