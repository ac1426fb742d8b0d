"""In a worker process: has the kernel end a call that uses too much CPU, where its owner does not."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CpuLimit"]


class CpuLimit:
    """The kernel's limit of CPU seconds while one call runs; also calls what else is to be called before it.

    Only the soft limit is moved, as the hard one can only be raised by root. What ends a process that exceeds it is
    SIGXCPU.

    Args:
        seconds: How many the call may use.
        before: What else is called before it, which returns what is called after it.
    """

    __slots__ = ("_before", "_seconds")

    def __init__(self, seconds: float, before: Callable[[], Callable[[], object]] | None) -> None:
        self._seconds = seconds
        self._before = before

    def __call__(self) -> Callable[[], object]:
        """Sets it; returns what lifts it again."""
        from resource import RLIM_INFINITY, RLIMIT_CPU, RUSAGE_SELF, getrlimit, getrusage, setrlimit  # noqa: PLC0415

        after = None if self._before is None else self._before()
        soft, hard = getrlimit(RLIMIT_CPU)
        used = getrusage(RUSAGE_SELF)
        at = int(used.ru_utime + used.ru_stime + self._seconds) + 1
        if any(limit not in (RLIM_INFINITY, -1) and limit <= at for limit in (soft, hard)):
            return _nothing if after is None else after  # its own is nearer
        setrlimit(RLIMIT_CPU, (at, hard))

        def lift() -> None:
            try:
                if after is not None:
                    after()
            finally:
                _lift(at, soft)

        return lift


def _lift(at: int, soft: int) -> None:
    """Lifts it here, and where what the call has started, and left behind, has inherited it."""
    from resource import RLIMIT_CPU, getrlimit, setrlimit  # noqa: PLC0415  # lean

    now, hard = getrlimit(RLIMIT_CPU)
    if now == at:  # else the function has set its own
        setrlimit(RLIMIT_CPU, (soft, hard))
    if not hasattr(os, "waitid") or not _has_children():
        return
    session = os.getsid(0)
    for name in os.listdir("/proc"):  # noqa: PTH208  # lean
        if name.isdecimal() and int(name) != os.getpid():
            _lift_of(int(name), session, at, soft)


def _lift_of(pid: int, session: int, at: int, soft: int) -> None:
    from resource import RLIMIT_CPU, prlimit  # noqa: PLC0415  # lean

    try:
        if os.getsid(pid) == session:
            now, hard = prlimit(pid, RLIMIT_CPU)
            if now == at:
                prlimit(pid, RLIMIT_CPU, (soft, hard))
    except (OSError, ValueError):
        pass  # it is no more, or not ours


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _nothing() -> None:
    pass
