"""Errors that nobody waits for: the loop's exception handler gets them, and whatever it does ends nothing of ours."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ["is_interrupt", "report_error"]


def is_interrupt(loop: asyncio.AbstractEventLoop, error: BaseException) -> bool:
    """Whether this is a KeyboardInterrupt on the thread that runs the loop, which must pass. Any thread.

    Everything else that foreign code raises, sys.exit() in a logger say, must end neither the loop nor a thread.
    """
    return isinstance(error, KeyboardInterrupt) and asyncio._get_running_loop() is loop


def report_error(loop: asyncio.AbstractEventLoop, message: str, error: BaseException, **more: Any) -> None:
    """Gives an error to the loop's exception handler, which logs it by default. Any thread."""
    try:
        loop.call_exception_handler({"message": message, "exception": error, **more})
    except BaseException as broken:  # it lets SystemExit pass, and nobody is left to take it
        if is_interrupt(loop, broken):
            raise
