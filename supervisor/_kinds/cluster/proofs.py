"""How a process is known on its machine, and whether it is certain that it has ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["is_dead", "same_machine", "this_process"]

BOOT = Path("/proc/sys/kernel/random/boot_id")


def this_process() -> dict[str, Any]:
    """Returns by what this process is known: to whoever is on the same machine and sees the same processes."""
    return {"pid": os.getpid(), "began": _began(os.getpid()), "where": _where()}


def same_machine(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two processes see each other, so that each can tell of the other's end."""
    return bool(one and other and one["where"]) and tuple(one["where"]) == tuple(other["where"])


def is_dead(process: dict[str, Any]) -> bool:
    """Whether it is certain that a process has ended; False where that cannot be known from here."""
    if not process or not process["where"] or not process["began"] or tuple(process["where"]) != _where():
        return False
    began = _began(process["pid"])
    return began != process["began"] if began is not None else _is_no_process(process["pid"])


def _where() -> tuple[str, ...]:
    """Returns what tells machines apart, and what in one machine sees other processes; nothing where nobody says it."""
    try:
        return BOOT.read_text().strip(), os.readlink("/proc/self/ns/pid")  # noqa: PTH115  # no path
    except OSError:
        return ()


def _began(pid: int) -> int | None:
    """Returns when a process has begun, in the kernel's ticks; 0 for a zombie; None where that cannot be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    # The first thread of a process may have ended before the others.
    return 0 if fields[0] in (b"Z", b"X") and int(fields[17]) <= 1 else int(fields[19])


def _is_no_process(pid: int) -> bool:
    """Whether the kernel has none of this number. It may have one, of another user, that /proc does not show."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
