"""The options of a call that begins later, once somebody asks for what it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .checks import checked_limits, checked_name, checked_policy, checked_slow_after, checked_timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.policy import EscalationPolicy
    from .._core.pools import Limits
    from .._run.futures import CallFuture
    from .._runtime.nodes import GroupNode
    from .._runtime.runtime import Runtime
    from .._runtime.scopes import PoolScope

__all__ = ["Options"]


class Options:
    """Options of calls as their user gave them, and checked; see `Supervisor.run` for what they mean.

    Args:
        pool: The pool that takes them.
        timeout, within, policy, limits, slow_after, name: As there.
        submitted_from: Where their user has asked for them, as "path:line"; None where that is not kept.

    Raises:
        TypeError, ValueError: One of them is wrong; the message names it.
    """

    __slots__ = ("limits", "name", "policy", "pool", "slow_after", "submitted_from", "timeout", "within")

    def __init__(
        self,
        pool: PoolScope,
        timeout: float | None,
        within: float | None,
        policy: EscalationPolicy | None,
        limits: Limits | None,
        slow_after: float | None,
        name: str | None = None,
        *,
        submitted_from: str | None = None,
    ) -> None:
        self.pool = pool
        self.timeout = checked_timeout(timeout)
        self.within = checked_timeout(within, "within")
        self.policy = checked_policy(policy)
        self.limits = checked_limits(limits, pool.settings.kind)
        self.slow_after = checked_slow_after(slow_after)
        self.name: str | None = checked_name(name, optional=True)
        self.submitted_from = submitted_from

    def call(
        self,
        runtime: Runtime,
        scope: GroupNode,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        future: CallFuture | None = None,
    ) -> CallFuture:
        """Submits a call with these options; returns its future, which is the given one, if any."""
        kind = runtime.kinds.of(self.pool)
        return runtime.calls.call(
            scope,
            fn,
            args,
            self.timeout,
            self.within,
            self.policy,
            self.name,
            kind,
            self.limits,
            self.slow_after,
            self.submitted_from,
            future,
        )
