"""`shutdown`: shuts a supervisor down, shows how that climbs, and its report."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from .services import Answer, ask, seconds, settle
from .status import HELP, UNCLEAN
from .target import add_target, owners
from .terminal import Terminal
from .watching import Watching, lines_of

if TYPE_CHECKING:
    import argparse

    from .._control.client import Connection

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command to the parser."""
    shutdown = commands.add_parser(
        "shutdown",
        help="shut a supervisor down, and wait for its report",
        description="Shuts a supervisor down, shows each step of it as it comes, and then its report. If it is "
        "interrupted meanwhile, the shutdown goes on.",
        epilog=HELP,
    )
    shutdown.add_argument("--timeout", type=seconds, metavar="SECONDS", help="its deadline, in place of the service's")
    shutdown.add_argument("--drain", type=seconds, metavar="SECONDS", help="for how long calls go on before it")
    shutdown.add_argument("--reason", help="why, for its log and its report")
    add_target(shutdown)
    shutdown.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Shuts them down; returns the exit status."""
    have, status = owners(options, None)
    if not have:
        return status
    paths = [answer.path for answer in have]
    watching = Watching(paths, options.patience)
    begun = [answer for answer in ask(options, lambda service: _begin(service, options), paths) if not _goes_on(answer)]
    terminal = Terminal.of(sys.stdout)
    watching.leave(answer.path for answer in begun)
    for path, line in watching:
        if options.json and "report" in line:
            print(json.dumps({"socket": str(path), **line}), flush=True)
        elif not options.json:
            print(*lines_of(line, terminal, named=len(paths) > 1), sep="\n", flush=True)
    return max(status, UNCLEAN if watching.unclean else 0, settle(options, [*begun, *watching.answers]))


def _begin(service: Connection, options: argparse.Namespace) -> dict[str, Any]:
    arguments = {"timeout": options.timeout, "drain": options.drain, "reason": options.reason}
    said: dict[str, Any] = service.ask("shutdown", **{name: it for name, it in arguments.items() if it is not None})
    return said


def _goes_on(answer: Answer) -> bool:
    """Whether it has begun, or begins as soon as the loop comes to a turn."""
    return answer.code in {"", "loop_blocked"}
