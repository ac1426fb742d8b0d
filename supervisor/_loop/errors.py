"""Errors that nobody waits for: whatever becomes of them ends nothing of ours."""

from __future__ import annotations

import asyncio
from threading import current_thread, main_thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["insist", "is_interrupt", "report_error"]


def insist(report: Callable[[Exception], object], do: Callable[..., object], *args: Any) -> bool:
    """Calls `do(*args)`, and once more where that raises an Exception; returns whether it was done.

    For what must not be lost, and can be done twice, as it is after an interrupt: memory may be short for a moment. The
    first error is reported; the second one is the same again, as a rule.
    """
    try:
        do(*args)
    except Exception as error:
        report(error)
    else:
        return True
    try:
        do(*args)
    except Exception:
        return False
    return True


def is_interrupt(loop: asyncio.AbstractEventLoop, error: BaseException) -> bool:
    """Whether this is a KeyboardInterrupt that must pass. Any thread.

    That is one on the thread that runs the loop, and one on the main thread, which Ctrl-C strikes, whoever runs the
    loop. Everything else that foreign code raises, sys.exit() in a logger say, must end neither the loop nor a thread.
    """
    return isinstance(error, KeyboardInterrupt) and (
        asyncio._get_running_loop() is loop or current_thread() is main_thread()
    )


def report_error(loop: asyncio.AbstractEventLoop, message: str, error: BaseException, **more: Any) -> None:
    """Gives an error to the loop's exception handler, which logs it by default. Any thread."""
    try:
        loop.call_exception_handler({"message": message, "exception": error, **more})
    except BaseException as broken:  # it lets SystemExit pass, and nobody is left to take it
        if is_interrupt(loop, broken):
            raise
