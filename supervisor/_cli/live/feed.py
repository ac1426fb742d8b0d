"""What the live screen shows: a thread for each service looks at it, so that none holds up another, or the screen."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..._control.client import Connection, ControlError
from ..services import UNREACHABLE, everybody, failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Feed", "Service"]

GONE_KEPT = 3
"""So many services that have gone away stay on the screen, for their reports, until one of the same name comes."""


@dataclass(slots=True)
class Service:
    """One service, as it was last seen. Its thread writes, and the screen reads: each attribute is replaced as a whole.

    Attributes:
        path: Its socket.
        write: Whether it takes what changes things.
        survey: What it last said; None: nothing yet.
        report: What its shutdown met, once that has ended.
        problem: Why it does not answer; empty where it does.
        gone: Whether its socket is there no more.
        stack: The name of the worker whose stack was asked for last, and that stack.
        soon: Set where it is to be looked at at once.
    """

    path: Path
    write: bool = False
    survey: dict[str, Any] | None = None
    report: dict[str, Any] | None = None
    problem: str = ""
    gone: bool = False
    stack: tuple[str, str] = ("", "")
    soon: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        """The name of its supervisor; that of its socket, until it is known."""
        return str(self.survey["supervisor"]) if self.survey else self.path.stem


@dataclass
class Feed:
    """All services that are meant.

    Args:
        find: Returns their sockets.
        interval: How often each is looked at, in seconds.
        patience: For how long an answer is waited for.
        limit: How many workers of each are asked for at most.
        matching: Only workers whose names match this.
        wanted: The socket and the name of the worker whose stack is asked for.
        services: What was found, by their sockets.
    """

    find: Callable[[], list[Path]]
    interval: float
    patience: float
    limit: int
    matching: str = "*"
    services: dict[Path, Service] = field(default_factory=dict["Path", Service])
    ended: threading.Event = field(default_factory=threading.Event)
    wanted: tuple[Path, str] | None = None

    def begin(self) -> None:
        """Begins to look."""
        threading.Thread(target=self._discover, name="discover", daemon=True).start()

    def end(self) -> None:
        """Its threads end when they next look, and are not waited for."""
        self.ended.set()

    def hurry(self, *, matching: str | None = None, wanted: tuple[Path, str] | None = None) -> None:
        """Has all looked at now, for something else than before."""
        self.matching = self.matching if matching is None else matching
        self.wanted = self.wanted if wanted is None else wanted
        for service in tuple(self.services.values()):
            service.soon.set()

    def _discover(self) -> None:
        while True:
            for path in self.find():
                there = self.services.get(path)
                if there is None or there.gone:
                    self._add(path)
            self._forget()
            if self.ended.wait(self.interval):
                return

    def _add(self, path: Path) -> None:
        service = Service(path)
        if (before := self.services.get(path)) is not None:  # by its path, it is there again
            service.survey, service.report = before.survey, before.report
        self.services[path] = service
        for work in (self._follow, self._wait_for_report):
            threading.Thread(target=work, args=(service,), daemon=True).start()

    def _forget(self) -> None:
        """Forgets those that have gone away once there is one of the same name, and where there are too many."""
        services = tuple(self.services.values())
        there = {service.name for service in services if not service.gone and service.survey}
        gone = [service for service in services if service.gone]
        for number, service in enumerate(gone):
            if service.name in there or number < len(gone) - GONE_KEPT or service.survey is None:
                del self.services[service.path]

    def _follow(self, service: Service) -> None:
        """Looks at one service until it has gone away."""
        while not self.ended.is_set():
            try:
                with Connection(service.path, timeout=self.patience) as connection:
                    service.write = bool(connection.ask("hello").get("write"))
                    while not self.ended.is_set():
                        self._look(connection, service)
                        self._wait(service)
            except Exception as error:
                answer = failure(service.path, error)
                service.problem = answer.message
                if answer.code == UNREACHABLE:
                    service.gone = True
                    return
                self._wait(service)

    def _wait_for_report(self, service: Service) -> None:
        """Waits for the end of one service: its socket is gone with it, so that nobody can ask then."""
        try:
            with Connection(service.path, timeout=self.patience) as connection:
                for line in connection.watch(matching="", calls=False):
                    service.report = line.get("report", service.report)
        except ControlError:
            pass  # who looks at it sees that, too

    def _look(self, connection: Connection, service: Service) -> None:
        service.survey = everybody(connection, matching=self.matching, limit=self.limit)
        service.problem = ""
        if (wanted := self.wanted) is not None and wanted[0] == service.path:
            service.stack = (wanted[1], _stack(connection, wanted[1]))

    def _wait(self, service: Service) -> None:
        service.soon.wait(self.interval)
        service.soon.clear()


def _stack(connection: Connection, name: str) -> str:
    try:
        return str(connection.ask("stack", name=name)["stack"]) or "it does not run"
    except ControlError as error:
        if error.code == "no_such_worker":
            return "it has ended"
        raise
