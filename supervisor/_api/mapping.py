"""One call for each item, and what comes of them as an async iterator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from .._loop.clock import monotonic
from .._loop.inbox import TURN
from .._run import unrun
from .._run.names import qualname
from .functions import misfit_of_call
from .iteration import Iteration, not_the_end, when_done
from .windows import AsTheyCome, InOrder

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable

    from .._run.futures import CallFuture
    from .._runtime.nodes import GroupNode
    from .._runtime.runtime import Runtime
    from .binding import Binding
    from .options import Options

__all__ = ["Results"]

T = TypeVar("T")


class Results(Iteration[T]):
    """The results of one call for each item: what `Supervisor.map` returns.

    Args:
        fn: What each item is given to.
        items: The items.
        options: Those of each call.
        ordered: The results come in the order of the items; else, as they come.
        limit: How many calls may be under way; None: as many as the pool runs at once.
    """

    def __init__(
        self,
        binding: Binding,
        scope: GroupNode,
        fn: Callable[[Any], T],
        items: Iterable[Any] | AsyncIterable[Any],
        options: Options,
        *,
        ordered: bool,
        limit: int | None,
    ) -> None:
        super().__init__(binding, scope)
        self._fn = fn
        self._items: Iterable[Any] | AsyncIterable[Any] = items
        self._options = options
        self._ordered = ordered
        self._limit = limit
        self._window: InOrder | AsTheyCome | None = None
        self._feeder: asyncio.Task[None] | None = None

    def _begin(self, runtime: Runtime) -> None:
        if self._window is not None:
            return
        fn, options, scope, limit = self._fn, self._options, self._scope, self._limit
        kind = runtime.kinds.of(options.pool)

        def submit(item: Any, future: CallFuture) -> object:
            return options.call(runtime, scope, fn, (item,), future)

        window = (InOrder if self._ordered else AsTheyCome)(
            runtime.loop,
            submit,
            (lambda: max(1, kind.capacity)) if limit is None else (lambda: limit),  # no cluster may be reached yet
        )
        feeder = window.feed(self._items, f"map({qualname(fn)})")
        self._feeder, self._window, self._items = feeder, window, ()
        when_done(feeder, window.wake)

    def _leave(self) -> list[asyncio.Future[Any]]:
        window, feeder = self._window, self._feeder
        self._window = self._feeder = None
        left: list[asyncio.Future[Any]] = [] if feeder is None else [feeder]
        if window is not None:
            left += window.leave()
        return left

    async def __anext__(self) -> T:
        window = self._window
        # The way of most results where many have come: nothing is awaited.
        here = asyncio._get_running_loop() is self._binding.loop
        if window is not None and here and monotonic() < self._until:
            future = window.next
            if future is not None and future.has_value:
                try:
                    window.take(future)
                    return self._result(future)
                except BaseException:
                    self._drop()
                    raise
        return await super().__anext__()

    async def _next(self, runtime: Runtime) -> T:
        while (window := self._window) is not None:
            future = window.next
            if future is not None and monotonic() < self._until:
                window.take(future)
                return self._result(future)
            if future is not None:
                await self._give_way()
            elif window.complete and not window.calls:
                raise window.failure or StopAsyncIteration
            elif not window.refill():  # where an interrupt has kept it from that
                await window.change()
                self._until = monotonic() + TURN
        raise StopAsyncIteration

    def _result(self, future: CallFuture) -> T:
        error = future.exception()
        if error is None:
            value: T = future.result()
            if type(value) in unrun.UNRUN:
                unrun.report(qualname(self._fn), value)
            return value
        wrong = misfit_of_call("map", self._fn, None) if isinstance(error, TypeError) else None
        try:
            if wrong is not None:
                raise TypeError(wrong) from error
            raise not_the_end(error, f"{qualname(self._fn)}()")
        finally:
            del error, future  # its traceback holds this frame

    def __repr__(self) -> str:
        how = "ended" if self._over else "not begun" if self._window is None else "under way"
        return f"<Iteration of results of {qualname(self._fn)}(): {how}>"
