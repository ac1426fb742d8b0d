"""What a thread calls to be set up, before its first call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Initialization"]


class Initialization:
    """Calls an initializer, and keeps what comes of it.

    Attributes:
        over: It has returned.
    """

    __slots__ = ("_error", "_initializer", "over")

    def __init__(self, initializer: Callable[[], object]) -> None:
        self._initializer = initializer
        self._error: BaseException | None = None
        self.over = False

    def __call__(self) -> None:
        try:
            self._initializer()
        except BaseException as error:
            self._error = error
            raise
        self.over = True

    def taken_error(self) -> BaseException | None:
        """Returns what it has raised, without the frame of this class, and lets go of it."""
        error, self._error = self._error, None  # its traceback holds what holds it
        if error is not None and error.__traceback__ is not None:
            BaseException.with_traceback(error, error.__traceback__.tb_next)
        return error
