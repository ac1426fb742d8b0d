"""Where anyio takes its threads from, for one event loop, and what stands in for that."""

from __future__ import annotations

from collections import deque
from contextvars import Context
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

if TYPE_CHECKING:
    import asyncio
    import threading
    from collections.abc import Callable
    from typing import TypeAlias

    Item: TypeAlias = "tuple[Context, Callable[..., Any], tuple[Any, ...], asyncio.Future[Any], object]"
    """What anyio gives to a thread: in which context it calls what, who awaits it, and the scope around that."""

__all__ = ["IdleThread", "Item", "Seam", "StandIn", "renew_stand_in", "seam_of_anyio", "stand_in"]


@dataclass(frozen=True, slots=True)
class Seam:
    """What of anyio is private, and used here.

    Attributes:
        idle_workers: The list of idle threads of the running loop, the last of which gets the next call.
        workers: All threads of the running loop.
        threadlocals: What code in a thread finds of the call that it is in.
        claim_thread: Puts there which loop a thread is for.
        set_library: Says which library runs here.
        backend: Anyio on asyncio.
    """

    idle_workers: Any
    workers: Any
    threadlocals: threading.local
    claim_thread: Callable[..., Any]
    set_library: Callable[[str], object]
    backend: type

    def claim(self, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
        """Returns what code in a thread of a loop must find."""
        return Context().run(self._claim, loop)

    def _claim(self, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
        with self.claim_thread(self.backend, loop):
            return self.threadlocals.__dict__.copy()


def seam_of_anyio() -> Seam:
    """Returns that of the installed anyio.

    Raises:
        ImportError, AttributeError: It has no such thing.
    """
    backend: Any = import_module("anyio._backends._asyncio")
    core: Any = import_module("anyio._core._eventloop")
    return Seam(
        backend._threadpool_idle_workers,
        backend._threadpool_workers,
        core.threadlocals,
        core.claim_worker_thread,
        core.set_current_async_library,
        backend.AsyncIOBackend,
    )


class IdleThread(Protocol):
    """What anyio uses of a thread.

    Attributes:
        idle_since: When its last call has ended.
        ended: It takes no more calls; of those here, not of anyio's.
        serves: It takes the next one; the same.
        queue: Takes a call, by `put_nowait`.
    """

    idle_since: float
    ended: bool

    @property
    def serves(self) -> bool: ...

    @property
    def queue(self) -> Any: ...


class StandIn(deque[Any]):
    """Stands in for anyio's list of the idle threads of one loop. While somebody serves, there is always one: that.

    While nobody does, it is the list that it stands in for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._installed: list[ref[IdleThread]] = []  # anyio keeps this as long as the loop, which they hold

    def put_first(self, thread: IdleThread) -> None:
        """Has a thread get all calls, until it ends or another one comes before it. It is not kept alive."""
        there = [other for of in self._installed if (other := of()) is not None]
        self._installed = [ref(other) for other in there if other is not thread and not other.ended]
        self._installed.append(ref(thread))

    def put_in_place_of(self, before: IdleThread, after: IdleThread, of: StandIn) -> None:
        """Has the threads of another list get the calls, and one of them in place of another one."""
        self._installed = [ref(after) if there() is before else there for there in of._installed]

    def _serving(self) -> IdleThread | None:
        for of in reversed(self._installed):
            thread = of()
            if thread is not None and thread.serves:
                return thread
        return None

    def __bool__(self) -> bool:
        return self._serving() is not None or len(self) > 0

    def __getitem__(self, index: Any) -> Any:
        return self._serving() or super().__getitem__(index)

    def pop(self) -> Any:  # type: ignore[override]  # as anyio calls it
        return self._serving() or super().pop()


def stand_in(seam: Seam) -> StandIn:
    """Returns what stands in for the idle threads of the running loop, from now on."""
    return Context().run(_stand_in, seam)  # the context of a task may say that it runs in another library


def _stand_in(seam: Seam) -> StandIn:
    seam.set_library("asyncio")
    found = seam.idle_workers.get(None)
    return found if isinstance(found, StandIn) else _new_stand_in(seam)


def _new_stand_in(seam: Seam) -> StandIn:
    made = StandIn()
    seam.workers.set(seam.workers.get(None) or set())
    seam.idle_workers.set(made)
    return made


def renew_stand_in(seam: Seam, before: IdleThread, after: IdleThread) -> None:
    """Has one thread get what another one would have got, of those calls alone that come from now on. Idempotent.

    A call takes its list when it comes, and a thread from that list once its limiter lets it through.
    """
    Context().run(_renew_stand_in, seam, before, after)


def _renew_stand_in(seam: Seam, before: IdleThread, after: IdleThread) -> None:
    seam.set_library("asyncio")
    found = seam.idle_workers.get(None)
    if isinstance(found, StandIn):
        _new_stand_in(seam).put_in_place_of(before, after, found)
