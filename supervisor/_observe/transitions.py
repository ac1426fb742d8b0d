"""The transitions of a supervisor's workers, as an async iterator."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from .._core.outcome import make_transition
from .notices import GroupEnded, ShutdownEnded, StateChanged

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from .._core.outcome import Transition
    from .notices import Notice, Subscriber
    from .subscribers import Subscribers

__all__ = ["Transitions"]


class Buffer:
    """What `Transitions` has not given yet. It is the subscriber, so that the supervisor does not hold whoever reads.

    On the loop's thread.

    Attributes:
        dropped: How many transitions were lost.
        waiting: Those that have not been read; of calls their values, of which each is made as it is read.
        ended: No more will come.
        readers: Each waits for more.
    """

    __slots__ = ("_prefix", "dropped", "ended", "readers", "waiting")

    def __init__(self, size: int, group: str) -> None:
        self.dropped = 0
        self._prefix = f"{group}/" if group else ""  # of the names of the workers that it is about
        self.waiting: deque[Transition | tuple[Any, ...]] = deque(maxlen=size)
        self.ended = False
        self.readers: list[asyncio.Future[None]] = []

    @staticmethod
    def of(subscriber: Subscriber) -> Buffer | None:
        """Returns whose `receive` a subscriber is; None where it is another one."""
        buffer = getattr(subscriber, "__self__", None)
        return buffer if isinstance(buffer, Buffer) else None

    def receive(self, notice: Notice) -> None:
        """Takes in a notice."""
        match notice:
            case StateChanged(transition=transition):
                self.add(transition.worker, transition)
            case ShutdownEnded(group=""):
                self.end()
            case GroupEnded(group=group) if self._prefix.startswith(f"{group}/"):
                self.end()
            case _:
                pass  # the other notices are no transitions

    def add(self, worker: str, transition: Transition | tuple[Any, ...]) -> None:
        """Takes in a transition of this worker, or the values of one."""
        if self.ended or (self._prefix and not worker.startswith(self._prefix)):
            return
        waiting = self.waiting
        if len(waiting) == waiting.maxlen:
            self.dropped += 1
        waiting.append(transition)
        if self.readers:
            self._wake()

    def end(self) -> None:
        """No more will come."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        while self.readers:
            more = self.readers[0]
            if not more.done():
                more.set_result(None)
            self.readers.pop(0)  # only now: where that has failed, the next one wakes the reader


class Transitions:
    """Each transition from the moment at which it was opened, in order; ends when the supervisor has shut down.

    What a slow reader has not taken waits in a buffer; when that is full, the oldest is lost and counted. It belongs to
    the supervisor's event loop. Close it, or drop it, when you stop reading: while one is open, the transitions of
    calls are noted, at the cost of a few microseconds each.

    Example:
        >>> import asyncio
        >>> from supervisor import Supervisor
        >>> async def main():
        ...     async with Supervisor() as sup:
        ...         seen = sup.transitions()
        ...         await sup.run(sum, [1, 2], name="adder")
        ...     return [f"{transition.worker} {transition.new}" async for transition in seen]
        >>> asyncio.run(main())
        ['adder queued', 'adder running', 'adder ended']
    """

    def __init__(self, buffer: int, bind: Callable[[], object], subscribers: Subscribers, group: str) -> None:
        self._bind = bind
        self._subscribers = subscribers
        self._buffer = Buffer(buffer, group)
        subscribers.subscribe(self._buffer.receive)

    @property
    def dropped(self) -> int:
        """How many transitions were lost so far because the buffer was full."""
        return self._buffer.dropped

    def end(self) -> None:
        """No more will come. On the loop's thread."""
        self._buffer.end()

    async def aclose(self) -> None:
        """Ends the iteration, for whoever waits in it too, and forgets what was not read."""
        self._subscribers.unsubscribe(self._buffer.receive)
        self._buffer.waiting.clear()
        self.end()

    def __del__(self) -> None:
        self._subscribers.unsubscribe(self._buffer.receive)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Transition:
        """Waits for the next transition. Cancelling it loses none.

        Raises:
            RuntimeError: It was called in another event loop than the supervisor's.
        """
        self._bind()
        buffer = self._buffer
        while not buffer.waiting:
            if buffer.ended:
                raise StopAsyncIteration
            more = asyncio.get_running_loop().create_future()
            buffer.readers.append(more)
            try:
                await more
            except asyncio.CancelledError:
                if more in buffer.readers:
                    buffer.readers.remove(more)
                raise
        transition = buffer.waiting.popleft()
        return make_transition(*transition) if isinstance(transition, tuple) else transition

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        how = "ended" if self._buffer.ended else "open"
        return f"<Transitions: {how}, {len(self._buffer.waiting)} to be read, {self.dropped} dropped>"
