"""Notifies systemd how the service is: ready, alive, stopping and for how much longer. Elsewhere nothing happens.

The protocol is a datagram of a few lines to a socket that the environment names, so nothing has to be installed for it.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ._api.ports import integration_of
from ._core.values import printable
from ._loop import aside
from ._loop.clock import call_at
from ._observe.notices import ShutdownBegun, ShutdownEnded, StateChanged

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ._api.integration import Integration
    from ._api.supervisor import Supervisor
    from ._core.outcome import Transition
    from ._core.report import ShutdownReport
    from ._loop.clock import Timer
    from ._observe.notices import Notice

__all__ = ["Notifier", "notify"]

EXIT_SLACK = 5.0
"""Seconds that the program has for its own end after the deadline of the shutdown."""

RENEWAL = 10.0
"""Seconds after which a shutdown that goes on asks for more time again."""

WITHOUT_DEADLINE = 3 * RENEWAL
"""Seconds that a shutdown without a deadline asks for at a time."""

RETRY_DELAY = 0.05
"""Seconds after which a message is sent again that systemd was too slow to take."""

MOST_WAITING = 100
"""Messages that wait to be sent again; beyond them the oldest is lost, unless it is the service's readiness or stop."""

LONGEST_STATUS = 900
"""Characters of a status that are sent: systemd ignores a message of more than 4096 bytes."""


def notify(supervisor: Supervisor) -> Notifier:
    """Notifies the service manager of the supervisor, from now on until that has shut down.

    Where systemd has started this process, with `Type=notify`, it is notified

    - that the service is ready, when you call `ready()` of what this returns;
    - that it is alive, at half the time of `WatchdogSec`, by the event loop, so that a stuck loop is noticed;
    - that it stops, as soon as a shutdown begins, and at each step of a ladder for how much longer;
    - in words, what goes on: `systemctl status` shows it.

    Elsewhere, where `NOTIFY_SOCKET` is not set, nothing of this happens. The variables by which systemd asks for it
    (`NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`) are taken out of the environment: worker processes, and what
    else the program starts from now on, must not speak for it. So call it first, in the event loop's thread. A socket
    that cannot be reached is logged, once, and harms nothing. Where the supervisor is shutting down already, or has
    shut down, as one that was asked to before its first use, systemd is notified at once that the service stops.

    Args:
        supervisor: The one whose end is that of the service.

    Raises:
        TypeError: It is no Supervisor.
        ValueError: It is a group: its end is not that of the service.
        RuntimeError: Another supervisor of this process speaks to the service manager already; or it was called
            outside the supervisor's event loop.

    Example:
        >>> import asyncio
        >>> from supervisor import Supervisor
        >>> async def main():
        ...     async with Supervisor("ingest") as sup:
        ...         service = notify(sup)
        ...         service.ready()
        ...         return service.active  # False: systemd has not started this
        >>> asyncio.run(main())
        False
    """
    integration = integration_of(
        supervisor,
        "notify(supervisor={!r})",
        no_group="is a group; give the supervisor whose end is that of the service",
    )
    loop = integration.bind()
    other = _speaker[0] if _speaker else None
    if other is not None and other.active:
        raise integration.misused(f"cannot speak to systemd: {other!r} does already")
    _speaker[:] = [Notifier(integration, loop, _taken_from_environment())]
    return _speaker[0]


@dataclass(frozen=True, slots=True)
class Request:
    """What the environment asks for.

    Attributes:
        address: Of the socket.
        watchdog: Seconds within which a sign of life is wanted; `math.inf` for none.
        wrong: What in it cannot be understood.
    """

    address: str
    watchdog: float = math.inf
    wrong: str = ""


class Notifier:
    """What `notify` returns. Its methods belong to the event loop's thread, and do nothing where it is not active."""

    def __init__(self, supervisor: Integration, loop: asyncio.AbstractEventLoop, request: Request | None) -> None:
        self._supervisor = supervisor
        self._loop = loop
        self._pid = os.getpid()
        self._ready = False
        self._failed = False
        self._waiting: deque[bytes] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._timer: Timer | None = None  # for the next sign of life
        self._renewal: Timer | None = None
        self._step: Transition | None = None  # the last one that has not been reported
        self._socket: socket.socket | None = None
        if request is None:
            return
        if request.wrong:
            self._report(request.wrong)
        if not request.address:
            return
        self._address = request.address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        supervisor.subscribe(self._receive, watch=False)
        if request.watchdog < math.inf:
            self._beat(request.watchdog / 2)
        if supervisor.reason is not None:
            self._stopping(supervisor.reason)
        if supervisor.report is not None:
            self._ended(supervisor.report)

    @property
    def active(self) -> bool:
        """Whether systemd is notified: it has asked for it, and the supervisor has not shut down."""
        return self._socket is not None and self._pid == os.getpid()

    def ready(self, status: str = "") -> None:
        """Says that the service is ready: systemd starts what comes after it. Once; later calls say only the status.

        Args:
            status: What goes on, as one line for people; empty: nothing is said.

        Raises:
            TypeError: `status` is no string.
            RuntimeError: It was called outside the supervisor's event loop.
        """
        line = self._checked("ready", status)
        if self._supervisor.deadline is None and not self._ready:
            self._ready = True
            self._send("READY=1", *line)
        else:
            self._send(*line)

    def status(self, status: str) -> None:
        """Says what goes on, as one line for people.

        Raises:
            TypeError: `status` is no string.
            RuntimeError: It was called outside the supervisor's event loop.
        """
        self._send(*self._checked("status", status))

    def _checked(self, method: str, status: object) -> list[str]:
        if not isinstance(status, str):
            raise TypeError(f"{method}(status={status!r}): must be a string")
        self._supervisor.bind()  # raises in another loop
        return [_status(status)] if status else []

    # -------------------------------------------------------------------------------- what is received

    def _receive(self, notice: Notice) -> None:
        match notice:
            case ShutdownBegun(group=""):
                self._stopping(notice.reason)
            case StateChanged(transition=transition) if (
                transition.new == "stopping" and self._supervisor.deadline is not None
            ):
                if self._step is None:
                    aside.call_soon(self._loop, self._report_step)  # of those of one turn of the loop, the last
                self._step = transition
            case ShutdownEnded(group=""):
                self._ended(notice.report)
            case _:
                pass

    def _stopping(self, reason: str) -> None:
        self._send("STOPPING=1", _status(f"stopping: {reason}" if reason else "stopping"))
        self._renew()

    def _renew(self) -> None:
        self._send(self._more_time())
        self._renewal = self._call_later(RENEWAL, self._renew)

    def _report_step(self) -> None:
        step, self._step = self._step, None
        if step is not None and self.active:
            left = self._supervisor.unended
            self._send(self._more_time(), _status(f"stopping: {left} left; {step.step} of {step.worker}"))

    def _ended(self, report: ShutdownReport) -> None:
        self._send(self._more_time(), _status(str(report).partition("\n")[0]))
        self._supervisor.unsubscribe(self._receive)
        self._flush()  # what has waited is tried once more
        for timer in (self._timer, self._renewal, self._retry):
            if timer is not None:
                timer.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self in _speaker:
            _speaker.remove(self)  # it holds the supervisor

    def _more_time(self) -> str:
        """Asks for the time until the deadline: systemd's own, `TimeoutStopSec`, may be shorter."""
        deadline = self._supervisor.deadline
        left = math.inf if deadline is None else deadline - self._supervisor.clock()
        seconds = WITHOUT_DEADLINE if math.isinf(left) else max(0.0, left) + EXIT_SLACK
        return f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}"

    def _beat(self, interval: float) -> None:
        if not self._waiting:
            self._send("WATCHDOG=1")
        self._timer = self._call_later(interval, partial(self._beat, interval))

    def _call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        clock = self._supervisor.clock
        return call_at(self._loop, clock, clock() + seconds, callback)

    # -------------------------------------------------------------------------------- what is said

    def _send(self, *lines: str) -> None:
        if lines and self.active:
            self._waiting.append("\n".join(lines).encode())
            if self._retry is None:
                self._flush()
            if len(self._waiting) > MOST_WAITING:
                self._drop_one()

    def _drop_one(self) -> None:
        """Forgets the oldest message that later ones have replaced: nobody reads what is sent."""
        self._report(f"nobody reads at {self._address!r}: the newest {MOST_WAITING} messages wait, older ones are lost")
        del self._waiting[next(n for n, message in enumerate(self._waiting) if not message.startswith(ONCE))]

    def _flush(self) -> None:
        self._retry = None
        while self._waiting and self._socket is not None:
            try:
                self._socket.sendto(self._waiting[0], self._address)
            except BlockingIOError:
                self._retry = aside.call_later(self._loop, RETRY_DELAY, self._flush)
                return
            except OSError as error:
                self._report(f"{self._address!r}: {error}")
            self._waiting.popleft()

    def _report(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            self._supervisor.log(logging.WARNING, "supervisor.notify_failed", reason=reason)

    def __repr__(self) -> str:
        return f"<Notifier of supervisor {self._supervisor.name!r}: {'' if self.active else 'not '}active>"


ONCE = (b"READY=1", b"STOPPING=1")
"""How the messages begin that are sent once and that no later one replaces."""

LONGEST_NUMBER = 18

_speaker: list[Notifier] = []
"""Who speaks for this process, if anybody ever has."""


def _taken_from_environment() -> Request | None:
    """Returns what is asked for, and takes it out of the environment; None where nothing is."""
    address, usec, pid = (os.environ.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
    if not address:
        return None
    if address[0] not in "@/":
        return Request("", wrong=f"NOTIFY_SOCKET={address!r}: must be a path, or begin with @")
    if address[0] == "@":
        address = "\0" + address[1:]
    if not usec or (pid and pid != str(os.getpid())):
        return Request(address)
    if not usec.isdecimal() or len(usec) > LONGEST_NUMBER or int(usec) == 0:
        return Request(address, wrong=f"WATCHDOG_USEC={usec!r}: must be microseconds, above 0")
    return Request(address, int(usec) / 1e6)


def _status(text: str) -> str:
    line = printable(" ".join(text.split()))
    return f"STATUS={line if len(line) <= LONGEST_STATUS else f'{line[:LONGEST_STATUS]}...'}"
