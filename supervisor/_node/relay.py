"""What is logged on a node, for its owner's log."""

from __future__ import annotations

import logging
from pickle import dumps
from typing import TYPE_CHECKING, Any

from .._core.errors import RemoteError, described

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Relay"]

MOST = 1000
"""Events that may wait for the owner; what comes beyond them is counted, and dropped."""

OWN = frozenset({"worker.queued", "worker.running", "worker.ended", "supervisor.stopping", "supervisor.stopped"})
"""What the owner says itself of each run, and of its own end."""

STEPS = frozenset({"worker.stopping", "worker.escalated"})
"""What it says itself once it has been told of the step."""


class Relay:
    """A logger whose events an owner writes. Any thread.

    Args:
        send: Sends an item. On the loop's thread.
        waiting: Returns how many items wait for the owner.
        post: Has the loop call a function.
        stepped: Is given the event of a further step of a run. On the loop's thread.
    """

    def __init__(
        self,
        send: Callable[..., object],
        waiting: Callable[[], int],
        post: Callable[..., object],
        stepped: Callable[[dict[str, Any]], object],
    ) -> None:
        self._send = send
        self._waiting = waiting
        self._post = post
        self._stepped = stepped
        self._dropped = 0

    def is_enabled_for(self, level: int) -> bool:
        """Whether the owner wants events of this level."""
        return level >= logging.INFO

    def debug(self, event: str, **fields: Any) -> None:
        """Nobody wants it."""

    def info(self, event: str, **fields: Any) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write("error", event, fields)

    def _write(self, method: str, event: str, fields: dict[str, Any]) -> None:
        if event in OWN:
            return
        self._post(self._relay, method, event, fields)

    def _relay(self, method: str, event: str, fields: dict[str, Any]) -> None:
        if event in STEPS:
            if fields.get("step") != "ask":
                self._stepped(fields)
            return
        if self._waiting() >= MOST:
            self._dropped += 1
            return
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self._send("log", "warning", dumps({"event": "worker.logs_dropped", "dropped": dropped}))
        self._send("log", method, _packed({**fields, "event": event}))


def _packed(event: dict[str, Any]) -> bytes:
    try:
        return dumps(event)
    except Exception:
        return dumps({key: _plain(value) for key, value in event.items()})


def _plain(value: Any) -> Any:
    """Returns what certainly arrives."""
    if isinstance(value, BaseException):
        return RemoteError(described(value))
    try:
        dumps(value)
    except Exception:
        return repr(value)
    return value
