"""How many tasks a second a Celery worker carries out on Redis: with its own pools, and with `supervisor.celery:Pool`.

    python -m benchmarks.celery_pool [--tasks 10000] [--rounds 3] [--concurrency 2] [POOL ...]

By hand: it needs `redis-server`, which it starts on a socket of its own, and no other load. The pools take turns. Each
worker is up, and has done some tasks, before it is given the queue, which is full by then. What is measured is the time
until no message is left, nor one that has not been acknowledged.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from celery import Celery

if TYPE_CHECKING:
    from collections.abc import Iterator

POOLS = {
    "prefork": ("prefork", ""),
    "process": ("custom", "process"),
    "threads": ("threads", ""),
    "thread": ("custom", "thread"),
}
"""By name: what the worker is given as its pool, and the kind of ours."""

GOALS = {"process": ("prefork", 0.9), "thread": ("threads", 1.0)}
"""Whose rate each of ours is compared with, and what part of it is the goal."""

app = Celery("celery_pool", broker=os.environ.get("BENCHMARK_BROKER", "memory://"))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)


@app.task(name="nothing")  # type: ignore[untyped-decorator, unused-ignore]
def nothing() -> None:
    pass


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    socket = folder / "redis"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            while not socket.exists():
                time.sleep(0.01)
            yield f"redis+socket://{socket}"
        finally:
            server.kill()


@contextmanager
def worker(pool: str, concurrency: int, broker: str, log: Path) -> Iterator[int]:
    name, kind = POOLS[pool]
    environ = {
        **os.environ,
        "BENCHMARK_BROKER": broker,
        "CELERY_CUSTOM_WORKER_POOL": "supervisor.celery:Pool",
        "SUPERVISOR_CELERY_KIND": kind,
    }
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.celery_pool", "worker", "-P", name, "-Q", "warm"]
    command += ["-c", str(concurrency), "-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with log.open("w") as file, subprocess.Popen(command, env=environ, stdout=file, stderr=file) as process:
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def processes() -> dict[int, list[str]]:
    """Returns what the kernel says of each process, from its state on, by its number."""
    found: dict[int, list[str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """Returns what a process has used, with those that it has started and that live."""
    of = processes()
    mine = {pid} | {other for other, fields in of.items() if int(fields[1]) == pid}
    return sum(int(ticks) for each in mine for ticks in of[each][11:13]) / os.sysconf("SC_CLK_TCK")


def measure(pool: str, tasks: int, concurrency: int, broker: str, folder: Path) -> tuple[float, float]:
    """Returns the tasks a second of one worker, and the milliseconds of CPU that one of them costs."""
    queues: Any = app.connection().default_channel.client

    def wait_until_done(queue: str) -> None:
        while queues.llen(queue) or queues.hlen("unacked"):
            time.sleep(0.005)

    with app.producer_pool.acquire(block=True) as producer:
        for number in range(tasks + 100):
            nothing.apply_async(queue="warm" if number >= tasks else "full", producer=producer)
    with worker(pool, concurrency, broker, folder / "log") as pid:
        wait_until_done("warm")
        app.control.add_consumer("full", reply=True, limit=1, timeout=10)
        began, used = time.monotonic(), cpu_seconds(pid)
        left = queues.llen("full") + queues.hlen("unacked")  # some are done by now
        wait_until_done("full")
        return left / (time.monotonic() - began), (cpu_seconds(pid) - used) / left * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", nargs="*", metavar="POOL", help=", ".join(POOLS))
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=2)
    given = parser.parse_args()
    if shutil.which("redis-server") is None:
        sys.exit("redis-server is needed")
    with tempfile.TemporaryDirectory() as name, redis(Path(name)) as broker:
        app.conf.broker_url = broker
        rates: dict[str, list[float]] = {pool: [] for pool in given.pools or POOLS}
        for number in range(given.rounds):
            for pool, measured in rates.items():
                rate, cpu = measure(pool, given.tasks, given.concurrency, broker, Path(name))
                measured.append(rate)
                print(f"round {number + 1}: {pool:8} {rate:6.0f} tasks/s, {cpu:.2f} ms of CPU each", flush=True)
    for pool, measured in rates.items():
        print(f"{pool:8} {median(measured):6.0f} tasks/s, the median of {given.rounds}")
    for pool, (other, goal) in GOALS.items():
        if pool in rates and other in rates:
            print(f"{pool}: {median(rates[pool]) / median(rates[other]):.2f} of {other}; the goal is {goal:g}")


if __name__ == "__main__":
    main()
