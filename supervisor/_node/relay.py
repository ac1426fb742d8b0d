"""What is logged on a node, for its owner's log."""

from __future__ import annotations

import logging
from _thread import get_ident
from collections import Counter, deque
from pathlib import Path
from pickle import dumps
from typing import TYPE_CHECKING, Any

from .._core.errors import described, type_name
from .._worker.remote_errors import provable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._kinds.cluster.channel import Channel

__all__ = ["Relay"]

MOST = 1000
"""Events that may wait for the owner; what comes beyond them is counted, and dropped."""

MOST_BYTES = 8 << 20
"""Bytes that these may have together."""

LARGEST = 1 << 18
"""Bytes of one event; of one that has more, each value is cut."""

LONGEST = 1000
"""Characters of a value that is cut, and of one that goes as text."""

NAMED = 100
"""Workers at most of which it is counted by name what was dropped."""

OWN = frozenset({"worker.queued", "worker.running", "worker.ended", "supervisor.stopping", "supervisor.stopped"})
"""What the owner says itself of each run, and of its own end."""

STEPS = frozenset({"worker.stopping", "worker.escalated"})
"""What it says itself once it has been told of the step."""

DROPPED = "worker.logs_dropped"

PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
"""The types of what arrives in any case."""

FOLDER = str(Path(__file__).parent.parent)


class Relay:
    """A logger whose events an owner writes, in order with all else that it hears. Any thread.

    So many wait at most; what was dropped is counted, and said once there is room.

    Args:
        channel: To the owner.
        post: Has the loop call a function.
        stepped: Is given the event of a further step of a run. On the loop's thread.
    """

    def __init__(
        self, channel: Channel, post: Callable[..., object], stepped: Callable[[dict[str, Any]], object]
    ) -> None:
        self._channel = channel
        self._post = post
        self._stepped = stepped
        self._loops_thread = get_ident()
        self._written: deque[tuple[str, str, dict[str, Any]]] = deque()
        self._waiting: deque[tuple[int, int]] = deque()  # the numbers of the items, and their sizes
        self._bytes = 0
        self._dropped = Counter[tuple[str, str]]()

    def is_enabled_for(self, level: int) -> bool:
        """Whether the owner wants events of this level from the supervisor here; those of workers it gets all."""
        return level >= logging.INFO

    def debug(self, event: str, **fields: Any) -> None:
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write("error", event, fields)

    def critical(self, event: str, **fields: Any) -> None:
        self._write("critical", event, fields)

    def _write(self, method: str, event: str, fields: dict[str, Any]) -> None:
        if event in OWN:
            return
        self._written.append((method, event, fields))
        if get_ident() == self._loops_thread:  # at once: the end of its run, say, is not to overtake it
            self.catch_up()
        else:
            self._post(self.catch_up)

    def catch_up(self) -> None:
        """Relays what was written up to now, by whichever thread. On the loop's thread."""
        while self._written:
            self._relay(*self._written.popleft())

    def _relay(self, method: str, event: str, fields: dict[str, Any]) -> None:
        if event in STEPS:
            if fields.get("step") != "ask":
                self._stepped(fields)
            return
        if not self._has_room(MOST):
            number = fields.get("dropped", 1) if event == DROPPED else 1
            self._count(fields, number if isinstance(number, int) else 1)
            return
        self._send(method, {**fields, "event": event})

    def say_what_was_dropped(self) -> None:
        """Says it, where there is room by now. On the loop's thread."""
        if self._dropped and self._has_room(MOST // 2):
            dropped, self._dropped = self._dropped, Counter[tuple[str, str]]()
            for (worker, kind), number in dropped.items():
                whose = {"worker": worker, "kind": kind} if worker else {}
                self._send("warning", {"event": DROPPED, **whose, "dropped": number})

    def _count(self, fields: dict[str, Any], number: int) -> None:
        whose = str(fields.get("worker", "")), str(fields.get("kind", ""))
        self._dropped[whose if whose in self._dropped or len(self._dropped) < NAMED else ("", "")] += number

    def _has_room(self, most: int) -> bool:
        oldest = self._channel.oldest
        while self._waiting and self._waiting[0][0] < oldest:
            self._bytes -= self._waiting.popleft()[1]
        return len(self._waiting) < most and self._bytes < MOST_BYTES

    def _send(self, method: str, event: dict[str, Any]) -> None:
        data = _packed(event)
        self._waiting.append((self._channel.send("log", method, data), len(data)))
        self._bytes += len(data)


def _packed(event: dict[str, Any]) -> bytes:
    """Returns an event as bytes: what is plain, and each other value by itself, with the text in its place."""
    plain = {key: value for key, value in event.items() if type(value) in PLAIN}
    others = {key: _other(value) for key, value in event.items() if key not in plain}
    data = dumps((plain, others))
    return data if len(data) <= LARGEST else dumps(({key: _text(value) for key, value in event.items()}, {}))


def _other(value: Any) -> tuple[bytes, str]:
    """Returns a value pickled, or nothing where it cannot be; and as text."""
    if isinstance(value, BaseException):
        error, trace = provable(value, FOLDER)
        return dumps(error), trace
    try:
        return dumps(value), _text(value)
    except Exception:
        return b"", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value[:LONGEST]
    try:
        return (described(value) if isinstance(value, BaseException) else repr(value))[:LONGEST]
    except Exception as error:
        return f"<{type_name(value)}, whose repr raised {type_name(error)}>"
