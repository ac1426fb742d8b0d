"""A Supervisor with one pool, on an event loop of its own, for a program that has another kind of loop."""

from __future__ import annotations

import asyncio
import os
import threading
from _thread import get_ident
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._api.supervisor import Supervisor
from .._core.errors import SupervisorClosed
from .._kinds.processes.kind import Processes
from .._kinds.threads.kind import Threads
from .._loop import aside
from .child import SOFT_LIMIT, Work
from .limits import TimeLimits
from .log import CeleryLogger
from .seam import SoftTimeLimitExceeded
from .settings import POLICY, POOL

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._run.futures import WorkFuture
    from .._run.run import Run
    from .deliveries import Deliveries
    from .job import Job
    from .settings import Settings

__all__ = ["Host"]

TELL_AFTER = 0.005
"""Seconds within which Celery hears that a task has begun, while tasks take less than that. Of such it hears together
with their ends: to wake the worker's event loop costs as much as all else that the pool does for a task. While tasks
take longer, it hears at once."""

JOIN_TIMEOUT = 5.0
"""Seconds that the thread of the event loop has for its own end, once the supervisor has shut down."""


class Host:
    """Runs tasks. Its methods belong to the worker's thread, where they do not say otherwise.

    Args:
        settings: What is set for the pool.
        set_up: Sets a process up, before it takes tasks; None for threads.
        deliveries: Is woken when everything has ended.

    Attributes:
        ended: Everything has ended: nothing is delivered any more, but what waits.
    """

    def __init__(self, settings: Settings, set_up: Callable[[], object] | None, deliveries: Deliveries) -> None:
        self._settings = settings
        self._set_up = set_up
        self._deliveries = deliveries
        self._jobs: set[Job] = set()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._live, name="supervisor.celery", daemon=True)
        self._draining = self._telling = False
        self._brief = False  # the last task that has ended had not taken long
        self.ended = False

    # ------------------------------------------------------------------------------------ the thread of the loop

    def start(self, size: int) -> None:
        """Starts it, and waits until the first process, or thread, takes tasks.

        Raises:
            SupervisorError: None could be set up; the message says why.
        """
        self._size = size
        aside.start(self._thread)
        self._started.result()

    def _live(self) -> None:
        try:
            asyncio.run(self._supervise())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)
        finally:
            self.ended = True
            self._deliveries.wake()

    async def _supervise(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = TimeLimits(self._loop, self._raise_soft_limit)
        settings = self._settings
        sup = self._sup = Supervisor(
            POOL,
            policy=POLICY,
            shutdown_timeout=settings.shutdown_timeout,
            config=settings.config,
            logger=CeleryLogger(),
        )
        self._pool = sup.pool(
            POOL,
            kind=settings.kind,
            size=self._size,
            max_tasks=settings.max_tasks,
            max_rss=settings.max_rss,
            initializer=self._set_up,
            warm=self._size if settings.kind == "process" else 0,
        )
        self._executor: Any = self._pool.executor()
        try:
            await asyncio.wrap_future(self._executor.submit(os.getpid))  # by the first that is up
        except BaseException:
            await sup.shutdown(0)
            raise
        self._started.set_result(None)
        await sup.wait_closed()

    # ------------------------------------------------------------------------------------ tasks

    def submit(self, job: Job, target: Callable[..., Any], args: tuple[Any, ...], name: str) -> None:
        """Runs a task as soon as there is room."""
        if self._settings.kind == "process":
            work = Work(target, name)
        else:
            work = InThread(target, name, partial(self._begin, job, os.getpid()))
        self._jobs.add(job)
        try:
            future: Any = self._executor._submit(work, args)  # it is no coroutine function
        except SupervisorClosed:  # it is the next worker's
            self._jobs.discard(job)
            return
        except Exception as error:
            self._jobs.discard(job)
            job.refused(error)
            return
        job.future = future
        if self._settings.kind == "process":
            run: Run = future.run
            # First said, then looked: a process may have taken it already.
            run.taken = partial(self._taken, job)
            if run.pid is not None:
                self._begin(job, run.pid)
        aside.run(future.add_done_callback, partial(self._ended, job))

    def _taken(self, job: Job, run: Run) -> None:
        assert run.pid is not None
        self._begin(job, run.pid)

    def _begin(self, job: Job, pid: int) -> None:
        """A task is about to begin. Any thread."""
        if job.accept(pid):
            self._limits.begin(job)
            if not self._brief:
                self._deliveries.wake_if_waiting()
            elif not self._telling:
                self._telling = True
                if get_ident() == self._thread.ident:
                    aside.call_later(self._loop, TELL_AFTER, self._tell)
                else:
                    self._call_soon(aside.call_later, self._loop, TELL_AFTER, self._tell)

    def _tell(self) -> None:
        """Has Celery hear of the tasks that have begun."""
        self._telling = False  # first: who begins in between sees it, or is seen
        self._deliveries.wake_if_waiting()

    def _ended(self, job: Job, future: Future[Any]) -> None:
        """The call of a task has ended. Any thread."""
        work: WorkFuture = future  # type: ignore[assignment]  # as it is one of ours
        job.ended(work)  # first: it may be what notes when it began
        self._brief = monotonic() - job.accepted_at < TELL_AFTER
        self._limits.end(job)
        self._jobs.discard(job)  # last: who waits for this makes the calls that wait, and goes on
        if self._draining:
            self._deliveries.wake()

    def terminate(self, job: Job, signum: int) -> None:
        """Stops a task, as Celery asks for it by a signal. Any thread."""
        if signum == SOFT_LIMIT:
            self._call_soon(self._raise_soft_limit, job)
        else:
            self._call_soon(partial(job.stop, "terminated", signum))

    def terminate_process(self, pid: int, signum: int) -> None:
        """Stops what a process carries out."""
        for job in tuple(self._jobs):
            if job.future is not None and job.future.run.pid == pid:
                self.terminate(job, signum)

    def withdraw(self) -> None:
        """Withdraws the tasks that have not begun: their messages are given out again."""
        for job in tuple(self._jobs):
            if job.future is not None:
                job.future.withdraw()

    def _raise_soft_limit(self, job: Job) -> None:
        """Raises SoftTimeLimitExceeded in a task, if it has begun. On the loop's thread, which also gives calls out."""
        if job.over or job.future is None:
            return
        run = job.future.run
        if isinstance(run.kind, Threads):
            run.kind.raise_in(run, SoftTimeLimitExceeded)
        elif isinstance(run.kind, Processes):
            run.kind.signal(run, SOFT_LIMIT)

    def _call_soon(self, function: Callable[..., object], *args: Any) -> None:
        try:
            aside.call_soon_threadsafe(self._loop, function, *args)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    # ------------------------------------------------------------------------------------ what there is

    def pids(self) -> list[int]:
        """Returns the processes of the pool."""
        kind = self._sup._binding.runtime
        made = None if kind is None else kind.kinds.made(POOL)
        return [int(pid) for pid in made.living] if isinstance(made, Processes) else []

    def resize(self, size: int) -> None:
        """Has so many tasks run at once from now on."""
        self._call_soon(partial(self._sup._binding.resize_pool, POOL, size, below_warm=True))

    def renew(self) -> None:
        """Has other processes take the places of all, each once it has nothing to do."""
        self._call_soon(self._renew)

    def _renew(self) -> None:
        runtime = self._sup._binding.bind()
        kind = runtime.kinds.made(POOL)
        if isinstance(kind, Processes):
            kind.pool.renew()

    # ------------------------------------------------------------------------------------ the end

    def drain(self) -> None:
        """Only tasks that have begun go on: when the last one has ended, whoever waits for deliveries is woken."""
        self._draining = True
        self.withdraw()

    @property
    def idle(self) -> bool:
        """Whether there are no tasks."""
        return not self._jobs

    def shut_down(self, timeout: float) -> None:
        """Begins to end everything: tasks have so many seconds for their ladders. A second call can only hasten it."""
        self.withdraw()
        self._call_soon(self._begin_shutdown, timeout)

    def _begin_shutdown(self, timeout: float) -> None:
        # Held: the loop itself holds tasks weakly.
        self._ending = asyncio.ensure_future(self._sup.shutdown(timeout, drain=0.0, reason="shutdown of the worker"))

    def join(self) -> None:
        """Waits for the end of the thread, which has nothing left to do."""
        self._thread.join(JOIN_TIMEOUT)


class InThread(Work):
    """Calls a task in a thread, and says that it has begun.

    Args:
        target: Celery's function that calls tasks, and stores what comes of them.
        name: Of the task.
        begin: Says that it has begun.
    """

    def __init__(self, target: Callable[..., Any], name: str, begin: Callable[[], object]) -> None:
        super().__init__(target, name)
        self._begin = begin

    def __call__(self, *args: Any) -> Any:
        self._begin()
        return super().__call__(*args)
