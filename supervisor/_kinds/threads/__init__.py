"""The kind "thread": workers on OS threads."""

from .kind import Threads

__all__ = ["Threads"]
