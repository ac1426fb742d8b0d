"""The one module that knows structlog: one event for each transition, and for each thing that must not go unseen."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import structlog

from .._core.failures import signal_of
from .._core.values import printable
from .._loop.errors import is_interrupt, report_error

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._core.blocked import Blocked
    from .._core.outcome import Transition
    from .._core.report import ShutdownReport

__all__ = ["Log"]

LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING)
"""Those that are looked up beforehand; errors are written whatever was found then."""


class Log:
    """Writes the events of one supervisor with the structlog that the application configured.

    Nothing is configured here, and what the application configures later is honoured: a logger is made anew for each
    event, except for the debug events of calls, whose logger is kept until the next `refresh`; that is also when levels
    are looked up. A worker's start, a stop and a shutdown refresh. Where nobody has
    configured structlog, it would print everything to stdout; then only warnings and errors are written, as the
    standard library's logging does.

    A logger that raises, be it SystemExit, harms nobody: the first failure goes to the event loop's exception handler.

    Attributes:
        debug: Writes a debug event; None while nobody would see it.
        refreshed: Is called after each `refresh`. Set by whoever publishes.
    """

    refreshed: Callable[[], object] | None = None

    def __init__(self, supervisor: str, logger: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._supervisor = supervisor
        self._logger = logger
        self._loop = loop
        self._broken = False
        self._least = logging.WARNING
        self.debug: Callable[..., Any] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Looks again at how structlog is configured."""
        self.debug = None
        self._least = logging.WARNING
        try:
            if self._configured():
                logger = self._bound()
                enabled = getattr(logger, "is_enabled_for", None) or getattr(logger, "isEnabledFor", None)
                self._least = next((level for level in LEVELS if enabled is None or enabled(level)), logging.ERROR)
                if self._least == logging.DEBUG:
                    self.debug = logger.debug
        except BaseException as error:
            self._failed(error)
        if self.refreshed is not None:
            self.refreshed()

    def wants(self, level: int) -> bool:
        """Returns whether anybody would see an event of this level, as of the last `refresh`."""
        return level >= self._least

    def transition(
        self,
        level: int,
        transition: Transition,
        *,
        exit_code: int | None = None,
        oom_killed: bool = False,
        stop_seconds: float | None = None,
        stack: str | None = None,
        blocked: Blocked | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Writes one change of a worker's state."""
        try:
            write = self.debug if level <= logging.DEBUG else self._writer(level)
            if write is not None:
                write(
                    transition.event,
                    supervisor=self._supervisor,
                    **_fields(transition),
                    **_end_fields(exit_code, oom_killed, stop_seconds, stack, blocked, error),
                )
        except BaseException as failure:
            self._failed(failure)

    def moved(
        self,
        write: Callable[..., Any],
        worker: str,
        kind: str,
        pool: str,
        attempt: int,
        old: str | None,
        new: str,
        ended: str | None,
        elapsed: float,
        ident: int | None,
    ) -> None:
        """Writes what `transition` writes, in fewer steps, of a call in threads of this process that nobody stops.

        By `write`, which is `debug` where somebody would see it; all else is as in a Transition.
        """
        try:
            fields: dict[str, Any] = {"supervisor": self._supervisor, "worker": printable(worker), "kind": kind}
            if pool != kind:
                fields["pool"] = printable(pool)
            fields["attempt"] = attempt
            if old is not None:
                fields["old"] = old
            fields["new"] = new
            if ended is not None:
                fields["ended"] = ended
            fields["elapsed"] = round(elapsed, 6)
            if ident is not None:
                fields["ident"] = ident
            write(f"worker.{new}", **fields)
        except BaseException as failure:
            self._failed(failure)

    def stopping(self, reason: str, timeout: float, drain: float, workers: int, queued: int) -> None:
        self.write(
            logging.INFO,
            "supervisor.stopping",
            reason=reason,
            timeout=timeout,
            **_drain(drain),
            workers=workers,
            queued=queued,
        )

    def drained(self, of: dict[str, str], elapsed: float, running: int, queued: int) -> None:
        """A drain is over: that of a group or a pool, or of the supervisor."""
        self.write(
            logging.WARNING if running or queued else logging.INFO,
            "supervisor.drained",
            **of,
            elapsed=round(elapsed, 6),
            running=running,
            queued=queued,
        )

    def stopped(self, report: ShutdownReport) -> None:
        level = logging.INFO if report.clean else logging.WARNING
        self.write(
            level,
            "supervisor.stopped",
            reason=report.reason,
            elapsed=round(report.seconds, 6),
            clean=report.clean,
            counts=report.counts(),
            **_earlier(report),
        )

    def group_stopping(self, group: str, reason: str, drain: float) -> None:
        self.write(logging.INFO, "supervisor.group_stopping", group=group, reason=reason, **_drain(drain))

    def group_stopped(self, group: str, report: ShutdownReport) -> None:
        level = logging.INFO if report.clean else logging.WARNING
        self.write(level, "supervisor.group_stopped", group=group, counts=report.counts(), **_earlier(report))

    def pool_stopping(self, pool: str, reason: str, drain: float) -> None:
        self.write(logging.INFO, "supervisor.pool_stopping", pool=pool, reason=reason, **_drain(drain))

    def pool_stopped(self, pool: str, report: ShutdownReport) -> None:
        level = logging.INFO if report.clean else logging.WARNING
        self.write(level, "supervisor.pool_stopped", pool=pool, counts=report.counts(), **_earlier(report))

    def write(self, level: int, event: str, /, **fields: Any) -> None:
        """Writes an event. Each text is one line, whatever was made of names and errors; stacks have several."""
        try:
            for name, value in fields.items():
                if isinstance(value, str):
                    fields[name] = printable(value, lines=name == "stack")
            write = self.debug if level <= logging.DEBUG else self._writer(level)
            if write is not None:
                write(event, supervisor=self._supervisor, **fields)
        except BaseException as error:
            self._failed(error)

    def forward(self, method: str, event: dict[str, Any], /, **fields: Any) -> None:
        """Writes what a worker process has logged; fields of its own go before those of the worker."""
        try:
            logger = self._bound()
            name = event.pop("event", "")
            getattr(logger, method, logger.info)(name, **{"supervisor": self._supervisor, **fields, **event})
        except BaseException as error:
            self._failed(error)

    def _writer(self, level: int) -> Callable[..., Any] | None:
        """Returns what writes an event of this level; None where it is not to be seen."""
        if level < logging.WARNING and not self._configured():
            return None
        return cast("Callable[..., Any]", getattr(self._bound(), logging.getLevelName(level).lower()))

    def _configured(self) -> bool:
        return self._logger is not None or structlog.is_configured()

    def _bound(self) -> Any:
        logger = structlog.get_logger("supervisor") if self._logger is None else self._logger
        return logger.bind() if hasattr(logger, "bind") else logger

    def _failed(self, error: BaseException) -> None:
        if is_interrupt(self._loop, error):
            raise error
        if not self._broken:
            self._broken = True
            message = f"supervisor {self._supervisor!r}: its logger raised; later failures are not reported"
            report_error(self._loop, message, error)


def _fields(transition: Transition) -> dict[str, Any]:
    """Returns what an event says of a transition. Each debug event comes here: what is not there costs one look."""
    fields: dict[str, Any] = {"worker": printable(transition.worker), "kind": transition.kind}
    if transition.pool is not None and transition.pool != transition.kind:
        fields["pool"] = printable(transition.pool)
    fields["attempt"] = transition.attempt
    if transition.old is not None:
        fields["old"] = transition.old
    fields["new"] = transition.new
    if transition.step is not None:
        fields["step"] = transition.step
    if transition.reason is not None:
        fields["reason"] = printable(transition.reason)
    if transition.ended is not None:
        fields["ended"] = transition.ended
    fields["elapsed"] = round(transition.elapsed, 6)
    if transition.ident is not None:
        fields["ident"] = transition.ident
    if transition.pid is not None:
        fields["pid"] = transition.pid
    if transition.node is not None:
        fields["node"] = printable(transition.node)
    if transition.limit is not None:
        fields["limit"] = transition.limit
        fields["used"] = transition.used
    return fields


def _end_fields(
    exit_code: int | None,
    oom_killed: bool,
    stop_seconds: float | None,
    stack: str | None,
    blocked: Blocked | None,
    error: BaseException | None,
) -> dict[str, Any]:
    """Returns what an event says of a stop, and of an end."""
    fields: dict[str, Any] = {}
    if stop_seconds is not None:
        fields["stop_seconds"] = round(stop_seconds, 6)
    if exit_code is not None:
        fields["exit_code"] = exit_code
        if (signal := signal_of(exit_code)) is not None:
            fields["signal"] = signal
    if oom_killed:
        fields["oom_killed"] = True
    if blocked is not None:
        fields["blocked_in"] = printable(blocked.what)
        fields["freed_by"] = printable(blocked.freed_by)
    if stack is not None:
        fields["stack"] = printable(stack, lines=True)
    if error is not None:
        fields["exc_info"] = error
    return fields


def _drain(seconds: float) -> dict[str, float]:
    return {"drain": round(seconds, 6)} if seconds else {}


def _earlier(report: ShutdownReport) -> dict[str, Any]:
    counts = report.earlier_counts()
    return {"earlier": counts} if counts else {}
