"""The queue of a pool's threads, which wakes no more of them than there is work for."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from functools import cache, partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._run.run import Run

__all__ = ["Empty", "RunQueue"]

SPREAD = 2
"""How many threads one wakes that was woken itself, where more calls wait than its own.

With one, of many calls that keep the interpreter busy each would begin a turn of that after the one before it.
"""

LOST_AFTER = 0.001
"""Seconds of a write after which somebody else had the interpreter who keeps it: a write takes some microseconds."""

KEEP_FOR = 0.5
"""Seconds for which the interpreter is not let go of after that. Each loss of it may take 5 ms, the switch interval."""


class _Pipe:
    """Wakes threads by a pipe: who is woken in this way finds the interpreter free.

    Who writes to a pipe lets go of the interpreter (GIL) meanwhile, and who releases a lock does not. A thread that a
    lock has woken begins by waiting for the interpreter, until the loop has nothing left to do: on one core that is
    four switches between the two in place of two. An eventfd would wake all that wait for it at once.

    Where others compute, whoever lets go of the interpreter has to wait for it afterwards, and the loop with it. So
    for some time after that has been seen, the interpreter is kept in a write.

    It is closed with the last reference to it, as a thread may still be in here.

    Attributes:
        call_in_c: Does what `call` does in C code alone: no exception from outside can strike before it is done.
    """

    __slots__ = ("_keep_until", "_reads", "_write_and_keep", "_writes", "call_in_c")

    def __init__(self) -> None:
        self._reads = self._writes = -1
        self._keep_until = 0.0
        self._write_and_keep: Any = _write_and_keep()
        self._reads, self._writes = os.pipe()
        self.call_in_c: Callable[[], object] = partial(os.write, self._writes, b"x")

    def call(self) -> None:
        began = monotonic()
        if began < self._keep_until and self._write_and_keep(self._writes, b"x", 1) == 1:
            return
        os.write(self._writes, b"x")
        ended = monotonic()
        if ended - began > LOST_AFTER:
            self._keep_until = ended + KEEP_FOR

    def wait(self, timeout: float | None) -> bool:  # noqa: ARG002  # nobody who has one comes here
        """Waits until it is called."""
        os.read(self._reads, 1)
        return True

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        try:
            if self._reads >= 0:
                close(self._reads)
        finally:  # also where an interrupt strikes as the first one was closed: the interpreter drops it here
            if self._writes >= 0:
                close(self._writes)


class _Lock:
    """Wakes threads by a lock: some of them wait for so long at most, or there is no pipe.

    Attributes:
        call_in_c: As that of a pipe.
    """

    __slots__ = ("_calls", "call_in_c")

    def __init__(self) -> None:
        self._calls: SimpleQueue[None] = SimpleQueue()
        self.call_in_c: Callable[[], object] = partial(self._calls.put, None)

    def call(self) -> None:
        self._calls.put(None)

    def wait(self, timeout: float | None) -> bool:
        """Waits until it is called, for so many seconds at most; returns whether it was."""
        try:
            self._calls.get(True, timeout)
        except Empty:
            return False
        return True


class RunQueue:
    """Calls for the threads of a pool, in order; None: whoever gets it looks whether he is to end.

    To wake a thread takes longer than a short call. So who puts a call here wakes one thread that sleeps, and further
    calls wake none until that one has looked. Before it carries out its call, it wakes others, where more are waiting.
    So a few threads carry out many calls that are short, and all threads come for those that take long.

    Any thread may put something here, a signal handler too. No lock of ours is taken: what is changed is changed in one
    step of the interpreter.

    Args:
        timed: Threads wait here for some time at most.
    """

    __slots__ = ("_asleep", "_called", "_runs", "_wakeups")

    def __init__(self, *, timed: bool = False) -> None:
        self._runs: deque[Run | None] = deque()
        # An entry for each thread that sleeps, or is about to, and for which nobody has called: whose does not matter.
        self._asleep: deque[None] = deque()
        self._called = False  # one was woken, and has not looked yet
        self._wakeups: _Pipe | _Lock = _Lock() if timed else _wakeups()

    def put(self, run: Run | None) -> None:
        """Appends a call. Never blocks."""
        self._runs.append(run)  # first this, and then the look at who sleeps: who goes to sleep does the opposite
        if self._asleep and not self._called:
            self._call()

    def get(self, timeout: float | None = None) -> Run | None:
        """Takes the first call, and waits for one where there is none.

        Raises:
            Empty: There was none for so many seconds. Only where it is `timed`.
        """
        runs = self._runs
        most = 1
        while True:
            if runs:
                try:
                    run = runs.popleft()
                except IndexError:
                    continue  # another thread was faster
                if runs and self._asleep and not self._called:
                    for _ in range(min(most, len(runs))):
                        self._call()
                return run
            self._asleep.append(None)
            if runs or not self._wakeups.wait(timeout):
                if self._stays_awake():
                    if runs:
                        continue
                    raise Empty
                self._wakeups.wait(None)  # for as many as sleep was called, so there is something for this one
            self._called = False  # first this, then the look: what is put here from now on wakes somebody
            most = SPREAD

    def get_nowait(self) -> Run | None:
        """Takes the first call.

        Raises:
            Empty: There is none.
        """
        try:
            return self._runs.popleft()
        except IndexError:
            raise Empty from None

    def rouse(self) -> None:
        """Wakes a thread in any case: one that had been woken has ended before it has looked."""
        self._wakeups.call()

    def close(self) -> None:
        """No thread comes here any more: lets go of the files."""
        self._wakeups = _Lock()

    def _stays_awake(self) -> bool:
        """Whether a thread that was about to sleep need not be called; if not, somebody calls this very moment."""
        try:
            self._asleep.pop()
        except IndexError:
            return False
        return True

    def _call(self) -> None:
        """Wakes a thread, if one sleeps. Where two do so at once, or after an interrupt, one too many is woken."""
        try:
            self._asleep.pop()
            self._called = True
            self._wakeups.call()
        except IndexError:
            return  # somebody else has called the last one
        except BaseException:
            wakeups = self._wakeups  # held meanwhile, as its files close with it
            wakeups.call_in_c()  # or that thread would never be woken any more; where one strikes again, it comes later
            raise


@cache
def _write_and_keep() -> Any:
    """C's `write`, called without letting go of the interpreter."""
    write = ctypes.PyDLL(None).write  # nobody else's: each library that is opened has functions of its own
    write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
    write.restype = ctypes.c_ssize_t
    return write


def _wakeups() -> _Pipe | _Lock:
    if os.name == "posix":
        try:
            return _Pipe()
        except OSError:
            pass  # there are no more files
    return _Lock()
