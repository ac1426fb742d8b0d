"""The transitions of a supervisor's workers, as an async iterator."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakMethod

from ._news import Changed, GroupOver, ShutdownEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from ._news import Listener, News
    from ._outcome import Transition
    from ._tally import Tally

__all__ = ["Listeners", "Transitions"]


class Transitions:
    """Each transition from the moment at which it was opened, in order; ends when the supervisor has shut down.

    What a slow reader has not taken waits in a buffer; when that is full, the oldest is lost and counted. It belongs to
    the supervisor's event loop. Close it, or drop it, when you stop reading: while anybody listens, the transitions of
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

    def __init__(self, buffer: int, attach: Callable[[], object], listeners: Listeners, prefix: str = "") -> None:
        self.dropped = 0
        self._prefix = prefix  # of the names of the workers that it is about
        self._listeners = listeners
        listeners.add(self._hear)
        self._waiting: deque[Transition] = deque(maxlen=buffer)
        self._attach = attach
        self._ended = False
        self._news: asyncio.Future[None] | None = None

    def _hear(self, news: News) -> None:
        """Something has happened. On the loop's thread."""
        match news:
            case Changed(transition=transition):
                self._add(transition)
            case ShutdownEnded(group=""):
                self.end()
            case GroupOver(group=group) if self._prefix.startswith(f"{group}/"):
                self.end()
            case _:
                pass  # what else there is to hear is no transition

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
        self._listeners.discard(self._hear)
        self._waiting.clear()
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Transition:
        """Waits for the next transition. Cancelling it loses none.

        Raises:
            RuntimeError: It was called in another event loop than the supervisor's.
        """
        self._attach()
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            if self._news is None:
                self._news = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._news,))
        return self._waiting.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    def __repr__(self) -> str:
        how = "ended" if self._ended else "open"
        return f"<Transitions: {how}, {len(self._waiting)} to be read, {self.dropped} dropped>"


@dataclass(frozen=True, slots=True)
class Kept:
    """Stands in for a weak reference where the supervisor itself is to hold the listener."""

    listener: Listener

    def __call__(self) -> Listener:
        return self.listener


class Listeners(list["WeakMethod[Listener] | Kept"]):
    """Who listens to a supervisor. Empty, and so false, while nobody has calls watched, which would cost them time.

    Attributes:
        quiet: Listeners that do not have calls watched: they hear of shutdowns, workers, and calls that are stopped.
        tallies: Who counts. They do not have calls watched either.
    """

    def __init__(self) -> None:
        super().__init__()
        self.quiet: tuple[Listener, ...] = ()
        self.tallies: tuple[Tally, ...] = ()

    @property
    def heard(self) -> bool:
        """Whether anybody hears what is told."""
        return bool(self or self.quiet)

    def add(self, listener: Listener) -> None:
        """Takes in a listener, a bound method, for as long as somebody else holds its object."""
        self.append(WeakMethod(listener, self._forget))

    def keep(self, listener: Listener, *, watch: bool = True) -> None:
        """Takes in a listener until it is discarded; without `watch`, no call is watched for it."""
        if watch:
            self.append(Kept(listener))
        else:
            self.quiet = (*self.quiet, listener)

    def discard(self, listener: Listener) -> None:
        """Forgets a listener; of either sort, and also one that was never taken in."""
        for reference in tuple(self):
            if reference() == listener:
                self._forget(reference)
        self.quiet = tuple(other for other in self.quiet if other != listener)

    def add_tally(self, tally: Tally) -> None:
        self.tallies = (*self.tallies, tally)

    def remove_tally(self, tally: Tally) -> None:
        self.tallies = tuple(other for other in self.tallies if other is not tally)

    def _forget(self, reference: WeakMethod[Listener] | Kept) -> None:
        try:
            self.remove(reference)
        except ValueError:
            pass  # it was closed, and then dropped

    def each(self) -> Iterator[Listener]:
        yield from (listener for reference in tuple(self) if (listener := reference()) is not None)
        yield from self.quiet
