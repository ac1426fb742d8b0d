"""A signal that has a thread of ours do something, whatever the main thread is about.

Python runs a handler only once the main thread is back in Python code. So the thread is woken in two ways: by the
interpreter itself, which writes the number of each signal into a file at once, where nobody else has that file
(`signal.set_wakeup_fd`; some event loops do), and else by the handler.

Where C code keeps the interpreter (GIL) for itself, no thread runs, and it comes later. faulthandler would write stacks
even then, from C; but it reads frames, and the list of threads, while others change them. On every version it killed
processes, once in some hundred signals or less, and it waits for whoever reads what it writes.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import aside
from .clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["DumpSignal", "write_to_stderr"]

STDERR = 2

BY_HANDLER = 0
"""What the handler writes to the thread; the interpreter writes the number of a signal."""

PATIENCE = 5.0
"""Seconds for which nobody may read what is written before the rest is dropped."""


class DumpSignal:
    """The handler of one signal, and the thread that acts at it. On the main thread, where it does not say otherwise.

    Args:
        number: The signal.
        act: Is called in the thread, once for the signals that have come meanwhile. Must not raise.
        wake: Has the event loops come to a turn: another signal came, and they may lack the file that wakes them. Any
            thread.
    """

    def __init__(self, number: int, act: Callable[[], object], wake: Callable[[], object]) -> None:
        self.number = number
        self._act = act
        self._wake = wake
        self._pid = os.getpid()
        self._closed = False
        self._reader = self._writer = -1

    def begin(self) -> str | None:
        """Installs it; returns why it cannot, or None."""
        saved: Any = signal.getsignal(self.number)
        if saved != signal.SIG_DFL:
            return "the application handles or ignores it itself: name another signal, or call what you need from there"
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        thread = threading.Thread(target=self._serve, name=f"supervisor-dump-{self.number}", daemon=True)
        try:
            aside.start(thread)
        except RuntimeError as error:
            self._close_files(self._reader, self._writer)
            return f"no thread could be started for it: {error}"
        _open.append(self)
        before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)
        signal.signal(self.number, self._handle)
        return None

    def close(self) -> None:
        """Puts back what was there before, except where somebody has replaced it. Idempotent."""
        if not self._closed:
            self._put_back()
            self._close_files(self._writer)  # which ends the thread

    def _put_back(self) -> None:
        self._closed = True
        if self in _open:
            _open.remove(self)
        present = signal.set_wakeup_fd(-1)
        if present not in (-1, self._writer):
            signal.set_wakeup_fd(present)
        if signal.getsignal(self.number) == self._handle:
            signal.signal(self.number, signal.SIG_DFL)

    def forked(self) -> None:
        """This process is a copy: the thread is not here, and whoever has copied it hears of its own signals alone."""
        self._put_back()
        self._close_files(self._reader, self._writer)

    def _handle(self, number: int, _: FrameType | None) -> None:
        """Runs between any two bytecodes of the main thread: takes no lock."""
        if os.getpid() == self._pid and not self._closed:
            with suppress(OSError):  # so many have come that the thread is about to act anyway
                os.write(self._writer, bytes((BY_HANDLER,)))
            return
        # A fork, so young that `forked` was not called yet; or somebody had saved this handler, and put it back.
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    # -------------------------------------------------------------------------------- the thread

    def _serve(self) -> None:
        reader = self._reader
        heard = False  # by the interpreter: the handler comes after it
        while come := os.read(reader, 4096):
            wanted = False
            for number in come:
                if number == BY_HANDLER:
                    wanted = wanted or not heard
                    heard = False
                elif number == self.number:
                    wanted = heard = True
                else:
                    self._wake()
            if wanted:
                self._act()
        os.close(reader)

    @staticmethod
    def _close_files(*files: int) -> None:
        for file in files:
            with suppress(OSError):
                os.close(file)


_open: list[DumpSignal] = []
"""Those that are installed."""


def write_to_stderr(text: str) -> bool:
    """Writes a text; False where nobody reads it, or the file is closed: the rest is dropped. Any thread."""
    if not _is_standard_error():
        return False
    data = memoryview(text.encode(errors="backslashreplace"))
    until = monotonic() + PATIENCE
    with suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(STDERR, select.POLLOUT)
        while data and (left := until - monotonic()) > 0:
            if not poll.poll(left * 1000):
                break
            with suppress(BlockingIOError, InterruptedError):
                data = data[os.write(STDERR, data[: select.PIPE_BUF]) :]  # so much a pipe that is ready takes at once
                until = monotonic() + PATIENCE
    return not data


def _is_standard_error() -> bool:
    """Whether file 2 is what the process was started with, or was given for it: others are not inheritable."""
    try:
        return os.get_inheritable(STDERR)
    except OSError:
        return False


def _after_fork() -> None:
    for handler in tuple(_open):
        handler.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
