"""One change of a worker's state, as a line for people."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .rows import said, state_colour
from .tables import age

if TYPE_CHECKING:
    from .terminal import Colour, Terminal

__all__ = ["transition_line"]


def transition_line(event: dict[str, Any], terminal: Terminal, *, named: bool = False) -> str:
    """Returns it, such as `12:00:01.250  feeds/reader  stopping: inject  after 3m12s  (deploy)`.

    Args:
        event: One of the protocol.
        terminal: Where it is shown.
        named: Whether the supervisor is named, too.
    """
    parts = [
        _clock(event.get("at")),
        *([terminal.safe(event.get("supervisor"))] if named else []),
        terminal.paint(terminal.safe(_who(event)), "bold"),
        terminal.paint(terminal.safe(_what(event)), _colour(event)),
        *([f"after {age(event['elapsed'])}"] if "elapsed" in event else []),
        *([terminal.safe(f"({event['reason']})")] if event.get("reason") else []),
    ]
    return "  ".join(parts)


def _clock(at: object) -> str:
    if isinstance(at, bool) or not isinstance(at, int | float):
        return "-"
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03}"


def _who(event: dict[str, Any]) -> str:
    attempt = event.get("attempt", 1)
    name = said(event.get("worker") or event.get("group") or event.get("supervisor"))
    return name if attempt == 1 else f"{name} (run {attempt})"


def _what(event: dict[str, Any]) -> str:
    """Returns the state that it has come to, and how; of what is no transition, its name."""
    if "new" not in event:
        return said(event.get("event")).rpartition(".")[2].replace("_", " ")
    detail = event.get("ended") or (event.get("step") if event["new"] == "stopping" else None)
    return said(event["new"]).replace("_", " ") + (f": {detail}" if detail else "")


def _colour(event: dict[str, Any]) -> Colour | None:
    if ended := event.get("ended"):
        return "green" if ended in {"returned", "stopped", "cancelled"} else "red"
    return state_colour({"state": event.get("new"), "step": event.get("step")})
