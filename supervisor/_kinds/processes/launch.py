"""How a worker process is launched: its command line, the files that it is given, and the frame that it gets first."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from pickle import dumps
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..._worker.locks import ScopedLock
from .main_module import whereabouts
from .reaping import kill_and_reap
from .surroundings import import_path
from .wire import framed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .wire import Part

__all__ = ["Launched", "first_frame", "launch", "no_forks"]

C = TypeVar("C", socket.socket, IO[bytes])

STDOUT, STDERR = 1, 2

BUFFER = 1 << 20
"""Bytes of a socket's buffer: fewer turns of the loop for large arguments and results."""

EXECUTABLE = sys.executable
"""What multiprocessing uses where nobody has chosen another."""

ROOT = str(Path(__file__).parents[3])
BOOT = (
    "__import__('sys').path.insert(0, __import__('sys').argv.pop());"
    "__import__('supervisor._kinds.processes.child.main', fromlist=('main',)).main()"
)
"""Leaves no name behind: functions of the owner's main module are looked for in this one first."""


no_forks = ScopedLock()
"""Held while a process is launched, and by whoever forks: no copy of this process gets files that it does not know of.

Such a copy would keep the process alive without its owner, by the lifeline, and would hold the event loop up while it
lives, by the pipe with which `subprocess` waits for the new program. Reentrant: a signal handler may fork.
"""


class Launched(NamedTuple):
    """What is here of a process that was launched.

    Attributes:
        pid: Its number.
        data, control: Our ends of its sockets.
        life: The end of a pipe: the process and its group are killed when it is closed, by whatever closes it.
        errors: What the process writes to its standard error until it is ready.
        stack: The file into which it writes where it stands.
    """

    pid: int
    data: socket.socket
    control: socket.socket
    life: IO[bytes]
    errors: IO[bytes]
    stack: IO[bytes]


def launch(ours: ExitStack, unheeded: Collection[int] = ()) -> Launched:
    """Launches a process, in a session of its own.

    Args:
        ours: Closes what is here of it, and ends it, where something fails before the caller has taken it over.
        unheeded: Signals that do nothing to it: they wait until it has handlers for them.

    Raises:
        OSError: There are no more files or processes.
    """
    with ExitStack() as theirs:
        fds: list[int] = []
        pids: list[int] = []
        theirs.callback(_close_all, fds)
        while _closing(_opened(lambda: os.open(os.devnull, os.O_RDWR), "r+b"), theirs).fileno() <= STDERR:
            pass  # the numbers that this process lacks: what is passed on must not get them
        data, far_data = map(_closing, socket.socketpair(), (ours, theirs))
        control, far_control = map(_closing, socket.socketpair(), (ours, theirs))
        for sock in (data, far_data):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        fds += os.pipe()
        life = _closing(_opened(fds.pop, "wb"), ours)
        errors = _closing(_scratch_file(), ours)
        stack = _closing(_scratch_file(), ours)
        stderr = _closing(_opened(_standard_error, "wb"), theirs)
        ours.callback(kill_and_reap, pids)
        passed = (far_data.fileno(), far_control.fileno(), fds[0], stderr.fileno(), stack.fileno())
        program = _program(passed, fds)
        if unheeded:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, unheeded)  # which the process inherits
            theirs.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
        popen = subprocess.Popen(  # noqa: S603  # this interpreter
            program.command,
            stdin=subprocess.DEVNULL,
            stdout=None if _is_standard(STDOUT) else subprocess.DEVNULL,
            stderr=errors,
            pass_fds=program.passed,
            start_new_session=True,
        )
        pids += [popen.pid]
        popen.returncode = 0  # it is reaped here, by whoever hears of its death
    return Launched(popen.pid, data, control, life, errors, stack)


def _closing(thing: C, stack: ExitStack) -> C:
    """Has a stack close what was opened."""
    stack.callback(thing.close)
    return thing


def _opened(take: Callable[[], int], mode: str) -> IO[bytes]:
    """Makes a file of a number, which belongs to it from the moment on at which it is there."""

    def opener(_: str, __: int) -> int:
        return take()

    return open("", mode, buffering=0, opener=opener)  # noqa: PTH123, SIM115  # a number has no path


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


class _Program(NamedTuple):
    command: list[str]
    passed: tuple[int, ...]


def _program(passed: tuple[int, ...], fds: list[int]) -> _Program:
    """Returns what is run as a worker process, and the files that it is given.

    A frozen program runs itself as it does for multiprocessing; see `Bootstrap`.

    Args:
        passed: The files of the process.
        fds: Those that are closed once it has been launched.
    """
    if not getattr(sys, "frozen", False):
        return _Program([_interpreter(), *_flags(), "-P", "-c", BOOT, *map(str, passed), ROOT], passed)
    from .child.frozen import Bootstrap  # noqa: PLC0415  # few need it

    fds += os.pipe()
    with _opened(fds.pop, "wb") as file:
        file.write(dumps({}, 5) + dumps(Bootstrap(passed), 5))
    return _Program([sys.executable, "--multiprocessing-fork", f"pipe_handle={fds[-1]}"], (*passed, fds[-1]))


def _interpreter() -> str:
    """Returns what `multiprocessing.set_executable` was given, or this interpreter.

    Raises:
        FileNotFoundError: This Python is part of another program, and nobody has said where an interpreter is.
    """
    spawn: Any = sys.modules.get("multiprocessing.spawn")
    chosen = os.fsdecode((spawn and spawn.get_executable()) or "")
    interpreter = sys.executable if chosen in ("", EXECUTABLE) else chosen
    if not interpreter:
        raise FileNotFoundError(
            "sys.executable is empty, so this Python is part of another program: name an interpreter by "
            "multiprocessing.set_executable(path)"
        )
    return interpreter


def _flags() -> list[str]:
    """The options with which this interpreter was started, as multiprocessing passes them on."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined,no-any-return]


def _scratch_file() -> IO[bytes]:
    try:
        return _opened(lambda: os.memfd_create("supervisor"), "w+b")
    except (AttributeError, OSError):  # not Linux, or denied
        pass
    return tempfile.TemporaryFile(buffering=0)


def _standard_error() -> int:
    return os.dup(STDERR) if _is_standard(STDERR) else os.open(os.devnull, os.O_WRONLY)


def _is_standard(fd: int) -> bool:
    """Whether this is a file that is meant for the processes that this one starts.

    Where it was started without, as a daemon may be, any file that it has opened since may have the number.
    """
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def first_frame(initializer: bytes | None, unheeded: Collection[int] = ()) -> list[Part]:
    """Returns what a process needs to know of its owner, with what it calls before it is ready."""
    first = {
        "path": import_path(sys.path),
        "argv": getattr(sys, "argv", []),
        "main": whereabouts(),
        "initializer": initializer,
        "unheeded": tuple(unheeded),
    }
    return framed(dumps((first,), 5))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=no_forks.acquire,
        after_in_parent=no_forks.release,
        after_in_child=no_forks._at_fork_reinit,  # type: ignore[attr-defined]
    )
