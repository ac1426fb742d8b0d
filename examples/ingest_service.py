"""A small ingest service: feeds that fail and recover, parsers in processes, and a writer that outlives them.

    python examples/ingest_service.py [--faults] [--seconds N]

Three readers form the group "feeds" and read source files of the standard library again and again. Each file is
parsed in a process, and a writer stores the result in a SQLite database. The writer is ready before the first file is
read, and it is stopped after the last reader has ended, so nothing that was read is lost.

Watch the log. With `--faults`, the same faults happen in each run: connections break (worker.restarting), readers hang
(worker.stuck, then escalated and restarted), parsers die (worker.ended, died; that file is skipped). A feed that fails
too often brings its group down, which is then restarted (supervisor.group_restarting). From the first line of the log
on, Ctrl-C and SIGTERM end the service at any moment within three seconds. The writer is in the last line of the report.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import logging
import random
import signal
import sqlite3
import sys
import sysconfig
import tempfile
from collections import deque
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Restart,
    Supervisor,
    SupervisorClosed,
    WorkerContext,
    WorkerDied,
    WorkerStopped,
    WorkerTimeout,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

Row: TypeAlias = tuple[str, int]
STORY = ("level", "event", "worker", "group", "attempt", "ended", "reason", "counts")


def parse(path: str, dies: bool) -> Row:  # in a process
    if dies:
        signal.raise_signal(signal.SIGKILL)  # as the kernel's out-of-memory killer does
    return path, sum(1 for _ in ast.walk(ast.parse(Path(path).read_bytes())))


def store(ctx: WorkerContext, rows: SimpleQueue[Row], database: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS files (path, nodes)")
        ctx.ready()
        while not (ctx.stop.is_set() and rows.empty()):  # when `stop` is set, no reader is left
            ctx.heartbeat()
            with suppress(Empty), ctx.shield(), connection:
                connection.execute("INSERT INTO files VALUES (?, ?)", rows.get(timeout=0.1))


class Feed:
    """A reader in all its runs: after a failure the next run continues where the last one was."""

    def __init__(self, feeds: Supervisor, name: str, rows: SimpleQueue[Row], faulty: bool) -> None:
        self.feeds, self.name, self.rows, self.faulty = feeds, name, rows, faulty
        self.files = deque(sorted(Path(sysconfig.get_path("stdlib"), name).glob("*.py")))
        self.loop = asyncio.get_running_loop()

    def read(self, ctx: WorkerContext) -> None:
        """Is one of its runs."""
        for fault in self.faults(ctx):
            ctx.heartbeat()
            file = self.files[0]
            name, dies = f"{self.name}:{file.name}", fault == "death"
            call = self.feeds.run(parse, str(file), dies, kind="process", timeout=2, name=name)
            with ctx.shield(), suppress(WorkerDied, WorkerTimeout, WorkerStopped, SupervisorClosed):
                self.files.rotate(-1)
                self.rows.put(asyncio.run_coroutine_threadsafe(call, self.loop).result())
            ctx.sleep(0.05)

    def faults(self, ctx: WorkerContext) -> Iterator[str]:
        """Yields "death" or "" for each file, or fails, or hangs: the same series each time for a feed and run."""
        dice = random.Random(f"2 {ctx.name} {ctx.attempt}")
        while True:
            fault = dice.choices(("", "break", "hang", "death"), (80, 10, 4, 6))[0] if self.faulty else ""
            if fault == "break":
                raise ConnectionError("reset by peer")
            while fault == "hang":
                pass
            yield fault


async def serve(faulty: bool, seconds: float | None, database: str) -> None:
    rows: SimpleQueue[Row] = SimpleQueue()
    policy = EscalationPolicy(Ask(0.5), Inject(0.5))
    async with Supervisor("ingest", policy=policy, on_exhausted="escalate", shutdown_timeout=2.5) as sup:
        signalled = asyncio.create_task(sup.wait_for_signal())
        again = Restart("failure", max_restarts=4, within=15, max_backoff=2)
        with suppress(SupervisorClosed, WorkerStopped):  # raised if a shutdown begins meanwhile
            await sup.start(store, rows, database, name="writer", restart=again, heartbeat=5, ready_timeout=5)
            feeds = sup.group("feeds", after=("writer",))
            for name in ("asyncio", "email", "unittest"):
                await feeds.start(Feed(feeds, name, rows, faulty).read, name=name, restart=again, heartbeat=4)
            if seconds is not None:
                asyncio.get_running_loop().call_later(seconds, sup.request_shutdown, "time is up")
        await signalled
    print(sup.report, f"{rows.qsize()} rows lost", sep="\n")


def brief(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Shortens an event to one line: an error to its text, a stack to its last line."""
    story = {key: event[key] for key in STORY if key in event}
    if "exc_info" in event:
        story["error"] = repr(event["exc_info"])
    if "stack" in event:
        story["at"] = event["stack"].splitlines()[-1].strip()
    return story


def main() -> None:
    parser = argparse.ArgumentParser(description="A small ingest service.")
    parser.add_argument("--faults", action="store_true", help="let connections, readers and parsers fail")
    parser.add_argument("--seconds", type=float, help="end by itself after so many; otherwise by Ctrl-C or SIGTERM")
    options = parser.parse_args()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            brief,
            structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    with tempfile.TemporaryDirectory() as folder:
        database = f"{folder}/files.sqlite"
        asyncio.run(serve(options.faults, options.seconds, database))
        with closing(sqlite3.connect(database)) as connection:
            print(*connection.execute("SELECT count(*) FROM files").fetchone(), "rows stored")


if __name__ == "__main__":
    main()
