"""The one service that a command changes something in."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from .._control.client import ControlError
from .services import Answer, add_services, ask, settle
from .status import WRONG
from .terminal import Terminal, complain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from .._control.client import Connection

__all__ = ["add_target", "change", "owners"]


def add_target(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say in which service, or services, something is changed."""
    add_services(parser)
    parser.add_argument("--all", action="store_true", help="do it in each service that has it, where there are several")


def owners(options: argparse.Namespace, name: str | None) -> tuple[list[Answer], int]:
    """Returns the services that have a worker of this name, each with its `hello`; and the exit status.

    More than one is an error, unless `--all` was said. Where there is none, it has been said why.
    """
    answers = ask(options, lambda connection: _hello(connection, name))
    have = [answer for answer in answers if not answer.code]
    if len(have) > 1 and not options.all:
        what = f"a worker {name!r}" if name is not None else "a supervisor"
        complain(f"{len(have)} services have {what}: say which one by --pid or --socket, or --all")
        for answer in have:
            complain(f"  --pid {answer.data['pid']} --socket {answer.path}  {answer.data['supervisor']}")
        return [], WRONG
    if have:  # what the others lack is nothing to complain of
        answers = [answer for answer in answers if answer.code != "no_such_worker"]
    return have, settle(options, answers)


def _hello(connection: Connection, name: str | None) -> dict[str, Any]:
    if name is not None and not connection.ask("survey", matching=literal(name), limit=0)["matching"]:
        raise ControlError("no_such_worker", f"has no worker or call {name!r}")
    hello: dict[str, Any] = connection.ask("hello")
    return hello


def literal(name: str) -> str:
    """Returns the pattern that this name alone matches."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def change(options: argparse.Namespace, work: Callable[[Connection], Any], done: str) -> int:
    """Changes a worker; says what was done. Returns the exit status."""
    have, status = owners(options, options.name)
    if not have:
        return status
    answers = ask(options, work, [answer.path for answer in have])
    if options.json:
        services = [{"socket": str(answer.path), **answer.data} for answer in answers if not answer.code]
        print(
            json.dumps({"services": services, "errors": [answer.error for answer in answers if answer.code]}, indent=2)
        )
    else:
        terminal = Terminal.of(sys.stdout)
        for answer in answers:
            if not answer.code:
                print(terminal.safe(done.format(options.name)))
    return max(status, settle(options, answers))
