"""The kind "thread": workers on OS threads."""

from ._gate import injection_missing
from ._pool import Threads

__all__ = ["Threads", "injection_missing"]
