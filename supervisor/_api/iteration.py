"""What a worker makes, item by item, as an async iterator."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._core.errors import RemoteError, SupervisorMisused, described
from .._loop import aside
from .._loop.clock import monotonic
from .._loop.inbox import TURN
from .._loop.outlast import outlast
from .._run.channel import Channel, Producer
from .._run.frames import PASSING_ON
from .._run.futures import CallFuture
from .._run.names import qualname
from .._worker.current import shielded
from .functions import misfit_of_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from .._runtime.nodes import GroupNode
    from .._runtime.runtime import Runtime
    from .binding import Binding
    from .options import Options

__all__ = ["BUFFER", "Items", "Iteration", "leave", "not_the_end", "when_done"]

BUFFER = 256
"""Items that a function may be ahead of those who take them, where nobody says how many."""

T = TypeVar("T")


class Iteration(ABC, Generic[T]):
    """An async iterator over what workers make. Its end, however it comes, leaves nobody behind.

    Nothing begins before its first item is asked for, or its block entered. It ends with the last item, with an error,
    which is raised at its place behind the items that came before it, or when it is left: by `aclose`, by leaving its
    `async with` block, by a cancellation of whoever waits for an item, or by dropping it, as `break` does in an `async
    for` over one that nobody else holds. Those who leave it stop the workers by their ladders; all but the last also
    wait until they have ended, or have been abandoned. Dropping it cannot wait: use `async with` where what comes after
    the block relies on the end. After the end there are no more items: StopAsyncIteration.

    It belongs to the supervisor's event loop, and to one task at a time; `aclose` may be called by another one.

    Example:
        >>> import asyncio
        >>> from supervisor import Supervisor
        >>> async def main():
        ...     async with Supervisor() as sup, sup.iterate(range, 10**9) as numbers:
        ...         async for number in numbers:
        ...             if number == 3:
        ...                 return number
        >>> asyncio.run(main())
        3
    """

    _over = False

    def __init__(self, binding: Binding, scope: GroupNode) -> None:
        self._binding = binding
        self._scope = scope
        self._reading = False
        self._until = 0.0  # when the loop's other users are to have a turn

    # ------------------------------------------------------------------------------------ for those who make one

    @abstractmethod
    def _begin(self, runtime: Runtime) -> None:
        """Begins the work, unless it has begun."""
        ...

    @abstractmethod
    async def _next(self, runtime: Runtime) -> T:
        """Waits for the next item; raises what ends the iteration."""
        ...

    @abstractmethod
    def _leave(self) -> list[asyncio.Future[Any]]:
        """Lets go of all that is under way, and returns it, calls and tasks. Any thread, once nobody holds it."""
        ...

    # ------------------------------------------------------------------------------------ for those who use it

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Waits for the next item.

        Raises:
            StopAsyncIteration: There are no more.
            Exception: What has ended the iteration; see where it was made. StopAsyncIteration comes as RuntimeError.
            RuntimeError: Another task waits for an item of it; or this is another event loop than the supervisor's.
        """
        runtime = self._binding.bind()
        if self._over:
            raise StopAsyncIteration
        if self._reading:
            raise SupervisorMisused(f"{self!r}: another task waits for its next item; one at a time")
        self._reading = True
        try:
            self._begin(runtime)
            return await self._next(runtime)
        except (Exception, asyncio.CancelledError) as error:
            by_cancelling = isinstance(error, asyncio.CancelledError)
            cancelled = await self._end(cancelled=by_cancelling)
            try:
                if cancelled is not None and not by_cancelling:
                    raise cancelled from error
                raise
            finally:
                del cancelled  # its traceback holds this frame
        except BaseException:  # an interrupt waits for nothing
            self._drop()
            raise
        finally:
            self._reading = False

    async def _give_way(self) -> None:
        """Gives the loop's other users a turn, where none of the last items had to be waited for."""
        if monotonic() >= self._until:
            await asyncio.sleep(0)
            self._until = monotonic() + TURN

    async def aclose(self) -> None:
        """Ends the iteration: stops its workers by their ladders, and waits until they have ended. Idempotent.

        A task that waits for an item of it gets StopAsyncIteration. Cancelling `aclose` does not stop the ladders: they
        are climbed to their end, and then the CancelledError is raised.

        Raises:
            RuntimeError: It was called in another event loop than the supervisor's.
        """
        if not self._over:
            self._binding.bind()
        cancelled = await self._end()
        try:
            if cancelled is not None:
                raise cancelled
        finally:
            del cancelled  # its traceback holds this frame

    async def _end(self, *, cancelled: bool = False) -> asyncio.CancelledError | None:
        """Stops what is under way, and waits for its end; returns the first cancellation meanwhile."""
        first = None
        for future in self._drop():
            end: asyncio.Future[Any] = future
            if isinstance(future, CallFuture):
                end = self._binding.bind().escalation.end_of(future.run)
            if not end.done():
                first = await outlast(end, cancelled=cancelled or first is not None) or first
        return first

    def _drop(self) -> list[asyncio.Future[Any]]:
        """Stops what is under way, and returns it."""
        self._over = True
        left = self._leave()
        for future in left:
            leave(future)
        return left

    async def __aenter__(self) -> Self:
        if not self._over:
            self._begin(self._binding.bind())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        """Nobody can take any more of it. Any thread: the collector may come to it anywhere."""
        runtime = self._binding.runtime
        if not self._over and runtime is not None:
            with shielded():
                for future in self._leave():
                    if future.done():
                        leave(future)  # at once, as there may be no loop any more
                    else:
                        runtime.calls.post(partial(leave, future))


def when_done(future: asyncio.Future[Any], wake: Callable[[], object]) -> None:
    """Has `wake`, which is idempotent, called when a future is done, whatever interrupts it."""

    def done(_: object) -> None:
        try:
            wake()
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(future.get_loop(), wake)
            raise

    aside.when_done(future, done)


def leave(future: asyncio.Future[Any]) -> None:
    """Stops a call, or a task, whose result nobody wants any more. On the loop's thread, or any where it is done."""
    if not future.cancel() and not future.cancelled():
        future.exception()  # or asyncio would log that nobody has asked for it


def not_the_end(error: BaseException, where: str) -> BaseException:
    """Returns what is to be raised of an error: StopAsyncIteration would pass for the end of the iteration."""
    if not isinstance(error, StopAsyncIteration):
        return error
    converted = RuntimeError(f"{where} raised StopAsyncIteration")
    converted.__cause__ = error
    return converted


class Items(Iteration[T]):
    """The items of one worker: what `Supervisor.iterate` returns.

    Args:
        fn, args: What makes them.
        buffer: How many may be made and not taken.
        options: Those of the call.
    """

    def __init__(
        self,
        binding: Binding,
        scope: GroupNode,
        fn: Callable[..., Iterable[T]],
        args: tuple[Any, ...],
        buffer: int,
        options: Options,
    ) -> None:
        super().__init__(binding, scope)
        self._fn = fn
        self._args = args
        self._buffer = buffer
        self._options = options
        self._taken = 0
        self._channel: Channel | None = None
        self._future: CallFuture | None = None

    def _begin(self, runtime: Runtime) -> None:
        if self._channel is None:
            channel = Channel(self._buffer, runtime.calls.post)
            future = self._options.call(runtime, self._scope, Producer(self._fn, channel), self._args)
            when_done(future, channel.wake)
            self._future, self._channel = future, channel

    def _leave(self) -> list[asyncio.Future[Any]]:
        channel, future = self._channel, self._future
        if channel is None or future is None:
            return []
        self._future = self._channel = None
        channel.items.clear()
        return [future]

    async def __anext__(self) -> T:
        channel = self._channel
        # The way of most items where many have come: nothing is awaited.
        here = asyncio._get_running_loop() is self._binding.loop
        if channel is not None and channel.items and here and monotonic() < self._until:
            try:
                return self._take(channel)
            except BaseException:
                self._drop()
                raise
        return await super().__anext__()

    async def _next(self, runtime: Runtime) -> T:
        channel = self._channel
        assert channel is not None
        while (future := self._future) is not None:
            if channel.items or channel.refill():
                await self._give_way()
                if channel.items:
                    return self._take(channel)
            elif future.done():
                raise self._ended(future)
            elif (waiter := channel.wait(runtime.loop)) is not None:
                await waiter
                self._until = monotonic() + TURN
        raise StopAsyncIteration

    def _take(self, channel: Channel) -> T:
        item: T = channel.items.popleft()
        if channel.room is not None:
            channel.make_room()
        if channel.unpack is None:
            return item
        self._taken += 1
        try:
            item = channel.unpack(item)
        except Exception as error:
            what = f"item {self._taken - 1} of {qualname(self._fn)}() cannot be unpickled: {described(error)}"
            raise RemoteError(what) from error
        return item

    def _ended(self, future: CallFuture) -> BaseException:
        """Returns what comes behind the last item."""
        error = future.exception()
        if error is None:
            return StopAsyncIteration()
        wrong = misfit_of_call("iterate", self._fn, self._args) if isinstance(error, TypeError) else None
        if wrong is not None:
            misfit = TypeError(wrong)
            misfit.__cause__ = error
            return misfit
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code in PASSING_ON:
            trace = trace.tb_next
        return not_the_end(BaseException.with_traceback(error, trace), f"{qualname(self._fn)}()")

    def __repr__(self) -> str:
        how = "ended" if self._over else "not begun" if self._channel is None else "under way"
        return f"<Iteration of {qualname(self._fn)}(): {how}>"
