"""In a worker process of a frozen program: how it comes to be one.

A frozen program has no interpreter that could be told what to run: the program itself is started once more, and
`multiprocessing.freeze_support()`, which it calls first, unpickles an object and lets it take over.
"""

from __future__ import annotations

import os

__all__ = ["Bootstrap", "support"]


class Bootstrap:
    """Stands where multiprocessing expects its process.

    Args:
        files: The numbers of the files that the process is given.
    """

    def __init__(self, files: tuple[int, ...]) -> None:
        self._files = files

    def _bootstrap(self, parent_sentinel: int) -> None:
        from .main import serve_owner  # noqa: PLC0415  # not in the owner

        os.close(parent_sentinel)
        serve_owner(*self._files)


def support() -> None:
    """Has `freeze_support()` do its work on any platform: the standard library's own does nothing outside Windows."""
    import multiprocessing.spawn  # noqa: PLC0415  # not in the owner

    multiprocessing.freeze_support = multiprocessing.spawn.freeze_support
