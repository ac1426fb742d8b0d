"""The futures of a call: that which `run()` awaits, and that which an executor gives.

Workers use the latter too, and an exception may be injected into them at any moment: whatever takes a lock here, or
changes what others rely on, is shielded.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, LOGGER, PENDING
from contextvars import Context
from functools import partial
from threading import Condition
from typing import TYPE_CHECKING, Any

from .._worker.current import current, shielded
from .._worker.locks import ScopedLock
from .chained import copy_state, destination_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ports import CallOwner
    from .run import Run

__all__ = ["CallFuture", "WorkFuture"]

DONE = frozenset((FINISHED, CANCELLED, CANCELLED_AND_NOTIFIED))
WITHDRAWN = frozenset((CANCELLED, CANCELLED_AND_NOTIFIED))


class CallFuture(asyncio.Future[Any]):
    """What `run()` waits for. Cancelling it really cancels the waiter, and begins to stop the work."""

    __slots__ = ("run",)

    run: Run

    def cancel(self, msg: Any = None) -> bool:
        if super().cancel(msg=msg):
            self.run.owner.stop(self.run, "cancel")
            return True
        return False


class FutureLock(ScopedLock):  # type: ignore[misc]  # typeshed calls an RLock final; the interpreter does not
    """The lock of a future, and the Condition for which the standard library takes it.

    `with` never leaves it locked, wherever an injected exception strikes. Who takes it by hand, as
    `concurrent.futures.wait` does for several futures, is shielded meanwhile. The Condition is made when a thread
    waits.
    """

    _condition: Condition | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if current.source is not None:
            shielded().__enter__()
        return super().acquire(blocking, timeout)

    def release(self) -> None:
        super().release()
        if current.source is not None:
            shielded().__exit__(None, None, None)

    def wait(self, timeout: float | None = None) -> bool:
        """Lets go of the lock until `notify_all`, or for `timeout` seconds; the caller is shielded."""
        if self._condition is None:
            self._condition = Condition(self)
        return self._condition.wait(timeout)

    def notify_all(self) -> None:
        """Whom an interrupt keeps from being notified is notified by the next call."""
        condition = self._condition
        if condition is not None:
            condition.notify_all()
            self._condition = None  # it holds this lock, which would hold it


class CancelledElsewhere(concurrent.futures.CancelledError):
    """What a function has raised: something that it waited for was cancelled, and not its own call.

    A class of its own, as asyncio takes CancelledError itself, where a future ends with it, for a cancellation of
    whoever awaits that future.
    """


class WorkFuture(concurrent.futures.Future[Any]):
    """The future of an executor's call. Any thread may use it.

    The thread that ran the call resolves it, and so runs its done callbacks, as with the standard library's thread
    pool; where a stop has begun, the event loop's thread does.
    """

    executor: concurrent.futures.Executor
    calls: CallOwner
    run: Run

    cut_short = False
    """Whether an exception came out of it as it was resolved: an interrupt, or that of a callback."""

    _announced = False
    _destination: asyncio.Future[Any] | None = None

    def __init__(self, executor: concurrent.futures.Executor) -> None:
        # What Future.__init__ sets, but for the Condition: to make one takes longer than all the rest of a submit.
        self._condition: Any = FutureLock()
        self._state = PENDING
        self._result = self._exception = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []
        self.executor = executor

    def cancel(self) -> bool:
        """Withdraws a call that waits, and returns True. A running one is stopped by its ladder: False."""
        with shielded():
            if self.withdraw():
                return True
            if not self.done():
                self.calls.stop_soon(self.run)
            return self.cancelled()

    def withdraw(self) -> bool:
        """Cancels the call if no thread has taken it, and does nothing otherwise."""
        if not self.run.claim():
            return False
        self.run.future = None  # whoever concludes it leaves the future to this thread
        self.calls.withdrawn(self.run)
        try:
            return super().cancel()
        finally:
            if self._state == CANCELLED:  # else the loop has ended it in between
                self.set_running_or_notify_cancel()  # so that whoever waits for it hears of it

    def set_exception(self, exception: BaseException | None) -> None:
        if type(exception) is concurrent.futures.CancelledError:
            cause, exception = exception, CancelledElsewhere(*exception.args)
            exception.__cause__ = cause
        super().set_exception(exception)

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[Any]], object]) -> None:
        """Has `fn` called with this future once it is done, in the thread that ends it; at once where it is.

        The one with which asyncio takes over the result for its own future is not called: the result goes there with
        all the others that the loop is told of, in one wake-up of it.
        """
        destination = destination_of(fn)
        if destination is None or not self.calls.serves(destination):
            super().add_done_callback(fn)
            return
        with self._condition:
            is_first = self._destination is None
            if is_first:
                self._destination = destination
            done = self._state in DONE
        if not is_first:
            super().add_done_callback(fn)
        elif done:
            self.calls.hand_on(self.hand_on)

    def hand_on(self) -> None:
        """Gives the result to the future that asyncio has made for it. On the loop's thread; idempotent."""
        destination = self._destination
        if destination is None:
            return
        if not destination.done():
            if self._state == FINISHED and self._exception is None:
                destination.set_result(self._result)
            else:
                copy_state(self, destination)
        self._destination = None

    def _invoke_callbacks(self) -> None:
        """Runs the done callbacks, which are for whoever registered them, not for whom this thread serves just now.

        Each is taken out as it is called, so that those that an error has kept from it can be called later.
        """
        self._announced = True  # to all that wait, by whoever calls this
        if self._destination is not None:
            self.calls.hand_on(self.hand_on)
        callbacks = self._done_callbacks
        if not callbacks:
            return
        context = Context()
        try:
            # C code takes each out, and hands it on: no interrupt strikes between that and its call.
            for callback in iter(partial(callbacks.pop, 0), None):
                try:
                    context.run(callback, self)
                except Exception:
                    LOGGER.exception("exception calling callback for %r", self)
        except IndexError:
            pass  # there are no more, or another thread calls them

    def finish(self) -> None:
        """Does what something has kept from being done when it was resolved: tells who waits, runs the callbacks."""
        if self.cut_short and not self._announced:
            with self._condition:
                if self._state == FINISHED:
                    for waiter in self._waiters:  # one that is told twice would take it for two futures
                        if self not in waiter.finished_futures:
                            (waiter.add_result if self._exception is None else waiter.add_exception)(self)
                self._condition.notify_all()
        self._invoke_callbacks()

    def running(self) -> bool:
        """Whether a thread or process has taken the call, and it has not ended."""
        return self.run.handle is not None and not self.done()

    def done(self) -> bool:
        return self._state in DONE

    def cancelled(self) -> bool:
        return self._state in WITHDRAWN

    def result(self, timeout: float | None = None) -> Any:
        if self._state in DONE:
            if self._state == FINISHED and self._exception is None:
                return self._result
            return super().result()
        self._refuse_deadlock("result")
        with shielded():
            if timeout is not None or not self._queued_behind_caller():
                return super().result(timeout)
            with self.calls.waiting(self.run):
                return super().result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if self._state in DONE:
            return super().exception()
        self._refuse_deadlock("exception")
        with shielded():
            if timeout is not None or not self._queued_behind_caller():
                return super().exception(timeout)
            with self.calls.waiting(self.run):
                return super().exception()

    def _queued_behind_caller(self) -> bool:
        """Whether the caller is a call on a thread of the pool for which this one waits."""
        caller: Any = current.source
        kind = self.run.kind
        if caller is None or self.run.handle is not None or not kind.own_threads:
            return False
        return kind.calls.get(getattr(caller, "number", 0)) is caller

    def _refuse_deadlock(self, method: str) -> None:
        run = self.run
        if run.climb is not None or run.settle is None:  # the loop must end it
            there = "in a process" if run.kind.settings.on is None else "on a cluster"
            what = "is being stopped" if run.settle is not None else f"runs {there}"
            self.calls.refuse_blocking(f"{method}() of the call {run.name!r}, which {what},")

    def __repr__(self) -> str:
        text = super().__repr__()
        return text.replace("state=pending", "state=running") if self.running() else text
