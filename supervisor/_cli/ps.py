"""`ps`: what services have at this moment."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, get_args

from .._core.outcome import WorkerState
from .incidents import incidents_table
from .rows import SORTS, head, sorted_rows, workers_table
from .services import add_services, ask, everybody, settle
from .status import HELP
from .terminal import Terminal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from .._control.client import Connection

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command to the parser."""
    ps = commands.add_parser(
        "ps",
        help="show the workers and calls of running services",
        description="Shows the workers and calls of the running services of this user, the oldest first.",
        epilog=HELP,
    )
    add_services(ps)
    ps.add_argument("--match", default="*", metavar="PATTERN", help="only workers whose names match it: *, ?, [...]")
    ps.add_argument("--state", choices=get_args(WorkerState)[:-1], action="append", help="only those in this state")
    ps.add_argument("--sort", choices=SORTS, help="by what they are sorted, in place of the order of their starts")
    ps.add_argument("--limit", type=_count, metavar="N", help="show at most so many of each service")
    ps.add_argument("--incidents", action="store_true", help="show the last failures and stops instead of the workers")
    ps.set_defaults(run=run)


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError
    return count


_count.__name__ = "number"  # argparse says this where it refuses one


def run(options: argparse.Namespace) -> int:
    """Shows them; returns the exit status."""
    answers = ask(options, lambda connection: _look(connection, options))
    if options.json:
        services = [{"socket": str(answer.path), **answer.data} for answer in answers if not answer.code]
        unreached = [answer.error for answer in answers if answer.code]
        print(json.dumps({"services": services, "unreached": unreached}, indent=2))
    else:
        terminal = Terminal.of(sys.stdout)
        for number, answer in enumerate(answer for answer in answers if not answer.code):
            print(*([""] if number else []), *_lines(answer.data, options, terminal), sep="\n")
    return settle(options, answers)


def _look(connection: Connection, options: argparse.Namespace) -> dict[str, Any]:
    if options.incidents:
        survey = connection.ask("survey", limit=0)
        return {**survey, "incidents": connection.ask("incidents")}
    limit = None if options.sort else options.limit
    survey = everybody(connection, matching=options.match, states=options.state or [], limit=limit)
    if options.sort:
        survey["workers"] = sorted_rows(survey["workers"], options.sort)[: options.limit]
    return survey


def _lines(survey: dict[str, Any], options: argparse.Namespace, terminal: Terminal) -> Iterator[str]:
    yield from head(survey, terminal)
    if options.incidents:
        yield from incidents_table(survey["incidents"], terminal)
        return
    yield from workers_table(survey["workers"], terminal)
    more = survey["matching"] - len(survey["workers"])
    if more > 0:
        yield f"and {more} more"
