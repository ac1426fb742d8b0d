"""Pure: the keys of a configuration, described once: what is refused and the JSON schema both come from here."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeAlias, cast, get_args

from .._core.policy import STEPS
from .._core.restart import Restart, RestartWhen
from .._core.values import UNFIT, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.policy import Step

__all__ = ["CONFIG", "PLATFORMS", "POOL", "Key", "Path", "dotted", "json_schema", "problems"]

Path: TypeAlias = tuple[str, ...]
"""Where a value stands: the names of the tables around it, and its own."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number, from `least` to `most`; or beyond `least`, where `above` is true.

    Attributes:
        doc: What it does, for editors.
        what: What it must be, for messages.
        default: What holds where it is left out; None where nothing does.
        infinite: It may be `inf`.
        whole: It must be an integer.
    """

    doc: str
    what: str
    default: float | None = None
    least: float = 0
    above: bool = False
    most: float = math.inf
    infinite: bool = True
    whole: bool = False

    def takes(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        if value == math.inf:
            return self.infinite and self.most == math.inf
        enough = value > self.least if self.above else value >= self.least
        return enough and value <= min(self.most, math.inf if self.whole else sys.float_info.max)

    def schema(self) -> dict[str, Any]:
        limits: dict[str, Any] = {"exclusiveMinimum" if self.above else "minimum": self.least}
        if not math.isinf(self.most):
            limits["maximum"] = self.most
        if self.default is not None:
            limits["default"] = self.default
        return {"description": self.doc, "type": "integer" if self.whole else "number", **limits}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    doc: str
    words: tuple[str, ...]

    @property
    def what(self) -> str:
        *most, last = (f'"{word}"' for word in self.words)
        return f"{', '.join(most)} or {last}"

    def schema(self) -> dict[str, Any]:
        return {"description": self.doc, "enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Table:
    """Named values.

    Attributes:
        doc: What it does, for editors.
        keys: What it may have.
        required: What it must have.
        short: The key that a number alone, in the place of the table, stands for.
        elsewhere: Keys that somebody may look for here, and where they are.
    """

    doc: str
    keys: Mapping[str, Key]
    required: tuple[str, ...] = ()
    short: str = ""
    elsewhere: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def what(self) -> str:
        return self.keys[self.short].what if self.short else "a table"

    def schema(self) -> dict[str, Any]:
        table: dict[str, Any] = {
            "description": self.doc,
            "type": "object",
            "additionalProperties": False,
            "properties": {name: key.schema() for name, key in self.keys.items()},
        }
        if self.required:
            table["required"] = list(self.required)
        if not self.short:
            return table
        del table["description"]
        number = self.keys[self.short].schema()
        return {"description": self.doc, "anyOf": [number, table]}


@dataclass(frozen=True, slots=True)
class Patterns:
    """A table for each pattern of worker names."""

    doc: str
    each: Table
    what = "a table of tables, each named by a pattern of worker names"
    parts = True  # names have those of groups before them

    def misnamed(self, name: object) -> str:
        """Returns why nothing has such a name; empty where something may."""
        if not isinstance(name, str) or "" in name.split("/"):
            return 'matches no worker: a name has no empty part before, after or between "/"'
        return "" if printable(name) == name else "matches no worker: a name has no line breaks or control characters"

    def schema(self) -> dict[str, Any]:
        return {
            "description": self.doc,
            "type": "object",
            "propertyNames": {"pattern": PATTERN if self.parts else PART},
            "additionalProperties": self.each.schema(),
        }


@dataclass(frozen=True, slots=True)
class PoolNames(Patterns):
    """A table for each name of a pool."""

    what = "a table of tables, each named by a pool"
    parts = False

    def misnamed(self, name: object) -> str:
        if not isinstance(name, str) or not name or "/" in name or printable(name) != name:
            return 'is no name of a pool: that is not empty, and has no "/", line breaks or control characters'
        return ""


Key: TypeAlias = Number | Choice | Table | Patterns

HALVES = 0xD800
"""Where those of UNFIT begin that cannot stand in a file; to some editors a character beyond 0xFFFF is two of them."""

LONGEST = 60
"""Characters of a value that a message shows."""

_NOT = "/" + "".join(rf"\u{first:04x}-\u{last:04x}" for first, last in UNFIT if first != HALVES)
PART = rf"^[^{_NOT}]+$"
PATTERN = rf"^[^{_NOT}]+(/[^{_NOT}]+)*$"


def problems(key: Key, value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Finds everything that a value has or lacks against its description: where, and why."""
    match key:
        case Number():
            if not key.takes(value):
                yield path, _must_be(key, value)
        case Choice():
            if value not in key.words:
                yield path, _must_be(key, value)
        case Table() if key.short and not isinstance(value, Mapping):
            yield from problems(key.keys[key.short], value, path)
        case Table() | Patterns():
            if not isinstance(value, Mapping):
                yield path, _must_be(key, value)
                return
            table = cast("Mapping[object, object]", value)
            for name, inner in table.items():
                yield from _problems_in(key, name, inner, path)
            if isinstance(key, Table):
                yield from ((path, f'lacks the key "{name}"') for name in key.required if name not in table)


def _problems_in(key: Table | Patterns, name: object, value: object, path: Path) -> Iterator[tuple[Path, str]]:
    here = (*path, str(name))
    if isinstance(key, Patterns):
        if why := key.misnamed(name):
            yield here, why
        yield from problems(key.each, value, here)
    elif isinstance(name, str) and name in key.keys:
        yield from problems(key.keys[name], value, here)
    elif isinstance(name, str) and name in key.elsewhere:
        yield here, key.elsewhere[name]
    else:
        yield here, f"is no key; the keys here are {_listed(key.keys)}"


def _must_be(key: Key, value: object) -> str:
    return f"must be {key.what}; not {_shown(value)}"


def _shown(value: object) -> str:
    """Returns a value as it stands in a file, roughly; tables and arrays can be long."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "an array"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, bool | str) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _listed(names: Mapping[str, object]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def dotted(path: Path) -> str:
    """Returns a path as TOML writes it: `workers."ingest/*".policy`."""
    return ".".join(
        part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False) for part in path
    )


def json_schema() -> dict[str, Any]:
    """Returns the JSON schema of a configuration file, for editors."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Ladders, restarts, times and pools of a supervisor",
        **CONFIG.schema(),
    }


# ------------------------------------------------------------------------------------------------ the keys


def _seconds(doc: str, default: float | None = None, *, above: bool = False, infinite: bool = True) -> Number:
    what = f"a {'' if infinite else 'finite '}number of seconds, {'more than 0' if above else '0 or more'}"
    return Number(doc, what, default, above=above, infinite=infinite)


GRACE = "Seconds before the next step; inf waits for as long as the shutdown allows."


def _step(step: type[Step]) -> Table:
    usual = step()
    keys: dict[str, Key] = {}
    for item in fields(step):
        doc, above = item.metadata.get("doc", GRACE), item.metadata.get("above", False)
        keys[item.name] = _seconds(doc, getattr(usual, item.name), above=above)
    return Table(step.summary, keys, short="grace")


POLICY = Table(
    "A whole ladder: the steps that it names, and no others, from the mildest up. An empty one is the default ladder.",
    {name: _step(step) for name, step in STEPS.items()},
)

_RESTART = Restart()

RESTART = Table(
    "When a worker that has ended is started again, how often, and after which pause.",
    {
        "when": Choice(
            'Which ends are followed by another run: "never" any, "failure" an error or a death, '
            '"always" a return as well.',
            get_args(RestartWhen),
        ),
        "max_restarts": Number(
            "Restarts within `within` seconds beyond which the worker is given up.",
            "an integer, 0 or more",
            _RESTART.max_restarts,
            whole=True,
        ),
        "within": _seconds("Seconds; inf counts for ever.", _RESTART.within, above=True),
        "backoff": _seconds(
            "Seconds before the first restart, doubled with each further one.", _RESTART.backoff, infinite=False
        ),
        "max_backoff": _seconds("Seconds at most before any; not less than backoff.", _RESTART.max_backoff),
        "jitter": Number(
            "Each pause is multiplied by a random number from 1 - jitter to 1 + jitter.",
            "a number from 0 to 1",
            _RESTART.jitter,
            most=1,
        ),
    },
    required=("when",),
    elsewhere={"never_on": "is for the code alone: it takes exception types"},
)

PLATFORMS = {
    "kubernetes": "terminationGracePeriodSeconds",
    "docker": "--stop-timeout, or stop_grace_period",
    "systemd": "TimeoutStopSec",
    "gunicorn": "--graceful-timeout",
    "other": "its time to stop",
}

PLATFORM = Table(
    "The seconds from SIGTERM to SIGKILL. A ladder that takes longer is logged, and reported by `check`.",
    {
        **{name: _seconds(f"Seconds that it gives: {setting}.") for name, setting in PLATFORMS.items()},
        "reserve": _seconds("Seconds of these for all that is not the supervisor's: preStop, draining, exit.", 0.0),
    },
)


def _count(doc: str, least: int) -> Number:
    return Number(doc, f"an integer, {least} or more", least=least, whole=True)


LIMITS = Table(
    "What each of its calls may use; one that uses more is stopped. Of processes alone.",
    {
        "rss": _count("Bytes of memory that its process and the descendants of that have resident.", 1),
        "cpu_seconds": _seconds("Seconds of CPU that these use.", above=True),
    },
)

POOL = Table(
    "What holds for the pool of this name, in the place of what the code says.",
    {
        "size": _count("How many of its calls run at once.", 1),
        "max_queued": _count("How many more may wait.", 0),
        "max_tasks": _count("Calls after which a thread or process is replaced.", 1),
        "max_lifetime": _seconds("Seconds after which a thread or process is replaced; inf: never.", above=True),
        "max_rss": _count("Bytes of memory of a process above which it is replaced after a call.", 1),
        "idle_timeout": _seconds("Seconds after which one that has nothing to do ends; inf: never.", above=True),
        "warm": _count("How many are started before there is any call; not more than size.", 0),
        "policy": POLICY,
        "limits": LIMITS,
        "slow_after": _seconds("Seconds after which a call that still runs is logged; inf: never.", above=True),
    },
    elsewhere={
        "initializer": "is for the code alone: it is a function",
        "kind": "is for the code alone: functions may run in one kind only",
    },
)

CONFIG = Table(
    "For the supervisor of a service: what holds for all workers, and under [workers] for some of them.",
    {
        "policy": POLICY,
        "restart": RESTART,
        "shutdown_timeout": _seconds("Seconds within which a shutdown ends everything; longer ladders shrink.", 20.0),
        "drain": _seconds("For how many of these seconds calls go on; at most three quarters of them.", 0.0),
        "slow_after": _seconds("Seconds after which a call that still runs is logged; inf: never.", above=True),
        "stall_after": _seconds(
            "Seconds after which it is logged that the event loop is blocked; inf: never.", above=True
        ),
        "platform": PLATFORM,
        "workers": Patterns(
            'Tables by patterns of worker names, such as "feeds/*": * stands for any text, ? for one character. '
            "A name goes before a pattern, a longer pattern before a shorter one.",
            Table("What holds for workers of such names.", {"policy": POLICY, "restart": RESTART}),
        ),
        "pools": PoolNames('Tables by the names of pools; "thread" and "process" are always there.', POOL),
    },
)
