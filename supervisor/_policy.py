"""Pure: the steps of the ladder and the policies made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, cast, get_args

from ._errors import PolicyError
from ._values import checked_count, checked_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Ask",
    "EscalationPolicy",
    "Inject",
    "Kill",
    "Kind",
    "OnExhausted",
    "Restart",
    "RestartWhen",
    "Step",
    "StepName",
    "Strategy",
    "Terminate",
]

Kind: TypeAlias = Literal["thread", "process"]
StepName: TypeAlias = Literal["ask", "inject", "terminate", "kill"]


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
    grace: float = 2.0
    every: float = 1.0

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
    grace: float = 2.0

    def __post_init__(self) -> None:
        _check_grace(self)


Step: TypeAlias = Ask | Inject | Terminate | Kill

LADDER: tuple[type[Step], ...] = (Ask, Inject, Terminate, Kill)
"""All steps, from the mildest up: the only order in which a policy may name them."""

STEPS_OF_KIND: Mapping[Kind, tuple[type[Step], ...]] = {
    "thread": (Ask, Inject),
    "process": (Ask, Inject, Terminate, Kill),
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
                    "steps rise in the order Ask, Inject, Terminate, Kill, each at most once"
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
        classes: dict[str, type[Step]] = {step.name: step for step in LADDER}
        unknown = [key for key in mapping if key not in classes]
        if unknown:
            raise PolicyError(f"policy: unknown step {', '.join(map(repr, unknown))}; {_KNOWN_STEPS}")
        return cls(*(_step_from_config(step, mapping[name]) for name, step in classes.items() if name in mapping))


RestartWhen: TypeAlias = Literal["never", "failure", "always"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
OnExhausted: TypeAlias = Literal["give_up", "escalate"]


@dataclass(frozen=True, init=False)
class Restart:
    """When a worker that has ended is started again, how often, and after which pause.

    A worker that was asked to stop, by `Worker.stop` or a shutdown, is never started again. The pause before a restart
    is `backoff`, doubled with each further one up to `max_backoff`, and spread by `jitter`; it begins anew once the
    worker has run for `within` seconds. Immutable.

    Attributes:
        when: "never"; "failure": after an error, the death of its process, or a stop because it was stuck; "always":
            after a return, too.
        max_restarts: Restarts within `within` seconds beyond which it is given up, 0 or more.
        within: Seconds, above 0; `math.inf` counts for ever.
        backoff: Seconds before the first restart, 0 or more.
        max_backoff: Seconds at most before any, `backoff` or more.
        jitter: Each pause is multiplied by a random number from 1 - jitter to 1 + jitter; from 0 to 1.
        never_on: Exception types after which there is no restart, such as those of a wrong configuration.

    Raises:
        PolicyError: A field cannot be; the message names it.

    Example:
        >>> Restart("failure", max_restarts=5).delay(0, chance=0.5), Restart("failure").delay(2, chance=0.5)
        (0.2, 0.8)
    """

    when: RestartWhen
    max_restarts: int
    within: float
    backoff: float
    max_backoff: float
    jitter: float
    never_on: tuple[type[BaseException], ...]

    def __init__(
        self,
        when: RestartWhen = "never",
        *,
        max_restarts: int = 3,
        within: float = 5.0,
        backoff: float = 0.2,
        max_backoff: float = 30.0,
        jitter: float = 0.5,
        never_on: type[BaseException] | tuple[type[BaseException], ...] = (),
    ) -> None:
        if when not in get_args(RestartWhen):
            raise PolicyError(f"Restart(when={when!r}): must be one of {', '.join(map(repr, get_args(RestartWhen)))}")
        try:
            checked_count("Restart(max_restarts={!r})", max_restarts, least=0)
        except (TypeError, ValueError) as error:
            raise PolicyError(str(error)) from None
        given = {"within": within, "backoff": backoff, "max_backoff": max_backoff, "jitter": jitter}
        for name, value in given.items():
            given[name] = checked_seconds(f"Restart({name}={{!r}})", value, error=PolicyError)
        if given["within"] == 0:
            raise PolicyError(f"Restart(within={within!r}): must be more than 0 seconds")
        if math.isinf(given["backoff"]):
            raise PolicyError(f"Restart(backoff={backoff!r}): must be finite")
        if given["max_backoff"] < given["backoff"]:
            raise PolicyError(f"Restart(max_backoff={max_backoff!r}): must not be less than backoff={backoff!r}")
        if given["jitter"] > 1:
            raise PolicyError(f"Restart(jitter={jitter!r}): must be from 0 to 1")
        types = never_on if isinstance(never_on, tuple) else (never_on,)
        if not all(_is_exception_type(kind) for kind in types):
            raise PolicyError(f"Restart(never_on={never_on!r}): must be exception types")
        values: dict[str, Any] = {"when": when, "max_restarts": max_restarts, "never_on": types, **given}
        for field in fields(self):
            object.__setattr__(self, field.name, values[field.name])

    def delay(self, streak: int, chance: float) -> float:
        """Returns the seconds before a restart that follows on `streak` others; `chance`, from 0 to 1, is the dice.

        Example:
            >>> Restart(backoff=1, jitter=0.5).delay(0, chance=0), Restart(backoff=1, jitter=0.5).delay(9, chance=1)
            (0.5, 45.0)
        """
        doubled = self.backoff * 2.0 ** min(streak, 1000) if self.backoff else 0.0
        return min(doubled, self.max_backoff) * (1 + self.jitter * (2 * chance - 1))


_KNOWN_STEPS = f"the steps are {', '.join(repr(name) for name in get_args(StepName))}"


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


def _is_exception_type(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _check_grace(step: Step) -> None:
    field = type(step).__name__ + "(grace={!r})"
    object.__setattr__(step, "grace", checked_seconds(field, step.grace, error=PolicyError))
