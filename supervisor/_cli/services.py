"""The services that a command is about: all are asked at the same time, and none is waited for too long."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._control.client import Connection, ControlError, sockets
from .status import DONE, NOT_REACHED, REFUSED, UNCLEAN
from .terminal import complain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

__all__ = ["Answer", "add_services", "ask", "everybody", "failure", "find", "pid_of", "seconds", "settle"]

SECONDS = 2.0
"""For so long a service is waited for."""

PAGE = 1000
"""As many workers are asked for at once: an answer has a bound."""


UNREACHABLE = "unreachable"
STATUSES = {UNREACHABLE: NOT_REACHED, "no_answer": NOT_REACHED, "no_such_worker": UNCLEAN}
"""The exit statuses that some of the errors are worth; REFUSED, all others."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking one service: data, or an error with its code, one of the protocol's or of its client's."""

    path: Path
    data: Any = None
    code: str = ""
    message: str = ""

    @property
    def error(self) -> dict[str, str]:
        """It as JSON-ready data."""
        return {"socket": str(self.path), "code": self.code, "message": self.message}

    @property
    def status(self) -> int:
        """The exit status that it is worth."""
        if not self.code:
            return DONE
        return STATUSES.get(self.code, REFUSED)


def add_services(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """Adds the arguments that say which services are meant."""
    parser.add_argument("--pid", type=int, action="append", help="only the services of this process")
    parser.add_argument("--socket", action="append", metavar="PATH", help="the service that has this socket")
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--patience",
        type=seconds,
        default=SECONDS,
        metavar="SECONDS",
        help="for how long a service is waited for: %(default)g",
    )


def seconds(text: str) -> float:
    """Returns the seconds that an argument is."""
    number = float(text)
    if not 0 <= number < threading.TIMEOUT_MAX:
        raise ValueError
    return number


seconds.__name__ = "number of seconds"  # argparse says this where it refuses one


def find(options: argparse.Namespace) -> list[Path]:
    """Returns the sockets of the services that are meant."""
    if options.socket:
        return [Path(path) for path in dict.fromkeys(options.socket)]
    return [path for path in sorted(sockets()) if not options.pid or pid_of(path) in options.pid]


def pid_of(path: Path) -> int | None:
    """Returns the process that a socket is named for; None where its name is another."""
    pid = path.name.partition(".")[0]
    return int(pid) if pid.isdecimal() and pid.isascii() else None


def ask(
    options: argparse.Namespace, work: Callable[[Connection], Any], paths: Sequence[Path] | None = None
) -> list[Answer]:
    """Does the same with each service that is meant, in a thread for each; returns what came of it, in a stable order.

    Who has not answered in time is left to itself. Who has gone away meanwhile is left out, unless it was named.

    Args:
        options: The arguments of the command.
        work: What is done with each.
        paths: The sockets of the services; None: of all that the arguments mean.
    """
    keep = paths is not None or options.socket  # they were named
    paths = find(options) if paths is None else paths
    there = {path: Answer(path, code="no_answer", message=LATE.format(options.patience)) for path in paths}
    got: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def ask_one(path: Path) -> None:
        got.put(_answer(path, work, options.patience))

    for path in paths:
        threading.Thread(target=ask_one, args=(path,), daemon=True).start()
    latest = time.monotonic() + options.patience
    for _ in paths:
        try:
            answer = got.get(timeout=max(0.001, latest - time.monotonic()))
        except queue.Empty:
            break
        there[answer.path] = answer
    return [answer for answer in there.values() if keep or answer.code != UNREACHABLE]


LATE = "has not answered within {:g} s"


def _answer(path: Path, work: Callable[[Connection], Any], patience: float) -> Answer:
    try:
        with Connection(path, timeout=patience) as connection:
            return Answer(path, work(connection))
    except Exception as error:
        return failure(path, error)


def failure(path: Path, error: Exception) -> Answer:
    """Returns what came of asking a service in vain."""
    if isinstance(error, ControlError):
        return Answer(path, code=error.code, message=error.message.removeprefix(f"{path}: "))
    return Answer(path, code="no_answer", message=str(error) or type(error).__name__)  # no service of ours says that


def settle(options: argparse.Namespace, answers: Sequence[Answer]) -> int:
    """Complains of those that have not answered as they should; returns the exit status."""
    if not answers:
        complain(_nobody(options))
        return NOT_REACHED
    for answer in answers:
        if answer.code:
            complain(f"{answer.path}: {answer.message}")
    return max(answer.status for answer in answers)


def _nobody(options: argparse.Namespace) -> str:
    whose = f"process {', '.join(map(str, options.pid))} has" if options.pid else "there is"
    return f"{whose} no control socket that this user can see; a service has one by Supervisor(control=True)"


def everybody(connection: Connection, **arguments: Any) -> dict[str, Any]:
    """Returns a survey with all the workers that were asked for: they come in parts, as an answer has a bound."""
    limit = arguments.pop("limit", None)
    survey = connection.ask("survey", **arguments, limit=PAGE if limit is None else min(limit, PAGE))
    workers = list(survey["workers"])
    while len(workers) < min(survey["matching"], survey["matching"] if limit is None else limit):
        more = connection.ask("survey", **arguments, first=len(workers), limit=PAGE)["workers"]
        if not more:  # some have ended meanwhile
            break
        workers += more
    return {**survey, "workers": workers if limit is None else workers[:limit]}
