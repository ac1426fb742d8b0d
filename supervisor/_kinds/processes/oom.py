"""Whether it was the kernel's out-of-memory killer that has ended a process.

The kernel does not say whom it has taken, but it counts: by control group, and else for the whole machine. Whoever dies
by a SIGKILL that was not ours, and has seen the count rise in its life, was most likely taken; unless another one was,
and somebody killed this one by hand.
"""

from __future__ import annotations

from typing import Final

from ..._run.cgroups import folders_of_groups, text_of_file

__all__ = ["OomKills", "oom_kills"]

FILES: Final = ("memory.events", "memory.oom_control")
"""Where a group's count stands in version 2, and in version 1."""


class OomKills:
    """How many processes of this program's group the kernel's out-of-memory killer has ended.

    One for all supervisors: each of those that it has ended is said to have taken one process.

    Args:
        root: The folder in which `/proc` and all else is looked for.
    """

    def __init__(self, root: str = "") -> None:
        self._root = root
        self._said = 0

    def so_far(self) -> int | None:
        """Returns how many there have been; None where nobody knows."""
        try:
            folders = folders_of_groups("memory", self._root)
        except (OSError, ValueError):
            folders = []
        for folder in reversed(folders):  # the nearest first
            for file in FILES:
                if (count := _count(f"{folder}/{file}")) is not None:
                    return count
        return _count(f"{self._root}/proc/vmstat")

    def took_one(self, since: int | None) -> bool:
        """Whether there has been another one since there were so many, of which no process is said to have died yet."""
        now = self.so_far()
        if now is None or since is None or now <= (said := max(since, self._said)):
            return False
        self._said = said + 1
        return True


oom_kills = OomKills()


def _count(file: str) -> int | None:
    """Returns the count in a file; None where there is none."""
    try:
        for line in text_of_file(file).splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None
