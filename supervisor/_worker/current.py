"""Whose function a thread is in."""

from __future__ import annotations

from _thread import _local

TYPE_CHECKING = False  # light: worker processes import it
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Protocol

    from .context import WorkerContext

    class Source(Protocol):
        """What a thread carries out, as far as this module knows it."""

        def worker_context(self) -> WorkerContext:
            """Returns its context, made when it is first asked for, in its worker's own thread."""
            ...


__all__ = ["current", "current_context", "entered", "shielded"]


class _Current(_local):
    source: Source | None = None


current = _Current()
"""Whose function this thread is in."""


def entered(source: Source | None) -> None:
    """Says whose run this thread carries out from now on; None: nobody's."""
    current.source = source


class _Open:
    """Stands where there is nothing to shield."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


OPEN = _Open()


def shielded() -> AbstractContextManager[None]:
    """Holds injections back from code of ours that a worker's function calls; elsewhere it does nothing."""
    source = current.source
    return OPEN if source is None else source.worker_context().own_shield()


def current_context() -> WorkerContext:
    """Returns the context of the worker in whose thread this is called.

    Raises:
        LookupError: This thread carries out no worker. Threads that a worker starts are not its own: hand them the
            context, or its `stop`.

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
