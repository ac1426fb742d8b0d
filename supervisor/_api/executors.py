"""The pools as `concurrent.futures.Executor`, for `loop.run_in_executor` and every library that takes one.

Workers call this code too, and an exception may be injected into them at any moment: whatever takes a lock here, or
changes what others rely on, is shielded.
"""

from __future__ import annotations

import math
import os
from _thread import get_ident
from collections import deque
from concurrent.futures import Executor, Future, wait
from functools import partial
from itertools import islice
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from .._core.errors import SupervisorClosed, SupervisorMisused
from .._core.values import checked_count, checked_seconds
from .._loop.clock import monotonic
from .._run.futures import WorkFuture
from .._run.names import qualname
from .._worker.current import current, shielded
from .._worker.locks import ScopedLock
from .functions import NOT_BLOCKING, check_function

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from .._runtime.nodes import GroupNode
    from .._runtime.runtime import Runtime
    from .._runtime.scopes import PoolScope

__all__ = ["PoolExecutor"]

T = TypeVar("T")


class PoolExecutor(Executor):
    """What `Supervisor.executor` returns. Any thread may use it.

    Args:
        pool: The pool; None: that of threads, of the runtime that takes each call.
        max_workers: How many calls run at once at most, which some libraries read.
        scope: What its calls belong to; None: the root of the runtime that takes each.

    Attributes:
        no_inject_on_cancel: The cancellation of one of its calls injects nothing, whatever their ladder says.
    """

    no_inject_on_cancel = False

    def __init__(
        self,
        supervisor: str,
        pool: PoolScope | None,
        runtime: Callable[[], Runtime],
        max_workers: int,
        scope: GroupNode | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._scope = scope
        self._pool = pool
        self._runtime = runtime
        self._max_workers = max_workers  # the name that it has in the stock executors
        self._used: Runtime | None = None
        self._closing = ScopedLock()  # between a submit and a shutdown
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Runs `fn(*args, **kwargs)` on the pool; returns its future.

        `current_context()` gives its WorkerContext there; in a thread, the caller's context variables are visible. Done
        callbacks of the future run in the thread that ended the call: the event loop's where it was stopped, and for
        processes.

        Raises:
            SupervisorClosed: This executor or its supervisor has been shut down; it is a RuntimeError.
            SupervisorBusy: As many calls wait as `max_queued` allows.
            TypeError: `fn` is not callable, or is a coroutine function, or cannot be sent to a process.
            RuntimeError: The supervisor has not been used yet, and this is not an event loop's thread.
        """
        # Most are plain functions: of these nothing is asked that their type and their flags do not tell.
        if type(fn) is not FunctionType or fn.__closure__ is not None or fn.__code__.co_flags & NOT_BLOCKING:
            fn, args = self._adapted(fn, args)
        if kwargs:
            fn = partial(fn, **kwargs)
        if current.source is not None:
            with shielded():
                return self._submit(fn, args)
        return self._submit(fn, args)

    def _adapted(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Returns what is called for a function that is no plain one; refuses what is no blocking function."""
        check_function("submit", fn)
        return fn, args

    def _submit(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> WorkFuture:
        with self._closing:
            if self._closed:
                raise SupervisorClosed(
                    f"executor of supervisor {self._supervisor!r}: cannot take new calls after its shutdown()"
                )
            future = WorkFuture(self)
            runtime = self._used = self._runtime()
            kind = runtime.kinds.threads if self._pool is None else runtime.kinds.of(self._pool)
            runtime.executor_calls.submit(fn, args, future, kind, self._scope, self.no_inject_on_cancel)
            return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Returns the results of `fn(*items)` for the items side by side, in their order.

        All calls are submitted at once, unless `buffersize` says otherwise. When the iterator fails, is closed or
        dropped, calls that wait are withdrawn and those that run are stopped.

        Args:
            fn: A blocking function.
            *iterables: Its arguments; the shortest ends it. They are read as calls are submitted.
            timeout: Seconds from now after which waiting for a result raises TimeoutError; None: none.
            chunksize: Items in one call of the pool, 1 or more. One that fails takes the rest of its call with it.
            buffersize: Calls of the pool whose results have not been taken, at most, 1 or more: the next one is
                submitted by whoever takes a result, in its thread. None: all at once.

        Raises:
            TypeError, ValueError: An argument is wrong.
            Exception: What `submit` raises; the iterator raises it too, where it submits a call.
        """
        check_function("map", fn)
        checked_count("map(chunksize={!r})", chunksize, least=1)
        if buffersize is not None:
            checked_count("map(buffersize={!r})", buffersize, least=1)
        seconds = math.inf if timeout is None else checked_seconds("map(timeout={!r})", timeout)
        until = monotonic() + seconds
        calls = (self.submit(Chunk(fn), items) for items in _chunks(zip(*iterables, strict=False), chunksize))
        futures: deque[Future[list[Any]]] = deque()
        try:
            for future in islice(calls, buffersize):
                futures.append(future)  # noqa: PERF402  # those that there are when one fails are cancelled
        except BaseException:
            _cancel(futures)
            raise
        return _Results(futures, calls, until)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Closes this executor alone; the supervisor, and its other executors, go on.

        Args:
            wait: Wait until the calls of this executor have ended.
            cancel_futures: Withdraw those that no thread has taken yet.

        Raises:
            RuntimeError: `wait` would block the supervisor's own event loop, or wait for the very call that this is
                called in. The executor is closed all the same.
        """
        with shielded():
            with self._closing:
                self._closed = True
            if cancel_futures:
                for future in self._under_way():
                    future.withdraw()
            under_way = self._under_way() if wait else []
        if under_way:
            under_way[0].calls.refuse_blocking("shutdown(wait=True) of an executor with calls under way")
            for future in under_way:
                if future.run.ident == get_ident() and future.run.place is None:
                    raise SupervisorMisused(
                        f"supervisor {self._supervisor!r}: shutdown(wait=True) in the call {future.run.name!r} of the "
                        "same executor would wait for itself; use shutdown(wait=False)"
                    )
            wait_for(under_way)

    def _under_way(self) -> list[WorkFuture]:
        runtime = self._used
        if runtime is None or runtime.pid != os.getpid():  # after a fork, the calls go on elsewhere
            return []
        futures = runtime.executor_calls.futures()
        return [future for future in futures if isinstance(future, WorkFuture) and future.executor is self]

    def __repr__(self) -> str:
        how = "shut down" if self._closed else "open"
        return f"<executor of supervisor {self._supervisor!r}: {how}>"


wait_for = wait
"""The function, where an argument hides its name."""


# ------------------------------------------------------------------------------------------------ map


class Chunk:
    """Calls a function for several items; goes by the function's name.

    Attributes:
        fn: The function.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.__qualname__ = qualname(fn)

    def __call__(self, items: tuple[tuple[Any, ...], ...]) -> list[Any]:
        return [self._result(item) for item in items]

    def _result(self, item: tuple[Any, ...]) -> Any:
        try:
            return self.fn(*item)
        except SystemExit as error:
            if error.code in (None, 0):  # a return of None, as it is for a call of its own
                return None
            raise


class _Results:
    """The results of `map`, each waited for when it is asked for.

    Args:
        futures: Those of the calls that have been submitted.
        calls: Submits the next ones.
        until: When waiting for a result ends.
    """

    def __init__(self, futures: deque[Future[list[Any]]], calls: Iterator[Future[list[Any]]], until: float) -> None:
        self._futures = futures
        self._calls = calls
        self._until = until
        self._ready: deque[Any] = deque()

    def __iter__(self) -> _Results:
        return self

    def __next__(self) -> Any:
        while not self._ready:
            if not self._futures:
                raise StopIteration
            try:
                left = None if math.isinf(self._until) else max(0.0, self._until - monotonic())
                results = self._futures[0].result(left)
                self._futures.popleft()
                self._futures.extend(islice(self._calls, 1))
                self._ready.extend(results)
            except BaseException:
                self.close()
                raise
        return self._ready.popleft()

    def close(self) -> None:
        """Withdraws the calls that wait, stops those that run, and submits no more."""
        self._calls = iter(())
        _cancel(self._futures)

    __del__ = close


def _cancel(futures: deque[Future[list[Any]]]) -> None:
    while futures:
        futures.pop().cancel()


def _chunks(items: Iterator[tuple[Any, ...]], size: int) -> Generator[tuple[tuple[Any, ...], ...]]:
    while chunk := tuple(islice(items, size)):
        yield chunk
