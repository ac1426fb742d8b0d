"""Ladders, restarts and times from a TOML file and the environment, for whoever runs the service.

`load` reads them, `Supervisor(config=...)` follows them, and `python -m supervisor check policy.toml` shows them.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from .._core.errors import PolicyError
from .._core.policy import EscalationPolicy
from .._core.restart import Restart
from .schema import CONFIG, PLATFORMS, dotted, problems
from .sources import Document, Problem, from_environment, from_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._core.policy import Kind
    from .schema import Path

__all__ = ["PREFIX", "Config", "ConfigError", "Layer", "OverBudget", "Platform", "Problem", "load"]

PREFIX = "STOPLADDER_"
"""What the environment variables begin with; the rest is a key of the file in capitals."""

SLACK = 0.25
"""Seconds that a shutdown may take beyond its ladders; `Supervisor.shutdown` promises it."""


class ConfigError(PolicyError):
    """A configuration that is refused, with everything that is wrong with it.

    Attributes:
        problems: What is wrong, in the order of the file, then of the environment.

    Example:
        >>> load({"policy": {"ask": -1, "aks": 5}}, environ={})
        Traceback (most recent call last):
            ...
        supervisor.config.ConfigError: the configuration is refused, for 2 reasons:
        the mapping: policy.ask: must be a number of seconds, 0 or more; not -1
        the mapping: policy.aks: is no key; the keys here are ask, inject, terminate and kill
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        count = len(self.problems)
        lines = "\n".join(map(str, self.problems))
        return f"the configuration is refused, for {count} reason{'s' * (count != 1)}:\n{lines}"


@dataclass(frozen=True, slots=True)
class Platform:
    """What the platform gives a process from SIGTERM to SIGKILL, in seconds; None where it was not said.

    Attributes:
        kubernetes: `terminationGracePeriodSeconds`.
        docker: `--stop-timeout`, or `stop_grace_period`.
        systemd: `TimeoutStopSec`.
        gunicorn: `--graceful-timeout`.
        other: That of any other.
        reserve: Seconds of these that are not the supervisor's.
    """

    kubernetes: float | None = None
    docker: float | None = None
    systemd: float | None = None
    gunicorn: float | None = None
    other: float | None = None
    reserve: float = 0.0

    def limits(self) -> dict[str, float]:
        """Returns the seconds by platform, of those that were said.

        Example:
            >>> Platform(docker=10, reserve=2).limits()
            {'docker': 10}
        """
        said = {name: getattr(self, name) for name in PLATFORMS}
        return {name: seconds for name, seconds in said.items() if seconds is not None}


@dataclass(frozen=True, slots=True)
class Layer:
    """What holds for the workers whose names a pattern matches.

    Attributes:
        pattern: Names as logs have them, groups included: `*` stands for any text, `?` for one character.
        policy, restart: Theirs; None where the layer does not say.
    """

    SAYS: ClassVar = ("policy", "restart")

    pattern: str
    policy: EscalationPolicy | None = None
    restart: Restart | None = None

    def matches(self, name: str) -> bool:
        """Returns whether it holds for a worker of this name.

        Example:
            >>> Layer("feeds/*").matches("feeds/fast/reader"), Layer("feeds/*").matches("feeds")
            (True, False)
        """
        return _expression(self.pattern).fullmatch(name) is not None

    @property
    def closeness(self) -> tuple[bool, int]:
        """Orders layers: a name before all patterns, and then by the characters that are no wildcards."""
        literal = sum(character not in WILD for character in self.pattern)
        return literal == len(self.pattern), literal


WILD = {"*": ".*", "?": "."}


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(WILD.get(character) or re.escape(character) for character in pattern), re.DOTALL)


@dataclass(frozen=True, slots=True)
class OverBudget:
    """A ladder that takes longer than a platform gives.

    Attributes:
        pattern: Whose it is; "*": that of all workers that no layer has one for.
        kind: For which kind of worker.
        ladder: Seconds of the ladder; `math.inf` has no end of its own.
        seconds: What a shutdown may take for it: the ladder, or `shutdown_timeout` where that is infinite, and 0.25 s.
        platform: Which platform.
        given: Seconds that it gives.
        reserve: Seconds of these that are not the supervisor's.
        shrunk_to: `shutdown_timeout`, where it is shorter than the ladder; else None.

    Example:
        >>> [over] = load({"platform": {"docker": 10}}, environ={}).over_budget("process")
        >>> print(over)
        a process's ladder may take 12.25 s, but docker gives 10 s (--stop-timeout, or stop_grace_period)
    """

    pattern: str
    kind: Kind
    ladder: float
    seconds: float
    platform: str
    given: float
    reserve: float
    shrunk_to: float | None = None

    def __str__(self) -> str:
        but = f", of which {self.reserve:g} s are in reserve" if self.reserve else ""
        text = (
            f"a {self.kind}'s ladder may take {self.seconds:g} s, but {self.platform} gives {self.given:g} s "
            f"({PLATFORMS[self.platform]}){but}"
        )
        return text if self.shrunk_to is None else f"{text}; a shutdown shrinks the ladder to {self.shrunk_to:g} s"


@dataclass(frozen=True)
class Config:
    """What was configured. Made by `load`; immutable, and safe to share between supervisors and threads.

    Attributes:
        policy: The ladder of all workers; None where it was not said.
        restart: When workers of `start` are started again; None where it was not said.
        shutdown_timeout: Seconds; None where it was not said.
        platform: What the platform gives.
        workers: What holds for some workers, in the order of the file, then of the environment.

    Example:
        >>> config = load({"policy": {"ask": 5}, "workers": {"feeds/*": {"policy": {"ask": 1}}}}, environ={})
        >>> config.policy_for("feeds/reader"), config.policy_for("web")
        (EscalationPolicy(Ask(grace=1.0)), EscalationPolicy(Ask(grace=5.0)))
    """

    policy: EscalationPolicy | None = None
    restart: Restart | None = None
    shutdown_timeout: float | None = None
    platform: Platform = field(default_factory=Platform)
    workers: tuple[Layer, ...] = ()

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
        self, kind: Kind, *, policy: EscalationPolicy | None = None, shutdown_timeout: float = 20.0
    ) -> tuple[OverBudget, ...]:
        """Returns the ladders that take longer, for workers of a kind, than what the platform gives.

        A worker that comes after others adds its ladder to theirs, and `ctx.extend` adds to any: neither is known here.

        Args:
            kind: "thread" or "process".
            policy: The Supervisor's own argument, which counts where the configuration says nothing.
            shutdown_timeout: The same, in seconds.

        Raises:
            ValueError: `kind` is neither "thread" nor "process".
        """
        timeout = self.shutdown_in(shutdown_timeout)
        reserve = self.platform.reserve
        found: list[OverBudget] = []
        for pattern, ladder in self.ladders(policy).items():
            budget = ladder.budget(kind)
            seconds = (timeout if math.isinf(budget) else budget) + SLACK
            shrunk_to = timeout if timeout < budget else None
            found.extend(
                OverBudget(pattern, kind, budget, seconds, platform, given, reserve, shrunk_to)
                for platform, given in self.platform.limits().items()
                if seconds + reserve > given
            )
        return tuple(found)

    def _layer_for(self, name: str, what: str) -> Layer | None:
        matching = (layer for layer in self._closest_first if layer.matches(name))
        return next((layer for layer in matching if getattr(layer, what) is not None), None)

    @cached_property
    def _closest_first(self) -> list[Layer]:
        return sorted(self.workers, key=lambda layer: layer.closeness)[::-1]  # of equals, the later


def load(
    source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    prefix: str = PREFIX,
    platform: Mapping[str, float] | None = None,
) -> Config:
    """Reads a configuration: a file, over it the environment. Refuses it whole where anything in it is wrong.

    A variable is a key of the file in capitals after the prefix, and its value what would stand to the right of `=` in
    the file: `STOPLADDER_POLICY='{ask = 5, inject = 2}'`. It takes the place of the file's whole value; the tables of
    `STOPLADDER_WORKERS` are added to the file's, after them. It reads the file at once: call it before the event loop
    runs, or in a thread.

    Args:
        source: The path of a TOML file; or what such a file holds, as a mapping; None: the environment alone.
        environ: The environment; None: that of the process; `{}`: none.
        prefix: What the variables begin with, not empty.
        platform: What the platform gives, as the table `platform` has it; in the place of that one, where given.

    Raises:
        ConfigError: Something is wrong; it has all that is, each with its file or variable, its key and the reason.
        TypeError, ValueError: An argument is wrong.

    Example:
        >>> load(environ={"STOPLADDER_SHUTDOWN_TIMEOUT": "12"}).shutdown_timeout
        12.0
    """
    if source is not None and not isinstance(source, str | os.PathLike | Mapping):
        raise TypeError(f"load(source={source!r}): must be the path of a file, a mapping or None")
    if not isinstance(prefix, str):
        raise TypeError(f"load(prefix={prefix!r}): must be a string")
    if not prefix:
        raise ValueError("load(prefix=''): must not be empty, or every variable would be meant")
    found: list[Problem] = []
    said: dict[str, Any] = {}
    layers: list[Layer] = []
    for document in _documents(source, os.environ if environ is None else environ, prefix, platform, found):
        fields = _checked(document, found)
        layers += fields.pop("workers")
        said |= fields
    if found:
        raise ConfigError(tuple(found))
    return Config(**said, workers=tuple(layers))


def _documents(
    source: str | os.PathLike[str] | Mapping[str, Any] | None,
    environ: Mapping[str, str],
    prefix: str,
    platform: Mapping[str, float] | None,
    found: list[Problem],
) -> Iterator[Document]:
    """Gives what is read, each over those before it."""
    if source is not None:
        yield from from_source(source, found)
    yield from from_environment(environ, prefix, CONFIG.keys, found)
    if platform is not None:
        yield Document("the argument", {"platform": platform})


# ------------------------------------------------------------------------------------------------ what it says


def _checked(document: Document, found: list[Problem]) -> dict[str, Any]:
    """Returns what a document says, as the fields of a Config; adds to `found` all that is wrong with it."""
    values = document.values
    wrong = list(problems(CONFIG, values))

    def made(table: Mapping[str, Any], path: Path) -> Any:
        """Makes the value at a path, unless it or something in it is wrong."""
        if any(bad[: len(path)] == path for bad, _ in wrong):
            return None
        try:
            return MAKE[path[-1]](table[path[-1]])
        except PolicyError as error:  # each value can be, but not together
            wrong.append((path, str(error)))
            return None

    said = {key: made(values, (key,)) for key in MAKE if key in values}
    said["workers"] = [
        Layer(pattern, **{key: made(table, ("workers", pattern, key)) for key in Layer.SAYS if key in table})
        for pattern, table in _tables(values.get("workers"))
    ]
    lines = document.lines({path for path, _ in wrong})
    here = [Problem(document.source, dotted(path), reason, lines.get(path)) for path, reason in wrong]
    found += sorted(here, key=lambda problem: problem.line or 0)
    return said


def _tables(value: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Gives what is a table by its name, of what should be a table of such."""
    for name, table in cast("Mapping[object, object]", value).items() if isinstance(value, Mapping) else ():
        if isinstance(name, str) and isinstance(table, Mapping):
            yield name, cast("Mapping[str, Any]", table)


MAKE: Mapping[str, Callable[[Any], Any]] = {
    "policy": EscalationPolicy.from_config,
    "restart": lambda table: Restart(**table),
    "shutdown_timeout": float,
    "platform": lambda table: Platform(**{name: float(seconds) for name, seconds in table.items()}),
}
