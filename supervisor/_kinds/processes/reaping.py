"""Reaps worker processes, and what dead ones have left in their groups."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ..._loop import aside
from ..._loop.clock import monotonic

if TYPE_CHECKING:
    import asyncio

__all__ = ["is_dead", "kill_and_reap", "reap", "reap_forgotten", "wait_for_death"]

TRY_AGAIN = 1.0
"""Seconds after which a thread is started that could not be."""


def kill_and_reap(pids: list[int]) -> None:
    """Ends processes that have hardly begun."""
    for pid in pids:
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        _wait_for_all(pid)


def reap(pid: int, loop: asyncio.AbstractEventLoop) -> int | None:
    """Reaps a worker process that was killed, and its group; returns its exit code where that is known by now.

    A thread waits for those for which the kernel takes its time.
    """
    code = None
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
        if not found or not _group_is_reaped(pid):
            _reap_aside(pid, loop)
    except ChildProcessError:
        pass  # the application ignores SIGCHLD, or reaps what is not its own
    return code


def reap_forgotten(*pids: int) -> None:
    """Reaps those that nobody knows of any more, as soon as they are dead: now, or when it is called again.

    The garbage collector may call it, at any moment: it waits for nobody, and starts no thread.
    """
    _forgotten.update(dict.fromkeys(pids))
    for pid in tuple(_forgotten):
        try:
            gone = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            gone = True
        if gone:
            _forgotten.pop(pid, None)


_forgotten: dict[int, None] = {}


def is_dead(pid: int) -> bool | None:
    """Returns whether a process is dead, and leaves it to be reaped; None where somebody else has reaped it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return None


def wait_for_death(pid: int, seconds: float) -> None:
    """Waits until a process is dead, for so long at most, and leaves it to be reaped."""
    until = monotonic() + seconds
    while monotonic() < until and is_dead(pid) is False:
        time.sleep(0.0005)


def _reap_aside(pid: int, loop: asyncio.AbstractEventLoop) -> None:
    name = f"supervisor/reap-{pid}"
    try:
        aside.start(threading.Thread(target=_wait_for_all, args=(pid,), name=name, daemon=True))
    except (RuntimeError, MemoryError):  # there is none to be had at the moment
        if not loop.is_closed():  # else the interpreter exits, and the system reaps what it leaves
            aside.call_later(loop, TRY_AGAIN, _reap_aside, pid, loop)


def _group_is_reaped(pid: int) -> bool:
    """Reaps what a dead worker has left in its group; only a process 1, or the like, inherits it.

    The number of the group is not given out again while anything is left in it.
    """
    try:
        while os.waitpid(-pid, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def _wait_for_all(pid: int) -> None:
    """Waits for a process, and for what it has left in its group, as long as that takes."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # somebody else has reaped it
    try:
        while True:
            os.waitpid(-pid, 0)
    except ChildProcessError:
        pass  # nothing of this process is left in its group
