"""What multiprocessing hands to its children, for worker processes that ask for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .wire import message

if TYPE_CHECKING:
    from .wire import Part

__all__ = ["answer_to"]


def answer_to(what: str, question: int) -> list[Part]:
    """Returns the answer for a worker process, which is None where there is no such thing. On the loop's thread."""
    try:
        answer = _family() if what == "family" else _tracker()
    except Exception:  # the process goes without, as it would without multiprocessing
        answer = None
    return message("answered", question, answer)


def _family() -> dict[str, Any]:
    """Returns how a child of this process looks to multiprocessing, but for its name."""
    from multiprocessing import get_start_method, process  # noqa: PLC0415  # few need it

    current: Any = process.current_process()
    util: Any = sys.modules.get("multiprocessing.util")
    logger = None if util is None else util._logger
    return {
        "name": current.name,
        "authkey": bytes(current.authkey),
        "folder": process.ORIGINAL_DIR,  # type: ignore[attr-defined]
        "start_method": get_start_method(allow_none=True),
        "log_to_stderr": util is not None and util._log_to_stderr,
        "log_level": None if logger is None else logger.getEffectiveLevel(),
    }


def _tracker() -> int | None:
    """Returns the number of the file that takes the names of shared memory and semaphores; starts the tracker."""
    from multiprocessing.resource_tracker import getfd  # noqa: PLC0415  # few need it

    return getfd()
