"""`stack`: where workers stand."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from .._control.client import ControlError
from .services import add_services, ask, settle
from .status import HELP
from .terminal import Terminal

if TYPE_CHECKING:
    import argparse

    from .._control.client import Connection

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command to the parser."""
    stack = commands.add_parser(
        "stack",
        help="show where workers and calls stand",
        description="Shows the stack of a worker or a call, by its name or a pattern of names; without one, of all.",
        epilog=HELP,
    )
    stack.add_argument("name", nargs="?", help="a name, or a pattern: *, ?, [...]")
    add_services(stack)
    stack.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Shows them; returns the exit status."""
    answers = ask(options, lambda connection: _look(connection, options.name))
    shown = [answer for answer in answers if not answer.code]
    if shown:  # a service that has no such worker is nothing to complain of, where another has it
        answers = [answer for answer in answers if answer.code != "no_such_worker"]
    if options.json:
        services = [{"socket": str(answer.path), **answer.data} for answer in shown]
        unreached = [answer.error for answer in answers if answer.code]
        print(json.dumps({"services": services, "unreached": unreached}, indent=2))
        return settle(options, answers)
    terminal = Terminal.of(sys.stdout)
    for answer in shown:
        for stack in answer.data["stacks"]:
            _show(stack, answer.data, terminal)
    return settle(options, answers)


def _look(connection: Connection, name: str | None) -> dict[str, Any]:
    hello = connection.ask("hello")
    return {"supervisor": hello["supervisor"], "pid": hello["pid"], "stacks": _stacks(connection, name)}


def _stacks(connection: Connection, name: str | None) -> list[dict[str, Any]]:
    """Returns the stack of the worker of this name; where there is none, of those whose names match it as a pattern."""
    if name is None:
        return list(connection.ask("stacks")["stacks"])
    try:
        return [connection.ask("stack", name=name)]
    except ControlError as error:
        if error.code != "no_such_worker" or not set("*?[") & set(name):
            raise
        found = list(connection.ask("stacks", matching=name)["stacks"])
        if not found:
            raise
        return found


def _show(stack: dict[str, Any], service: dict[str, Any], terminal: Terminal) -> None:
    name = terminal.paint(terminal.safe(stack["name"]), "bold")
    print(f"{name}  {terminal.safe(service['supervisor'])}, pid {terminal.safe(service['pid'])}")
    text = terminal.safe(stack["stack"], lines=True).rstrip()
    print(text or "  it does not run")
    if stack.get("cut"):
        print("  (what is longer was left out)")
    print()
