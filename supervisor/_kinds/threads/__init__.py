"""The kind "thread": workers on OS threads."""

from .pool import Threads

__all__ = ["Threads"]
