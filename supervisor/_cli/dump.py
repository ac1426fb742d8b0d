"""`dump PID`: where the threads of any Python process stand, read from its memory; it notices nothing of that."""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, NamedTuple

from .._core.values import printable

if TYPE_CHECKING:
    import argparse

__all__ = ["Refused", "add", "dump"]

DONE, FAILED = 0, 1

TRIES = 20
"""Looks at a process whose frames change while they are read."""

HAS_GIL, WAITS_FOR_GIL = 1, 8
"""Bits of the status of a thread, on Python 3.15 and later."""

GIL_AND_CPU = 3
"""The mode of the unwinder in which it says both."""

STATES = {"R": "on CPU", "S": "waits", "D": "waits for a device", "T": "stopped", "t": "stopped", "Z": "dead"}


class Refused(Exception):  # noqa: N818  # it is an answer
    """Why there is no dump, and what to do instead, for people."""


class Thread(NamedTuple):
    """Where a thread stands: the innermost frame comes first. Whether it has the GIL is None where nobody knows."""

    tid: int
    name: str
    state: str
    has_gil: bool | None
    waits_for_gil: bool | None
    frames: list[tuple[str, int, str]]


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "dump",
        help="show where all threads of a Python process stand (3.14 and later)",
        description="Shows where all threads of any Python process stand, also while C code holds its interpreter. "
        "Needs Python 3.14 or later, the same one in both, and the right to trace the process. "
        "Exit status: 0, it is shown; 1, it cannot be.",
    )
    parser.add_argument("pid", type=int, metavar="PID", help="the process")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints it; returns the exit status."""
    try:
        threads = dump(options.pid)
    except Refused as error:
        print(f"process {options.pid}: {error}", file=sys.stderr)
        return FAILED
    if options.json:
        print(json.dumps({"pid": options.pid, "threads": [_plain(thread) for thread in threads]}))
    else:
        print("\n".join(_text(thread) for thread in threads), end="")
    return DONE


def dump(pid: int) -> list[Thread]:
    """Returns where the threads of a process stand.

    Raises:
        Refused: It cannot be seen; the message says why, and what to do.
    """
    if sys.version_info < (3, 14):
        raise Refused(
            "this needs Python 3.14 or later, in it and here; use `py-spy dump --pid`, or where it is a service with a "
            "control socket, `python -m supervisor stack NAME --pid`"
        )
    _check(pid)
    try:
        from _remote_debugging import RemoteUnwinder  # type: ignore[import-not-found]  # noqa: PLC0415  # private
    except ImportError:
        raise Refused("this Python is built without its remote unwinder; use `py-spy dump --pid`") from None
    more = {"mode": GIL_AND_CPU, "skip_non_matching_threads": False} if sys.version_info >= (3, 15) else {}
    for left in reversed(range(TRIES)):
        try:
            found = RemoteUnwinder(pid, all_threads=True, **more).get_stack_trace()
        except PermissionError:
            raise _denied() from None
        except Exception as error:  # whatever comes of a read while the frames change
            if not _is_there(pid):
                raise Refused("it has ended") from None
            if not left:
                raise Refused(f"cannot be read: {error}; try again, or use `py-spy dump --pid`") from None
            sleep(0.005)
        else:
            threads = found if sys.version_info < (3, 15) else [one for each in found for one in each.threads]
            return [_thread(pid, one) for one in threads]
    raise AssertionError


def _is_there(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _check(pid: int) -> None:
    """Refuses what no try would change."""
    if sys.platform != "linux":
        return
    if pid < 1 or not _is_there(pid):
        raise Refused("there is no such process")
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except PermissionError:
        raise _denied() from None
    except OSError:
        raise Refused("it has ended") from None
    versions = set(re.findall(r"/(?:lib)?python3\.(\d+)[^/\n]*$", maps, re.MULTILINE))
    own = str(sys.version_info.minor)
    if versions and own not in versions:
        theirs = f"3.{min(versions)}"
        other = f"`python{theirs} -m supervisor dump {pid}`" if int(min(versions)) >= 14 else "`py-spy dump --pid`"  # noqa: PLR2004
        raise Refused(f"runs Python {theirs}, this is 3.{own}, and both must be the same: use {other}")
    if not versions and "python" not in maps:
        raise Refused("is no Python process")


def _denied() -> Refused:
    return Refused(
        "may not be read: be its user and its parent, or root, or have CAP_SYS_PTRACE (a container needs it added); "
        "kernel.yama.ptrace_scope=0 lets each user read what is theirs"
    )


def _thread(pid: int, thread: Any) -> Thread:
    task = Path(f"/proc/{pid}/task/{thread.thread_id}")
    name, state = "?", "?"
    with suppress(OSError, IndexError):  # it has ended meanwhile; or there is no /proc
        name = (task / "comm").read_text(errors="replace").rstrip("\n")
        state = (task / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    status: int | None = getattr(thread, "status", None)
    return Thread(
        tid=thread.thread_id,
        name=name,
        state=STATES.get(state, state),
        has_gil=None if status is None else bool(status & HAS_GIL),
        waits_for_gil=None if status is None else bool(status & WAITS_FOR_GIL),
        frames=[(frame.filename, _line(frame), frame.funcname) for frame in thread.frame_info],
    )


def _line(frame: Any) -> int:
    if sys.version_info < (3, 15):
        return int(frame.lineno)
    return 0 if frame.location is None else int(frame.location.lineno)


def _plain(thread: Thread) -> dict[str, Any]:
    frames = [{"file": file, "line": line, "function": function} for file, line, function in thread.frames]
    return {**thread._asdict(), "frames": frames}


def _text(thread: Thread) -> str:
    gil = ", has the GIL" if thread.has_gil else ", waits for the GIL" if thread.waits_for_gil else ""
    lines = [f"thread {thread.tid} ({thread.name}): {thread.state}{gil}"]
    lines += [f'  File "{file}", line {line}, in {function}' for file, line, function in reversed(thread.frames)]
    if not thread.frames:
        lines.append("  in no Python function")
    return "".join(f"{printable(line)}\n" for line in lines)
