"""What a test has left behind: supervisors and workers, threads, child processes."""

from __future__ import annotations

import gc
import os
import shlex
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakSet

from .._api.inspection import Inspection, inspections
from .._core.values import checked_seconds, printable
from .._kinds.threads.stack import INNERMOST, stack_of
from .._loop.clock import monotonic
from .._run.frames import text_of_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from .._api.worker import Worker

__all__ = ["LeakCheck"]

OF_OTHERS = (
    "asyncio_*",  # threads of asyncio's default executor, which live as long as its loop
    "asyncio-waitpid-*",
    "AnyIO worker thread",  # idle for a while; then it ends
    "Trio *",  # the same
    "pytest_timeout *",
    "pydevd.*",  # debuggers
    "*multiprocessing.resource_tracker*",  # processes that stay as long as this one
    "*multiprocessing.forkserver*",
)
"""Names of threads and command lines of processes that a test is not blamed for."""

POLL = 0.01
"""Seconds between two looks at what still has to go."""

LONGEST = 200
"""Characters of a command line that are shown."""


class LeakCheck:
    """Raises AssertionError where a block leaves something behind that was not there before, and shows where it stands.

    That is: supervisors that were not shut down, workers and calls of other supervisors, threads, and child processes,
    zombies among them. Each has a moment to go. The threads of a supervisor that was there before are its own affair,
    as are those of asyncio's default executor, anyio, trio, pytest-timeout and debuggers, and threads that were not
    started by `threading`. If the block raises, what it has left is added to its exception as a note.

    Child processes are looked for in /proc: elsewhere than on Linux none is found.

    Args:
        grace: Real seconds, 0 or more, that threads and processes past their last line have to go. Those in which this
            process stands still, or gets no processor, do not count.
        ignore: Patterns as of `fnmatch`, for names of threads and command lines of processes that are not blamed.

    Raises:
        TypeError, ValueError: `grace` is wrong.

    Example:
        >>> import threading
        >>> wall = threading.Event()
        >>> try:
        ...     with LeakCheck(grace=0):
        ...         threading.Thread(target=wall.wait, name="left").start()
        ... except AssertionError as error:
        ...     print(str(error).splitlines()[1])
        - thread 'left'
        >>> wall.set()
    """

    def __init__(self, *, grace: float = 1.0, ignore: Iterable[str] = ()) -> None:
        self._grace = checked_seconds("LeakCheck(grace={!r})", grace)
        self._ignored = (*OF_OTHERS, *ignore)
        self._known: WeakSet[object] = WeakSet()  # the identities of the supervisors that were there
        self._stranded: WeakSet[object] = WeakSet()
        self._workers: set[tuple[int, str]] = set()
        self._threads: set[threading.Thread] = set()
        self._processes: set[Process] = set()

    def look(self) -> None:
        """Takes note of what is there already, as entering the block does."""
        here = inspections()
        self._known = WeakSet(supervisor.identity for supervisor in here)
        self._stranded = WeakSet(supervisor.identity for supervisor in here if supervisor.stranded)
        self._workers = {_key(known, worker) for known in here for worker in known.workers()}
        self._threads = set(threading.enumerate())
        self._processes = set(_children())

    def __enter__(self) -> Self:
        self.look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        texts = self.left()
        if not texts:
            return
        text = "left behind:\n" + "\n".join(texts)
        if error is None:
            raise AssertionError(text)
        error.add_note(text)

    def left(self) -> list[str]:
        """Waits for what still has to go; returns what is left by then, each as a text that begins with "- "."""
        until, looks = monotonic() + self._grace, self._grace / POLL
        while (left := self._left()) and (looks > 0 or monotonic() < until):
            time.sleep(POLL)
            looks -= 1  # what goes on in this process needs time in which this process goes on
        if left:
            gc.collect()  # what only a cycle holds is not left behind
            left = self._left()
        return [*map(str, left)]

    def _left(self) -> list[Left]:
        here = inspections()
        unclosed = [supervisor for supervisor in here if self._is_left(supervisor)]
        kept = [known for known in here if known.identity in self._known and known not in unclosed]
        left: list[Left] = [LeftSupervisor(supervisor) for supervisor in unclosed]
        left += [
            LeftWorker(supervisor, worker)
            for supervisor in kept
            for worker in supervisor.workers()
            if _key(supervisor, worker) not in self._workers
        ]
        threads = {thread for supervisor in kept for thread in supervisor.threads()} | self._threads
        left += [
            LeftThread(thread)
            for thread in threading.enumerate()
            if thread not in threads and not isinstance(thread, threading._DummyThread) and self._blames(thread.name)
        ]
        pids = {pid for supervisor in kept for pid in supervisor.pids()}
        left += [
            process
            for process in _children()
            if process not in self._processes and process.pid not in pids and self._blames(process.command)
        ]
        return left

    def _is_left(self, supervisor: Inspection) -> bool:
        """Whether it is new and open; or was there before, and its loop has been closed since."""
        if not supervisor.open:
            return False
        is_new = supervisor.identity not in self._known
        return is_new or (supervisor.stranded and supervisor.identity not in self._stranded)

    def _blames(self, text: str) -> bool:
        return not any(fnmatchcase(text, pattern) for pattern in self._ignored)


@dataclass(frozen=True)
class LeftSupervisor:
    supervisor: Inspection

    def __str__(self) -> str:
        text = f"- supervisor {self.supervisor.name!r}, which was not shut down"
        if self.supervisor.stranded:
            text += ", and whose event loop is closed"
        return "\n".join([text, *(f"  {_described(worker)}" for worker in self.supervisor.workers())])


@dataclass(frozen=True)
class LeftWorker:
    supervisor: Inspection
    worker: Worker

    def __str__(self) -> str:
        text = f"- {_described(self.worker)}, of supervisor {self.supervisor.name!r}, which was there before"
        return f"{text}\n{self.worker.stack()}".rstrip()


@dataclass(frozen=True)
class LeftThread:
    thread: threading.Thread

    def __str__(self) -> str:
        return f"- thread {self.thread.name!r}\n{_stack_of(self.thread)}".rstrip()


@dataclass(frozen=True)
class Process:
    """A child process; one that has got its number since is another one."""

    pid: int
    started_at: str
    state: str = field(compare=False)
    command: str = field(compare=False)

    def __str__(self) -> str:
        how = ", a zombie: nobody has waited for it" if self.state == "Z" else ""
        return f"- process {self.pid}{how}: {printable(self.command)}"


Left: TypeAlias = LeftSupervisor | LeftWorker | LeftThread | Process


def _key(supervisor: Inspection, worker: Worker) -> tuple[int, str]:
    return id(supervisor.identity), worker.name


def _described(worker: Worker) -> str:
    return f"worker {worker.name!r} ({worker.kind}, {worker.state})"


# ------------------------------------------------------------------------------------------------ threads, processes


def _stack_of(thread: threading.Thread) -> str:
    """The innermost frames of a thread, of a worker's thread those of its function."""
    ident = thread.ident or 0
    frame = sys._current_frames().get(ident)
    if frame is None:
        return ""
    stack = stack_of(ident)
    if stack is None:
        frames = [
            entry for entry in traceback.walk_stack(frame) if not entry[0].f_code.co_name.startswith("_bootstrap")
        ]
        stack = text_of_frames(reversed(frames[:INNERMOST]))
    return stack


def _children() -> Iterator[Process]:
    """The child processes, zombies included, as /proc has them."""
    parent = str(os.getpid())
    try:
        entries = [entry for entry in os.listdir("/proc") if entry.isdecimal()]  # noqa: PTH208  # quicker
    except OSError:
        return
    for entry in entries:
        try:
            text = Path("/proc", entry, "stat").read_text(errors="replace")
            name, _, rest = text.partition("(")[2].rpartition(") ")
            fields = rest.split()
            if fields[1] != parent:
                continue
            words = Path("/proc", entry, "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended meanwhile
        command = shlex.join(filter(None, words)) or name
        if len(command) > LONGEST:
            command = command[:LONGEST] + " ..."
        yield Process(int(entry), fields[19], fields[0], command)
