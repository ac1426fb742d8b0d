"""In a worker process: what C code has printed, by the buffer of its own standard output."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from functools import partial
    from typing import Any
else:
    from _functools import partial  # the module of C

__all__ = ["flusher"]


def flusher() -> Callable[[], object]:
    """Returns what flushes the standard output of C code; it does nothing where that cannot be found.

    That stream alone: `fflush(NULL)` would wait for any other that a thread reads from. By the module of C beneath
    ctypes, for the Python of ctypes costs a worker process milliseconds.
    """
    try:
        _ctypes: Any = __import__("_ctypes")  # some Pythons lack it

        class Pointer(_ctypes._SimpleCData):  # type: ignore[misc]
            _type_ = "P"

        library = _ctypes.dlopen(None, 0)
        fflush = _ctypes.dlsym(library, "fflush")
        try:
            variable = _ctypes.dlsym(library, "stdout")
        except OSError:
            variable = _ctypes.dlsym(library, "__stdoutp")  # macOS
    except (ImportError, AttributeError, OSError):
        return lambda: None
    # The pointer is read where the library has it: it is the stream of the moment. Each call ends so.
    flush: Callable[[], object] = partial(_ctypes.call_function, fflush, (Pointer.from_address(variable),))
    return flush
