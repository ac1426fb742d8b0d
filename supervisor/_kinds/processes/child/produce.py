"""In a worker process: has a function make items, and sends them to its owner, many in one frame.

Each item is pickled when it is made, so that it is sent as it is then, and an error names it. It is sent at once where
the owner has taken all that came before: somebody waits for it. Else it waits for others, until a part of the buffer is
full or a millisecond has passed. Where the owner has taken everything meanwhile, what waits is sent by the thread that
hears of that: the function may not make another one for long.
"""

from __future__ import annotations

import sys
from _pickle import PickleBuffer, dumps
from _thread import allocate_lock
from collections import deque
from time import monotonic

from ...._core.errors import RemoteError, described, type_name
from ...._worker.current import current
from ..wire import CAPACITY, framed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Protocol

    from ...._worker.context import WorkerContext

    class Backend(Protocol):
        """The call that makes the items, as far as they need it."""

        number: int
        outlet: Outlet | None

        def worker_context(self) -> WorkerContext:
            """Returns the call's context."""
            ...

        def pass_on(self, parts: list[Any]) -> None:
            """Sends the owner a part of what the call makes; one thread at a time."""
            ...


__all__ = ["Outlet", "Produce"]

SOON = 0.001
"""Seconds that an item waits for others, at most, as long as the function goes on to make them."""

PARTS = 4
"""A frame has this part of the buffer at most: the others are made while it is taken."""


class Outlet:
    """Where the items of one call leave the process: through the main thread, or the one that listens to the owner.

    The main thread alone adds items, without a lock: it first writes and then looks at what the other thread wrote,
    which does the same. Both send under the lock.
    """

    def __init__(self, buffer: int, backend: Backend) -> None:
        self._backend = backend
        self._buffer = buffer
        self._most = max(1, buffer // PARTS)
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._send_at = 0.0
        self.made = self._sent = self._taken = 0
        self._lock = allocate_lock()
        self._over = False
        self._room: Any = None

    def put(self, item: bytes) -> bool:
        """Adds an item; returns whether what waits is to be sent now."""
        waiting = self._waiting
        waiting.append(item)
        self.made += 1
        self._bytes += len(item)
        return (
            self._taken == self._sent
            or len(waiting) >= self._most
            or self._bytes >= CAPACITY
            or self.made - self._taken >= self._buffer
            or monotonic() >= self._send_at
        )

    def flush(self) -> None:
        """Sends what waits. The main thread, which must be shielded."""
        self._bytes = 0
        with self._lock:
            self._send()
        self._send_at = monotonic() + SOON

    def close(self) -> None:
        """Sends what waits, and nothing after that: the call is over, and what comes next is its end."""
        with self._lock:
            self._send()
            self._over = True

    def _send(self) -> None:
        waiting = self._waiting
        if self._over or not waiting:
            return
        items = [waiting.popleft() for _ in range(len(waiting))]
        buffers: list[Any] = []
        parts = [item if len(item) < CAPACITY else PickleBuffer(item) for item in items]
        said = ("items", self._backend.number, self._sent, parts)
        data = dumps(said, 5, buffer_callback=buffers.append)
        self._sent += len(items)
        self._backend.pass_on(framed(data, [buffer.raw() for buffer in buffers]))

    def taken(self, count: int) -> None:
        """The owner has taken so many: there may be room, or somebody who waits. The thread that listens."""
        with self._lock:
            self._taken = count
            if count == self._sent:
                self._send()
        room = self._room
        if room is not None and not self.full:
            self._room = None
            _release(room)

    @property
    def full(self) -> bool:
        """Whether as many have been made and not been taken as may be."""
        return self.made - self._taken >= self._buffer

    def wait_for_room(self) -> None:
        """Waits until the owner has taken enough, or a stop is asked."""
        stop = self._backend.worker_context().stop
        while self.full and not stop.is_set():
            room = allocate_lock()
            room.acquire()
            self._room = room
            if self.full:  # first written, then looked: `taken` does it the other way round
                stop.wait_with(room)
            self._room = None


def _release(lock: Any) -> None:
    try:
        lock.release()
    except RuntimeError:
        pass  # a stop was faster


class Produce:
    """What a call of `iterate` runs in its process."""

    def __init__(self, func: Callable[..., Iterable[Any]], name: str, buffer: int) -> None:
        self.func = func  # as a partial has it
        self.__qualname__ = name
        self.buffer = buffer

    def __call__(self, *args: Any) -> None:
        backend: Any = current.source
        ctx = backend.worker_context()
        made: Any = self.func(*args)
        try:
            iterator = iter(made)
        except TypeError:
            raise TypeError(
                f"iterate(fn={self.__qualname__}): returned {type_name(made)}, which cannot be iterated over"
            ) from None
        del made
        with ctx.own_shield():
            outlet = backend.outlet = Outlet(self.buffer, backend)
        try:
            self._pass_on(iterator, outlet, ctx)  # in a function of its own: Python 3.13 may miss a handler around it
        except BaseException:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
            raise

    def _pass_on(self, iterator: Iterator[Any], outlet: Outlet, ctx: WorkerContext) -> None:
        put, check = outlet.put, ctx.check
        for item in iterator:
            try:
                data = dumps(item, 5)
            except Exception as error:
                data = self._pickled_otherwise(outlet.made, item, error)
            del item
            if put(data):
                with ctx.own_shield():  # half a frame must not be sent
                    outlet.flush()
                if outlet.full:
                    outlet.wait_for_room()
            check()

    def _pickled_otherwise(self, number: int, item: Any, error: Exception) -> bytes:
        """Pickles what the standard library cannot: where the function has come by value, so may what it makes."""
        try:
            if "cloudpickle" in sys.modules:
                data: bytes = sys.modules["cloudpickle"].dumps(item, 5)
                return data
        except Exception:  # noqa: S110  # the first error says more
            pass
        what = f"item {number} of {self.__qualname__}(), which is of type {type_name(item)}"
        raise RemoteError(f"{what}, cannot be pickled: {described(error)}") from error
