"""A shutdown, as users ask for it: of a supervisor, a group or a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.values import checked_reason, checked_seconds
from .._loop.outlast import outlast

if TYPE_CHECKING:
    from .._core.report import ShutdownReport
    from .._runtime.scopes import AnyScope
    from .binding import Binding

__all__ = ["shut_down"]


async def shut_down(
    binding: Binding, scope: AnyScope, timeout: float | None, drain: float | None, reason: str
) -> ShutdownReport:
    """Shuts a scope down, or joins its shutdown, and returns the report; a cancellation outlasts that."""
    seconds = None if timeout is None else checked_seconds("shutdown(timeout={!r})", timeout)
    drained = None if drain is None else checked_seconds("shutdown(drain={!r})", drain)
    reason = checked_reason(reason)
    if scope.shutdown.report is None:
        closed = binding.bind().teardown.begin(scope, seconds, reason, drained)
        if cancelled := await outlast(closed):
            raise cancelled
    assert scope.shutdown.report is not None
    return scope.shutdown.report
