"""The kind "thread": workers on OS threads."""

from .gate import injection_missing
from .pool import Threads

__all__ = ["Threads", "injection_missing"]
