"""Reads a configuration, and refuses it with all that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from .._core.errors import PolicyError
from .._core.policy import EscalationPolicy
from .._core.pools import Limits
from .._core.restart import Restart
from .budget import Platform
from .config import Config
from .layers import Layer
from .pool_layers import PoolLayer
from .schema import CONFIG, POOL, dotted, problems
from .sources import Document, Problem, from_environment, from_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .schema import Path

__all__ = ["PREFIX", "ConfigError", "load"]

PREFIX = "STOPLADDER_"
"""What the environment variables begin with; the rest is a key of the file in capitals."""


class ConfigError(PolicyError):
    """A configuration that is refused, with everything that is wrong with it.

    Attributes:
        problems: What is wrong, in the order of the file, then of the environment.

    Example:
        >>> load({"policy": {"ask": -1, "aks": 5}}, environ={})
        Traceback (most recent call last):
            ...
        supervisor.config.loading.ConfigError: the configuration is refused, for 2 reasons:
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
    `STOPLADDER_WORKERS` are added to the file's, after them, and a table of `STOPLADDER_POOLS` takes the place of the
    file's for the same pool. It reads the file at once: call it before the event loop runs, or in a thread.

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
    pools: dict[str, PoolLayer] = {}
    for document in _documents(source, os.environ if environ is None else environ, prefix, platform, found):
        fields = _checked(document, found)
        layers += fields.pop("workers")
        pools |= fields.pop("pools")
        said |= fields
    if found:
        raise ConfigError(tuple(found))
    return Config(**said, workers=tuple(layers), pools=tuple(pools.values()))


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
    around = {path[:length] for path, _ in wrong for length in range(1, len(path) + 1)}

    def made(table: Mapping[str, Any], path: Path) -> Any:
        """Makes the value at a path, unless it or something in it is wrong."""
        if path in around:
            return None
        try:
            return MAKE.get(path[-1], _plain)(table[path[-1]])
        except PolicyError as error:  # each value can be, but not together
            wrong.append((path, str(error)))
            return None

    said = {key: made(values, (key,)) for key in PLAIN if key in values}
    said["workers"] = [
        Layer(pattern, **{key: made(table, ("workers", pattern, key)) for key in Layer.SAYS if key in table})
        for pattern, table in _tables(values.get("workers"))
    ]
    said["pools"] = {
        name: PoolLayer(name=name, **{key: made(table, ("pools", name, key)) for key in table if key in POOL.keys})
        for name, table in _tables(values.get("pools"))
    }
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
    "drain": float,
    "slow_after": float,
    "stall_after": float,
    "platform": lambda table: Platform(**{name: float(seconds) for name, seconds in table.items()}),
    "limits": lambda table: Limits(**table),
    "max_lifetime": float,
    "idle_timeout": float,
}
"""What is made of a value, by its key. All others stay as they are."""

PLAIN = ("policy", "restart", "shutdown_timeout", "drain", "slow_after", "stall_after", "platform")
"""The keys of the whole that are no tables by names."""


def _plain(value: Any) -> Any:
    return value
