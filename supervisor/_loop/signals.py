"""Signals for a service: the first one is waited for, a second one shortens the shutdown."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

from .._core.errors import SupervisorMisused
from . import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

__all__ = ["SECOND_TIMEOUT", "Signals", "checked_signals"]

DEFAULT = (signal.SIGTERM, signal.SIGINT)

SECOND_TIMEOUT = 1.0
"""Seconds that the shutdown has left once a second signal has come."""


class Signals:
    """The signal handlers of one supervisor, from the first `wait_for_signal` until it has closed.

    A handler that the application had installed, such as a web server's, is called as well; `asyncio.run`'s own, which
    would cancel the main task, is not. On the loop's thread, which is the main thread.

    Several supervisors may each have theirs, and close in any order: one that has closed, but whose handler another one
    has saved, passes signals on to what it had saved itself.

    Args:
        loop: The supervisor's loop.
        again: Called on the loop's thread with each signal but the first.

    Attributes:
        first: The first signal, once it has come.
        end: Done once it has come, or after `give_up`.
        heard: Called on the loop's thread with each signal; None: nobody asks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, again: Callable[[signal.Signals], object]) -> None:
        self._loop = loop
        self._again = again
        self._saved: dict[int, Any] = {}
        self.end: asyncio.Future[None] = loop.create_future()
        self._closed = False
        self._pid = os.getpid()
        self._waker: tuple[socket.socket, socket.socket] | None = None
        self.first: signal.Signals | None = None
        self.heard: Callable[[signal.Signals], object] | None = None

    def handle(self, wanted: Iterable[signal.Signals]) -> None:
        """Handles these from now on, with those that it handles already."""
        for number in wanted:
            self._install(number)

    def give_up(self) -> None:
        """Whoever waits need wait no more: the first signal has come, or the supervisor shuts down."""
        if not self.end.done():
            self.end.set_result(None)

    def close(self) -> None:
        """Puts back the handlers that were there before, except where somebody has replaced ours."""
        self._put_back()
        self._unwake()

    def forked(self) -> None:
        """The same in a process that is a copy of this one: its loop is not here."""
        if not self._closed:
            self._put_back()
            if self._waker is not None:
                signal.set_wakeup_fd(-1)  # the other process reads it

    def _put_back(self) -> None:
        self._closed = True
        if self in _open:
            _open.remove(self)
        for number, saved in self._saved.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, _still_in_force(number, saved))

    # -------------------------------------------------------------------------------- at a signal

    def _install(self, number: signal.Signals) -> None:
        if number in self._saved:
            return
        if not self._saved:
            self._wake()
            _open.append(self)
        saved = signal.getsignal(number)
        self._saved[number] = signal.SIG_DFL if saved is None else saved
        signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Runs between any two bytecodes of the main thread: takes no lock."""
        saved = self._saved[number]
        if os.getpid() != self._pid:  # a fork, so young that `forked` was not called yet
            self.forked()
        elif not self._closed and self._loop.is_closed():  # the supervisor was never shut down
            self.close()
        if self._closed:
            if callable(saved):
                saved(number, frame)
            elif saved == signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        aside.call_soon_threadsafe(self._loop, self._received, signal.Signals(number))
        if callable(saved) and saved is not signal.default_int_handler and not _of_asyncio(saved):
            saved(number, frame)

    def _received(self, number: signal.Signals) -> None:
        if self.first is None:
            self.first = number
            self.give_up()
        else:
            self._again(number)
        if self.heard is not None:
            self.heard(number)

    # -------------------------------------------------------------------------------- waking the loop

    def _wake(self) -> None:
        """Has the interpreter wake the loop at a signal.

        Python runs a handler once the main thread is back in Python code. A signal that comes just before the loop
        blocks in its selector would wait there with it, unless the interpreter writes to a file that the loop reads.
        Some loops have such a file already; then it stays.
        """
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        if before == -1:
            try:
                aside.add_reader(self._loop, reader, reader.recv, 4096)
            except NotImplementedError:  # Windows' proactor loop, which wakes by itself
                signal.set_wakeup_fd(-1)
            else:
                self._waker = reader, writer
                return
        else:
            signal.set_wakeup_fd(before)
        reader.close()
        writer.close()

    def _unwake(self) -> None:
        if self._waker is None:
            return
        waker, self._waker = self._waker, None
        for other in _open:
            if other._loop is self._loop:
                other._waker = waker  # that one relies on it as well
                return
        reader, writer = waker
        present = signal.set_wakeup_fd(-1)
        if present != writer.fileno():
            signal.set_wakeup_fd(present)
        if not self._loop.is_closed():
            self._loop.remove_reader(reader)
        reader.close()
        writer.close()


_open: list[Signals] = []
"""Those that have handlers in force."""


def checked_signals(
    supervisor: str, numbers: tuple[object, ...], *, where: str = "wait_for_signal()"
) -> tuple[signal.Signals, ...]:
    """Returns what to wait for; refuses what cannot be handled, and where it cannot be.

    Of the default ones, those that the process was started to ignore stay ignored, as a shell wants of a job in the
    background.
    """
    wanted: list[signal.Signals] = []
    for number in numbers or DEFAULT:
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"wait_for_signal({number!r}): must be signals, such as signal.SIGTERM")
        try:
            wanted.append(signal.Signals(number))
        except ValueError:
            raise ValueError(f"wait_for_signal({number!r}): there is no such signal") from None
        if wanted[-1].name in {"SIGKILL", "SIGSTOP"}:
            raise ValueError(f"wait_for_signal({wanted[-1].name}): no process can handle this signal")
    if threading.current_thread() is not threading.main_thread():
        raise SupervisorMisused(
            f"supervisor {supervisor!r}: {where} works only where the event loop runs in the main thread, as no other "
            "can handle signals; in a thread, as under a TestClient, leave it out, or handle the signals in the main "
            "thread and call request_shutdown()"
        )
    return tuple(number for number in wanted if numbers or signal.getsignal(number) is not signal.SIG_IGN)


def _still_in_force(number: int, saved: Any) -> Any:
    """Returns what to put back: past the handlers of supervisors that have closed meanwhile."""
    owner = getattr(saved, "__self__", None)
    while isinstance(owner, Signals) and owner._closed:
        saved = owner._saved[number]
        owner = getattr(saved, "__self__", None)
    return saved


def _of_asyncio(handler: Any) -> bool:
    """Whether a handler is the one by which `asyncio.run` turns Ctrl-C into a cancellation."""
    bound = getattr(handler, "func", handler)
    return isinstance(getattr(bound, "__self__", None), asyncio.Runner)
