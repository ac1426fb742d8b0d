"""Pure: in what a thread is blocked, as far as the text of its stack shows it, and what would free it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from .outcome import Outcome

__all__ = ["Blocked", "blocked", "blocked_at_the_end"]


class Blocked(NamedTuple):
    """In what a thread that could not be ended is blocked.

    Attributes:
        what: Such as "waiting for a lock".
        freed_by: What would have ended it.
    """

    what: str
    freed_by: str


_SYSTEM_CALL: Final = "the step Inject, from Python 3.15 on"

_KNOWN: Final = (
    (r"threading\.py", "wait", "", "waiting in a Condition", "the step Inject outside of shields, or a notification"),
    (
        r"threading\.py",
        "join|_wait_for_tstate_lock",
        "",
        "joining a thread",
        "the end of that thread, which an on_stop callback can ask for; or join(timeout)",
    ),
    (
        "",
        "",
        r"getaddrinfo\(|gethostby|getnameinfo\(",
        "looking up a name",
        "nothing, until the look-up gives up; look names up in a process",
    ),
    (
        "",
        "",
        r"\.acquire\(|^with .*(lock|mutex)",
        "waiting for a lock",
        "an on_stop callback by which whoever has it gives it back; or acquire(timeout=...)",
    ),
    ("", "", r"\bsleep\(", "sleeping", f"ctx.sleep() in its place; or {_SYSTEM_CALL}"),
    (
        "",
        "",
        r"\bwait(pid|4|id)?\(|_waitpid\(",
        "waiting for a child process",
        f"an on_stop callback that terminates it; or {_SYSTEM_CALL}",
    ),
    ("", "", r"\.get\(", "waiting in a get() in C, as that of SimpleQueue", "an on_stop callback that puts an item"),
    (
        "",
        "",
        r"\b(recv\w*|accept|connect|send\w*|do_handshake|read\w*|select|poll)\(",
        "waiting for a connection or a file",
        f"an on_stop callback that shuts it down; or {_SYSTEM_CALL}",
    ),
)
"""Of the innermost frame: its file, its function, its source; what that is, and what would free it."""

_FRAME: Final = '  File "'

_INNERMOST: Final = re.compile(r'  File "(.*)", line (\d+), in (.*)\n((?:    .*\n?)*)\Z')

_UNKNOWN: Final = "an on_stop callback that has it return; a process can always be ended"


def blocked(stack: str) -> Blocked:
    r"""Tells from the innermost frame of a stack, as `traceback` shows it, in what its thread is blocked.

    Example:
        >>> blocked('  File "jobs.py", line 7, in work\n    lock.acquire()\n').what
        'waiting for a lock at jobs.py:7'
    """
    lines = stack.splitlines(keepends=True)
    begins = max((number for number, line in enumerate(lines) if line.startswith(_FRAME)), default=0)
    innermost = _INNERMOST.match("".join(lines[begins:]))
    if innermost is None:
        return Blocked("in C code", _UNKNOWN)
    path, line, function, below = innermost.groups()
    source = below.partition("\n")[0].strip()
    for file, functions, pattern, what, freed_by in _KNOWN:
        if re.search(f"(^|[/\\\\]){file}$", path) is None and file:
            continue
        if (not functions or re.fullmatch(functions, function)) and re.search(pattern, source):
            return Blocked(f"{what} at {path}:{line}", freed_by)
    return Blocked(f"in C code called at {path}:{line}, or in a loop that goes on whatever is raised", _UNKNOWN)


def blocked_at_the_end(outcome: Outcome) -> Blocked | None:
    """Tells in what a thread is blocked that was given up; None for all others, and where nobody knows."""
    given_up = outcome.ended == "abandoned" and outcome.kind == "thread"
    stack = outcome.stack or ""
    unknown = outcome.node is not None and _FRAME not in stack  # that does not answer
    return blocked(stack) if given_up and stack and not unknown else None
