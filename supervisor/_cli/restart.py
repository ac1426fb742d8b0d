"""`restart`: one worker or call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .status import HELP
from .target import add_target, change

if TYPE_CHECKING:
    import argparse

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command to the parser."""
    restart = commands.add_parser(
        "restart",
        help="stop a worker by its ladder, and start it again",
        description="Stops a worker by its escalation ladder, and starts it again.",
        epilog=HELP,
    )
    restart.add_argument("name", help="its name")
    add_target(restart)
    restart.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Does it; returns the exit status."""
    return change(options, lambda connection: connection.ask("restart", name=options.name), "{} is being started again")
