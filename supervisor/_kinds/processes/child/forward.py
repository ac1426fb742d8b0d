"""In a worker process: what its functions log by structlog goes to the owner, which logs it.

Nothing of structlog is imported before a function imports it. Then it is configured to forward; a function, or a module
of its application, that configures structlog itself is left alone, and logs on its own.
"""

from __future__ import annotations

import _thread
from _pickle import dumps
from _queue import SimpleQueue

from ...._worker.current import shielded
from ..wire import message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Forwarder"]

LIMIT = 1000
"""Events that wait for a slow owner; beyond them the newest are lost, and counted."""


class Forwarder:
    """Sends log events from a thread of its own, so that nobody who logs waits for the owner.

    Args:
        send: Sends a frame to the owner; may block.
        stamp: Returns the name and the attempt of the worker that logs.

    Attributes:
        forked: This process was forked by a function: nobody forwards here, and its events are printed.
    """

    def __init__(self, send: Callable[..., object], stamp: Callable[[], tuple[str, int]]) -> None:
        self._send = send
        self._stamp = stamp
        self._waiting: SimpleQueue[tuple[Any, ...] | _thread.LockType] = SimpleQueue()
        self._started = _thread.allocate_lock()  # taken once: by who starts the thread
        self._worker = ""
        self._dropped = 0
        self.forked = False

    def configure(self, structlog: Any) -> None:
        """Has structlog forward its events; it has just been imported."""
        drop = structlog.DropEvent

        printed = structlog.processors.KeyValueRenderer(key_order=["event"])

        def forward(logger: object, method: str, event: dict[str, Any]) -> Any:
            if self.forked:
                return printed(logger, method, event)
            self._put(method, event)
            raise drop

        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, forward],
            wrapper_class=structlog.make_filtering_bound_logger(0),
            cache_logger_on_first_use=True,
        )

    # -------------------------------------------------------------------------------- the events

    def _put(self, method: str, event: dict[str, Any]) -> None:
        if self._waiting.qsize() >= LIMIT:
            self._dropped += 1
            return
        stamp = self._stamp()
        with shielded():  # or the thread might never start
            # Pickled here: its values may change until it is sent.
            self._waiting.put((stamp[0], _packed(*stamp, method, event)))
            if self._started.acquire(False):
                try:
                    _thread.start_new_thread(self._forward, ())
                except (RuntimeError, MemoryError):  # there is none at the moment: the next event tries again
                    self._started.release()
                    self._forward_next()

    def _forward(self) -> None:
        while True:
            self._forward_next()

    def _forward_next(self) -> None:
        try:
            self._send_next()
        except Exception:  # for want of memory, say: it is said with the next one
            self._dropped += 1

    def _send_next(self) -> None:
        item = self._waiting.get()
        if isinstance(item, tuple):
            self._worker = item[0]
            self._send(item[1])
        if self._dropped and not self._waiting.qsize():
            dropped, self._dropped = self._dropped, 0
            self._send(message("logs_dropped", self._worker, dropped))
        if not isinstance(item, tuple):
            item.release()

    def flush(self, seconds: float) -> None:
        """Waits until all has been sent, for so long at most."""
        if self._started.locked():
            sent = _thread.allocate_lock()
            sent.acquire()
            self._waiting.put(sent)
            sent.acquire(True, seconds)


def _packed(worker: str, attempt: int, method: str, event: dict[str, Any]) -> list[Any]:
    """Returns an event as a frame: a value that cannot be pickled is sent as its `repr`."""
    try:
        data = dumps(event, 5)
    except Exception:
        data = dumps({key: value if _picklable(value) else repr(value) for key, value in event.items()}, 5)
    return message("log", worker, attempt, method, str(event.get("event", "")), data)


def _picklable(value: object) -> bool:
    try:
        dumps(value, 5)
    except Exception:
        return False
    return True
