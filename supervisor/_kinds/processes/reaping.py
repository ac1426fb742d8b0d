"""Reaps worker processes, and what dead ones have left in their groups."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

__all__ = ["group_is_reaped", "kill_and_reap", "reap_later"]


def kill_and_reap(pid: int) -> None:
    """Ends a process that has hardly begun."""
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    reap_later(pid)


def group_is_reaped(pid: int) -> bool:
    """Reaps what a dead worker has left in its group; only a process 1, or the like, inherits it.

    The number of the group is not given out again while anything is left in it.
    """
    try:
        while os.waitpid(-pid, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def reap_later(pid: int) -> None:
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
