"""Finds the command that was asked for, and runs it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .. import __version__
from .._core.values import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "run"]

COMMANDS = ("ps", "top", "stack", "dump", "watch", "stop", "restart", "shutdown", "check", "schema")
"""Each has a module of its name, whose `add(commands)` adds its parser with `run`, the function that carries it out.

Only the module of the command that was asked for is imported: what one needs costs the others nothing.
"""


def run() -> int:
    """Runs the command of this process's arguments; returns the exit status. The streams may be closed, or no UTF-8."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # where it is no UTF-8, names are still shown
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads it has had enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command, and returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = Parser(
        prog=_own_name(),
        description="Looks into running services, and checks configurations.",
        epilog="`COMMAND --help` says more about each.",
    )
    parser.add_argument("--version", action="version", version=f"stopladder {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked_for = arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS
    for name in asked_for:
        import_module(f".{name}", __package__).add(commands)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


class Parser(argparse.ArgumentParser):
    """Its errors are one line, whatever was given."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _own_name() -> str:
    return "stopladder" if Path(sys.argv[0]).stem == "stopladder" else "python -m supervisor"
