"""Where a worker process stands: what it writes itself when it is asked by a signal, or else what the kernel knows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from ..._loop.clock import monotonic
from ..._worker.locks import ScopedLock
from .wire import STACK, STACK_IN_C

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Probe"]

TIMEOUT = 0.05
"""Seconds at most for which the loop waits for a process to write where it stands."""

PYTHON_ANSWERS = 0.001
"""Seconds on a processor within which Python code writes where it stands."""

CHILD = str(Path(__file__).with_name("child")) + os.sep
"""The folder of our own code in a worker process."""

OURS = (CHILD, str(Path(__file__).parents[2] / "_worker" / "parcel.py"))
"""What of ours stands below a user's function, on the node of a cluster too."""


class Target(Protocol):
    """The process that is asked."""

    pid: int
    reaped: bool

    def signal(self, number: int) -> None:
        """Sends a signal to it. Any thread."""
        ...


class Probe:
    """Asks a process where it stands, by private signals. Any thread; one asks at a time.

    Args:
        target: The process.
        file: Into which it writes. The child's end is the same open file.
        close: Closes what else is needed for asking.
    """

    def __init__(self, target: Target, file: IO[bytes], close: Callable[[], object]) -> None:
        self._target = target
        self._file = file
        self._close = close
        self._asking = ScopedLock()
        self._done_with = False  # what is needed for asking may be closed

    def stack(self) -> str | None:
        """Returns where the process stands; None where it is no more.

        This takes a millisecond, a few where it is in C code, and `TIMEOUT` where it does not answer.
        """
        with self._asking:
            try:
                text = self._ask()
            except (OSError, ValueError):  # it has been reaped meanwhile
                text = None
        if self._done_with:  # not before: until then the loop still watches one of these files
            self._close_unless_asked()
        if self._target.reaped:
            return None
        return kernels_view(self._target.pid) if text is None else users_part(text)

    def _ask(self) -> str | None:
        if self._target.reaped:  # before its files could be kept from being closed
            return None
        file = self._file.fileno()
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        silence = _Silence(self._target.pid)
        self._target.signal(STACK)
        asked_at = monotonic()
        asked_in_c = False
        while (waited := monotonic() - asked_at) < TIMEOUT:
            time.sleep(0.0003)
            in_c = waited >= PYTHON_ANSWERS and not asked_in_c and silence.is_in_c()
            stack = last_stack(os.pread(file, 1 << 16, 0))  # only now: what waits may have answered, and wait again
            if is_whole(stack):
                return stack.decode(errors="replace")
            if in_c and not stack:
                asked_in_c = True
                self._target.signal(STACK_IN_C)
        return None

    def close(self) -> None:
        """Closes what is needed for asking; where a thread asks, that thread closes it afterwards.

        Else the numbers of these files might belong to files of the application by then.
        """
        self._done_with = True  # first this: either who asks has let go of the lock by then, or sees it
        self._close_unless_asked()

    def _close_unless_asked(self) -> None:
        if not self._asking._is_owned() and self._asking.acquire(False):  # type: ignore[attr-defined]
            try:
                self._file.close()
            finally:
                try:
                    self._close()
                finally:
                    self._asking.release()


class _Silence:
    """Distinguishes C code from Python code that has not had its turn, where a process does not answer."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = _ran(pid)
        self._since: float | None = None

    def is_in_c(self) -> bool:
        """Whether it sleeps in C code, or has had the time to answer that Python code needs."""
        now = _ran(self._pid)
        if self._before is None or now is None:
            return True
        try:
            if _state(self._pid) in "SD":
                return True
        except OSError:
            return False
        if self._since is not None:
            return now - self._since >= PYTHON_ANSWERS
        if now != self._before:  # time is counted in lumps: the first may be from before the question
            self._since = now
        return False


def _ran(pid: int) -> float | None:
    """Returns for how many seconds the main thread of a process has had a processor; None where nobody says so."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError):
        return None


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def kernels_view(pid: int) -> str | None:
    """Returns what the kernel knows of a process that does not answer; None where it is no more."""
    try:
        state = _state(pid)
        where = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return None
    return f"  process {pid} does not answer: state {state}, in the kernel at {where or '?'}\n"


def last_stack(text: bytes) -> bytes:
    """Returns the last stack that has been begun: others answer the other signal, or an earlier question only now."""
    begins = text.rfind(b"\nStack") + 1 or (0 if text.startswith(b"Stack") else len(text))
    return text[begins:]


def is_whole(text: bytes) -> bool:
    """Whether all of a stack has been written: faulthandler writes in many pieces, and may lose the processor between.

    The last frame is that of the command line, below ours; of a deep stack faulthandler leaves out the end.
    """
    return text.endswith(b"  ...\n") or (text.endswith(b" in <module>\n") and os.fsencode(CHILD) in text)


def users_part(text: str) -> str:
    """Returns a stack without its head and without our frames below the user's function, the innermost frame last."""
    lines = text.splitlines()[1:]
    if lines and _is_ours(lines[0]) and lines[0].endswith(" in say_where"):
        del lines[0]  # it was about to answer by itself
    if lines and lines[-1] != "  ...":  # else it is too deep: the frames below are left out
        del lines[-1]  # that of the command line
        while lines and _is_ours(lines[-1]):
            del lines[-1]
    return "".join(f"{line}\n" for line in reversed(lines)) or "  in no Python function of the worker's\n"


def _is_ours(line: str) -> bool:
    return line.startswith(tuple(f'  File "{path}' for path in OURS))
