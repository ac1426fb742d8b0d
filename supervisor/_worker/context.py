"""What a worker's function sees of its supervisor: the stop Event, `on_stop`, `shield`, and the time it has left.

Nothing here knows how a worker is run: a kind gives the context a `ContextBackend`.
"""

from __future__ import annotations

from _contextvars import copy_context  # the module of C: light
from _thread import allocate_lock, get_ident

from .._core.errors import StopRequested
from .._core.values import checked_count, checked_seconds

TYPE_CHECKING = False  # light: worker processes import it
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Any, TypeVar, TypeVarTuple, overload

    from .._core.policy import Kind
    from .backend import ContextBackend, LoopIterator, StopToken
    from .stop_event import StopEvent

    T = TypeVar("T")
    Ts = TypeVarTuple("Ts")
else:
    overload = lambda function: function  # noqa: E731  # typing is not light

__all__ = ["Registration", "WorkerContext"]

BUFFER = 256
"""Items that an async iterator may be ahead of its worker, where nobody says how many."""


class Registration:
    """One callback of `WorkerContext.on_stop`, and the block in which it may run. It runs at most once."""

    __slots__ = ("_backend", "_claim", "_context", "_finished", "_runner", "callback", "registrations")

    def __init__(
        self, callback: Callable[[], object], backend: ContextBackend, registrations: list[Registration]
    ) -> None:
        self.callback = callback
        self._backend = backend
        self._context = copy_context()  # of whoever registers it; the worker's own is in use
        self.registrations = registrations
        self._claim = allocate_lock()  # taken once: by who runs the callback, or by who leaves the block before
        self._finished = allocate_lock()
        self._finished.acquire()
        self._runner = 0

    @property
    def running(self) -> bool:
        return self._runner != 0 and self._finished.locked()

    def fire(self) -> None:
        """Runs the callback, unless it has run or its block was left; an error of it is reported, not raised."""
        if not self._claim.acquire(False):
            return
        self._runner = get_ident()
        try:
            self._context.run(self.callback)
        except StopRequested:
            raise  # an injection, or a check of the worker's own
        except BaseException as error:
            self._backend.callback_failed(self.callback, error)
        finally:
            self._finished.release()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._backend.own_shield():
            if not self._claim.acquire(False) and self._runner != get_ident():
                self._finished.acquire()
                self._finished.release()
            if self in self.registrations:
                self.registrations.remove(self)


class WorkerContext:
    """What a worker's function sees of its supervisor.

    `start()` passes it as the first argument; a call of `run()` gets it from `current_context`. It belongs to one run.
    `stop`, `check`, `sleep`, `reason`, `remaining`, `extend`, `call` and `iterate` may be used from any thread,
    `shield` only from the worker's own.

    Attributes:
        stop: The worker's stop Event, with `is_set()` and `wait(timeout=None) -> bool`.

    Example:
        >>> def poll(ctx, source):
        ...     while not ctx.stop.wait(1.0):
        ...         for row in source:
        ...             ctx.check()
    """

    __slots__ = ("_backend", "_token", "registrations", "stop")

    def __init__(self, token: StopToken, backend: ContextBackend, stop: StopEvent) -> None:
        self._token = token
        self._backend = backend
        self.registrations: list[Registration] = []
        self.stop = stop

    @property
    def name(self) -> str:
        """The worker's name."""
        return self._backend.name

    @property
    def kind(self) -> Kind:
        """How it runs: "thread" or "process"."""
        return self._backend.kind

    @property
    def attempt(self) -> int:
        """Which run of the worker this is, from 1."""
        return self._backend.attempt

    @property
    def reason(self) -> str | None:
        """Why it was asked to stop; None until then."""
        return self._backend.reason

    def check(self) -> None:
        """Raises StopRequested once a stop was asked; else does nothing, in some tens of nanoseconds.

        Raises:
            StopRequested: A stop was asked. Let it pass: it unwinds `finally` and `with`.
        """
        if self._token.asked is not None:
            raise StopRequested

    def sleep(self, seconds: float) -> None:
        """Sleeps for `seconds`, or until a stop is asked.

        Raises:
            StopRequested: A stop was asked, before or during the sleep.
            ValueError: `seconds` is negative or NaN.
            TypeError: `seconds` is not a number.
        """
        if self.stop.wait(checked_seconds("sleep(seconds={!r})", seconds)):
            raise StopRequested

    def on_stop(self, callback: Callable[[], object]) -> AbstractContextManager[None]:
        """Has `callback()` called once when a stop is asked, to wake what blocks: `sock.shutdown`, `conn.interrupt`.

        It is called on a helper thread of this worker, before anything is injected, the callbacks of one worker in the
        order of their registration. If a stop was asked already, it is called at once, here. Either way it sees the
        context variables as they are now, and `current_context()` gives this context. As a context manager it is in
        force until the block is left, which waits for a callback that is running then, though never for itself;
        without `with` it stays for the rest of the run. An error of the callback is logged and stops nothing; a
        callback that blocks is logged, and the ladder goes on.

        Raises:
            TypeError: `callback` is not callable.

        Example:
            >>> def receive(ctx, sock):
            ...     with ctx.on_stop(lambda: sock.shutdown(2)):
            ...         return sock.recv(1024)
        """
        if not callable(callback):
            raise TypeError(f"on_stop(callback={callback!r}): must be callable without arguments")
        registration = Registration(callback, self._backend, self.registrations)
        # First register, then look: a stop that comes in between is seen here, or sees the registration, or both, and
        # the registration's claim lets one of them run it.
        self.registrations.append(registration)
        if self._token.asked is not None:
            registration.fire()
        return registration

    def shield(self) -> AbstractContextManager[None]:
        """Holds an injected exception back inside the block, and raises it on leaving.

        For what must not be cut in half: taking a lock and its `try`, writing to a store, cleaning up. Nests. It holds
        back Inject alone: a stop Event is set all the same, and later steps come in their time.

        Raises:
            RuntimeError: On entering, where the calling thread is not the worker's own.
            StopInjected: On leaving, where one was held back.
        """
        return self._backend.shield()

    def ready(self) -> None:
        """Says that the worker is ready for use: see `ready_timeout` of `Supervisor.start`. Any thread."""
        with self._backend.own_shield():
            self._backend.ready()

    def heartbeat(self) -> None:
        """Says that the worker is alive: see `heartbeat` of `Supervisor.start`. Any thread; cheap enough for a loop."""
        with self._backend.own_shield():
            self._backend.heartbeat()

    def own_shield(self) -> AbstractContextManager[None]:
        """A shield where the calling thread is the worker's own, and nothing where it is not."""
        return self._backend.own_shield()

    def callback_failed(self, callback: Callable[[], object], error: BaseException) -> None:
        """Is called by the supervisor."""
        self._backend.callback_failed(callback, error)

    def extend(self, seconds: float) -> float:
        """Asks for more time on the present step of the ladder; returns the seconds that were granted.

        Outside a stop there is nothing to extend, and the answer is 0.0. The graces of later steps are never used up,
        and the end of the whole ladder stays within the shutdown's deadline; outside a shutdown, within
        `shutdown_timeout` from the beginning of the stop.

        Raises:
            ValueError: `seconds` is negative or NaN.
            TypeError: `seconds` is not a number.
        """
        wanted = checked_seconds("extend(seconds={!r})", seconds)
        with self._backend.own_shield():
            return self._backend.extend(wanted)

    @overload
    def call(self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts, cleanup: bool = False) -> T: ...
    @overload
    def call(self, fn: Callable[[*Ts], T], /, *args: *Ts, cleanup: bool = False) -> T: ...  # noqa: F811  # an overload
    def call(  # type: ignore[misc]  # noqa: F811  # an overload
        self, fn: Callable[..., Any], /, *args: Any, cleanup: bool = False
    ) -> Any:
        """Has the supervisor's event loop call `fn(*args)`, and await what it returns; returns the result.

        The function runs in the loop, as a task of its own: it may use what belongs to the loop, and must not block.
        The worker waits meanwhile, as in `sleep`: where a stop is asked, the task is cancelled, and StopRequested is
        raised once that has ended it. A value or an error that it has all the same is not lost. A task that does not
        end is left alone after half of the grace that remained, and logged. Where the worker ends, by whatever cause,
        so do its calls.

        Any thread of the worker may call it, and many at once. It is shielded: an injection is raised when it is over.
        In a thread, the context variables of the caller are visible to the function; in a process, those of whoever
        submitted the worker. From a process, the function is sent by name, its arguments and its result are pickled;
        from a node of a cluster, too, also from a thread there.

        Args:
            fn: A coroutine function, or any function: what it returns is awaited if it can be. Keyword arguments go
                through `functools.partial`.
            *args: Its arguments.
            cleanup: A stop neither refuses nor ends it: for `finally` blocks. It then has half of the grace that
                remains, is cancelled after that, and is left alone after half of what then remains.

        Raises:
            StopRequested: A stop was asked: before the call, and the function was not called; or meanwhile.
            Exception: What the function raised; BaseExceptions, too. From a process, the traceback in the supervisor's
                process is the text of the `__cause__`.
            concurrent.futures.CancelledError: The function was cancelled, or raised CancelledError, and no stop was
                asked.
            TypeError: `fn` is not callable, or is an async generator function; or it cannot be sent from a process.
            RemoteError: What came of it cannot be sent to the process.
            SupervisorClosed: The event loop is closed; or, on a node, its lease has run out.
            RuntimeError: This is the event loop's own thread, which would wait for itself; or the worker has ended.

        Example:
            >>> import asyncio
            >>> from supervisor import Supervisor, current_context
            >>> async def fetch(number):
            ...     await asyncio.sleep(0.001)
            ...     return number * 2
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         return await sup.run(lambda: current_context().call(fetch, 21))
            >>> asyncio.run(main())
            42
        """
        if not callable(fn):
            raise TypeError(f"call(fn={fn!r}): must be callable: give the function, and its arguments after it")
        if self._token.asked is not None and not cleanup:
            raise StopRequested
        with self._backend.own_shield():
            how, what = self._backend.call(fn, args, cleanup)
        if how == "value":
            return what
        if how == "stopped":
            raise StopRequested
        try:
            raise what
        finally:
            del what  # its traceback holds this frame

    def iterate(self, items: AsyncIterable[T], *, buffer: int = BUFFER) -> LoopIterator[T]:
        """Returns an iterator over what an async iterable yields in the supervisor's event loop. In threads alone.

        One task there reads it, at most `buffer` items ahead, and closes it at its end, where it can be closed. It ends
        as a call of `call` does: where a stop is asked, and where the worker ends. Close the iterator, best by a `with`
        block, to end it before: that waits until the async one has been closed; where it is dropped, as by `break`
        from a loop over one that nobody else holds, nobody waits.

        Args:
            items: An async iterable: an async generator, say, or an `Iteration`.
            buffer: How many items may have been yielded and not been taken, 1 or more.

        Raises:
            StopRequested: From the iterator: a stop was asked. Let it pass.
            Exception: From the iterator: what the async one raised, behind the items that came before it.
            TypeError, ValueError: An argument is wrong.
            SupervisorClosed: From the iterator: the event loop is closed.
            RuntimeError: This is the event loop's own thread; or the worker runs in a process, or on a node.

        Example:
            >>> import asyncio
            >>> from supervisor import Supervisor, current_context
            >>> async def lines():
            ...     yield "a"
            ...     yield "b"
            >>> async def main():
            ...     async with Supervisor() as sup:
            ...         return await sup.run(lambda: list(current_context().iterate(lines())))
            >>> asyncio.run(main())
            ['a', 'b']
        """
        if not hasattr(type(items), "__aiter__"):
            raise TypeError(f"iterate(items={items!r}): must be an async iterable")
        size = checked_count("iterate(buffer={!r})", buffer, least=1)
        if self._token.asked is not None:
            raise StopRequested
        with self._backend.own_shield():
            return self._backend.iterate(items, size)

    def remaining(self) -> float:
        """Returns the seconds until the next step of the ladder; `math.inf` while nothing stops the worker."""
        return self._backend.remaining()

    def __repr__(self) -> str:
        stopping = "" if self.reason is None else f", stopping: {self.reason}"
        return f"<WorkerContext of {self.kind} worker {self.name!r}, run {self.attempt}{stopping}>"
