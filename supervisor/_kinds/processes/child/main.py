"""What runs in a worker process: from its first line until it serves calls.

The first thing it does is to tie its life to its owner's. It imports as little as it can, and modules of C in place of
their Python faces where these cost milliseconds: a process is up in the time that the interpreter takes to start.
"""

from __future__ import annotations

import _thread
import os
import sys
from _pickle import loads

from ...._core.values import printable
from ..wire import INJECT, STACK, STACK_IN_C, TERMINATE, Receiver, message, write
from .serve import AWAITED, Child, flush

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from types import FrameType
    from typing import Any

    from .gate import Gate
else:
    import _signal  # the module of C

__all__ = ["main", "serve_owner"]

DEPTH = 100
"""Frames of a stack that are written, the innermost, as by faulthandler."""


def main() -> None:
    """Runs a worker process; its command line has the numbers of the files that it was given."""
    serve_owner(*map(int, sys.argv[1:6]))


def serve_owner(data: int, control: int, life: int, errors: int, stack: int) -> None:
    """Turns this process into a worker process, with the files that it was given."""
    for fd in (data, control, errors, stack):  # not the lifeline: it is to hold a program that takes this one's place
        os.set_inheritable(fd, False)
    _tie_to(life)
    child = Child(data, control, life)
    _set_signals(child.gate, stack)
    first = _first_frame(data)
    for number in first["unheeded"]:
        _signal.signal(number, _nothing)
    _leave_nothing_to_copies(child, (life, stack), first["unheeded"])
    sys.path[:] = first["path"]
    sys.argv[:] = first["argv"]
    child.owners_main = first["main"]
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    _thread.start_new_thread(child.listen, ())
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    for name in AWAITED:
        if name in sys.modules:  # a `.pth` file, or freeze_support(), has imported it
            from .imports import imported  # noqa: PLC0415  # lean

            imported(child, name, sys.modules[name])
    serves = True
    try:
        if first["initializer"] is not None:
            from .initializer import initialize  # noqa: PLC0415  # lean

            serves = initialize(child, data, first["initializer"])
        if serves:
            os.dup2(errors, 2)
            os.close(errors)
            write(data, message("ready"))
            child.serve()
    except ConnectionError:  # an answer cannot be sent: the owner has gone
        pass
    if "multiprocessing.util" in sys.modules:
        from .handover import finish  # noqa: PLC0415  # lean

        finish()
    flush()
    os._exit(0 if serves else 1)


def _tie_to(life: int) -> None:
    """Has the kernel kill this process and all of its group once the owner is gone, whatever they do.

    Nobody ever writes to the pipe; its end is the event. Linux alone can send SIGKILL for it; elsewhere the control
    thread finds its socket closed.
    """
    import fcntl  # noqa: PLC0415  # not on Windows
    import select  # noqa: PLC0415

    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(life, fcntl.F_SETSIG, _signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()  # select() refuses numbers above 1,023, which the owner's files may have
    poll.register(life, select.POLLIN)
    if poll.poll(0):
        os._exit(1)  # the owner is gone already


def _set_signals(gate: Gate, stack: int) -> None:
    """Private signals do what the owner wants; the public ones, which others send to everybody, do nothing.

    They have handlers rather than being ignored: what a worker starts would inherit that. For the same reason SIGCHLD,
    which the owner may ignore, is not ignored here: exit codes of what the worker starts would be lost.
    """
    import faulthandler  # noqa: PLC0415  # a module of C

    if _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN:
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _nothing)
    _signal.signal(_signal.SIGTERM, _nothing)
    _signal.signal(INJECT, gate.on_signal)
    _signal.signal(TERMINATE, _signal.SIG_DFL)

    def say_where(_: int, frame: FrameType | None) -> None:  # as faulthandler does; without looking at any file
        lines = ["Stack:"]
        while frame is not None:
            if len(lines) > DEPTH:
                lines.append("  ...")
                break
            file, function = printable(frame.f_code.co_filename), printable(frame.f_code.co_name)
            lines.append(f'  File "{file}", line {frame.f_lineno} in {function}')
            frame = frame.f_back
        os.write(stack, "\n".join([*lines, ""]).encode(errors="replace"))

    _signal.signal(STACK, say_where)
    _signal.siginterrupt(STACK, False)
    # faulthandler reads frames whatever the interpreter is about, and has crashed it (once in some thousand times, on
    # 3.12 and 3.13): it is for those that are in C code, whose frames stand still.
    faulthandler.register(STACK_IN_C, file=stack, all_threads=False)


def _leave_nothing_to_copies(child: Child, files: tuple[int, ...], unheeded: tuple[int, ...]) -> None:
    """After a fork in a function, by itself or by multiprocessing, nothing of ours is left in the copy.

    A signal that comes while it still has our handlers waits until it has none: nobody who terminates what he has just
    started does so in vain.
    """
    ours = {number: _signal.getsignal(number) for number in (_signal.SIGINT, _signal.SIGTERM, INJECT, STACK, *unheeded)}
    defaults = dict.fromkeys(ours, _signal.SIG_DFL) | {_signal.SIGINT: _signal.default_int_handler}
    masks: dict[int, Any] = {}  # by thread

    def hold_signals() -> None:
        masks[_thread.get_ident()] = _signal.pthread_sigmask(_signal.SIG_BLOCK, ours)

    def let_signals_through() -> None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, masks.pop(_thread.get_ident()))

    def clear() -> None:
        if not child.forked:  # else it was a copy already, in which these numbers may be those of other files
            import faulthandler  # noqa: PLC0415  # a module of C

            for number, handler in ours.items():
                if _signal.getsignal(number) is handler:  # else the function has one of its own
                    _signal.signal(number, defaults[number])
            faulthandler.unregister(STACK_IN_C)
            child.become_a_copy(files)
        let_signals_through()

    os.register_at_fork(before=hold_signals, after_in_parent=let_signals_through, after_in_child=clear)


def _nothing(_: int, __: FrameType | None) -> None:
    pass


def _first_frame(data: int) -> dict[str, Any]:
    receiver = Receiver(lambda view: os.readv(data, [view]))
    while (frame := receiver.take()) is None:
        if receiver.feed() == 0:
            os._exit(1)
    return loads(frame[0])[0]  # type: ignore[no-any-return]
