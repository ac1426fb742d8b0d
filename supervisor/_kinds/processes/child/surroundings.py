"""In a worker process: takes over what has changed in its owner's state."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["take_over"]


def take_over(changed: dict[Any, Any], gone: list[Any], folder: str | None, path: Any, umask: Any) -> OSError | None:
    """Takes over what has changed; returns why it cannot."""
    for key in gone:
        os.environb.pop(key, None)
    os.environb.update(changed)
    if b"TZ" in changed or b"TZ" in gone:
        import time  # noqa: PLC0415  # lean

        time.tzset()
    if path is not None:
        sys.path[:] = path
    if umask is not None:
        os.umask(umask)
    if folder is not None:
        try:
            os.chdir(folder)
        except OSError as error:
            return error
    return None
