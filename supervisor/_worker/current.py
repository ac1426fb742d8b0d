"""Whose function a thread is in."""

from __future__ import annotations

from _thread import _local

TYPE_CHECKING = False  # light: worker processes import it
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Protocol

    from .context import Registration, WorkerContext

    class Source(Protocol):
        """What a thread carries out, as far as this module knows it."""

        def worker_context(self) -> WorkerContext:
            """Returns its context, made when it is first asked for, in its worker's own thread."""
            ...


__all__ = ["Beside", "current", "current_context", "entered", "fire", "shielded"]


class _Current(_local):
    source: Source | None = None


current = _Current()
"""Whose function this thread is in."""


def entered(source: Source | None) -> None:
    """Says whose run this thread carries out from now on; None: nobody's."""
    current.source = source


class Beside:
    """What a thread carries out that does something for a worker, beside the worker's own."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: WorkerContext) -> None:
        self._ctx = ctx

    def worker_context(self) -> WorkerContext:
        return self._ctx


class _Open:
    """Stands where there is nothing to shield."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


OPEN = _Open()


def fire(ctx: WorkerContext, registrations: tuple[Registration, ...]) -> None:
    """Runs callbacks of a worker that was asked to stop, on a thread beside its own."""
    entered(Beside(ctx))
    for registration in registrations:
        try:
            registration.fire()
        except BaseException as error:  # its own StopRequested, say: this thread is a helper, the worker goes on
            ctx.callback_failed(registration.callback, error)
    entered(None)  # what this thread held is gone before the thread is


def shielded() -> AbstractContextManager[None]:
    """Holds injections back from code of ours that a worker's function calls; elsewhere it does nothing."""
    source = current.source
    return OPEN if source is None else source.worker_context().own_shield()


def current_context() -> WorkerContext:
    """Returns the context of the worker in whose thread this is called.

    Raises:
        LookupError: This thread carries out no worker, nor a callback of `WorkerContext.on_stop`. Threads that a worker
            starts are not its own: hand them the context, or its `stop`.

    Example:
        >>> current_context()
        Traceback (most recent call last):
            ...
        LookupError: current_context(): this thread carries out no worker of a Supervisor
    """
    source = current.source
    if source is None:
        raise LookupError("current_context(): this thread carries out no worker of a Supervisor")
    return source.worker_context()
