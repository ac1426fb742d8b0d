"""How many CPUs this process may use: by its affinity, and by the quota of its control groups (a container has one)."""

from __future__ import annotations

import math
import os
import sys

from .._run.cgroups import folders_of_groups, text_of_file

__all__ = ["cpu_quota", "usable_cpus"]


def usable_cpus(root: str = "") -> int:
    """Returns how many CPUs are worth using: as many as this process may run on, and no more than it has time on.

    A quota of one and a half CPUs is worth two.
    """
    return max(1, math.ceil(min(_runs_on(), cpu_quota(root))))


def _runs_on() -> int:
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1  # which `-X cpu_count` overrides
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def cpu_quota(root: str = "") -> float:
    """Returns the CPUs' worth of time that the control groups of this process give it; `inf` where none says.

    The smallest counts of its group and those around it, as far as they can be seen from here: in a container the
    topmost is often that of the container itself.

    Args:
        root: The folder in which `/proc` and all else is looked for.
    """
    try:
        folders = folders_of_groups("cpu", root)
    except (OSError, ValueError):
        return math.inf  # there are none, as on other systems
    return min(map(_quota, folders), default=math.inf)


def _quota(folder: str) -> float:
    """Returns the quota of a group, in CPUs: by the files of version 2, or else of version 1."""
    try:
        try:
            quota, period = text_of_file(f"{folder}/cpu.max").split()
        except FileNotFoundError:
            quota, period = text_of_file(f"{folder}/cpu.cfs_quota_us"), text_of_file(f"{folder}/cpu.cfs_period_us")
        cpus = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf  # "max", say
    return cpus if cpus > 0 else math.inf  # -1 is without bound
