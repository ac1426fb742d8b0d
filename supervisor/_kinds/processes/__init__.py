"""The kind "process": workers in processes that can be killed.

Light: the processes import this package, too, and none of what `Processes` needs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kind import Processes as Processes

__all__ = ["Processes"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name != "Processes":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .kind import Processes  # noqa: PLC0415  # light

    return Processes
