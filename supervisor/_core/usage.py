"""Pure: what a run uses, which of its limits that exceeds, and when it is worth another look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from .pools import Limits

__all__ = ["Excess", "LimitName", "Usage", "excess_of", "seconds_until_excess"]

LimitName: TypeAlias = Literal["rss", "cpu_seconds"]

FASTEST: Final = 8 << 30
"""Bytes a second that nobody takes faster: the kernel clears each page before it gives it out."""


class Usage(NamedTuple):
    """What a process and its descendants use.

    Attributes:
        rss: Bytes that they have resident.
        cpu_seconds: Seconds of CPU that they have used, with those of children that they have waited for.
    """

    rss: int
    cpu_seconds: float


class Excess(NamedTuple):
    """Which limit a run has exceeded.

    Attributes:
        limit: Its name.
        allowed: The limit: bytes, or seconds.
        used: What was measured.
    """

    limit: LimitName
    allowed: float
    used: float

    def __str__(self) -> str:
        """Such as "rss of 703 MiB, allowed are 512 MiB"."""
        shown = _size if self.limit == "rss" else _seconds
        return f"{self.limit} of {shown(self.used)}, allowed are {shown(self.allowed)}"


def excess_of(limits: Limits, used: Usage) -> Excess | None:
    """Returns which limit is exceeded; None where none is."""
    if limits.rss is not None and used.rss > limits.rss:
        return Excess("rss", limits.rss, used.rss)
    if limits.cpu_seconds is not None and used.cpu_seconds > limits.cpu_seconds:
        return Excess("cpu_seconds", limits.cpu_seconds, used.cpu_seconds)
    return None


def seconds_until_excess(limits: Limits, used: Usage, cpus: int) -> float:
    """Returns the seconds within which none of the limits can be exceeded by what has so many CPUs."""
    seconds = float("inf")
    if limits.rss is not None:
        seconds = max(0, limits.rss - used.rss) / FASTEST
    if limits.cpu_seconds is not None:
        seconds = min(seconds, max(0.0, limits.cpu_seconds - used.cpu_seconds) / cpus)
    return seconds


def _seconds(seconds: float) -> str:
    return f"{seconds:.4g}"


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004  # of the next unit
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
