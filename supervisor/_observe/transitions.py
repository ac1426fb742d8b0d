"""The transitions of a supervisor's workers, as an async iterator."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from .notices import GroupEnded, ShutdownEnded, StateChanged

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from .._core.outcome import Transition
    from .notices import Notice
    from .subscribers import Subscribers

__all__ = ["Transitions"]


class Transitions:
    """Each transition from the moment at which it was opened, in order; ends when the supervisor has shut down.

    What a slow reader has not taken waits in a buffer; when that is full, the oldest is lost and counted. It belongs to
    the supervisor's event loop. Close it, or drop it, when you stop reading: while one is open, the transitions of
    calls are made, at the cost of a few microseconds each.

    Attributes:
        dropped: How many transitions were lost so far because the buffer was full.

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
        self.dropped = 0
        self._prefix = f"{group}/" if group else ""  # of the names of the workers that it is about
        self._subscribers = subscribers
        subscribers.subscribe(self._receive, weak=True)
        self._waiting: deque[Transition] = deque(maxlen=buffer)
        self._bind = bind
        self._ended = False
        self._readers: list[asyncio.Future[None]] = []  # each waits for more

    def _receive(self, notice: Notice) -> None:
        """Takes in a notice. On the loop's thread."""
        match notice:
            case StateChanged(transition=transition):
                self._add(transition)
            case ShutdownEnded(group=""):
                self.end()
            case GroupEnded(group=group) if self._prefix.startswith(f"{group}/"):
                self.end()
            case _:
                pass  # the other notices are no transitions

    def _add(self, transition: Transition) -> None:
        if not self._ended and transition.worker.startswith(self._prefix):
            self.dropped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(transition)
            self._wake()

    def end(self) -> None:
        """No more will come. On the loop's thread."""
        self._ended = True
        self._wake()

    async def aclose(self) -> None:
        """Ends the iteration, for whoever waits in it too, and forgets what was not read."""
        self._subscribers.unsubscribe(self._receive)
        self._waiting.clear()
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Transition:
        """Waits for the next transition. Cancelling it loses none.

        Raises:
            RuntimeError: It was called in another event loop than the supervisor's.
        """
        self._bind()
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            more = asyncio.get_running_loop().create_future()
            self._readers.append(more)
            try:
                await more
            except asyncio.CancelledError:
                if more in self._readers:
                    self._readers.remove(more)
                raise
        return self._waiting.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _wake(self) -> None:
        while self._readers:
            more = self._readers[0]
            if not more.done():
                more.set_result(None)
            self._readers.pop(0)  # only now: where that has failed, the next one wakes the reader

    def __repr__(self) -> str:
        how = "ended" if self._ended else "open"
        return f"<Transitions: {how}, {len(self._waiting)} to be read, {self.dropped} dropped>"
