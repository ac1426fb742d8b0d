"""Pure: what a ladder cannot do for workers of a kind."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .policy import STEPS_OF_KIND, EscalationPolicy, Inject, Kill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .policy import Kind, Step
    from .restart import RestartWhen

__all__ = ["limits", "why_irreplaceable"]

DEFAULT = EscalationPolicy()


def limits(policy: EscalationPolicy, kind: Kind, when: RestartWhen) -> Iterator[str]:
    """Gives what a ladder says, or seems to say, and does not do for a worker of a kind that is restarted like this.

    Example:
        >>> from supervisor import Ask, Kill
        >>> for limit in limits(EscalationPolicy(Ask(5), Kill(2)), "thread", "failure"):
        ...     print(limit)
        left out: kill; a thread has no such step
        stuck, it cannot be replaced: without inject nothing ends a thread that does not stop when it is asked
    """
    steps = policy.for_kind(kind)
    missing = [step.name for step in policy.steps if type(step) not in STEPS_OF_KIND[kind]]
    if missing and policy != DEFAULT:  # that one is for all kinds, and nobody wonders
        yield f"left out: {', '.join(missing)}; a {kind} has no such step"
    if when != "never" and (why := why_irreplaceable(steps, kind)):
        yield f"stuck, it cannot be replaced: {why}"
    if endless := _endless(steps):
        yield f"outside of a shutdown, one that does not obey is waited for without end: {endless.name} is infinite"


def why_irreplaceable(steps: tuple[Step, ...], kind: Kind) -> str | None:
    """Returns why these steps give up a worker that is stuck, so that it is not started again; None if they end it.

    A thread that is blocked in C code is always given up: what is found here holds for all others, too.
    """
    if Kill in STEPS_OF_KIND[kind] or any(isinstance(step, Inject) for step in steps) or _endless(steps):
        return None
    return f"without inject nothing ends a {kind} that does not stop when it is asked"


def _endless(steps: tuple[Step, ...]) -> Step | None:
    """Returns the step, if any, after which nothing comes outside of a shutdown."""
    return next((step for step in steps if math.isinf(step.grace)), None)
