"""The signals that end a service, from when somebody first waits or listens for them on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._loop.errors import report_error
from .._loop.signals import Signals

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from .nodes import GroupNode
    from .shutdown import Shutdown

__all__ = ["StopSignals"]


class StopSignals:
    """Waits for the signal that ends a service; puts the former handlers back at its end. On the loop's thread.

    Args:
        supervisor: Its name, for messages.
        shutdown: The shutdown of the supervisor: once it has begun, nobody waits any more.
        again: Is called with each signal but the first.
    """

    def __init__(
        self,
        supervisor: str,
        loop: asyncio.AbstractEventLoop,
        shutdown: Shutdown,
        again: Callable[[signal.Signals], object],
    ) -> None:
        self._supervisor = supervisor
        self._loop = loop
        self._shutdown = shutdown
        self._again = again
        self._signals: Signals | None = None

    @property
    def first(self) -> signal.Signals | None:
        """The first signal that has come."""
        return None if self._signals is None else self._signals.first

    async def wait(self, wanted: tuple[signal.Signals, ...], scope: GroupNode) -> signal.Signals | None:
        """Returns the first signal, once it has come; None where a shutdown has begun without one, or a scope ended."""
        if self._shutdown.begun:
            return self.first
        end = self._handled(wanted).end
        while not end.done() and scope.shutdown.report is None:
            change = self._loop.create_future()
            scope.waiters[change] = None
            try:
                await asyncio.wait((end, change), return_when=asyncio.FIRST_COMPLETED)
            finally:
                scope.waiters.pop(change, None)  # it is still there where nothing has happened to the scope
        return self.first

    def listen(self, wanted: tuple[signal.Signals, ...], heard: Callable[[signal.Signals], object]) -> None:
        """Calls `heard` with each of these signals from now on, until the handlers are put back."""
        self._handled(wanted).heard = heard

    def _handled(self, wanted: tuple[signal.Signals, ...]) -> Signals:
        if self._signals is None:
            self._signals = Signals(self._loop, self._again)
        self._signals.handle(wanted)
        return self._signals

    def give_up(self) -> None:
        """Whoever waits need wait no more."""
        if self._signals is not None:
            self._signals.give_up()

    def put_back(self) -> None:
        """Puts the handlers back that were there before."""
        if self._signals is not None:
            try:
                self._signals.close()
            except Exception as error:
                message = f"supervisor {self._supervisor!r}: the signal handlers could not be put back"
                report_error(self._loop, message, error)

    def forked(self) -> None:
        """This is a copy, in a process of its own: the loop and its signals are not here."""
        if self._signals is not None:
            self._signals.forked()
