"""One task in the pool, from `apply_async` to its end: what Celery holds of it, and what it is told."""

from __future__ import annotations

import os
import signal
from _thread import allocate_lock
from concurrent.futures import CancelledError
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from .._core.errors import RemoteError, SupervisorError
from .._core.failures import WorkerDied
from .seam import ExceptionInfo, Terminated, TimeLimitExceeded, WorkerLostError, human_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._run.futures import WorkFuture
    from .._run.run import Run
    from .deliveries import Deliveries

    Callback = Callable[..., object] | None

__all__ = ["Callbacks", "Job"]


class Callbacks:
    """What Celery wants to be called, by the thread that makes its calls."""

    __slots__ = ("accepted", "failed", "release", "succeeded", "timed_out")

    def __init__(
        self, succeeded: Callback, failed: Callback, accepted: Callback, timed_out: Callback, release: Callback
    ) -> None:
        self.succeeded = succeeded
        self.failed = failed
        self.accepted = accepted
        self.timed_out = timed_out
        self.release = release


class Job:
    """A task. Celery keeps a weak reference to it, and terminates it.

    Args:
        callbacks: Who is told.
        deliveries: Carries what it says to the worker's thread.
        soft: Seconds from its acceptance after which SoftTimeLimitExceeded is raised in it; infinite: never.
        hard: Seconds from its acceptance after which it is stopped by its ladder; infinite: never.
        terminate: Has it stopped, with a signal.

    Attributes:
        future: That of its call; None until it has been submitted.
        cause: Why it is being stopped by itself; the first cause counts.
        next_limit: When one of its limits passes, on the monotonic clock; infinite: there is none.
        over: It has ended.
    """

    __slots__ = (
        "__weakref__",
        "_accepting",
        "_callbacks",
        "_deliveries",
        "_hard",
        "_in_thread",
        "_signal",
        "_soft",
        "_terminate",
        "accepted_at",
        "cause",
        "future",
        "next_limit",
        "over",
    )

    def __init__(
        self,
        callbacks: Callbacks,
        deliveries: Deliveries,
        soft: float,
        hard: float,
        terminate: Callable[[Job, int], object],
        *,
        in_thread: bool,
    ) -> None:
        self._callbacks = callbacks
        self._deliveries = deliveries
        self._soft = soft if soft < hard else inf
        self._hard = hard
        self._terminate = terminate
        self._in_thread = in_thread
        self._accepting = allocate_lock()  # taken once
        self._signal = 0
        self.accepted_at = 0.0
        self.future: WorkFuture | None = None
        self.cause: Literal["time limit", "terminated"] | None = None
        self.next_limit = min(self._soft, self._hard)
        self.over = False

    # ------------------------------------------------------------------------------------ what Celery calls

    def terminate(self, signum: int) -> None:
        """Stops it, as `revoke(terminate=True)` and a cold shutdown ask for. Any thread."""
        self._terminate(self, signum)

    # ------------------------------------------------------------------------------------ it begins

    def accept(self, pid: int) -> bool:
        """A thread or process has taken it; returns whether that is new. Any thread.

        Who calls this sees to it that Celery hears of it soon.
        """
        if not self._accepting.acquire(False):
            return False
        self.accepted_at = monotonic()
        self.next_limit += self.accepted_at
        if self._callbacks.accepted is not None:
            self._deliveries.post_lazily(self._callbacks.accepted, pid, self.accepted_at)
        return True

    # ------------------------------------------------------------------------------------ its limits; in the loop

    def passed(self, now: float) -> Literal["soft", "hard"] | None:
        """Returns which of its limits has passed, once each."""
        if now < self.next_limit or self.over or self.future is None:
            return None
        if now >= self.accepted_at + self._hard:
            self.next_limit = inf
            return "hard"
        self.next_limit = self.accepted_at + self._hard
        self._deliveries.post(partial(self._tell_timeout, soft=True))
        return "soft"

    def stop(self, cause: Literal["time limit", "terminated"], signum: int = 0) -> None:
        """Begins to stop it. A second call changes nothing, but that SIGKILL still kills its process."""
        if self.over or self.future is None:
            return
        if self.cause is None:
            self.cause, self._signal = cause, signum
        run = self.future.run
        if signum == signal.SIGKILL and run.pid is not None and not run.over:
            os.killpg(run.pid, signum)  # it has not been reaped: this thread does that, and its run would be over
        else:
            self.future.cancel()

    # ------------------------------------------------------------------------------------ it ends

    def ended(self, future: WorkFuture) -> None:
        """Its call has ended, for whatever reason. In the thread that ended it."""
        self.over = True
        try:
            error = future.exception()
        except CancelledError:  # it was withdrawn before it began
            if self.cause is None:
                return  # the broker gives it to somebody else
            error = Terminated(self._signal)
        else:
            pid = self._pid_of(future.run)
            if pid is not None:
                self.accept(pid)  # where its end is faster than whoever submits it
        self._deliveries.post(self._tell, None if error is not None else future.result(), error)

    def refused(self, error: BaseException) -> None:
        """It could not be submitted."""
        self.over = True
        self._deliveries.post(self._tell, None, error)

    def _pid_of(self, run: Run) -> int | None:
        return os.getpid() if self._in_thread else run.pid

    def _tell(self, value: Any, error: BaseException | None) -> None:
        """Tells Celery what has become of it. In the worker's thread."""
        callbacks = self._callbacks
        try:
            if callbacks.release is not None:
                callbacks.release()  # first: the next task need not wait for what this one's end takes
        finally:
            if error is None:
                if callbacks.succeeded is not None:
                    callbacks.succeeded(value)
            else:
                self._tell_failure(self._meant(error))

    def _tell_failure(self, error: BaseException) -> None:
        try:
            if self._callbacks.failed is not None:
                self._callbacks.failed(_info_of(error))
        finally:
            if isinstance(error, TimeLimitExceeded):  # after the failure, as prefork does
                self._tell_timeout(soft=False)

    def _tell_timeout(self, *, soft: bool) -> None:
        if self._callbacks.timed_out is not None:
            self._callbacks.timed_out(soft=soft, timeout=self._soft if soft else self._hard)

    def _meant(self, error: BaseException) -> BaseException:
        """Returns what Celery knows the end of a task by."""
        if not isinstance(error, SupervisorError) or isinstance(error, RemoteError):
            return error
        if self.cause == "time limit":
            return TimeLimitExceeded(self._hard)
        if self.cause == "terminated":
            return Terminated(self._signal)
        if isinstance(error, WorkerDied):
            return WorkerLostError(f"Worker exited prematurely: {human_status(error.outcome.exit_code)}.")
        return WorkerLostError(f"Task ended with its worker: {error}")


def _info_of(error: BaseException) -> ExceptionInfo:
    """Returns an error with a traceback, which Celery's class needs."""
    try:
        raise error
    except BaseException:
        return ExceptionInfo()
    finally:
        del error
