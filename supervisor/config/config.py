"""What was configured, and what of it holds for which worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .._core.policy import EscalationPolicy
from .._core.records import fields_of
from .budget import OverBudget, Platform, over_budget
from .layers import Layer
from .pool_layers import PoolLayer
from .unmatched import Unmatched

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._core.policy import Kind
    from .._core.restart import Restart

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """What was configured. Made by `load`; immutable, and safe to share between supervisors and threads.

    Attributes:
        policy: The ladder of all workers; None where it was not said.
        restart: When workers of `start` are started again; None where it was not said.
        shutdown_timeout: Seconds; None where it was not said.
        drain: For how many of these calls go on; None where it was not said.
        slow_after: Seconds after which a call that still runs is logged; infinite: never. None where it was not said.
        stall_after: Seconds after which it is logged that the event loop is blocked; the same.
        platform: What the platform gives.
        workers: What holds for some workers, in the order of the file, then of the environment.
        pools: What holds for some pools, whatever the code says of them, in the same order.

    Example:
        >>> from supervisor.config import load
        >>> config = load({"policy": {"ask": 5}, "workers": {"feeds/*": {"policy": {"ask": 1}}}}, environ={})
        >>> config.policy_for("feeds/reader"), config.policy_for("web")
        (EscalationPolicy(Ask(grace=1.0)), EscalationPolicy(Ask(grace=5.0)))
    """

    policy: EscalationPolicy | None = None
    restart: Restart | None = None
    shutdown_timeout: float | None = None
    drain: float | None = None
    slow_after: float | None = None
    stall_after: float | None = None
    platform: Platform = field(default_factory=Platform)
    workers: tuple[Layer, ...] = ()
    pools: tuple[PoolLayer, ...] = ()

    def pool(self, name: str) -> PoolLayer:
        """Returns what was configured for the pool of this name, which may be nothing."""
        return next((layer for layer in self.pools if layer.name == name), PoolLayer(name=name))

    def policy_for(self, name: str) -> EscalationPolicy | None:
        """Returns the ladder that was configured for a worker of this name; None where none was.

        The name is the whole one, "group/worker". An exact name goes before every pattern; of two patterns the one
        with more characters other than `*` and `?` counts; of equals the later.
        """
        return self._policy_in_layers(name) or self.policy

    def _policy_in_layers(self, name: str) -> EscalationPolicy | None:
        """Returns what `policy_for` does, but None where only what holds for all workers has a ladder."""
        layer = self._layer_for(name, "policy")
        return None if layer is None else layer.policy

    def restart_for(self, name: str) -> Restart | None:
        """Returns the Restart that was configured for a worker of this name; None where none was. See `policy_for`."""
        layer = self._layer_for(name, "restart")
        return self.restart if layer is None else layer.restart

    def shutdown_in(self, default: float = 20.0) -> float:
        """Returns the seconds within which a shutdown ends everything; `default` where they were not said."""
        return default if self.shutdown_timeout is None else self.shutdown_timeout

    def ladders(self, default: EscalationPolicy | None = None) -> dict[str, EscalationPolicy]:
        """Returns the ladders by pattern; "*" is for the workers that no layer has one for.

        Args:
            default: Their ladder where the configuration has none; None: `EscalationPolicy()`.
        """
        named = {layer.pattern: layer.policy for layer in self.workers if layer.policy is not None}
        return {"*": self.policy or default or EscalationPolicy(), **named}

    def over_budget(
        self, kind: Kind, *, policy: EscalationPolicy | None = None, shutdown_timeout: float = 20.0, drain: float = 0.0
    ) -> tuple[OverBudget, ...]:
        """Returns the ladders that take longer, for workers of a kind, than what the platform gives.

        A worker that comes after others adds its ladder to theirs, and `ctx.extend` adds to any: neither is known here.

        Args:
            kind: "thread" or "process".
            policy: The Supervisor's own argument, which counts where the configuration says nothing.
            shutdown_timeout: The same, in seconds.
            drain: The same.

        Raises:
            ValueError: `kind` is neither "thread" nor "process".
        """
        timeout = self.shutdown_in(shutdown_timeout)
        other = {"thread": "process", "process": "thread"}.get(kind)
        pools = {
            f"pools.{layer.name}": layer.policy
            for layer in self.pools
            if layer.policy is not None and layer.name != other
        }
        drain = drain if self.drain is None else self.drain
        return tuple(over_budget(self.ladders(policy) | pools, kind, timeout, drain, self.platform))

    def unmatched(self, names: Iterable[str]) -> tuple[str, ...]:
        """Returns the patterns that match none of these names, in their order: perhaps they are spelt wrong.

        Args:
            names: The whole names of all workers, "group/worker".

        Example:
            >>> from supervisor.config import load
            >>> config = load({"workers": {"feeds/*": {}, "wbe": {}}}, environ={})
            >>> config.unmatched(["web", "feeds/reader"])
            ('wbe',)
        """
        left = Unmatched(self.workers)
        for name in names:
            left.see(name)
        return left.patterns

    @cached_property
    def _unmatched(self) -> Unmatched:
        """Those that have matched nothing in the supervisors that follow this configuration."""
        return Unmatched(self.workers)

    @cached_property
    def _unmatched_pools(self) -> Unmatched:
        """The names of pools that none of these supervisors has."""
        return Unmatched(Layer(layer.name) for layer in self.pools)

    def __getstate__(self) -> dict[str, Any]:
        return fields_of(self)

    def _layer_for(self, name: str, what: str) -> Layer | None:
        exact, patterns = self._closest_first[what]
        if name in exact:
            return exact[name]
        return next((layer for layer in patterns if layer.matches(name)), None)

    @cached_property
    def _closest_first(self) -> dict[str, tuple[dict[str, Layer], list[Layer]]]:
        """By what layers say: those for one name, by that name, and those for all that a pattern matches."""
        found: dict[str, tuple[dict[str, Layer], list[Layer]]] = {}
        for what in Layer.SAYS:
            saying = [layer for layer in self.workers if getattr(layer, what) is not None]
            exact = {layer.pattern: layer for layer in saying if layer.exact}  # of equals, the later
            patterns = sorted((layer for layer in saying if not layer.exact), key=lambda layer: layer.literal)
            found[what] = exact, patterns[::-1]
        return found
