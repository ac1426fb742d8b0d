"""`watch`: each change of a worker as it comes, until the services have shut down."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from .services import add_services, find, settle
from .status import HELP, UNCLEAN
from .terminal import Terminal
from .watching import Watching, lines_of

if TYPE_CHECKING:
    import argparse

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command to the parser."""
    watch = commands.add_parser(
        "watch",
        help="show each change of a worker as it comes",
        description="Shows each change of a worker as it comes, one on each line, until the services have shut down; "
        "then their reports.",
        epilog=HELP,
    )
    watch.add_argument("--match", default="*", metavar="PATTERN", help="only workers whose names match it: *, ?, [...]")
    add_services(watch)
    watch.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Shows them; returns the exit status."""
    terminal, paths = Terminal.of(sys.stdout), find(options)
    watching = Watching(paths, options.patience, options.match)
    for path, line in watching:
        if options.json:
            print(json.dumps({"socket": str(path), **line}), flush=True)
        else:
            print(*lines_of(line, terminal, named=len(paths) > 1), sep="\n", flush=True)
    return max(UNCLEAN if watching.unclean else 0, settle(options, watching.answers))
