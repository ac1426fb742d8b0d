"""A supervisor that nobody holds any more, and that was never shut down."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from .._loop import aside
from .._worker.current import shielded

if TYPE_CHECKING:
    from .._runtime.runtime import Runtime
    from .._runtime.settings import Settings

__all__ = ["forget"]

LOOK_FOR_WORK = 1.0
"""Seconds until it is looked again whether all its work has ended."""


def forget(settings: Settings, runtimes: list[Runtime]) -> None:
    """Warns of a supervisor that is forgotten, and shuts it down once nothing is under way in it.

    May come in any thread, between any two lines of it: the garbage collector calls it.

    Args:
        settings: The supervisor's. For `tracemalloc`, they stand for it: what is warned of may be kept.
        runtimes: Its runtime, and that of late calls, as far as they are there.
    """
    with shielded():
        try:
            if _is_open(runtimes[0]):
                warnings.warn(
                    f"supervisor {settings.name!r} was never shut down: use it as `async with "
                    "Supervisor(...) as sup:`, or `await sup.shutdown()` where the program ends",
                    ResourceWarning,
                    stacklevel=2,
                    source=settings,
                )
        finally:  # a filter may raise it
            for runtime in runtimes:
                if _is_open(runtime):
                    _let_go(runtime)


def _is_open(runtime: Runtime) -> bool:
    return not runtime.shutdown.begun and runtime.shutdown.report is None


def _let_go(runtime: Runtime) -> None:
    forgotten = Forgotten(runtime)
    try:
        aside.call_soon_threadsafe(runtime.loop, forgotten.look)
    except RuntimeError:
        pass  # the loop is closed: nobody else holds `forgotten`
    if not runtime.busy or not runtime.loop.is_running():
        runtime.kinds.threads.retire()  # the loop may never run again, and its threads would hold it


class Forgotten:
    """What shuts a forgotten supervisor down. The loop alone holds it, so that it hears of the loop's end, too."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def look(self) -> None:
        """Begins the shutdown once there is no work that somebody may still want. On the loop's thread."""
        runtime = self._runtime
        if runtime.shutdown.report is not None:
            return
        if not runtime.busy:
            runtime.teardown.begin(runtime.root, None, "it was forgotten")
        aside.call_later(runtime.loop, LOOK_FOR_WORK, self.look)

    def __del__(self) -> None:
        if self._runtime.shutdown.report is None:
            with shielded():
                self._runtime.let_go()
