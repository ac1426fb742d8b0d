"""Indexes a directory tree under supervision, and can be stopped at any moment: the first example to read.

    python examples/index_tree.py [PATH]      # the Python standard library by default

Short calls (`sup.run`) on a pool of threads list directories and hash files. One long-lived worker (`sup.start`) owns
the SQLite store. Two more workers do not react when they are asked to stop: one is blocked in a C call, one loops
forever. So when everything is indexed, or at Ctrl-C, or at SIGTERM, you can watch the whole ladder:
Ask -> Inject -> abandoned. The report says how each worker ended, and the process still exits promptly.

Start it again, and it continues where it stopped: files that are in the store and have not changed are skipped.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import logging
import math
import os
import signal
import sqlite3
import sys
import sysconfig
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Supervisor,
    SupervisorClosed,
    WorkerContext,
    WorkerStopped,
    current_context,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor import Worker

T = TypeVar("T")

WALKERS = 4  # directories that are listed at once
HASHERS = 64  # files in flight, from the hashing until they are stored
WAITING = 1000  # listed files that wait for a hasher; then the walkers wait, or a huge tree would fill the memory


# ------------------------------------------------------------------------------------------------ calls: sup.run


class File(NamedTuple):
    """A file as it was listed. Paths are bytes, as in the system: a name need not be UTF-8."""

    path: bytes
    size: int
    mtime_ns: int


class Listing(NamedTuple):
    """The contents of a directory, and what could not be read."""

    directories: list[bytes]
    files: list[File]
    problems: list[OSError]


def list_directory(path: bytes, but_not: frozenset[bytes]) -> Listing:
    ctx = current_context()
    listing = Listing([], [], [])
    with os.scandir(path) as entries:
        for entry in entries:
            ctx.check()  # raises StopRequested once a stop is asked, which leaves this `with`
            try:
                # Links are not followed: their targets are indexed where they are, and there are no loops.
                if entry.is_dir(follow_symlinks=False):
                    listing.directories.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and entry.path not in but_not:
                    status = entry.stat(follow_symlinks=False)
                    listing.files.append(File(entry.path, status.st_size, status.st_mtime_ns))
            except OSError as error:  # it has vanished
                listing.problems.append(error)
    return listing


def digest(file: File, hold: float) -> str:
    ctx = current_context()
    ctx.sleep(hold)  # unlike time.sleep, it ends when a stop is asked
    sha = hashlib.sha256()
    with io.FileIO(file.path) as stream:
        while chunk := stream.read(1 << 20):
            ctx.check()
            sha.update(chunk)
        status = os.fstat(stream.fileno())
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise OSError(f"it was changed meanwhile: {file.path!r}")
    return sha.hexdigest()


# ------------------------------------------------------------------------------------------------ workers: sup.start


def blocked_in_c(_ctx: WorkerContext) -> None:
    SimpleQueue().get()  # no exception can be raised inside this C call, so it is abandoned


def endless_loop(_ctx: WorkerContext) -> None:
    retry_for_ever()  # its own function: Python 3.13 may skip the `finally` around a loop that an injection ends


def retry_for_ever() -> None:
    while True:
        try:
            raise ConnectionError("nobody there")
        except Exception:  # an injection is not caught: StopInjected is no Exception
            time.sleep(0.01)


class Store:
    """Passes jobs from the event loop to the worker that owns the database."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()

    async def do(self, job: Callable[..., T], *args: Any) -> T:
        """Lets the worker do `job(db, *args)`; returns its value once it is committed."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._inbox.put((done, job, args))
        return await done

    def work(self, ctx: WorkerContext, db: sqlite3.Connection) -> None:
        """The worker: does all jobs that have arrived in one transaction, then those that arrived meanwhile."""
        # A thread blocked in `get` notices neither the stop Event nor an injection, so a stop also puts an item there.
        with closing(db), ctx.on_stop(lambda: self._inbox.put(None)):
            while not ctx.stop.is_set():
                jobs = [self._inbox.get()]
                while not self._inbox.empty():
                    jobs.append(self._inbox.get())
                with ctx.shield(), db:  # no injection interrupts a transaction: it is raised when the shield is left
                    done = [(job[0], job[1](db, *job[2])) for job in jobs if job is not None]
                if done:
                    done[0][0].get_loop().call_soon_threadsafe(resolve, done)


def resolve(done: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, value in done:
        if not future.done():  # the waiting task was cancelled
            future.set_result(value)


# ------------------------------------------------------------------------------------------------ jobs of the store

SCHEMA = """
PRAGMA locking_mode = EXCLUSIVE;  -- for one run at a time; the lock ends with the process, however that ends
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size, mtime_ns, sha256 TEXT, seen_by_run) WITHOUT ROWID;
COMMIT;
"""


def open_store(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0.5, check_same_thread=False)  # a call opens it, then only the worker uses it
    try:
        db.executescript(SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def find_new(db: sqlite3.Connection, files: list[File], run: int) -> list[File]:
    """Marks the files that are stored and unchanged as seen; returns the others."""
    seen = "UPDATE files SET seen_by_run = ? WHERE path = ? AND size = ? AND mtime_ns = ?"
    return [file for file in files if db.execute(seen, (run, *file)).rowcount == 0]


def insert(db: sqlite3.Connection, file: File, sha256: str, run: int) -> None:
    db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (*file, sha256, run))


def forget_unseen(db: sqlite3.Connection, root: bytes, run: int) -> int:
    """Deletes the files that a complete run has not seen; returns how many."""
    inside = root.rstrip(b"/") + b"/"
    unseen = "DELETE FROM files WHERE seen_by_run <> ? AND substr(path, 1, ?) = ?"
    return db.execute(unseen, (run, len(inside), inside)).rowcount


# ------------------------------------------------------------------------------------------------ the job


class Index:
    """The index of one tree: the job and its progress."""

    def __init__(self, sup: Supervisor, root: str, store_path: str, hold: float) -> None:
        self.sup = sup
        self.root = os.fsencode(root)
        self.store_path = store_path
        self.not_indexed = frozenset(os.fsencode(store_path + end) for end in ("", "-wal", "-shm", "-journal"))
        self.hold = hold
        self.run = time.time_ns()
        self.store = Store()
        self.directories: asyncio.LifoQueue[bytes] = asyncio.LifoQueue()  # the deepest first, so it stays short
        self.files: asyncio.Queue[File] = asyncio.Queue(WAITING)
        self.counts = Counter(found=0, hashed=0, skipped=0, unreadable=0, forgotten=0)
        self.problem = ""  # the last file or directory that could not be read
        self.finished = False

    def __str__(self) -> str:
        return ", ".join(f"{number} {what}" for what, number in self.counts.items())

    async def serve(self) -> None:
        """Does the job under supervision; whatever stops the job is raised here, after the shutdown."""
        async with self.sup:  # leaving this block, for whatever reason, is the shutdown
            db = await self.sup.run(open_store, self.store_path)
            writer = await self.sup.start(self.store.work, db, name="store")
            await self.sup.start(blocked_in_c, name="blocked-in-c")
            await self.sup.start(endless_loop, name="endless-loop")
            # If one task fails, the group cancels the others, and that stops the calls they wait for.
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.watch(writer)), group.create_task(self.show())]
                tasks += [group.create_task(self.walk()) for _ in range(WALKERS)]
                tasks += [group.create_task(self.hash()) for _ in range(HASHERS)]
                self.directories.put_nowait(self.root)
                await self.directories.join()
                await self.files.join()
                self.counts["forgotten"] = await self.store.do(forget_unseen, self.root, self.run)
                self.finished = True
                for task in tasks:
                    task.cancel()
            await self.sup.shutdown(reason="all is indexed")

    async def walk(self) -> None:
        """Lists directories, and passes on the files that are new."""
        while True:
            directory = await self.directories.get()
            try:
                listing = await self.sup.run(list_directory, directory, self.not_indexed)
            except OSError as error:  # raised in the worker, and re-raised here unchanged
                listing = Listing([], [], [error])
            for problem in listing.problems:
                self.pass_over(problem)
            for path in listing.directories:
                self.directories.put_nowait(path)
            for start in range(0, len(listing.files), WAITING):
                files = listing.files[start : start + WAITING]
                new = await self.store.do(find_new, files, self.run)
                self.counts["found"] += len(files)
                self.counts["skipped"] += len(files) - len(new)
                for file in new:
                    await self.files.put(file)
            self.directories.task_done()

    async def hash(self) -> None:
        """Hashes files, and stores the results."""
        while True:
            file = await self.files.get()
            try:
                sha256 = await self.sup.run(digest, file, self.hold)
            except OSError as error:
                self.pass_over(error)
            else:
                await self.store.do(insert, file, sha256, self.run)
                self.counts["hashed"] += 1
            self.files.task_done()

    def pass_over(self, problem: OSError) -> None:
        """Counts what could not be read: it is not in the store, and the next run tries again."""
        self.counts["unreadable"] += 1
        self.problem = str(problem)

    async def watch(self, writer: Worker) -> None:
        """Raises when the store's worker has ended, because then nothing would answer the tasks that wait for it."""
        outcome = await writer.wait()
        raise outcome.error or WorkerStopped(outcome)

    async def show(self) -> None:
        """Shows the progress: a bar on a terminal, otherwise a line every half second."""
        if not sys.stdout.isatty():
            while True:
                print(self, flush=True)
                await asyncio.sleep(0.5)
        with Progress(SpinnerColumn(), BarColumn(20), TextColumn("{task.description}"), transient=True) as progress:
            bar = progress.add_task("")
            while True:
                done = sum(self.counts[what] for what in ("hashed", "skipped", "unreadable"))
                progress.update(bar, description=str(self), completed=done, total=max(done, self.counts["found"]))
                await asyncio.sleep(0.1)


# ------------------------------------------------------------------------------------------------ the process


def stop_at_signals(sup: Supervisor) -> list[int]:
    """From now on SIGINT and SIGTERM only begin the shutdown; returns the list of the signals received."""
    received: list[int] = []

    def handler(number: int, _frame: object) -> None:
        received.append(number)
        sup.request_shutdown(signal.Signals(number).name)  # safe in a handler; remembered if the loop does not run yet

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
    return received


def brief(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Leaves out the fields that are for machines."""
    for field in ("supervisor", "kind", "attempt", "old", "new", "elapsed", "ident"):
        event.pop(field, None)
    return event


def configure_log() -> None:
    structlog.configure(
        processors=[
            brief,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # Looked up for each event: while rich shows the bar, it replaces sys.stderr to print above the bar.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError(text)
    return number


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Indexes a directory tree under supervision.")
    parser.add_argument("tree", nargs="?", default=sysconfig.get_path("stdlib"), metavar="PATH")
    parser.add_argument("--store", default=".index.sqlite3", help="the SQLite file (default: %(default)s)")
    parser.add_argument("--grace", type=seconds, default=1.0, help="seconds for each step of the ladder (default: 1)")
    parser.add_argument("--hold", type=seconds, default=0.0, help="seconds to dwell on each file, for those who watch")
    options = parser.parse_args()
    if not Path(options.tree).is_dir():
        parser.error(f"no such directory: {options.tree}")
    return options


def main(options: argparse.Namespace) -> int:
    sup = Supervisor("indexer", policy=EscalationPolicy(Ask(options.grace), Inject(options.grace, every=0.5)))
    signals = stop_at_signals(sup)
    configure_log()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the terminal's encoding may lack characters of a path
    index = Index(sup, os.path.realpath(options.tree), os.path.realpath(options.store), options.hold)
    print(f"indexing {os.fsdecode(index.root)}\ninto the store {index.store_path}", flush=True)
    status = 0
    try:
        asyncio.run(index.serve())
    except* (WorkerStopped, SupervisorClosed):  # what a shutdown raises in the tasks that wait
        status = 128 + signals[0] if signals else 1
    except* sqlite3.Error as errors:
        status = 2
        print(f"cannot use the store {index.store_path}: {errors.exceptions[0]}", file=sys.stderr)
    print(f"{'finished' if index.finished else 'stopped; start it again to go on'}: {index}")
    if index.problem:
        print(f"the last that could not be read: {index.problem}")
    print(sup.report)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # or a late signal would kill the process while the interpreter exits
    return status


if __name__ == "__main__":
    sys.exit(main(parse()))
