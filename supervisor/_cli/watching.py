"""What several services send while they are watched."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

from .._control.client import Connection
from .reports import report_lines
from .services import Answer, failure
from .transitions import transition_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from .terminal import Terminal

__all__ = ["Watching", "lines_of"]


class Watching:
    """What several services send, in the order in which it comes, until each has ended; a thread listens to each.

    From when it is made, nothing is missed: it waits until all are listened to, or have failed.

    Args:
        paths: The sockets of the services.
        patience: For how long one is waited for.
        matching: Only workers whose names match this.

    Attributes:
        answers: What has become of those that have ended, or failed.
        unclean: Whether a shutdown has lost something, or has left no report.
    """

    def __init__(self, paths: Sequence[Path], patience: float, matching: str = "*") -> None:
        self.answers: list[Answer] = []
        self.unclean = False
        # Bounded: where the reader is slow, so are we, and the service counts what it does not send.
        self._lines: queue.Queue[tuple[Path, dict[str, Any] | Answer]] = queue.Queue(1000)
        self._left = set(paths)
        listens = threading.Semaphore(0)
        for path in paths:
            arguments = (path, patience, matching, listens)
            threading.Thread(target=self._listen, args=arguments, daemon=True).start()
        for _ in paths:
            listens.acquire(timeout=patience)

    def _listen(self, path: Path, patience: float, matching: str, listens: threading.Semaphore) -> None:
        end = Answer(path)
        try:
            with Connection(path, timeout=patience) as connection:
                lines = connection.watch(matching=matching)
                listens.release()
                for line in lines:
                    self._lines.put((path, line))
        except Exception as error:
            end = failure(path, error)
            listens.release()
        self._lines.put((path, end))

    def leave(self, paths: Iterable[Path]) -> None:
        """Does not wait for these."""
        self._left -= set(paths)

    def __iter__(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        while self._left:
            path, line = self._lines.get()
            if isinstance(line, Answer):
                self._left.discard(path)
                self.answers.append(line)
            elif path in self._left:
                if "report" in line:
                    report: dict[str, Any] = line["report"] or {"clean": False}
                    self.unclean = self.unclean or not report["clean"]
                yield path, line


def lines_of(line: dict[str, Any], terminal: Terminal, *, named: bool) -> Iterator[str]:
    """Gives for people what a service has sent: a transition, how many were lost, or its report."""
    if "event" in line:
        yield transition_line(line["event"], terminal, named=named)
    elif "dropped" in line:
        yield terminal.paint(terminal.safe(f"{line['dropped']} more were not shown: they came too fast"), "dim")
    elif line.get("report"):
        yield from report_lines(line["report"], terminal)
    elif "report" in line:
        yield terminal.paint("the supervisor has ended without a report", "red")
