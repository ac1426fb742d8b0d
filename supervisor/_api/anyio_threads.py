"""The supervisor's threads in place of anyio's, which `anyio.to_thread.run_sync` uses, and with it web frameworks.

Of anyio only one thing is replaced, and for one event loop alone: its list of idle threads. In that which stands in for
it there is always one thread idle, and that one hands each call to the supervisor. All else stays anyio's own code: the
limiters, the scopes, what a cancellation means, and the future that the caller awaits.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import ref

from .._core.pools import PoolSettings
from .._observe.notices import ShutdownBegun, ShutdownEnded
from .._run.frames import PASSING_ON
from .._run.futures import CallFuture
from .._run.names import qualname
from .anyio_names import name_giver
from .anyio_seam import renew_stand_in, stand_in
from .pool import with_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._observe.notices import Notice
    from .._run.run import WorkerKind
    from .._runtime.runtime import Runtime
    from .anyio_seam import Item, Seam
    from .binding import Binding

__all__ = ["AnyioCall", "AnyioThreads"]

POOL = "anyio"
"""The pool that carries these calls out."""

SIZE = 40
"""How many calls it has room for at first: as many as anyio's own limiter lets through."""

IDLE_TIMEOUT = 10.0
"""Seconds after which a thread without work ends, as one of anyio's would."""

LATE_REASON = "the supervisor has shut down"


class Carrier(ABC):
    """Carries out calls of anyio's threads for one supervisor, in its loop. On the loop's thread.

    For anyio it is one of its idle threads, and the queue of that thread.

    A call always has a thread: anyio's limiters say how many there are, and where one call waits for another, no other
    bound may keep that from running. So the pool grows with them.

    Args:
        binding: The supervisor's. It is not kept alive where nobody else holds it any more.

    Attributes:
        ended: It takes no more calls.
        seam, claim: How it reaches anyio, once it is installed.
    """

    idle_since = inf
    """For anyio: it is never idle for too long."""

    seam: Seam
    claim: dict[str, Any]

    def __init__(self, binding: Binding) -> None:
        self._binding = ref(binding)
        self._held: Binding | None = None
        self.ended = False

    @property
    def serves(self) -> bool:
        """Whether the next call is for it; where it is, the supervisor stays alive until that call is there."""
        binding = self._held = None if self.ended else self._binding()
        return binding is not None and binding.runtime is not None

    @property
    def queue(self) -> Carrier:
        return self

    def put_nowait(self, item: Item) -> None:
        """Makes a call of the supervisor's."""
        binding, self._held = self._held, None
        assert binding is not None
        runtime = self._runtime(binding)
        kind = runtime.kinds.get(POOL)
        _make_room(runtime, kind)
        call, future = AnyioCall.of(item, self.seam, self.claim)
        item[0].run(runtime.calls.call, runtime.root, call, (), kind=kind, future=future)

    @abstractmethod
    def _runtime(self, binding: Binding) -> Runtime:
        """Returns the runtime that takes a call, or raises."""


class AnyioThreads(Carrier):
    """Carries out the calls that come before the supervisor begins to shut down.

    Those that have come by then, and still wait for their limiter, are then refused, as queued calls are withdrawn:
    each would take the token of one that was stopped, and begin, and have to be stopped as well.
    """

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding)
        binding.add_pool(_pool_settings(binding), binding.root)
        self._late: Late | None = None
        binding.subscribers.subscribe(self._noticed, watch=False)

    def install(self, seam: Seam, loop: asyncio.AbstractEventLoop) -> None:
        """Has anyio use it in the running loop until the supervisor has shut down; of several, the last one counts."""
        self.seam = seam
        self.claim = seam.claim(loop)
        stand_in(seam).put_first(self)

    def _runtime(self, binding: Binding) -> Runtime:
        runtime = binding.reach()
        if not runtime.shutdown.begun:
            return runtime
        if binding.root.held:
            runtime.teardown.refuse(binding.root)
        return binding.late_runtime()  # it drains

    def _noticed(self, notice: Notice) -> None:
        match notice:
            case ShutdownBegun(group=""):
                self._begin_late()
            case ShutdownEnded(group=""):
                self._end_late()
            case _:
                pass

    def _begin_late(self) -> None:
        """Leaves to another one what comes from now on."""
        binding = self._binding()
        if binding is not None and self._late is None:
            late = Late(binding)
            late.seam, late.claim = self.seam, self.claim
            self._late = late
        if self._late is not None:
            renew_stand_in(self.seam, self, self._late)

    def _end_late(self) -> None:
        """Stops what has come since, where that would not end with the loop; anyio has its own threads again."""
        if self._late is not None:
            self._late.ended = True
        binding = self._binding()
        late = None if binding is None or binding.late_ends_with_loop else binding.late
        if late is not None:
            late.teardown.begin(late.root, None, LATE_REASON)


class Late(Carrier):
    """Carries out those that come while the supervisor shuts down: to end a response, or to close a file."""

    def _runtime(self, binding: Binding) -> Runtime:
        return binding.late_runtime()


def _pool_settings(binding: Binding) -> PoolSettings:
    settings = PoolSettings(name=POOL, kind="thread", size=SIZE, idle_timeout=IDLE_TIMEOUT)
    settings = with_config(settings, binding.settings.config)
    if settings.size != SIZE or settings.max_queued is not None:
        raise ValueError(
            f"the configuration bounds the pool {POOL!r} by size or max_queued: leave them out, as anyio's limiters "
            "say how many of its calls run at once: to_thread.current_default_thread_limiter().total_tokens = ..."
        )
    if POOL in binding.settings.pools:
        raise ValueError(
            f"supervisor {binding.settings.name!r} has a pool of the name {POOL!r}, which install_as_anyio_threads() "
            "takes: give that one another name"
        )
    return settings


def _make_room(runtime: Runtime, kind: WorkerKind) -> None:
    """Sees to it that a further call gets a thread at once, whoever of the others waits or was abandoned."""
    while kind.capacity <= len(kind.calls):
        kind.resize(runtime.settings.pools.resize(POOL, 2 * kind.settings.size).size)


# ------------------------------------------------------------------------------------------------ one call


class AnyioCall:
    """What a thread calls: a function, and around it what anyio's own threads do.

    Attributes:
        future: Where it goes what comes of it.
        seam: Has what anyio keeps for each thread.
        claim: What is there for all calls of the loop.
        scope: That of the caller.
    """

    __slots__ = ("_args", "_fn", "claim", "future", "scope", "seam")

    future: AnyioFuture
    seam: Seam
    claim: dict[str, Any]
    scope: object

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._fn = fn
        self._args = args

    @staticmethod
    def of(item: Item, seam: Seam, claim: dict[str, Any]) -> tuple[AnyioCall, AnyioFuture]:
        """Returns what a thread is to call, and where it goes what comes of that."""
        _, fn, args, theirs, scope = item
        call = AnyioCall(fn, args)
        future = call.future = AnyioFuture(loop=theirs.get_loop())
        future.theirs, future.cancelled_by = theirs, None
        call.seam, call.claim, call.scope = seam, claim, scope
        return call, future

    def __call__(self) -> Any:
        future = self.future
        if future.theirs.cancelled():
            return None  # nobody awaits it any more, and it has not begun
        here = self.seam.threadlocals.__dict__
        here.update(self.claim)
        here["current_cancel_scope"] = self.scope
        try:
            return self._fn(*self._args)
        except StopIteration as error:
            raise RuntimeError("coroutine raised StopIteration") from error
        except asyncio.CancelledError as error:  # of from_thread.check_cancelled()
            future.cancelled_by = error
            return None
        finally:
            here.pop("current_cancel_scope", None)

    def __getattr__(self, name: str) -> Any:
        if name == "__qualname__":  # made when somebody asks for it
            return qualname(name_giver(self._fn, self._args))
        raise AttributeError(name)


PASSING_ON.add(AnyioCall.__call__.__code__)


class AnyioFuture(CallFuture):
    """Hands what comes of a call on to the future that anyio's caller awaits.

    Who cancels that one leaves, and the call goes on: anyio has it so.

    Attributes:
        theirs: That future.
        cancelled_by: What the function has raised as its caller was cancelled, who gets that as it is.
    """

    __slots__ = ("cancelled_by", "theirs")

    theirs: asyncio.Future[Any]
    cancelled_by: asyncio.CancelledError | None

    def done(self) -> bool:
        return self.theirs.done()

    def set_result(self, value: Any, /) -> None:
        error, self.cancelled_by = self.cancelled_by, None
        if error is None:
            self.theirs.set_result(value)
        else:
            self.theirs.set_exception(error)

    def set_exception(self, error: type[BaseException] | BaseException, /) -> None:
        self.cancelled_by = None
        self.theirs.set_exception(error)
