"""The kind "thread": workers on OS threads."""

from . import exit as at_exit  # it registers what it does
from .kind import Threads

__all__ = ["Threads", "at_exit"]
