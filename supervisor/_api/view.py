"""The pool as the event loop's `run_in_executor` takes it."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.placement import Placement
    from .._core.policy import EscalationPolicy
    from .._core.pools import Limits
    from .._run.futures import CallFuture
    from .._run.run import WorkerKind
    from .._runtime.calls import Calls
    from .._runtime.nodes import GroupNode

__all__ = ["LoopView"]


class LoopView(Executor):
    """The pool as `loop.run_in_executor` takes it, with the options of a call.

    Its `submit` gives an asyncio future, which `run_in_executor` passes on as it is: no future of concurrent.futures is
    made, and none is wrapped. On the loop's thread only.
    """

    def __init__(
        self,
        calls: Calls,
        timeout: float | None = None,
        within: float | None = None,
        policy: EscalationPolicy | None = None,
        name: str | None = None,
        kind: WorkerKind | None = None,
        limits: Limits | None = None,
        slow_after: float | None = None,
        placement: Placement | None = None,
        *,
        scope: GroupNode,
    ) -> None:
        self._calls = calls
        self._scope = scope
        self._kind = kind
        self._timeout = timeout
        self._within = within
        self._policy = policy
        self._name = name
        self._limits = limits
        self._slow_after = slow_after
        self._placement = placement

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> CallFuture:  # type: ignore[override]
        return self._calls.call(
            self._scope,
            fn,
            args,
            self._timeout,
            self._within,
            self._policy,
            self._name,
            self._kind,
            self._limits,
            self._slow_after,
            placement=self._placement,
        )
