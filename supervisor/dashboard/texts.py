"""Pure: how the page writes numbers, times and long texts."""

from __future__ import annotations

import math
import time
from hashlib import blake2b
from urllib.parse import quote

from .._core.values import printable

__all__ = ["cut", "cut_stack", "duration", "key", "link", "moment", "tail"]

LONGEST_NAME = 100
LONGEST_LINK = 150
HEAD_OF_STACK = 1 << 13
TAIL_OF_STACK = 1 << 15


def duration(seconds: float | None) -> str:
    """Returns a time as people say it; empty where there is none.

    Example:
        >>> duration(0.25), duration(75), duration(7_500), duration(200_000), duration(None)
        ('0.2 s', '1 min 15 s', '2 h 5 min', '2 d 7 h', '')
    """
    if seconds is None:
        return ""
    if not math.isfinite(seconds):
        return "no limit"
    sign, left = ("-" if seconds <= -0.05 else ""), abs(seconds)
    if left < 10:
        return f"{sign}{left:.1f} s"
    whole = int(left)
    for larger, smaller, name, part in ((86_400, 3_600, "d", "h"), (3_600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= larger:
            rest = whole % larger // smaller
            return f"{sign}{whole // larger} {name}" + (f" {rest} {part}" if rest else "")
    return f"{sign}{whole} s"


def moment(at: float) -> str:
    """Returns a moment, given in seconds since the epoch, in the time zone of the service."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))


def cut(text: str, length: int = LONGEST_NAME) -> str:
    """Returns a text as one line that is not too long.

    Example:
        >>> cut("feeds/reader", 8)
        'feeds/r…'
    """
    text = printable(text[: length + 1])
    return text if len(text) <= length else f"{text[: length - 1]}…"


def cut_stack(text: str) -> tuple[str, int]:
    """Returns the two ends of a stack, and how many characters between them were left out."""
    left_out = len(text) - HEAD_OF_STACK - TAIL_OF_STACK
    if left_out <= 0:
        return printable(text, lines=True), 0
    head, tail = text[:HEAD_OF_STACK], text[-TAIL_OF_STACK:]
    gap = f"\n… {left_out:,} characters are left out here …\n"
    return printable(head + gap + tail, lines=True), left_out


def tail(text: str, length: int = 4000) -> str:
    """Returns the end of a stack."""
    return printable(text if len(text) <= length else f"…{text[-length:]}", lines=True)


def key(name: str) -> str:
    """Returns something short by which a page knows a row again, and the service a name that is long."""
    return blake2b(name.encode(errors="replace"), digest_size=8).hexdigest()


def link(name: str) -> str:
    """Returns the address of the page of a worker, which is not long."""
    quoted = quote(name, safe="") if len(name) <= LONGEST_LINK else ""
    return f"worker?name={quoted}" if 0 < len(quoted) <= LONGEST_LINK else f"worker?key={key(name)}"
