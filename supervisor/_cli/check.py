"""`check`: the ladders of a configuration, with their times, and what the platform gives."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from .._core.limits import limits, why_irreplaceable
from .._core.policy import EscalationPolicy, Inject, Kind
from .._core.restart import Restart
from .._core.values import printable
from ..config import PREFIX, Config, ConfigError, Layer, PoolLayer, load
from ..config.schema import PLATFORMS, dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["add"]

FITS, TOO_LONG, REFUSED = 0, 1, 2
"""The exit status of `check`; argparse has 2 for wrong arguments, too."""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command to the parser."""
    check = commands.add_parser(
        "check",
        help="print the ladders of a configuration, with their times",
        description="Prints each ladder with its times. Exit status: 0, all is well; 1, a ladder takes longer than the "
        "platform gives; 2, the configuration is refused.",
    )
    check.add_argument("file", help="a TOML file; the environment is read over it")
    check.add_argument(
        "--platform",
        action="append",
        type=_platform,
        metavar="NAME=SECONDS",
        help=f"what a platform gives, in the place of the file's table; {', '.join(PLATFORMS)}, and reserve",
    )
    check.add_argument("--kind", choices=get_args(Kind), action="append", help="only for workers of this kind")
    check.add_argument("--worker", metavar="NAME", action="append", help="only what holds for a worker of this name")
    check.add_argument(
        "--prefix", type=_prefix, default=PREFIX, help="what the environment variables begin with: %(default)s"
    )
    check.set_defaults(run=run)


def _prefix(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _platform(text: str) -> tuple[str, float]:
    name, _, seconds = text.partition("=")
    try:
        return name, float(seconds)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like kubernetes=30") from None


def run(options: argparse.Namespace) -> int:
    """Prints what the configuration says; returns the exit status."""
    platform = dict(options.platform) if options.platform else None
    try:
        config = load(options.file, prefix=options.prefix, platform=platform)
    except ConfigError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return REFUSED
    variables = sorted(name for name in os.environ if name.startswith(options.prefix))
    print(printable(", ".join([options.file, *variables])))
    print(*_head(config), sep="\n")
    kinds: Sequence[Kind] = options.kind or get_args(Kind)
    sections = _by_worker(config, options.worker) if options.worker else _by_pattern(config)
    too_long = 0
    for name, said in sections.items():
        for_all = "all workers" if len(sections) == 1 else "all other workers"
        print(f"\n{for_all if name == '*' and not options.worker else printable(name)}")
        if options.worker:
            print(f"  from: {', '.join(_sources(config, name))}")
        print(f"  restart: {_restart(said.restart)}")
        if said.policy is None:
            print(f"  ladder: {ELSEWHERE}", *_irreplaceable(config, name, kinds), sep="\n")
            continue
        for kind in kinds:
            over = said.over_budget(kind)
            too_long += bool(over)
            print(*_ladder(said.policy, kind, said.shutdown_in()), *(f"    TOO LONG: {one}" for one in over), sep="\n")
            restart = said.restart or config.restart_for(name) or NEVER
            print(*(f"    NOTE: {limit}\n" for limit in limits(said.policy, kind, restart.when)), sep="", end="")
    for layer in () if options.worker else config.pools:
        too_long += _show_pool(config, layer, kinds)
    if too_long:
        print("\n1 ladder takes" if too_long == 1 else f"\n{too_long} ladders take", "longer than the platform gives")
        return TOO_LONG
    print("\nall ladders fit" if config.platform.limits() else "\nno platform is given to compare with")
    return FITS


ELSEWHERE = "as another pattern says, or as for all other workers"


def _by_pattern(config: Config) -> dict[str, Config]:
    """Returns what is said for each pattern, as a configuration of its own; "*" is for all other workers."""
    sections = {
        "*": replace(config, policy=config.policy or DEFAULT, restart=config.restart or NEVER, workers=(), pools=())
    }
    for layer in config.workers:
        before = sections.get(layer.pattern) or replace(config, policy=None, restart=None, workers=())
        policy, restart = layer.policy or before.policy, layer.restart or before.restart
        sections[layer.pattern] = replace(before, policy=policy, restart=restart)
    return sections


def _by_worker(config: Config, names: Sequence[str]) -> dict[str, Config]:
    """Returns what holds for each worker, as a configuration of its own."""
    return {
        name: replace(
            config,
            policy=config.policy_for(name) or DEFAULT,
            restart=config.restart_for(name) or NEVER,
            workers=(),
            pools=(),
        )
        for name in names
    }


def _irreplaceable(config: Config, name: str, kinds: Iterable[Kind]) -> Iterator[str]:
    """Gives what the ladder that is said elsewhere cannot do for the restart that is said here."""
    policy, restart = config.policy_for(name) or DEFAULT, config.restart_for(name) or NEVER
    for kind in kinds:
        why = why_irreplaceable(policy.for_kind(kind), kind)
        if why and restart.when != "never":
            yield f"    NOTE: {kind}: stuck, it cannot be replaced: {why}"


def _sources(config: Config, name: str) -> Iterator[str]:
    """Gives the keys that hold for a worker; where no pattern matches its name, that, and the patterns near it."""
    layers = {what: config._layer_for(name, what) for what in Layer.SAYS}
    for what, layer in layers.items():
        if layer is not None:
            yield dotted(("workers", layer.pattern, what))
        else:
            yield what if getattr(config, what) is not None else f"the default {what}"
    if not any(layers.values()):
        near = ", ".join(map(repr, get_close_matches(name, [layer.pattern for layer in config.workers])))
        yield f"no pattern matches it (near it: {near})" if near else "no pattern matches it"


DEFAULT, NEVER = EscalationPolicy(), Restart("never")


def _show_pool(config: Config, layer: PoolLayer, kinds: Iterable[Kind]) -> int:
    """Prints what holds for a pool; returns how many of its ladders take longer than the platform gives."""
    print(f"\npool {printable(layer.name)}")
    for name, value in layer.said().items():
        if name == "limits":
            print(*(f"  {limit}: {most}" for limit, most in asdict(value).items() if most is not None), sep="\n")
        elif name != "policy":
            print(f"  {name}: {value}")
    its_kinds: list[Kind] = [kind for kind in kinds if layer.name == kind or layer.name not in get_args(Kind)]
    alone = replace(config, policy=layer.policy, workers=(), pools=())
    too_long = 0
    for kind in its_kinds if layer.policy is not None else ():
        over = alone.over_budget(kind)
        too_long += bool(over)
        print(*_ladder(alone.ladders()["*"], kind, config.shutdown_in()), sep="\n")
        print(*(f"    TOO LONG: {one}\n" for one in over), sep="", end="")
    return too_long


def _head(config: Config) -> Iterator[str]:
    yield f"shutdown_timeout: {config.shutdown_in():g} s"
    if config.drain is not None:
        yield f"drain: {config.drain:g} s"
    if config.slow_after is not None:
        yield f"slow_after: {config.slow_after:g} s"
    if config.stall_after is not None:
        yield f"stall_after: {config.stall_after:g} s"
    limits = [f"{name} {seconds:g} s" for name, seconds in config.platform.limits().items()]
    if limits:
        reserve = config.platform.reserve
        yield f"platform: {', '.join(limits)}{f'; {reserve:g} s in reserve' if reserve else ''}"


def _restart(restart: Restart | None) -> str:
    if restart is None:
        return ELSEWHERE
    if restart.when == "never":
        return "never"
    pause = f"after {restart.backoff:g} s, doubled up to {restart.max_backoff:g} s, give or take {restart.jitter:.0%}"
    return f"{restart.when}, {restart.max_restarts} times within {restart.within:g} s; {pause}"


def _ladder(policy: EscalationPolicy, kind: Kind, shutdown_timeout: float) -> Iterator[str]:
    budget, steps = policy.budget(kind), policy.for_kind(kind)
    yield f"  {kind}: {budget:g} s"
    begins = 0.0
    for step in steps:
        ends = begins + step.grace
        every = f"   every {step.every:g} s" if isinstance(step, Inject) else ""
        yield f"    {step.name:<10}grace {step.grace:>6g} s   from {begins:>6g} s   to {ends:>6g} s{every}"
        begins = ends
    if not steps:
        yield f"    no step is for a {kind}: given up at once"
    if budget > shutdown_timeout:
        yield f"    a shutdown shrinks it to {shutdown_timeout:g} s"
