"""Pure: when and how often a worker is started again, and who else with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from .errors import PolicyError
from .values import checked_count, checked_seconds

__all__ = ["OnExhausted", "Restart", "RestartWhen", "Strategy"]

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
        when: "never"; "failure": after an error, the death of its process, or a stop because it was stuck or
            used more than its `Limits` allow; "always": after a return, too.
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


def _is_exception_type(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)
