"""Which ladder a run climbs, and which ladders take longer than the platform gives."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from .._core.ladder import Rules
from .._core.leases import MARGIN
from .._core.limits import why_irreplaceable
from .._core.policy import EscalationPolicy, Inject, Kill
from .nodes import scope_of

if TYPE_CHECKING:
    from .._core.policy import Kind, Step
    from .._core.pools import On
    from .._observe.log import Log
    from .._run.run import Run
    from ..config.unmatched import Unmatched
    from .nodes import WorkerNode
    from .settings import Settings

__all__ = ["DEFAULT_POLICY", "RuleBook"]

DEFAULT_POLICY = EscalationPolicy()

HASTE = 0.05
"""Seconds of grace at most, before Kill, of a run that uses more than it may, where nobody has named its ladder: what
it takes meanwhile, others lack."""

KNOWN_RULES = 100
"""Ladders that are remembered as the machine wants them."""

SHOWN = 5
"""Patterns at most that are named as matching nothing."""


class RuleBook:
    """Returns the rules of each run. On the loop's thread.

    Attributes:
        default_policy: The ladder where nobody has named one.
        unmatched: The patterns of the configuration that have matched no name yet; None without a configuration.
    """

    def __init__(self, settings: Settings, default_policy: EscalationPolicy, log: Log) -> None:
        self._settings = settings
        self.default_policy = default_policy
        self._log = log
        self.unmatched = None if settings.config is None else settings.config._unmatched
        self._unmatched_pools = None if settings.config is None else settings.config._unmatched_pools
        self._irreplaceable: set[tuple[Step, ...]] = set()  # the ladders of which it was said
        self._known: dict[tuple[EscalationPolicy | None, Kind, bool, bool, On], Rules] = {}

    def of(self, run: Run) -> Rules:
        """Returns the rules of a run, by the nearest policy that was named for it; never raises."""
        try:
            return self._of(run)
        except Exception as error:  # a policy of a class of the application's
            self._log.write(logging.ERROR, "supervisor.fault", doing="policy", worker=run.name, exc_info=error)
            on = run.kind.settings.on
            return self.make(DEFAULT_POLICY, run.kind.name, run.own, run.no_inject_on_cancel, on)

    def _of(self, run: Run) -> Rules:
        key = (self.named(run), run.kind.name, run.own, run.no_inject_on_cancel, run.kind.settings.on)
        rules = self._known.get(key)
        if rules is None:
            if len(self._known) >= KNOWN_RULES:
                self._known.clear()  # somebody makes a policy for each call
            rules = self._known[key] = self.make(*key)
        return rules

    def named(self, run: Run) -> EscalationPolicy | None:
        """Returns the nearest policy that was named for a run, if any."""
        settings = self._settings
        config = settings.config
        layered = None if config is None else config._policy_in_layers(run.name)
        pool = None if run.own else run.kind.settings.policy
        return run.policy or layered or pool or _policy_of(run) or settings.policy

    def make(
        self, named: EscalationPolicy | None, kind: Kind, own: bool, no_inject_on_cancel: bool, on: On = None
    ) -> Rules:
        """Makes the rules of a run whose ladder is `named`; without one, its own cancellation injects nothing.

        What runs on a node climbs its ladder there: here it is asked, and given the time that this takes.
        """
        steps = (named or self.default_policy).for_kind(kind)
        own_steps = steps
        if (named is None or no_inject_on_cancel) and not own and kind == "thread":
            own_steps = tuple(step for step in steps if not isinstance(step, Inject))
        hasty = steps if named is not None else tuple(map(_hastened, steps))
        rules = Rules(steps, own_steps, self._settings.shutdown_timeout, hasty)
        return rules if on is None else rules.elsewhere(MARGIN)

    def budget(self, run: Run) -> float:
        """Returns how many seconds the ladder of a run takes."""
        return math.fsum(step.grace for step in self.of(run).steps)

    def report_over_budget(self, kind: Kind) -> None:
        """Logs the ladders that take longer than the platform gives, once there may be workers of the kind."""
        settings = self._settings
        if settings.config is None:
            return
        policy = settings.policy or self.default_policy
        for over in settings.config.over_budget(
            kind, policy=policy, shutdown_timeout=settings.shutdown_timeout, drain=settings.drain
        ):
            self._log.write(
                logging.WARNING,
                "supervisor.over_budget",
                pattern=over.pattern,
                kind=kind,
                platform=over.platform,
                seconds=over.seconds,
                given=over.given,
                reason=str(over),
            )

    def report_irreplaceable(self, node: WorkerNode) -> None:
        """Logs that a worker which is to be started again when it is stuck cannot be; once for each ladder."""
        if node.restart.when == "never" or (node.heartbeat is None and node.ready_timeout is None):
            return
        run = node.run
        rules = self.of(run)
        if run.kind.settings.on is not None:  # what ends it is climbed on its node, and is one step here
            rules = self.make(self.named(run), run.kind.name, run.own, run.no_inject_on_cancel)
        steps = rules.steps
        why = why_irreplaceable(steps, node.kind.name)
        if why is None or steps in self._irreplaceable or len(self._irreplaceable) >= KNOWN_RULES:
            return  # the latter: somebody makes a ladder for each worker
        self._irreplaceable.add(steps)
        self._log.write(
            logging.WARNING,
            "worker.irreplaceable",
            worker=node.name,
            kind=node.kind.name,
            reason=f"stuck, it cannot be replaced: {why}",
        )

    def await_names(self) -> None:
        """From here on, names are seen that may match patterns."""
        if self.unmatched is not None:
            self.unmatched.join(self)
        if self._unmatched_pools is not None:
            self._unmatched_pools.join(self)

    def report_unmatched(self) -> None:
        """Logs the patterns that have matched nothing, once no supervisor is left that follows the configuration."""
        if left := self._left(self.unmatched):
            self._log.write(
                logging.WARNING,
                "supervisor.patterns_unmatched",
                patterns=list(left.patterns[:SHOWN]),
                reason=f"no worker and no call has had a name that these match: {_listed(left)}",
            )
        if left := self._left(self._unmatched_pools):
            self._log.write(
                logging.WARNING,
                "supervisor.pools_unmatched",
                pools=list(left.patterns[:SHOWN]),
                reason=f"no pool has had one of these names: {_listed(left)}",
            )

    def _left(self, unmatched: Unmatched | None) -> Unmatched | None:
        """Returns those that are to be reported, if any."""
        return unmatched if unmatched is not None and unmatched.leave(self) and unmatched else None


def _listed(unmatched: Unmatched) -> str:
    patterns = unmatched.patterns
    shown = [_with_nearest(pattern, unmatched.nearest(pattern)) for pattern in patterns[:SHOWN]]
    more = f"; and {len(patterns) - SHOWN} more" if len(patterns) > SHOWN else ""
    return f"{', '.join(shown)}{more}"


def _with_nearest(pattern: str, names: list[str]) -> str:
    return f"{pattern!r} (near it: {', '.join(map(repr, names))})" if names else repr(pattern)


def _hastened(step: Step) -> Step:
    return step if isinstance(step, Kill) else replace(step, grace=min(step.grace, HASTE))


def _policy_of(run: Run) -> EscalationPolicy | None:
    """Returns the ladder that its group, or the nearest around that, has for its workers."""
    scope = scope_of(run)
    for group in (scope, *scope.groups):
        if group.policy is not None:
            return group.policy
    return None
