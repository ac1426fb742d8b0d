"""`top`: a live screen of running services."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .rows import SORTS
from .services import add_services, find
from .status import DONE, HELP, WRONG
from .terminal import complain

if TYPE_CHECKING:
    import argparse

__all__ = ["add"]

LIMIT = 500
"""So many workers of each service are shown, unless more are asked for."""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command to the parser."""
    top = commands.add_parser(
        "top",
        help="a live screen of running services",
        description="Shows the workers and calls of running services on a live screen, with the stack of one of them. "
        "Needs textual: the extra `top`.",
        epilog=HELP,
    )
    add_services(top, json=False)
    top.add_argument("--match", default="", metavar="PATTERN", help="only workers whose names match it: *, ?, [...]")
    top.add_argument("--sort", choices=SORTS, default="age", help="by what they are sorted: %(default)s")
    top.add_argument(
        "--interval", type=_interval, default=1.0, metavar="SECONDS", help="between two looks: %(default)g"
    )
    top.add_argument("--limit", type=int, default=LIMIT, metavar="N", help="of each service at most: %(default)s")
    top.set_defaults(run=run)


def _interval(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise ValueError
    return seconds


_interval.__name__ = "number of seconds, 0.1 or more,"  # argparse says this where it refuses one


def run(options: argparse.Namespace) -> int:
    """Shows the screen until it is left; returns the exit status."""
    if find_spec("textual") is None:
        complain("top needs textual: python -m pip install 'stopladder[top]'; `ps` and `watch` do without")
        return WRONG
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        complain("top needs a terminal; for programs there is `ps --json`")
        return WRONG
    app = import_module(".live.app", __package__)
    app.Live(
        lambda: find(options),
        interval=options.interval,
        patience=options.patience,
        limit=options.limit,
        match=options.match,
        sort=options.sort,
    ).run()
    return DONE
