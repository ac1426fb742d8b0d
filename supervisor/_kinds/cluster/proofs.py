"""How a process is known on its machine, and whether it is certain that it has ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["is_dead", "this_process"]

BOOT = Path("/proc/sys/kernel/random/boot_id")


def this_process() -> dict[str, Any]:
    """Returns by what this process is known: to whoever is on the same machine and sees the same processes."""
    return {"pid": os.getpid(), "began": _began(os.getpid()), "where": _where()}


def is_dead(process: dict[str, Any]) -> bool:
    """Whether it is certain that a process has ended; False where that cannot be known from here."""
    if not process or not process["where"] or tuple(process["where"]) != _where():
        return False
    began: int | None = process["began"]
    return _began(process["pid"]) != began


def _where() -> tuple[str, ...]:
    """Returns what tells machines apart, and what in one machine sees other processes; nothing where nobody says it."""
    try:
        return BOOT.read_text().strip(), os.readlink("/proc/self/ns/pid")  # noqa: PTH115  # no path
    except OSError:
        return ()


def _began(pid: int) -> int | None:
    """Returns when a process has begun, in the kernel's ticks; None where there is none, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
