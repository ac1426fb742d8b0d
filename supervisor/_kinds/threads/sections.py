"""Where a thread must not be struck: in code of the standard library that would leave a lock taken, or half a change.

A bare `with lock:` is safe, but much of the library takes its locks in functions written in Python. An exception that
is raised at the end of `Condition.__enter__`, say, leaves the lock of a queue taken for ever, and others wait for it.
Where a thread stands is seen from its innermost frame: code further out is left through its own `finally` and `with`.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import threading
from _thread import get_ident
from itertools import chain
from opcode import opmap
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .waits import LATE, WAIT, waking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

__all__ = ["known", "left", "others", "strike"]

Position: TypeAlias = "tuple[CodeType, int, FrameType | None]"

_state_of_this_thread: Callable[[], int]
_frame_of: Callable[[int], FrameType]

try:
    _state_of_this_thread = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThreadState_Get", ctypes.pythonapi))
    _frame_of = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p)(("PyThreadState_GetFrame", ctypes.pythonapi))
except (AttributeError, ValueError):  # PyPy: nothing is injected there
    _state_of_this_thread = lambda: 0  # noqa: E731

_RESUME = opmap.get("RESUME")

_position: Callable[[FrameType], Position] = attrgetter("f_code", "f_lasti", "f_back")

# ------------------------------------------------------------------------------------------------ threads

_states: dict[int, int] = {}
"""The interpreter's record of each thread of ours, by its ident."""


def known() -> None:
    """From here on the interpreter's record of this thread is known."""
    _states[get_ident()] = _state_of_this_thread()


def left() -> None:
    """This thread is about to end."""
    _states.pop(get_ident(), None)


def others() -> bool:
    """Returns whether there are threads of ours, besides this one."""
    return any(ident != get_ident() for ident in tuple(_states))


# ------------------------------------------------------------------------------------------------ sections

_LIBRARY: Final = os.path.dirname(threading.Thread.start.__code__.co_filename)  # noqa: PTH120  # as code has it


def _file(*parts: str) -> str:
    return os.path.join(_LIBRARY, *parts)  # noqa: PTH118  # as code has it


_THREADING: Final = threading.Thread.start.__code__.co_filename
_LOGGING: Final = logging.Handler.handle.__code__.co_filename
_IMPORTS: Final = "<frozen importlib._bootstrap>"

_RELEASING: Final = ("__exit__", "release")
"""Functions that must not be struck even before they have done anything: nobody else gives back what they do."""

_STARTS: Final = threading.Thread.start.__code__
_WAITS: Final = {
    WAIT,
    getattr(threading.Thread, "_wait_for_tstate_lock", threading.Thread.join).__code__,
}
"""Where a thread may stand for long. Their `try` puts right what an exception in its body leaves."""


def _waits(code: CodeType, instruction: int, frame: FrameType | None) -> bool:
    if code not in _WAITS or not _covered(code, instruction, first=True):
        return False
    starter = None if frame is None else frame.f_back
    if starter is None or starter.f_code is not _STARTS:
        return True
    # On 3.11 a thread that is not up yet bears the number of the one that starts it, and would be struck in its place.
    started = starter.f_locals.get("self")
    return isinstance(started, threading.Thread) and started.ident is not None


def _writes(code: CodeType, instruction: int, _: FrameType | None) -> bool:
    """Handlers write within a `try` that gives their lock back, and may be in there for long."""
    return _covered(code, instruction)


def _loads(code: CodeType, *_: Any) -> bool:
    """Of the import system, all may be struck that has nothing to do with its locks: what is half loaded is dropped."""
    name = code.co_qualname
    return "Lock" not in name and "_lock" not in name and "Blocking" not in name


_SECTIONS: Final[dict[str, Callable[[CodeType, int, FrameType | None], bool]]] = {
    _THREADING: _waits,
    _file("queue.py"): _waits,
    _file("multiprocessing", "queues.py"): _waits,
    _file("multiprocessing", "synchronize.py"): _waits,
    _file("concurrent", "futures", "_base.py"): _waits,
    _file("concurrent", "futures", "process.py"): _waits,
    _file("concurrent", "futures", "thread.py"): _waits,
    _LOGGING: _writes,
    _file("logging", "handlers.py"): _writes,
    _IMPORTS: _loads,
}
"""The files whose code must not be struck, each with what says where it may be all the same."""


def _may_be_struck(code: CodeType, instruction: int, caller: FrameType | None) -> bool:
    if LATE and (code is _FINDS or _is_called_by(_FINDS, caller)):
        return False
    while (excepted := _SECTIONS.get(code.co_filename)) is not None:
        if excepted(code, instruction, caller):
            return True
        if LATE or caller is None or code.co_name in _RELEASING or code.co_code[instruction] != _RESUME:
            return False
        # It has just been called, and has done nothing yet: what matters is where its caller stands.
        code, instruction, caller = caller.f_code, caller.f_lasti, caller.f_back
    return not _enters(code, instruction)


def _is_called_by(code: CodeType, caller: FrameType | None) -> bool:
    while caller is not None:
        if caller.f_code is code:
            return True
        caller = caller.f_back
    return False


_FINDS: Final[CodeType] = sys.modules["_frozen_importlib"]._find_spec.__code__
"""Asks finders for a module while it has the lock of all imports, which its `__exit__`, in Python, gives back."""


def _enters(code: CodeType, instruction: int) -> bool:
    """Whether a `with` waits there for its lock, on 3.14: what is pending would be raised between that and its block.

    Before and after 3.14, the interpreter raises it within the block, or later.
    """
    return _WITH_IS_STRUCK and code.co_code[instruction - 2 : instruction + 1] == _ENTERING


_WITH_IS_STRUCK: Final = (3, 14) <= sys.version_info < (3, 15)

_ENTERING: Final = bytes((opmap.get("LOAD_SPECIAL", 0), 0, opmap["CALL"]))
"""Loads `__enter__` and calls it."""


def _covered(code: CodeType, instruction: int, first: bool = False) -> bool:
    """Returns whether an instruction, by its offset in bytes, is in a `try` or a `with`; or in the first one of all."""
    numbers = _numbers(code.co_exceptiontable)
    of_the_first = None
    for start, length, target, _depth in zip(numbers, numbers, numbers, numbers):  # noqa: B905  # one iterator
        of_the_first = of_the_first or target
        if start * 2 <= instruction < (start + length) * 2:
            return not first or target == of_the_first
    return False


def _numbers(table: bytes) -> Iterator[int]:
    """The numbers of an exception table: six bits a byte, the highest first; bit 6 says that another byte follows."""
    number = 0
    for byte in table:
        number = number << 6 | byte & 63
        if not byte & 64:
            yield number
            number = 0


# ------------------------------------------------------------------------------------------------ striking

ATTEMPTS = 3

_COLLECTS_ANYWHERE: Final = sys.version_info < (3, 12)
"""Before 3.12 any allocation may begin a collection, whose finalizers let other threads in; later, only a check may."""


def _all_at_once(steps: Iterator[Any]) -> bool:
    """Consumes what C code does, until one is false, with nobody else getting the interpreter in between."""
    if not _COLLECTS_ANYWHERE or not gc.isenabled():
        return all(steps)
    gc.disable()
    try:
        return all(steps)
    finally:
        gc.enable()


def strike(ident: int, set_pending: Callable[[int, Any], int], exception: type[BaseException]) -> bool | None:
    """Has an exception raised in a thread, unless it stands in such a section: then it returns None, and does nothing.

    Where it waits in a Condition it is woken, unless it has just been notified and others wait there: then, too, it is
    not struck.

    The thread must be alive, and in a function of its run, until this returns.

    Returns:
        False where there is no such thread.
    """
    state = _states.get(ident)
    if state is None:  # none of ours
        return bool(set_pending(ident, exception))
    for _ in range(ATTEMPTS):
        try:
            frame = _frame_of(state)
        except ValueError:  # it has no frame
            return bool(set_pending(ident, exception))
        position = _position(frame)
        if not _may_be_struck(*position):
            return None
        # The thread may have moved on since. So it is compared, struck and woken within one call of C code, in which
        # nobody else gets the interpreter.
        unmoved = chain(
            map(is_, (frame,), map(_frame_of, (state,))),
            map(position.__eq__, map(_position, (frame,))),
        )
        waits, wake = waking(frame) if position[0] is WAIT else ((), ())
        if _all_at_once(chain(unmoved, waits, map(set_pending, (ident,), (exception,)), wake)):
            return True
    return None
