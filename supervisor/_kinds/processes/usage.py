"""What processes use, as the kernel counts it: resident memory and seconds of CPU. Linux; elsewhere nothing is known.

One look at a process takes 5 to 10 µs, and one at which processes there are some 60 µs on a machine that has 100. A
process may vanish between any two of them: then it uses nothing.
"""

from __future__ import annotations

import math
import os

from ..._core.usage import Usage

__all__ = ["Census", "cpu_seconds", "is_known", "rss", "share", "usage"]

PROC = "/proc"

PAGE, TICK = (os.sysconf("SC_PAGE_SIZE"), 1 / os.sysconf("SC_CLK_TCK")) if hasattr(os, "sysconf") else (4096, 0.01)
"""The bytes of a page and the seconds of a tick, in which the kernel counts."""

DEAD = (b"Z", b"X")
"""The states of a process that is no more."""

PARENT, SESSION, FIRST_TIME, LAST_TIME, PAGES = 1, 3, 11, 14, 21
"""Where these stand in `/proc/PID/stat` behind the name, which is in brackets."""

STAT_SIZE, ROLLUP_SIZE = 1024, 4096


def is_known() -> bool:
    """Whether this system says what processes use."""
    return rss(os.getpid()) is not None


def rss(pid: int) -> int | None:
    """Returns the bytes that a process alone has resident; None where it is no more, or where that is not known."""
    try:
        return int(_read(pid, "statm", STAT_SIZE).split(None, 2)[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return None


def cpu_seconds(pid: int) -> float | None:
    """Returns the CPU that a process, dead or alive, has used, with children it has waited for; None: it is reaped."""
    stat = _stat(pid)
    return None if stat is None else _ticks(stat) * TICK


def usage(pid: int, census: Census, *, shared_from: float = math.inf) -> Usage | None:
    """Returns what a process and its descendants use; None where it is no more, or where that is not known.

    Args:
        pid: The process.
        census: Which descendants there are, as of its last look.
        shared_from: Bytes from which memory that several processes share is counted once, as far as the kernel says
            how much that is. It takes 10 ms for each GiB, so below that it is counted in each of them.
    """
    stat = _stat(pid)
    if stat is None or stat[0] in DEAD:
        return None  # its death is about to be known
    found = {pid: stat}
    for descendant in census.descendants(pid):
        if (stat := _stat(descendant)) is not None:
            found[descendant] = stat
    resident = sum(int(stat[PAGES]) for stat in found.values()) * PAGE
    if resident > shared_from and len(found) > 1:
        resident = sum(map(share, found))
    return Usage(resident, sum(map(_ticks, found.values())) * TICK)


class Census:
    """Which processes there are, and from which each descends.

    A process that was seen stays a descendant when its parent ends, and so does one in the session of another: whoever
    is new is looked at once, and no look at the whole table of a machine is needed again.
    """

    def __init__(self) -> None:
        self._parents: dict[int, tuple[int, ...]] = {}
        self._children: dict[int, set[int]] = {}

    def look(self) -> None:
        """Takes note of which processes have come and gone."""
        try:
            there = {int(name) for name in os.listdir(PROC) if name.isdecimal()}  # noqa: PTH208  # light
        except OSError:
            return
        for pid in self._parents.keys() - there:
            self._remove(pid)
        for pid in there - self._parents.keys():
            self._add(pid)

    def descendants(self, pid: int) -> set[int]:
        """Returns those of a process."""
        found: set[int] = set()
        ahead = [pid]
        while ahead:
            new = self._children.get(ahead.pop(), found) - found
            found |= new
            ahead += new
        found.discard(pid)
        return found

    def _add(self, pid: int) -> None:
        stat = _stat(pid)
        if stat is None:
            return
        parents = {int(stat[PARENT]), int(stat[SESSION])} - {pid, 0}
        self._parents[pid] = tuple(parents)
        for parent in parents:
            self._children.setdefault(parent, set()).add(pid)

    def _remove(self, pid: int) -> None:
        """Its children become those of its parents."""
        children = self._children.pop(pid, set())
        parents = self._parents.pop(pid)
        for parent in parents:
            siblings = self._children.setdefault(parent, set())
            siblings.discard(pid)
            siblings |= children - {parent}
            if not siblings:
                del self._children[parent]
        for child in children:
            if child in self._parents:
                self._parents[child] = tuple({*self._parents[child], *parents} - {pid, child})


def _read(pid: int, name: str, size: int) -> bytes:
    file = os.open(f"{PROC}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, size)
    finally:
        os.close(file)


def _stat(pid: int) -> list[bytes] | None:
    """Returns the fields behind the name; None where the process is no more."""
    try:
        fields = _read(pid, "stat", STAT_SIZE).rpartition(b")")[2].split()
    except OSError:
        return None
    return fields if len(fields) > PAGES else None


def _ticks(stat: list[bytes]) -> int:
    return sum(map(int, stat[FIRST_TIME : LAST_TIME + 1]))


def share(pid: int) -> int:
    """Returns the bytes that a process has resident, of those that it shares its share."""
    try:
        for line in _read(pid, "smaps_rollup", ROLLUP_SIZE).splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) << 10
    except (OSError, IndexError, ValueError):
        pass  # it dies, or is not ours to look into
    return rss(pid) or 0  # now: what it had may be another one's alone by this time
