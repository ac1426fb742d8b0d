"""Whether the installed anyio is as it is known here: it is tried out before its first use, in a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from importlib import metadata
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
from anyio import CancelScope, CapacityLimiter, from_thread, to_thread

from .._core.errors import described
from .._loop import aside
from .anyio_seam import seam_of_anyio, stand_in
from .anyio_threads import AnyioCall

if TYPE_CHECKING:
    from contextvars import Context

    from .anyio_seam import Item, Seam
    from .anyio_threads import AnyioFuture
    from .binding import Binding

__all__ = ["proven_seam"]

MAJOR = 4
"""The major version of anyio that is known here. Each of its releases is tried out."""

PATIENCE = 10.0
"""Seconds that this may take; it takes some thousandths of one."""

TURNS = 20
"""Turns of the loop in which a cancellation reaches whoever it is for."""


class UnfitError(Exception):
    """The installed anyio is not as it must be."""


_proven: list[Seam] = []


def proven_seam(binding: Binding) -> Seam:
    """Returns the seam of the installed anyio; tries it out the first time, for which the loop stands still.

    Raises:
        RuntimeError: It is not as it must be.
    """
    if not _proven:
        try:
            _check_version()
            seam = seam_of_anyio()
            _try_out(seam)
        except Exception as error:
            why = str(error) if isinstance(error, UnfitError) else f"it is made in another way ({described(error)})"
            raise binding.misused(
                f"cannot take over the threads of the installed anyio {_version()}: {why}. Install a release of anyio "
                f"{MAJOR} that this version of the library has been tested with, or a later version of the library; or "
                "leave out install_as_anyio_threads(), and await sup.run(...) where a function blocks"
            ) from error
        _proven.append(seam)
    return _proven[0]


def _version() -> str:
    try:
        return metadata.version("anyio")
    except metadata.PackageNotFoundError:  # in a frozen program: trying it out has to do
        return f"{MAJOR}.?"


def _check_version() -> None:
    if _version().partition(".")[0] != str(MAJOR):
        raise UnfitError(f"only those of its major version {MAJOR} are known")


def _try_out(seam: Seam) -> None:
    """Has anyio make calls in a loop of its own, in another thread, by the way that it is to be used in."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            anyio.run(_look, seam, backend="asyncio")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="supervisor/anyio-proof")
    aside.start(thread)
    thread.join(PATIENCE)
    if thread.is_alive():
        raise UnfitError(f"a call did not end within {PATIENCE:g} s")
    for error in errors:
        raise error


class Probe:
    """Carries out calls in a thread for each, as a supervisor would."""

    idle_since = inf
    ended = False

    def __init__(self, seam: Seam) -> None:
        self._seam = seam
        self._loop = asyncio.get_running_loop()
        self._claim = seam.claim(self._loop)
        self.serves = True
        self.calls = 0
        self._threads: list[threading.Thread] = []

    @property
    def queue(self) -> Probe:
        return self

    def put_nowait(self, item: Item) -> None:
        self.calls += 1
        call, future = AnyioCall.of(item, self._seam, self._claim)
        thread = threading.Thread(target=self._carry_out, args=(item[0], call, future), daemon=True)
        aside.start(thread)
        self._threads.append(thread)

    async def all_ended(self) -> None:
        """Waits for the threads: one that asks something of a loop that has ended would wait for ever."""
        while any(thread.is_alive() for thread in self._threads):  # noqa: ASYNC110  # a thread says it by no Event
            await asyncio.sleep(0.001)

    def _carry_out(self, context: Context, call: AnyioCall, future: AnyioFuture) -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = context.run(call)
        except BaseException as raised:
            error = raised
        try:
            aside.call_soon_threadsafe(self._loop, self._answer, future, value, error)
        except RuntimeError:
            pass  # the loop is closed: nobody awaits it

    def _answer(self, future: AnyioFuture, value: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result(value) if error is None else future.set_exception(error)


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise UnfitError(f"{what} is {found!r} there, and not {wanted!r}")


VARIABLE: ContextVar[str] = ContextVar("supervisor_anyio_proof", default="")


async def _look(seam: Seam) -> None:
    probe = Probe(seam)
    stand_in(seam).put_first(probe)
    try:
        await _look_at_values()
        await _look_at_cancellations()
    finally:
        await probe.all_ended()
    _expect("the number of calls that come", probe.calls, 4)
    _expect("the number of threads of its own", len(seam.workers.get()), 0)
    probe.serves = False
    thread: object = await to_thread.run_sync(threading.current_thread)
    _expect("the thread, where nobody takes its place,", type(thread).__module__, seam.backend.__module__)
    _expect("the number of calls that come then", probe.calls, 4)


async def _look_at_values() -> None:
    limiter = CapacityLimiter(1)

    def inside() -> tuple[object, ...]:
        from_thread.check_cancelled()
        return VARIABLE.get(), from_thread.run_sync(threading.get_ident), limiter.borrowed_tokens

    VARIABLE.set("the caller's")
    found = await to_thread.run_sync(inside, limiter=limiter)
    _expect("what a call sees", found, ("the caller's", threading.get_ident(), 1))
    _expect("the number of tokens taken after a call", limiter.borrowed_tokens, 0)
    try:
        await to_thread.run_sync(int, "x")
    except ValueError:
        return
    raise UnfitError("an error does not arrive")


async def _look_at_cancellations() -> None:
    ended: list[str] = []
    left = threading.Event()

    def checks() -> None:
        from_thread.run_sync(scope.cancel)
        for _ in range(TURNS):
            from_thread.run_sync(int)  # the caller would go on, if it did not wait
        ended.append("checks")
        from_thread.check_cancelled()
        ended.append("and goes on")

    def is_left() -> None:
        from_thread.run_sync(scope.cancel)
        left.wait(PATIENCE / 2)
        ended.append("left")

    with CancelScope() as scope:
        await to_thread.run_sync(checks)
    _expect("what a call does that is cancelled", (ended, scope.cancelled_caught), (["checks"], True))
    with CancelScope() as scope:
        await to_thread.run_sync(is_left, abandon_on_cancel=True)
    _expect("what a call does that is left alone", (ended, scope.cancelled_caught), (["checks"], True))
    left.set()
