"""What an async iterator yields in the event loop, as an iterator of a worker's thread: `ctx.iterate`.

One call to the loop, as of `ctx.call`, reads all of it in one task, so that what it has entered it can also leave. The
portal ends it where the worker is stopped, or ends; only that nobody waits for its value alone.
"""

from __future__ import annotations

import asyncio
from _thread import allocate_lock
from collections import deque
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from .._core.errors import StopRequested, type_name
from .._worker.current import shielded

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable
    from types import TracebackType
    from typing import Self

    from .._run.loop_call import LoopCall
    from .._run.run import Run
    from .._worker.backend import Answer, How

    class Portal(Protocol):
        """What it asks of the portal. The first from any thread, the others on the loop's."""

        def attend(self, call: LoopCall) -> None:
            """Answers a call itself where no loop will do so."""
            ...

        def cut(self, call: LoopCall) -> None:
            """Cancels a call, for whose end its worker waits."""
            ...

        def leave(self, call: LoopCall) -> None:
            """Cancels a call, for whose end nobody waits."""
            ...


__all__ = ["LoopItems", "Pipe"]

LOOK_AGAIN = 1.0
"""Seconds after which a thread that waits looks whether there still is a loop."""


class Pipe:
    """Where the items are between the loop and the thread, and the function that the loop calls.

    Each side first writes and then looks at what the other wrote. Where an interrupt strikes the loop before it has
    woken the thread, that looks again by itself after a while.
    """

    def __init__(self, source: AsyncIterable[Any], buffer: int, post: Callable[[Callable[[], object]], None]) -> None:
        self.items: deque[Any] = deque()
        self.answer: Answer | None = None
        self.left = False  # nobody takes any more
        self.__qualname__ = f"iterate({getattr(source, '__qualname__', None) or type_name(source)})"
        self._source: AsyncIterable[Any] | None = source
        self._buffer = buffer
        self.post = post
        self._waiter: Any = None
        self._room: asyncio.Future[None] | None = None

    # ------------------------------------------------------------------------------------ on the loop's thread

    async def __call__(self) -> None:
        """Reads the async iterator to its end, or until it is cancelled, and closes it."""
        source, self._source = self._source, None
        assert source is not None
        iterator = aiter(source)
        try:
            async for item in iterator:
                if self.left:  # it has swallowed the cancellation
                    break
                self.items.append(item)
                self._wake()
                if len(self.items) >= self._buffer:
                    await self._until_room()
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    async def _until_room(self) -> None:
        room = self._room = asyncio.get_running_loop().create_future()
        if len(self.items) >= self._buffer:
            await room
        self._room = None

    def reply(self, how: How, what: Any) -> None:
        """Says what has become of it: there are no more items."""
        self.answer = (how, what)
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            try:
                waiter.release()
            except RuntimeError:
                pass  # the loop's thread and the worker's have both done so: the loop is closed

    # ------------------------------------------------------------------------------------ in the worker's thread

    def wait(self, *, for_items: bool) -> None:
        """Waits a while for an item, or for the end alone; the worker's own thread must be shielded."""
        waiter = allocate_lock()
        waiter.acquire()
        self._waiter = waiter
        if self.answer is None and not (for_items and self.items):
            waiter.acquire(True, LOOK_AGAIN)

    def make_room(self) -> None:
        """Lets the loop go on, where enough has been taken."""
        room = self._room
        if room is not None and len(self.items) <= self._buffer // 2:
            with shielded():
                self._room = None
                self.post(partial(_set_done, room))


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class LoopItems:
    """The items, for whoever takes them in the worker: an iterator, and a context manager that closes it."""

    def __init__(self, run: Run, call: LoopCall, pipe: Pipe, portal: Portal) -> None:
        self._run = run
        self._call = call
        self._pipe = pipe
        self._portal = portal
        self._over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._over:
            raise StopIteration
        if self._run.asked is not None:
            raise StopRequested
        pipe = self._pipe
        while True:
            answer = pipe.answer  # first: what was yielded before the end is in the items
            if pipe.items:
                item = pipe.items.popleft()
                pipe.make_room()
                return item
            if answer is not None:
                raise self._end(answer)
            with shielded():
                pipe.wait(for_items=True)
                self._portal.attend(self._call)

    def _end(self, answer: Answer) -> BaseException:
        self._over = True
        how, what = answer
        if how == "value":
            return StopIteration()
        error: BaseException = StopRequested() if how == "stopped" else what
        return error

    def close(self) -> None:
        """Ends it: the async iterator is closed in the loop, and has been when this returns. Idempotent.

        Raises:
            Exception: What it raised when it was closed.
        """
        if self._over:
            return
        self._over = True
        pipe = self._pipe
        with shielded():
            pipe.left = True
            pipe.items.clear()
            pipe.post(partial(self._portal.cut, self._call))
            while pipe.answer is None:
                pipe.wait(for_items=False)
                self._portal.attend(self._call)
        how, what = pipe.answer
        if how == "error" and not isinstance(what, CancelledError):
            raise what

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """Nobody takes any more: it ends by itself."""
        if not self._over:
            with shielded():
                self._pipe.left = True
                self._pipe.post(partial(self._portal.leave, self._call))
