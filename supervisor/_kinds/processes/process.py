"""The owner's end of one worker process: from its launch until it has been reaped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from contextlib import ExitStack
from pathlib import Path
from pickle import dumps, loads
from typing import IO, TYPE_CHECKING, Any, Protocol

from .wire import INJECT, STACK, STACK_IN_C, TERMINATE, framed

if TYPE_CHECKING:
    import asyncio

    from ..._run.loop_call import LoopCall
    from ..._run.run import Run
    from .wire import Part
from .stream import BUFFER, Stream, closing

__all__ = ["Keeper", "Process"]

STDERR = 2

ROOT = str(Path(__file__).parents[3])
BOOT = (
    "__import__('sys').path.insert(0, __import__('sys').argv.pop());"
    "__import__('supervisor._kinds.processes.child.main', fromlist=('main',)).main()"
)
"""Leaves no name behind: functions of the owner's main module are looked for in this one first."""

LEAVE_TIMEOUT = 1.0
"""Seconds that an idle process has to leave by itself."""

STACK_TIMEOUT = 0.05
"""Seconds at most for which the loop waits for a process to write where it stands."""

PYTHON_ANSWERS = 0.001
"""Seconds on a processor within which Python code writes where it stands."""


class Keeper(Protocol):
    """Who is told what becomes of a process. On the loop's thread."""

    def up(self, process: Process) -> None:
        """It takes calls from now on."""
        ...

    def heard(self, process: Process, word: str, details: tuple[Any, ...]) -> None:
        """It has said something."""
        ...

    def gone(self, process: Process) -> None:
        """It has died, and everything of it has been cleared away."""
        ...


class Process:
    """A worker process. On the loop's thread, but for `stack`.

    Death is what the kernel says of the process itself: its sockets may be held open by what it has started. Then, in
    this order: what it had still sent is heard, its group is killed while the dead leader keeps the group's number from
    being given out again, it is reaped, its files are closed, and the keeper is told.

    Attributes:
        pid: Its number.
        run: What it carries out, or is launched for.
        ready: It takes calls.
        tasks: How many calls it has carried out.
        retired: It takes no more.
        code: Its exit code, negative for a signal; None where it lives, or where somebody else has reaped it.
        reaped: It is no more.
        dying: It is no more, but what it has said is still to be heard.
        errands: What its run has the loop do, by the number of the question, until it is answered.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, keeper: Keeper, start_timeout: float) -> None:
        self._loop = loop
        self._keeper = keeper
        self.run: Run | None = None
        self.ready = False
        self.tasks = 0
        self.retired = False
        self.code: int | None = None
        self.reaped = False
        self.dying = False
        self.killed_late = False
        self.errands: dict[int, LoopCall] = {}
        self._told = False
        self._done_with = False  # its files may be closed
        self._pidfd = -1
        first = _first_frame()
        self._asking = threading.Lock()
        with ExitStack() as ours, ExitStack() as theirs:  # what is opened is closed again where the next fails
            for fd in _missing_standard_files():
                theirs.callback(os.close, fd)
            data, far_data = map(closing, socket.socketpair(), (ours, theirs))
            control, far_control = map(closing, socket.socketpair(), (ours, theirs))
            for sock in (data, far_data):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            life, self._life = os.pipe()
            theirs.callback(os.close, life)
            ours.callback(self._close_fds)
            self._errors = closing(_scratch_file(), ours)
            self._stack = closing(_scratch_file(), ours)
            stderr = _standard_error()
            theirs.callback(os.close, stderr)
            passed = (far_data.fileno(), far_control.fileno(), life, stderr, self._stack.fileno())
            popen = subprocess.Popen(  # noqa: S603  # this interpreter
                [sys.executable, *_flags(), "-P", "-c", BOOT, *map(str, passed), ROOT],
                stdin=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=passed,
                start_new_session=True,
            )
            ours.pop_all()
        popen.returncode = 0  # it is reaped here, by whoever hears of its death
        self.pid = popen.pid
        self.data = Stream(loop, data, self._hear)
        self.control = Stream(loop, control, self._hear)
        self.data.send(first)
        self._timer: asyncio.TimerHandle | None = None
        if start_timeout < float("inf"):
            self._timer = loop.call_later(start_timeout, self._too_late)
        self._watch()
        _alive.add(self)

    # -------------------------------------------------------------------------------- what it says

    def _hear(self, pickle: Part, buffers: list[memoryview]) -> None:
        try:
            word, *details = loads(pickle, buffers=buffers)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the result of a call; nothing else can fail to load
            self._keeper.heard(self, "unloadable", (error,))
            return
        if word == "ready":
            self._up()
        else:
            self._keeper.heard(self, word, tuple(details))

    def _up(self) -> None:
        self._call_off()
        self.ready = True
        text = self.errors()
        self._errors.close()
        self._keeper.up(self)
        if text and sys.stderr is not None:
            sys.stderr.write(text)

    def _too_late(self) -> None:
        self.killed_late = True
        self.kill()

    def _call_off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def errors(self) -> str:
        """What it wrote to its standard error before it was ready."""
        if self._errors.closed:
            return ""
        return os.pread(self._errors.fileno(), 1 << 16, 0).decode(errors="replace")

    # -------------------------------------------------------------------------------- what is done to it

    def signal(self, number: int) -> None:
        """Sends a signal to the process itself."""
        if self.reaped:
            return
        try:
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass  # it has died

    def inject(self) -> None:
        self.signal(INJECT)

    def terminate(self) -> None:
        """Ends the process, and asks the rest of its group."""
        self.signal(TERMINATE)
        self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the process and its whole group."""
        self._signal_group(signal.SIGKILL)

    def leave(self) -> None:
        """Lets an idle process end by itself, soon."""
        self.retired = True
        self.data.finish()
        if self._timer is None:
            self._timer = self._loop.call_later(LEAVE_TIMEOUT, self.kill)

    def _signal_group(self, number: int) -> None:
        if self.reaped:
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left in it, or only what has changed its user

    def stack(self, *, ask: bool = True) -> str | None:
        """Returns where it stands, as it says itself, or else what the kernel knows. Any thread.

        Asking takes a millisecond, a few where it is in C code, and `STACK_TIMEOUT` where it does not answer.
        """
        if self.reaped or not self.ready:
            return None
        if not ask:
            return _kernels_view(self.pid)
        with self._asking:
            try:
                text = self._ask_where()
            except (OSError, ValueError):  # it has been reaped meanwhile
                text = None
        if self._done_with:  # not before: until then the loop still watches one of these files
            self._close_asked()
        if self.reaped:
            return None
        return _kernels_view(self.pid) if text is None else _users_part(text)

    def _ask_where(self) -> str | None:
        if self.reaped:  # before its files could be kept from being closed
            return None
        file = self._stack.fileno()
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)  # the child's end is the same open file
        silence = _Silence(self.pid)
        self.signal(STACK)
        asked_at = time.monotonic()
        asked_in_c = False
        while (waited := time.monotonic() - asked_at) < STACK_TIMEOUT:
            time.sleep(0.0003)
            text = os.pread(file, 1 << 16, 0)
            if _is_whole(text):
                return text.decode(errors="replace")
            if waited >= PYTHON_ANSWERS and not (text or asked_in_c) and silence.is_in_c():
                asked_in_c = True
                self.signal(STACK_IN_C)
        return None

    # -------------------------------------------------------------------------------- its death

    def _watch(self) -> None:
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or denied
            threading.Thread(target=self._wait, name=f"supervisor/pid-{self.pid}", daemon=True).start()
        else:
            self._loop.add_reader(self._pidfd, self.died)

    def _unwatch(self) -> None:
        if self._pidfd >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(self._pidfd)

    def _wait(self) -> None:
        """Waits for the death where there is no pidfd; reaps nothing."""
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # somebody else has reaped it
        try:
            self._loop.call_soon_threadsafe(self.died)
        except RuntimeError:
            pass  # the loop is closed

    def died(self) -> None:
        """Clears away what is left of it, and tells its keeper."""
        try:
            if not self.reaped:
                self.dying = True
                self.data.read(to_the_end=True)
                self.control.read(to_the_end=True)
                self.kill()
                self._reap()
            if not self._told:
                self._keeper.gone(self)
                self._told = True
        except (KeyboardInterrupt, SystemExit):
            self._loop.call_soon(self.died)  # all of it can be done twice
            raise
        except Exception:
            self._unwatch()  # or the loop would call this for ever
            raise
        self._errors.close()

    def end_now(self, seconds: float) -> None:
        """Kills it and waits for its death, `seconds` at most, and then no longer here. Tells nobody."""
        self.kill()
        until = time.monotonic() + seconds
        while not self.reaped and time.monotonic() < until:
            try:
                dead = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
            except ChildProcessError:
                dead = True
            if dead:
                self.kill()
                self._reap()
                self._errors.close()
            else:
                time.sleep(0.0005)
        if not self.reaped:
            self._reap()
            self._errors.close()

    def _reap(self) -> None:
        self.reaped = True
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
            if pid == 0:  # it was killed, and the kernel takes its time
                name = f"supervisor/reap-{self.pid}"
                threading.Thread(target=_reap_later, args=(self.pid,), name=name, daemon=True).start()
        except ChildProcessError:
            self.code = None  # the application ignores SIGCHLD, or reaps what is not its own
        self._call_off()
        self._unwatch()
        self.data.close()
        self.control.close()
        self._close_files()

    def _close_files(self) -> None:
        """Closes what is not a stream; the errors stay, for whoever asks why it did not start."""
        life, self._life = self._life, -1
        if life >= 0:
            os.close(life)
        self._done_with = True  # first this: either who asks has let go of the lock by then, or sees it
        self._close_asked()

    def _close_asked(self) -> None:
        """Closes what a thread uses that asks where it stands; where one does, that one closes it afterwards.

        Else the numbers of these files might belong to files of the application by then.
        """
        if self._asking.acquire(False):
            try:
                self._stack.close()
                pidfd, self._pidfd = self._pidfd, -1
                if pidfd >= 0:
                    os.close(pidfd)
            finally:
                self._asking.release()

    def _close_fds(self) -> None:
        for fd in (self._pidfd, self._life):
            if fd >= 0:
                os.close(fd)
        self._pidfd = self._life = -1

    def forked(self) -> None:
        """This is a copy of its owner: it must not keep the worker process alive."""
        self.reaped = True
        self.data.close_fd()
        self.control.close_fd()
        self._close_files()

    def __del__(self) -> None:
        if getattr(self, "_life", -1) >= 0:
            self._close_files()

    def __repr__(self) -> str:
        how = "reaped" if self.reaped else "retired" if self.retired else "ready" if self.ready else "starting"
        return f"<worker process {self.pid}: {how}>"


_alive: weakref.WeakSet[Process] = weakref.WeakSet()


def _after_fork() -> None:
    for process in _alive:
        if not process.reaped:
            process.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _flags() -> list[str]:
    """The options with which this interpreter was started, as multiprocessing passes them on."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined,no-any-return]


def _scratch_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("supervisor"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _missing_standard_files() -> list[int]:
    """Takes the numbers 0 to 2 where this process has no such files: what is passed on must not get them."""
    fillers: list[int] = []
    while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        fillers.append(fd)
    os.close(fd)
    return fillers


def _standard_error() -> int:
    try:
        return os.dup(2)
    except OSError:  # this process has none
        return os.open(os.devnull, os.O_WRONLY)


def _first_frame() -> list[Part]:
    """What a process needs to know of its owner."""
    main: dict[str, str] = {}
    module: Any = sys.modules["__main__"]
    sys.modules.setdefault("__mp_main__", module)  # what processes make of its classes goes by this name
    spec, path = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    if spec is not None:
        if spec.name != "__main__" and not spec.name.endswith(".__main__"):
            main = {"name": spec.name}
    elif path is not None:
        main = {"path": str(Path(path).absolute())}
    first = {"path": [str(Path(entry).absolute()) for entry in sys.path], "argv": sys.argv, "main": main}
    return framed(dumps((first,), 5))


def _users_part(text: str) -> str:
    """Leaves out the frames below the user's function, and the head."""
    lines = text.splitlines()[1:]
    if lines and f'"{_CHILD}"' in lines[0] and lines[0].endswith(" in say_where"):
        del lines[0]  # it was about to answer by itself
    mine = [index for index, line in enumerate(lines) if f'"{_CHILD}"' in line]
    users = lines[: mine[0]] if mine else lines
    return "".join(f"{line}\n" for line in reversed(users)) or "  in no Python function of the worker's\n"


_CHILD = str(Path(__file__).with_name("child") / "main.py")


def _is_whole(text: bytes) -> bool:
    """Whether all of a stack has been written: faulthandler writes in many pieces, and may lose the processor between.

    The last frame is that of the command line, below ours; of a deep stack faulthandler leaves out the end.
    """
    return text.endswith(b"  ...\n") or (text.endswith(b" in <module>\n") and os.fsencode(_CHILD) in text)


def _reap_later(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # somebody else has reaped it


def _ran(pid: int) -> float | None:
    """Returns for how many seconds the main thread of a process has had a processor; None where nobody says so."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError):
        return None


class _Silence:
    """Tells C code from Python code that has not had its turn, in a process that was asked and does not answer."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = _ran(pid)
        self._since: float | None = None

    def is_in_c(self) -> bool:
        """Whether it sleeps in C code, or has had the time to answer that Python code needs."""
        now = _ran(self._pid)
        if self._before is None or now is None:
            return True
        try:
            if _state(self._pid) in "SD":
                return True
        except OSError:
            return False
        if self._since is not None:
            return now - self._since >= PYTHON_ANSWERS
        if now != self._before:  # time is counted in lumps: the first may be from before the question
            self._since = now
        return False


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _kernels_view(pid: int) -> str | None:
    try:
        state = _state(pid)
        where = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return None
    return f"  process {pid} does not answer: state {state}, in the kernel at {where or '?'}\n"
