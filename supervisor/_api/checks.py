"""What callers give is checked at once; each error names the argument."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from .._core.cluster import ClusterSettings
from .._core.control import Control
from .._core.placement import Placement
from .._core.policy import Ask, EscalationPolicy, Inject, Kill, Terminate
from .._core.pools import Limits
from .._core.restart import Restart
from .._core.values import checked_count, checked_line, checked_seconds, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import Config

__all__ = [
    "WAKE_SIGNAL",
    "check_choice",
    "check_kind",
    "checked_cluster",
    "checked_config",
    "checked_control",
    "checked_dump_signal",
    "checked_flag",
    "checked_interval",
    "checked_limits",
    "checked_logger",
    "checked_name",
    "checked_names",
    "checked_optional_count",
    "checked_placement",
    "checked_policy",
    "checked_restart",
    "checked_slow_after",
    "checked_timeout",
    "checked_wake_signal",
]


def check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        *most, last = (f'"{choice}"' for choice in choices)
        raise ValueError(f"{field}={value!r}: must be {', '.join(most)} or {last}")


POSIX = os.name == "posix"


def check_kind(kind: object) -> None:
    if kind not in ("thread", "process"):
        hint = '; for one of a node, say on="cluster" beside it' if kind == "cluster" else ""
        raise ValueError(f'kind={kind!r}: must be "thread" or "process"{hint}')
    if kind == "process" and not POSIX:
        raise ValueError('kind="process": worker processes need POSIX signals and sockets, which this system lacks')


def checked_name(name: str | None, *, optional: bool = False, field: str = "name") -> Any:
    if name is None and optional:
        return None
    if not isinstance(name, str):
        raise TypeError(f"{field}={name!r}: must be a string")
    name = plain(name)
    if not name or "/" in name:
        raise ValueError(f'{field}={name!r}: must not be empty, nor contain "/"')
    return checked_line(field, name)


def checked_policy(policy: object) -> EscalationPolicy | None:
    if policy is not None and not isinstance(policy, EscalationPolicy):
        raise TypeError(f"policy={policy!r}: must be an EscalationPolicy or None{_as_policy(policy)}")
    return policy


def _as_policy(given: object) -> str:
    """Returns how what was given is said as a policy, for a message; nothing where nobody knows."""
    if isinstance(given, Mapping):
        return f", such as EscalationPolicy.from_config({given!r})"
    steps = cast("Sequence[object]", given if isinstance(given, tuple | list) else (given,))
    if steps and all(isinstance(step, Ask | Inject | Terminate | Kill) for step in steps):
        return f", such as EscalationPolicy({', '.join(map(repr, steps))})"
    return ", such as EscalationPolicy(Ask(5), Inject(2))"


def checked_config(config: object) -> Config | None:
    if config is None:
        return None
    from ..config import Config  # noqa: PLC0415  # whoever has one has imported it; others start faster

    if not isinstance(config, Config):
        raise TypeError(f"config={config!r}: must be what supervisor.config.load() returns, or None")
    return config


LOG_METHODS = ("debug", "info", "warning", "error")


def checked_logger(logger: Any) -> Any:
    if logger is not None and not all(callable(getattr(logger, method, None)) for method in LOG_METHODS):
        raise TypeError(f"logger={logger!r}: must have the methods {', '.join(LOG_METHODS)}")
    return logger


def checked_timeout(timeout: object, field: str = "timeout") -> float | None:
    seconds = None if timeout is None else checked_seconds(f"{field}={{!r}}", timeout)
    return None if seconds == math.inf else seconds


def checked_optional_count(field: str, value: int | None, *, least: int) -> int | None:
    return None if value is None else checked_count(f"{field}={{!r}}", value, least=least)


def checked_restart(restart: object) -> Restart:
    if restart is not None and not isinstance(restart, Restart):
        such = restart if restart in ("never", "failure", "always") else "failure"
        raise TypeError(f'restart={restart!r}: must be a Restart or None, such as Restart("{such}")')
    return restart or Restart("never")


def checked_interval(field: str, value: object) -> float | None:
    """Returns seconds, above 0; None where there is no such interval."""
    if value is None:
        return None
    seconds = checked_seconds(f"{field}={{!r}}", value)
    if seconds == 0:
        raise ValueError(f"{field}={value!r}: must be more than 0 seconds")
    return None if math.isinf(seconds) else seconds


def checked_slow_after(value: object) -> float | None:
    """Returns seconds, above 0, or infinitely many: never; None where others say it."""
    return math.inf if value == math.inf else checked_interval("slow_after", value)


def checked_limits(limits: object, kind: str) -> Limits | None:
    """Refuses what are no limits, and limits of threads."""
    if limits is None:
        return None
    if not isinstance(limits, Limits):
        such = ", such as Limits(rss=512 << 20)" if isinstance(limits, int | Mapping) else ""
        raise TypeError(f"limits={limits!r}: must be Limits or None{such}")
    if kind != "process":
        raise ValueError(
            f'limits={limits!r}: nobody can measure what one {kind} uses, nor end it for sure; use kind="process"'
        )
    return limits


def checked_names(field: str, names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, tuple | list):
        raise TypeError(f"{field}={names!r}: must be a tuple of names")
    return tuple(checked_name(name, field=field) for name in cast("tuple[str, ...]", names))


WAKE_SIGNAL: int | None = getattr(signal, "SIGURG", None)
"""Ignored by default, and hardly ever used."""


def checked_wake_signal(number: object) -> int | None:
    """Only those that nothing else needs: whoever takes SIGTERM for this can no longer be ended by it."""
    if number is None:
        return None
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"wake_signal={number!r}: must be a signal's number, or None")
    free = {getattr(signal, name, None) for name in ("SIGURG", "SIGWINCH", "SIGUSR1", "SIGUSR2")}
    least, most = getattr(signal, "SIGRTMIN", 1), getattr(signal, "SIGRTMAX", 0)
    if number not in free and not least <= number <= most:
        raise ValueError(f"wake_signal={number!r}: must be SIGURG, SIGWINCH, SIGUSR1, SIGUSR2 or a real-time signal")
    return int(number)


def checked_flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{field}={value!r}: must be True or False")
    return value


def checked_control(control: object) -> Control | None:
    """Returns how it can be reached from outside; None: not at all."""
    if control is None or control is False:
        return None
    if control is True or control == "write":
        return Control(write=control is not True)
    if isinstance(control, Control):
        return control
    if not isinstance(control, str | os.PathLike):
        raise TypeError(f'control={control!r}: must be True, False, "write", a path, or a Control')
    try:
        return Control(control)  # pyright: ignore[reportUnknownArgumentType]
    except (TypeError, ValueError) as error:
        raise type(error)(f"control={control!r}: {error}") from None


def checked_dump_signal(number: object, wake_signal: int | None) -> int | None:
    """Only those whose default action is no loss, or that nobody needs for something else."""
    if number is None:
        return None
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"dump_signal={number!r}: must be a signal's number, or None")
    free = {getattr(signal, name, None) for name in ("SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGHUP")}
    least, most = getattr(signal, "SIGRTMIN", 1), getattr(signal, "SIGRTMAX", 0)
    if number not in free and not least <= number <= most:
        raise ValueError(f"dump_signal={number!r}: must be SIGUSR1, SIGUSR2, SIGQUIT, SIGHUP or a real-time signal")
    if number == wake_signal:
        raise ValueError(f"dump_signal={number!r}: is the wake_signal, too; name another one for either")
    return int(number)


def checked_cluster(cluster: object, lease: object) -> ClusterSettings | None:
    """Returns where the cluster is, and how long its nodes go on without hearing of the supervisor."""
    seconds = checked_seconds("cluster_lease={!r}", lease)
    if not MIN_LEASE <= seconds <= MAX_LEASE:
        raise ValueError(f"cluster_lease={lease!r}: must be from {MIN_LEASE:g} to {MAX_LEASE:g} seconds")
    if cluster is None:
        return None
    if isinstance(cluster, str):
        if not ADDRESS.fullmatch(cluster):
            raise ValueError(f"cluster={cluster!r}: must be the address of a scheduler, such as tcp://10.0.0.7:8786")
    elif not (hasattr(cluster, "scheduler") or hasattr(cluster, "scheduler_address")):
        raise TypeError(f"cluster={cluster!r}: must be a client or a cluster of Dask's, a scheduler's address, or None")
    if find_spec("distributed") is None:
        raise ModuleNotFoundError(f"cluster={cluster!r}: needs Dask: install the extra stopladder[dask]")
    return ClusterSettings(cluster, seconds)


MOST_OF_A_RESOURCE = sys.float_info.max

MIN_LEASE, MAX_LEASE = 1.0, 3600.0

ADDRESS = re.compile(r"(?!https?:)[a-z]+://\S+:\d+")
"""Of a scheduler: with its protocol, which is not that of its page, and with its port."""


def checked_placement(resources: object, nodes: object) -> Placement | None:
    """Returns which nodes may take a run; None where nothing was said."""
    if resources is None and nodes is None:
        return None
    given: Mapping[Any, Any] = {}
    if resources is not None:
        if not isinstance(resources, Mapping):
            raise TypeError(f'resources={resources!r}: must be a mapping, such as {{"GPU": 1}}')
        given = resources  # pyright: ignore[reportUnknownVariableType]
    amounts = {_resource(given, name): _amount(name, amount) for name, amount in given.items()}
    named = (nodes,) if isinstance(nodes, str) else () if nodes is None else nodes
    if not isinstance(named, list | tuple) or not all(isinstance(node, str) and node for node in named):  # pyright: ignore[reportUnknownVariableType]
        raise TypeError(f"nodes={nodes!r}: must be the name or address of a node, or a sequence of those")
    if nodes is not None and not named:
        raise ValueError(f"nodes={nodes!r}: must name at least one")
    return Placement(amounts, tuple(cast("Sequence[str]", named)))


def _resource(resources: object, name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"resources={resources!r}: {name!r} must be a string")
    if not name:
        raise ValueError(f"resources={resources!r}: a name must not be empty")
    return name


def _amount(name: str, amount: object) -> float:
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise TypeError(f"resources[{name!r}]={amount!r}: must be a number")
    if not 0 < amount <= MOST_OF_A_RESOURCE:
        raise ValueError(f"resources[{name!r}]={amount!r}: must be more than 0, and finite")
    return float(amount)
