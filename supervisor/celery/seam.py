"""What is used of Celery and its companions, with types, as they have none. In the worker alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    class BasePool:
        """The base of Celery's pools."""

        RUN: int
        CLOSE: int
        limit: int
        options: dict[str, Any]
        app: Any
        putlocks: bool
        _state: int | None

        def __init__(self, limit: int, **options: Any) -> None: ...

        def _get_info(self) -> dict[str, Any]: ...

    class ExceptionInfo:
        """An exception with its traceback, as callbacks take it; without arguments that which is being handled."""

    class WorkerLostError(Exception):
        """The process of a task has ended."""

    class TimeLimitExceeded(Exception):
        """The hard time limit of a task has passed."""

    class SoftTimeLimitExceeded(Exception):
        """The soft time limit of a task has passed."""

    class Terminated(Exception):
        """A task was revoked, with `terminate`."""

    class Hub:
        """The worker's event loop, of kombu."""

        def add_reader(self, fd: object, callback: Callable[[], object]) -> None: ...

        def fire_timers(self) -> object: ...

        def call_soon(self, callback: object) -> object: ...

        def _pop_ready(self) -> set[Any]: ...

    class Message:
        """A message of the broker."""

    def get_event_loop() -> Hub | None:
        """Returns the worker's event loop; None where it has none."""

    def human_status(status: int | None) -> str:
        """Says how a process has ended."""
        ...

    def get_logger(name: str) -> logging.Logger:
        """Returns a logger of Celery."""
        ...

    worker_state: Any
else:
    try:
        import celery  # noqa: F401
    except ImportError as error:
        raise ImportError("supervisor.celery needs Celery: install the extra stopladder[celery]") from error
    from billiard.common import human_status
    from billiard.einfo import ExceptionInfo
    from celery.concurrency.base import BasePool
    from celery.exceptions import SoftTimeLimitExceeded, Terminated, TimeLimitExceeded, WorkerLostError
    from celery.utils.log import get_logger
    from celery.worker import state as worker_state
    from kombu.asynchronous import get_event_loop
    from kombu.message import Message

__all__ = [
    "BasePool",
    "ExceptionInfo",
    "Message",
    "SoftTimeLimitExceeded",
    "Terminated",
    "TimeLimitExceeded",
    "WorkerLostError",
    "get_event_loop",
    "get_logger",
    "human_status",
    "worker_state",
]
