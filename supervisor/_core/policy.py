"""Pure: the steps of the ladder and the policies made of them.

A step is one class here, in the union of each kind that has it, and one branch in the `perform` of these kinds. Nothing
else lists the steps: what is to be known of one stands in its class, and type checkers find a branch that is missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, cast, get_args

from .errors import PolicyError
from .values import checked_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "LADDER",
    "STEPS",
    "STEPS_OF_KIND",
    "Ask",
    "EscalationPolicy",
    "Inject",
    "Kill",
    "Kind",
    "ProcessStep",
    "Step",
    "StepEnd",
    "StepName",
    "Terminate",
    "ThreadStep",
]

Kind: TypeAlias = Literal["thread", "process"]
StepName: TypeAlias = Literal["ask", "inject", "terminate", "kill"]

StepEnd: TypeAlias = Literal["stopped", "injected", "terminated", "killed"]
"""What an outcome says of a run that ended while it was being stopped: each step has its word."""

Level: TypeAlias = Literal["usual", "warning", "error"]
"""How a step is logged when it begins; "usual": as any other change of the worker."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Asks the worker to stop, by its stop Event and its `on_stop` callbacks, and waits for `grace` seconds.

    Attributes:
        grace: Seconds before the next step; 0 goes on at once, `math.inf` waits for as long as the shutdown allows.

    Raises:
        PolicyError: `grace` is negative, NaN, or not a number.

    Example:
        >>> Ask(10)
        Ask(grace=10.0)
    """

    name: ClassVar[StepName] = "ask"
    ended: ClassVar[StepEnd] = "stopped"
    level: ClassVar[Level] = "usual"
    summary: ClassVar[str] = "Sets the worker's stop Event and runs its on_stop callbacks."
    grace: float = 5.0

    def __post_init__(self) -> None:
        _check_grace(self)


@dataclass(frozen=True, slots=True)
class Inject:
    """Raises `StopInjected` in the worker at its next bytecode outside shields, again every `every` seconds.

    It cannot interrupt a C call of a thread: what is blocked there sees it when the call returns.

    Attributes:
        grace: Seconds before the next step; 0 goes on at once, `math.inf` waits for as long as the shutdown allows.
        every: Seconds between two injections while the grace lasts, above 0; `math.inf` injects once.

    Raises:
        PolicyError: `grace` is negative, or `every` is not above 0, or either is NaN or not a number.

    Example:
        >>> Inject(2, every=0.5)
        Inject(grace=2.0, every=0.5)
    """

    name: ClassVar[StepName] = "inject"
    ended: ClassVar[StepEnd] = "injected"
    level: ClassVar[Level] = "warning"
    summary: ClassVar[str] = "Raises StopInjected in the worker at its next bytecode outside shields."
    grace: float = 2.0
    every: float = field(
        default=1.0,
        metadata={"doc": "Seconds between two injections while the grace lasts; inf injects once.", "above": True},
    )

    def __post_init__(self) -> None:
        _check_grace(self)
        every = checked_seconds("Inject(every={!r})", self.every, error=PolicyError)
        if every == 0:
            raise PolicyError(f"Inject(every={self.every!r}): must be more than 0 seconds")
        object.__setattr__(self, "every", every)


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ends the process of a worker and sends SIGTERM to the rest of its group; threads have no such step.

    Attributes:
        grace: Seconds before the next step; 0 goes on at once, `math.inf` waits for as long as the shutdown allows.

    Raises:
        PolicyError: `grace` is negative, NaN, or not a number.

    Example:
        >>> Terminate()
        Terminate(grace=3.0)
    """

    name: ClassVar[StepName] = "terminate"
    ended: ClassVar[StepEnd] = "terminated"
    level: ClassVar[Level] = "warning"
    summary: ClassVar[str] = "Ends the worker's process, and asks its group with SIGTERM; threads have no such step."
    grace: float = 3.0

    def __post_init__(self) -> None:
        _check_grace(self)


@dataclass(frozen=True, slots=True)
class Kill:
    """Sends SIGKILL to the whole process group of a worker; threads have no such step.

    Attributes:
        grace: Seconds to wait for the kernel to report the death, before the process is given up as abandoned.

    Raises:
        PolicyError: `grace` is negative, NaN, or not a number.

    Example:
        >>> Kill()
        Kill(grace=2.0)
    """

    name: ClassVar[StepName] = "kill"
    ended: ClassVar[StepEnd] = "killed"
    level: ClassVar[Level] = "error"
    summary: ClassVar[str] = "SIGKILL to the process group; threads have no such step, and a process always has it."
    grace: float = 2.0

    def __post_init__(self) -> None:
        _check_grace(self)


Step: TypeAlias = Ask | Inject | Terminate | Kill
"""All steps, from the mildest up: the only order in which a policy may name them."""

ThreadStep: TypeAlias = Ask | Inject
ProcessStep: TypeAlias = Ask | Inject | Terminate | Kill

LADDER: tuple[type[Step], ...] = get_args(Step)
STEPS: Mapping[StepName, type[Step]] = {step.name: step for step in LADDER}
STEPS_OF_KIND: Mapping[Kind, tuple[type[Step], ...]] = {
    "thread": get_args(ThreadStep),
    "process": get_args(ProcessStep),
}


@dataclass(frozen=True, init=False, repr=False)
class EscalationPolicy:
    """A ladder: the steps that end a worker, from the mildest up, each with its grace.

    Immutable and hashable; safe to share between supervisors, threads and processes.

    Attributes:
        steps: The steps in order. With no argument: `Ask(5), Inject(2), Terminate(3), Kill(2)`.

    Raises:
        PolicyError: Something is no step, or a step stands twice or below a milder one.

    Example:
        >>> EscalationPolicy(Ask(10), Inject(1)).budget("thread")
        11.0
    """

    steps: tuple[Step, ...]

    def __init__(self, *steps: Step) -> None:
        if not steps:
            steps = (Ask(), Inject(), Terminate(), Kill())
        ranks: list[int] = []
        for position, step in enumerate(steps, start=1):
            if type(step) not in LADDER:
                raise PolicyError(f"EscalationPolicy: argument {position} is {step!r}, not a step such as Ask(5)")
            ranks.append(LADDER.index(type(step)))
            if len(ranks) > 1 and ranks[-2] >= ranks[-1]:
                raise PolicyError(
                    f"EscalationPolicy: {step!r} cannot come after {steps[position - 2]!r}; "
                    f"steps rise in the order {', '.join(step.__name__ for step in LADDER)}, each at most once"
                )
        object.__setattr__(self, "steps", steps)

    def __repr__(self) -> str:
        return f"EscalationPolicy({', '.join(map(repr, self.steps))})"

    def for_kind(self, kind: Kind) -> tuple[Step, ...]:
        """Returns the steps that a worker of this kind has, in order.

        A step that the kind lacks is left out. A process that cannot be talked out of it must still go: where the
        policy has no `Kill`, `Kill(2)` is added at its end.

        Raises:
            ValueError: `kind` is neither "thread" nor "process".

        Example:
            >>> EscalationPolicy(Ask(1), Terminate(2)).for_kind("thread")
            (Ask(grace=1.0),)
            >>> EscalationPolicy(Ask(1)).for_kind("process")
            (Ask(grace=1.0), Kill(grace=2.0))
        """
        if kind not in STEPS_OF_KIND:
            raise ValueError(f"kind={kind!r}: must be one of {', '.join(map(repr, STEPS_OF_KIND))}")
        steps = tuple(step for step in self.steps if type(step) in STEPS_OF_KIND[kind])
        if kind == "process" and not any(type(step) is Kill for step in steps):
            steps += (Kill(2.0),)
        return steps

    def budget(self, kind: Kind) -> float:
        """Returns the seconds that the whole ladder takes for a worker of this kind: the sum of its graces.

        Raises:
            ValueError: `kind` is neither "thread" nor "process".

        Example:
            >>> EscalationPolicy().budget("thread"), EscalationPolicy().budget("process")
            (7.0, 12.0)
        """
        return math.fsum(step.grace for step in self.for_kind(kind))

    @classmethod
    def from_config(cls, mapping: Mapping[str, Any]) -> EscalationPolicy:
        """Builds a policy from plain data, as a configuration file gives it.

        A key names a step, its value is the grace in seconds or a mapping of the step's fields. The steps are taken in
        the ladder's order, whatever the order of the keys. An empty mapping is the default policy.

        Raises:
            PolicyError: An unknown step or field, or a value that the step refuses; the message names the key.
            TypeError: `mapping` is no mapping.

        Example:
            >>> EscalationPolicy.from_config({"ask": 5, "inject": {"grace": 2, "every": 0.5}})
            EscalationPolicy(Ask(grace=5.0), Inject(grace=2.0, every=0.5))
        """
        if not hasattr(mapping, "keys"):
            raise TypeError(f"from_config(mapping={mapping!r}): must be a mapping from step names to graces")
        unknown = [key for key in mapping if key not in STEPS]
        if unknown:
            raise PolicyError(
                f"policy: unknown step {', '.join(map(repr, unknown))}; the steps are {', '.join(map(repr, STEPS))}"
            )
        return cls(*(_step_from_config(step, mapping[name]) for name, step in STEPS.items() if name in mapping))


def _step_from_config(step: type[Step], value: Any) -> Step:
    given = dict(cast("Mapping[str, Any]", value)) if hasattr(value, "keys") else {"grace": value}
    known = [field.name for field in fields(step)]
    unknown = [key for key in given if key not in known]
    if unknown:
        names, has = ", ".join(map(repr, unknown)), ", ".join(map(repr, known))
        raise PolicyError(f"policy: {step.name!r} has no field {names}; it has {has}")
    try:
        return step(**given)
    except PolicyError as error:
        raise PolicyError(f"policy: {step.name!r}: {error}") from None


def _check_grace(step: Step) -> None:
    field = type(step).__name__ + "(grace={!r})"
    object.__setattr__(step, "grace", checked_seconds(field, step.grace, error=PolicyError))
