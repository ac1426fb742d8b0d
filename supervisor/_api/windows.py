"""The calls of a `map` that are under way, and those whose results wait to be taken."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from .._core.errors import SupervisorError
from .._loop.clock import monotonic
from .._loop.inbox import TURN
from .._run import unrun
from .._run.futures import CallFuture
from .iteration import leave, not_the_end

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

__all__ = ["AsTheyCome", "InOrder"]

SOME = 16
"""Calls that are submitted, at most, as one result is taken: there may be more room than before."""


class ResultFuture(CallFuture):
    """The future of a call for an item. Its window hears of its end at once, and not by a callback of the loop.

    Attributes:
        window: Where it waits to be taken; None once it has been.
        noted: Its window, where that wants to know in which order they end, has noted it.
        has_value: It has a value, of which nothing is to be said.
    """

    __slots__ = ("has_value", "noted", "window")

    window: Window | None
    noted: bool
    has_value: bool

    @property
    def is_submitted(self) -> bool:
        return hasattr(self, "run")

    def set_result(self, value: Any, /) -> None:
        self.has_value = type(value) not in unrun.UNRUN
        self._ends()
        super().set_result(value)

    def set_exception(self, error: type[BaseException] | BaseException, /) -> None:
        self._ends()
        super().set_exception(error)

    def cancel(self, msg: Any = None) -> bool:
        self._ends()
        return super().cancel(msg)

    def _ends(self) -> None:
        """Says so before it has ended: an interrupt in between has it end again, and those look then who wait."""
        window = self.window
        if window is not None:
            window.ended(self)


class Window(ABC):
    """The calls that have been submitted, and whose results have not been taken. On the loop's thread.

    A task reads the items. Of an iterable it submits the first ones, so that many do not hold up the loop; all others
    are read as results are taken, in the same context.

    Args:
        loop: The event loop.
        submit: Submits the call for an item, with the future that it is to have.
        limit: Returns how many there may be.

    Attributes:
        calls: They, the oldest first.
        complete: No more of them will come.
        failure: What the items, or the submission of a call, have raised: why no more will come.
        left: Nobody takes any more results.
    """

    calls: Collection[ResultFuture]

    def __init__(
        self, loop: asyncio.AbstractEventLoop, submit: Callable[[Any, CallFuture], object], limit: Callable[[], int]
    ) -> None:
        self._loop = loop
        self._submit = submit
        self._limit = limit
        self._context = copy_context()
        self._rest: Iterator[Any] | None = None  # what is read as results are taken
        self.complete = False
        self.failure: BaseException | None = None
        self.left = False
        self._waiters: list[asyncio.Future[None]] = []

    # ------------------------------------------------------------------------------------ calls are submitted

    def feed(self, items: Iterable[Any] | AsyncIterable[Any], name: str) -> asyncio.Task[None]:
        """Submits a call for each item, as there is room. Returns the task, which goes by this name."""
        read = self._read if isinstance(items, AsyncIterable) else self._fill
        return self._loop.create_task(read(items), name=name, context=self._context)

    async def _read(self, items: Any) -> None:
        try:
            each = aiter(items)
            while True:
                while len(self.calls) >= self._limit():
                    await self.change()
                item = await anext(each)
                if self.left:  # it has swallowed the cancellation
                    break
                self.add(item)
        except BaseException as error:
            if not self._note_end(error, StopAsyncIteration):
                raise
        finally:
            self._leave_rest()

    async def _fill(self, items: Any) -> None:
        try:
            each = iter(items)
            until = 0.0
            while len(self.calls) < self._limit():
                if monotonic() >= until:
                    await asyncio.sleep(0)
                    until = monotonic() + TURN
                self.add(next(each))
            self._rest = each
        except BaseException as error:
            if not self._note_end(error, StopIteration):
                raise
        finally:
            self._leave_rest()

    def leave(self) -> list[asyncio.Future[Any]]:
        """Nobody takes any more results: returns the calls that are under way. Any thread."""
        self.left = True  # first: the task sees to what is submitted from here on
        return [future for future in tuple(self.calls) if future.is_submitted]

    def _leave_rest(self) -> None:
        """The task ends: where it was left before, stops the calls that it has submitted since."""
        if self.left:
            for future in self.leave():
                leave(future)

    def refill(self) -> bool:
        """Submits some of the calls that there is room for, once the first have been; returns whether it did."""
        if self._rest is None or len(self.calls) >= self._limit():
            return False
        self._context.run(self._add_some, self._rest)
        return True

    def _add_some(self, items: Iterator[Any]) -> None:
        try:
            for _ in range(SOME):
                self.add(next(items))
                if len(self.calls) >= self._limit():
                    break
        except BaseException as error:
            if not self._note_end(error, StopIteration):
                raise

    def _note_end(self, error: BaseException, end: type[Exception]) -> bool:
        """Takes note of why no more items will come; `end` is what says that there are none.

        Returns whether it is handled by that. To raise it in here would have it hold this frame, and the items with it.
        """
        self._rest = None
        if not isinstance(error, Exception):  # also a cancellation that is not ours: it must not look like their end
            self.failure = SupervisorError(f"map(): its items were not read to their end: {type(error).__name__}")
        elif not isinstance(error, end):
            self.failure = not_the_end(error, "map(): its items")
        self.complete = True
        return isinstance(error, Exception)

    def add(self, item: Any) -> None:
        future = ResultFuture(loop=self._loop)
        future.window, future.noted, future.has_value = self, False, False
        self._list(future)  # first: whatever comes in between, whoever leaves finds the call
        try:
            self._submit(item, future)
        except Exception:  # it was refused
            self._unlist(future)
            raise
        except BaseException:
            if not future.is_submitted:
                self._unlist(future)
            raise

    # ------------------------------------------------------------------------------------ results are taken

    @property
    @abstractmethod
    def next(self) -> ResultFuture | None:
        """The call that is to be taken next; None where that has not ended."""

    @abstractmethod
    def take(self, future: ResultFuture) -> None:
        """Takes that one: there is room for another."""

    @abstractmethod
    def ended(self, future: ResultFuture) -> None:
        """A call is about to be done. Idempotent."""

    @abstractmethod
    def _list(self, future: ResultFuture) -> None: ...

    @abstractmethod
    def _unlist(self, future: ResultFuture) -> None: ...

    def _make_room(self, future: ResultFuture) -> None:
        future.window = None
        if self._waiters:
            self.wake()
        self.refill()

    async def change(self) -> None:
        """Waits until something is otherwise than now, or may be."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def wake(self) -> None:
        """Has those look again who wait for a change. Idempotent."""
        while self._waiters:
            waiter = self._waiters[-1]
            if not waiter.done():
                waiter.set_result(None)
            self._waiters.pop()  # only now: after an interrupt it is done again


class InOrder(Window):
    """They are taken in the order of the items."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.calls: deque[ResultFuture] = deque()  # pyright: ignore[reportIncompatibleVariableOverride]  # only read

    def _list(self, future: ResultFuture) -> None:
        self.calls.append(future)

    def _unlist(self, future: ResultFuture) -> None:
        self.calls.remove(future)

    @property
    def next(self) -> ResultFuture | None:
        return self.calls[0] if self.calls and self.calls[0].done() else None

    def ended(self, future: ResultFuture) -> None:
        if self._waiters and self.calls and self.calls[0] is future:
            self.wake()

    def take(self, future: ResultFuture) -> None:
        self.calls.popleft()
        self._make_room(future)


class AsTheyCome(Window):
    """They are taken as they end."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.calls: dict[ResultFuture, None] = {}  # pyright: ignore[reportIncompatibleVariableOverride]  # only read
        self._ended: deque[ResultFuture] = deque()

    def _list(self, future: ResultFuture) -> None:
        self.calls[future] = None

    def _unlist(self, future: ResultFuture) -> None:
        del self.calls[future]

    @property
    def next(self) -> ResultFuture | None:
        while self._ended and self._ended[0].window is None:
            self._ended.popleft()  # it has been taken: an interrupt has had it noted twice
        return self._ended[0] if self._ended and self._ended[0].done() else None

    def ended(self, future: ResultFuture) -> None:
        if not future.noted:
            self._ended.append(future)
            future.noted = True
        if self._waiters:
            self.wake()

    def take(self, future: ResultFuture) -> None:
        self._ended.popleft()
        self.calls.pop(future, None)
        self._make_room(future)
