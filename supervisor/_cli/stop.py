"""`stop`: one worker or call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .status import HELP
from .target import add_target, change

if TYPE_CHECKING:
    import argparse

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command to the parser."""
    stop = commands.add_parser(
        "stop",
        help="stop a worker or a call, by its ladder",
        description="Begins to stop a worker or a call, by its escalation ladder. A worker is not started again.",
        epilog=HELP,
    )
    stop.add_argument("name", help="its name")
    stop.add_argument("--reason", help="why, for its log and its outcome")
    add_target(stop)
    stop.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Does it; returns the exit status."""
    return change(
        options,
        lambda connection: connection.ask("stop", name=options.name, reason=options.reason),
        "{} is being stopped",
    )
