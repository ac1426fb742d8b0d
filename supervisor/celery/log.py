"""The supervisor's log events, in Celery's log."""

from __future__ import annotations

from typing import Any

from .seam import get_logger

__all__ = ["CeleryLogger"]


class CeleryLogger:
    """Writes each event as one line: its name, and its fields; stacks come on lines of their own."""

    def __init__(self) -> None:
        self._logger = get_logger("celery.supervisor")

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # as in logging
        """Whether anybody would see an event of this level."""
        return self._logger.isEnabledFor(level)

    def debug(self, event: str, **fields: Any) -> None:
        """Writes an event."""
        self._write(self._logger.debug, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Writes an event."""
        self._write(self._logger.info, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Writes an event."""
        self._write(self._logger.warning, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Writes an event."""
        self._write(self._logger.error, event, fields)

    def _write(self, method: Any, event: str, fields: dict[str, Any]) -> None:
        fields = dict(fields)
        error, stack = fields.pop("exc_info", None), fields.pop("stack", None)
        line = " ".join([event, *(f"{name}={value!r}" for name, value in fields.items())])
        method("%s%s", line, f"\n{stack}" if stack else "", exc_info=error)
