"""One call for each item, and what comes of them as an async iterator."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, TypeVar

from .._core.errors import SupervisorError
from .._loop import aside
from .._loop.clock import monotonic
from .._loop.inbox import TURN
from .._run import unrun
from .._run.names import qualname
from .functions import misfit_of_call
from .iteration import Iteration, when_done

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._run.futures import CallFuture
    from .._runtime.nodes import GroupNode
    from .._runtime.runtime import Runtime
    from .binding import Binding
    from .options import Options

__all__ = ["Results"]

T = TypeVar("T")


class Window:
    """The calls that have been submitted, and whose results have not been taken. On the loop's thread.

    Args:
        submit: Submits the call for an item.
        limit: Returns how many there may be.
        ordered: They are taken in the order of the items; else, as they end.

    Attributes:
        calls: They, the oldest first.
        complete: No more of them will come.
        failure: What the items, or the submission of a call, have raised: why no more will come.
    """

    def __init__(self, submit: Callable[[Any], CallFuture], limit: Callable[[], int], *, ordered: bool) -> None:
        self._submit = submit
        self._limit = limit
        self._ordered = ordered
        self.calls: dict[CallFuture, None] = {}
        self._ended: deque[CallFuture] = deque()
        self.complete = False
        self.failure: Exception | None = None
        self._changed: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        return len(self.calls) >= self._limit()

    async def feed(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        """Submits a call for each item, as there is room. The task that reads the items."""
        try:
            each = aiter(items) if isinstance(items, AsyncIterable) else Each(items)
            while True:
                while self.full:
                    await self.change()
                self.add(await anext(each))
        except StopAsyncIteration:
            pass
        except Exception as error:
            self.failure = error
        except BaseException as error:  # also a cancellation that is not ours: it must not look like their end
            self.failure = SupervisorError(f"map(): its items were not read to their end: {type(error).__name__}")
            raise
        finally:
            self.complete = True

    def add(self, item: Any) -> None:
        future = self._submit(item)
        if not self._ordered:
            aside.when_done(future, self._ended.append)
        when_done(future, self.wake)
        self.calls[future] = None  # only now: nobody would hear of its end, if an interrupt came in between

    @property
    def next(self) -> CallFuture | None:
        """The call that is to be taken next; None where that has not ended."""
        if not self._ordered:
            return self._ended[0] if self._ended else None
        first = next(iter(self.calls), None)
        return first if first is not None and first.done() else None

    def take(self, future: CallFuture) -> None:
        """Takes that one: there is room for another."""
        if not self._ordered:
            self._ended.popleft()
        self.calls.pop(future, None)
        self.wake()

    async def change(self) -> None:
        """Waits until something is otherwise than now, or may be."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)  # others may wait for it

    def wake(self) -> None:
        """Has those look again who wait for a change. Idempotent."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        self._changed = None  # only now: after an interrupt it is done again


class Each:
    """The items of an iterable, one after the other; now and then the loop's other users have a turn in between."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)
        self._until = 0.0

    async def __anext__(self) -> Any:
        if monotonic() >= self._until:
            await asyncio.sleep(0)
            self._until = monotonic() + TURN
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None


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
        self._window: Window | None = None
        self._feeder: asyncio.Task[None] | None = None

    def _begin(self, runtime: Runtime) -> None:
        if self._window is not None:
            return
        fn, options, scope, limit = self._fn, self._options, self._scope, self._limit
        kind = runtime.kinds.of(options.pool)
        window = Window(
            lambda item: options.call(runtime, scope, fn, (item,)),
            lambda: limit or max(1, kind.capacity),  # a cluster may not have been reached yet
            ordered=self._ordered,
        )
        feeder = runtime.loop.create_task(window.feed(self._items), name=f"map({qualname(fn)})")
        self._feeder, self._window, self._items = feeder, window, ()
        when_done(feeder, window.wake)

    def _leave(self) -> list[asyncio.Future[Any]]:
        window, feeder = self._window, self._feeder
        self._window = self._feeder = None
        left: list[asyncio.Future[Any]] = [] if feeder is None else [feeder]
        if window is not None:
            left += window.calls
        return left

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
            else:
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
        wrong = misfit_of_call("map", self._fn, (...,)) if isinstance(error, TypeError) else None
        try:
            if wrong is not None:
                raise TypeError(wrong) from error
            raise error
        finally:
            del error, future  # its traceback holds this frame

    def __repr__(self) -> str:
        how = "ended" if self._over else "not begun" if self._window is None else "under way"
        return f"<Iteration of results of {qualname(self._fn)}(): {how}>"
