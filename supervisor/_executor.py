"""The pool as a `concurrent.futures.Executor`, for `loop.run_in_executor` and every library that takes one."""

from __future__ import annotations

import math
from _thread import get_ident
from concurrent.futures import Executor, Future, wait
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from ._checks import check_function
from ._errors import SupervisorClosed, SupervisorMisused
from ._policy import checked_count, checked_seconds
from ._run import qualname

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from ._run import Run
    from ._shell import Shell

__all__ = ["PoolExecutor", "WorkFuture"]

T = TypeVar("T")


class WorkFuture(Future[Any]):
    """The future of an executor's call. Any thread may use it.

    The thread that ran the call resolves it, and so runs its done callbacks, as with the standard library's thread
    pool; where a stop has begun, the event loop's thread does.
    """

    executor: PoolExecutor
    shell: Shell
    run: Run

    def cancel(self) -> bool:
        """Withdraws a call that waits, and returns True. A running one is stopped by its ladder: False."""
        if self.withdraw():
            return True
        if not self.done():
            self.shell.stop_soon(self.run)
        return self.cancelled()

    def withdraw(self) -> bool:
        """Cancels the call if no thread has taken it, and does nothing otherwise."""
        if not self.run.claim.acquire(False):
            return False
        cancelled = super().cancel() and not self.set_running_or_notify_cancel()  # so that who waits hears of it
        self.shell.withdrawn(self.run)
        return cancelled

    def result(self, timeout: float | None = None) -> Any:
        self._refuse_deadlock("result")
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._refuse_deadlock("exception")
        return super().exception(timeout)

    def _refuse_deadlock(self, method: str) -> None:
        if self.run.ladder is not None and not self.done():  # the loop must end it
            refuse_blocking(self.shell, f"{method}() of the call {self.run.name!r}, which is being stopped,")


class PoolExecutor(Executor):
    """What `Supervisor.executor` returns. Any thread may use it."""

    def __init__(self, supervisor: str, shell: Callable[[], Shell]) -> None:
        self._supervisor = supervisor
        self._shell = shell
        self._used: Shell | None = None
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Runs `fn(*args, **kwargs)` on the pool; returns its future.

        The caller's context variables are visible to it, and `current_context()` gives its WorkerContext. Done
        callbacks of the future run in the thread that ended the call; that is the event loop's where it was stopped.

        Raises:
            SupervisorClosed: This executor or its supervisor has been shut down; it is a RuntimeError.
            SupervisorBusy: As many calls wait as `max_queued` allows.
            TypeError: `fn` is not callable, or is a coroutine function.
            RuntimeError: The supervisor has not been used yet, and this is not an event loop's thread.
        """
        if self._closed:
            raise SupervisorClosed(
                f"executor of supervisor {self._supervisor!r}: cannot take new calls after its shutdown()"
            )
        check_function("submit", fn)
        future = WorkFuture()
        future.executor = self
        shell = self._used = self._shell()
        shell.submit(partial(fn, **kwargs) if kwargs else fn, args, future)
        return future

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """Returns the results of `fn(*items)` for the items side by side, in their order.

        All calls are submitted at once. When the iterator is closed or fails, calls that wait are withdrawn and those
        that run are stopped.

        Args:
            fn: A blocking function.
            *iterables: Its arguments; the shortest ends it. They are read at once.
            timeout: Seconds from now after which waiting for a result raises TimeoutError; None: none.
            chunksize: Items in one call of the pool, 1 or more. One that fails takes the rest of its call with it.
        """
        checked_count("map(chunksize={!r})", chunksize, least=1)
        if timeout is not None and math.isinf(checked_seconds("map(timeout={!r})", timeout)):
            timeout = None
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        return _items(super().map(_Chunk(fn), _chunks(zip(*iterables, strict=False), chunksize), timeout=timeout))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Closes this executor alone; the supervisor, and its other executors, go on.

        Args:
            wait: Wait until the calls of this executor have ended.
            cancel_futures: Withdraw those that no thread has taken yet.

        Raises:
            RuntimeError: `wait` would block the supervisor's own event loop. The executor is closed all the same.
        """
        self._closed = True
        if cancel_futures:
            for future in self._under_way():
                future.withdraw()
        under_way = self._under_way() if wait else []
        if under_way:
            refuse_blocking(under_way[0].shell, "shutdown(wait=True) of an executor with calls under way")
            wait_for(under_way)

    def _under_way(self) -> list[WorkFuture]:
        futures = [] if self._used is None else [run.future for run in self._used.live()]
        return [future for future in futures if isinstance(future, WorkFuture) and future.executor is self]

    def __repr__(self) -> str:
        how = "shut down" if self._closed else "open"
        return f"<executor of supervisor {self._supervisor!r}: {how}>"


wait_for = wait
"""The function, where an argument hides its name."""


def refuse_blocking(shell: Shell, what: str) -> None:
    """Raises rather than block the event loop's own thread on what needs the loop."""
    if get_ident() == shell.thread:
        raise SupervisorMisused(
            f"supervisor {shell.settings.name!r}: {what} would block its event loop's own thread, which must go on "
            "to end it; wait in another thread, or await asyncio.wrap_future(...)"
        )


# ------------------------------------------------------------------------------------------------ map in chunks


class _Chunk:
    """Calls a function for several items; goes by the function's name."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        self.__qualname__ = qualname(fn)

    def __call__(self, items: tuple[tuple[Any, ...], ...]) -> list[Any]:
        return [self._fn(*item) for item in items]


def _chunks(items: Iterator[tuple[Any, ...]], size: int) -> Generator[tuple[tuple[Any, ...], ...]]:
    while chunk := tuple(islice(items, size)):
        yield chunk


def _items(results: Iterator[list[T]]) -> Generator[T]:
    for chunk in results:
        yield from chunk
