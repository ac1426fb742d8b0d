"""What a change costs: the main paths of an older revision and of the present tree, measured in turns.

`python -m benchmarks.compare REVISION [PATH ...] [--rounds NUMBER] [--cpu]`, or `make bench-compare REV=REVISION`.

The package is copied twice, as it was and as it is. Each round measures both, each in a new process on one core, with
the same Python, the same dependencies, and the code of this file; they take turns in going first. Therefore only public
names are used here, and of the other benchmarks only what needs no private ones.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from statistics import median, quantiles
from subprocess import CalledProcessError, TimeoutExpired
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

import supervisor
from benchmarks.measure import SILENT, pinned, several, sized
from supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from supervisor import WorkerContext

ROOT = Path(__file__).parents[1]

TIMEOUT = 120.0
"""Seconds after which a measurement is given up."""

now = process_time if "BENCHMARKS_CPU" in os.environ else perf_counter

Measure: TypeAlias = "Callable[[], Awaitable[float]]"
Call: TypeAlias = "Callable[[], Awaitable[object]]"

# ------------------------------------------------------------------------------------------------ calls

AT_ONCE = sized(10_000, 50)


def _run(sup: Supervisor) -> Call:
    return lambda: sup.run(int)


def _execute(sup: Supervisor) -> Call:
    loop, executor = asyncio.get_running_loop(), sup.executor()
    return lambda: loop.run_in_executor(executor, int)


def _run_in_process(sup: Supervisor) -> Call:
    return lambda: sup.run(int, kind="process")


async def _one_at_a_time(call_of: Callable[[Supervisor], Call], number: int) -> float:
    async with Supervisor("ours", logger=SILENT, max_threads=1, max_processes=1) as sup:
        call = call_of(sup)

        async def measure() -> float:
            gc.collect()
            began_at = now()
            for _ in range(number):
                await call()
            return (now() - began_at) / number * 1e6

        return await several(measure, sized(7, 1))()


async def _at_once(call_of: Callable[[Supervisor], Call]) -> float:
    async with Supervisor("ours", logger=SILENT, max_threads=8) as sup:
        call = call_of(sup)

        async def measure() -> float:
            gc.collect()
            began_at = now()
            await asyncio.gather(*(call() for _ in range(AT_ONCE)))
            return (now() - began_at) / AT_ONCE * 1e6

        return await several(measure, sized(5, 1))()


async def _mapped() -> float:
    async with Supervisor("ours", logger=SILENT, max_threads=8) as sup:

        async def measure() -> float:
            gc.collect()
            began_at = now()
            async for _ in sup.map(abs, range(AT_ONCE)):
                pass
            return (now() - began_at) / AT_ONCE * 1e6

        return await several(measure, sized(5, 1))()


async def _watched(logger: Any, listeners: int) -> float:
    """Returns what a call takes of which a log, or a listener, wants to know."""
    async with Supervisor("ours", logger=logger, max_threads=1) as sup:
        transitions = [sup.transitions(buffer=10) for _ in range(listeners)]

        async def measure() -> float:
            gc.collect()
            began_at = now()
            for _ in range(CALLS):
                await sup.run(int)
            return (now() - began_at) / CALLS * 1e6

        took = await several(measure, sized(7, 1))()
        del transitions
    return took


class _Nowhere:
    """Takes what is logged, and drops it."""

    def debug(self, _: str) -> None: ...

    info = warning = error = debug


def _json() -> Any:
    processors: list[Any] = [structlog.processors.add_log_level, structlog.processors.JSONRenderer()]
    return structlog.wrap_logger(_Nowhere(), processors)


async def _memory() -> float:
    """Returns what Python has allocated for each call that waits for the only thread."""
    loop, busy, free = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def block() -> None:
        loop.call_soon_threadsafe(busy.set)
        free.wait()

    async with Supervisor("ours", logger=SILENT, max_threads=1) as sup:
        call = _execute(sup)
        first = loop.run_in_executor(sup.executor(), block)
        futures: list[Awaitable[object]] = [first] * (AT_ONCE + 1)  # its own memory does not count
        await busy.wait()
        gc.collect()
        tracemalloc.start()
        for place in range(AT_ONCE):
            futures[place] = call()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        free.set()
        await asyncio.gather(*futures)
    return held / AT_ONCE


# ------------------------------------------------------------------------------------------------ workers

WORKERS = sized(200, 5)
WAITERS = sized(1_000, 5)
SETTLED = sized(0.3, 0.01)
"""Seconds after which a thread that has been entered is surely waiting."""


def wait(ctx: WorkerContext) -> None:
    ctx.stop.wait()


async def _child() -> float:
    sleeper = methodcaller("sleep", 3_600)  # needs no module of ours in the process
    async with Supervisor("ours", logger=SILENT) as sup:
        gc.collect()
        began_at = now()
        await sup.start(sleeper, kind="process", name="sleeper")
        return (now() - began_at) * 1e3


async def _start() -> float:
    async with Supervisor("ours", logger=SILENT) as sup:
        gc.collect()
        began_at = now()
        for _ in range(WORKERS):
            await sup.start(wait)
        return (now() - began_at) * 1e3


async def _stop() -> float:
    sup = Supervisor("ours", logger=SILENT)
    await asyncio.gather(*(sup.start(wait) for _ in range(WAITERS)))
    await asyncio.sleep(SETTLED)
    gc.collect()
    began_at = now()
    await sup.shutdown()
    return (now() - began_at) * 1e3


# ------------------------------------------------------------------------------------------------ imports

IMPORT = "began_at = now(); import supervisor"
FIRST_USE = """
import anyio, asyncio, structlog
began_at = now()
from supervisor import Supervisor
async def main():
    async with Supervisor() as sup:
        await sup.run(int)
asyncio.run(main())
"""


def _interpreter(code: str) -> Measure:
    whole = f"from time import {now.__name__} as now\n{code}\nprint(now() - began_at)"

    async def measure() -> float:
        done = subprocess.run([sys.executable, "-c", whole], check=True, stdout=subprocess.PIPE)
        return float(done.stdout) * 1e3

    return several(measure, sized(9, 1))


# ------------------------------------------------------------------------------------------------ what is compared


@dataclass(frozen=True, slots=True)
class MainPath:
    """Something that is measured; the smaller its figure, the better."""

    title: str
    unit: str
    measure: Measure


ONE, MANY, CALLS = "one at a time", f"{AT_ONCE:,} at once, each", sized(2_000, 20)
PATHS = {
    "run": MainPath(f"sup.run, {ONE}", "µs", lambda: _one_at_a_time(_run, CALLS)),
    "runs": MainPath(f"sup.run, {MANY}", "µs", lambda: _at_once(_run)),
    "executor": MainPath(f"executor, {ONE}", "µs", lambda: _one_at_a_time(_execute, CALLS)),
    "executors": MainPath(f"executor, {MANY}", "µs", lambda: _at_once(_execute)),
    "process": MainPath(f"call in a process, {ONE}", "µs", lambda: _one_at_a_time(_run_in_process, sized(300, 5))),
    "map": MainPath(f"map, {AT_ONCE:,} items, each", "µs", _mapped),
    "logged": MainPath("sup.run, with its debug events as JSON", "µs", lambda: _watched(_json(), 0)),
    "heard": MainPath("sup.run, with a listener", "µs", lambda: _watched(SILENT, 1)),
    "child": MainPath("start of a process, to ready", "ms", several(_child, sized(7, 1))),
    "start": MainPath(f"start of {WORKERS} workers", "ms", several(_start, sized(7, 1))),
    "stop": MainPath(f"stop of {WAITERS:,} waiting workers", "ms", several(_stop, sized(3, 1))),
    "import": MainPath("import supervisor", "ms", _interpreter(IMPORT)),
    "first": MainPath("import and first call, asyncio there", "ms", _interpreter(FIRST_USE)),
    "memory": MainPath("executor, a queued call", "bytes", _memory),
}


CPU = "processor time of the process, without that of the processes it starts"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("revision", help="the older one, as git names it")
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"of {', '.join(PATHS)}; none: all of them")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is measured (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="all in small: the figures mean nothing")
    parser.add_argument("--cpu", action="store_true", help=f"{CPU}: for a busy machine")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.paths if name not in PATHS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; the paths are: {', '.join(PATHS)}")
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: there is no spread below 2")
    with TemporaryDirectory(prefix="compare-") as folder:
        homes = {"old": Path(folder, "old"), "new": Path(folder, "new")}
        try:
            revision = _extract(options.revision, homes["old"])
        except CalledProcessError as error:
            parser.error(error.stderr.decode().strip())
        shutil.copytree(ROOT / "supervisor", homes["new"] / "supervisor", ignore=shutil.ignore_patterns("__pycache__"))
        for home in homes.values():
            compileall.compile_dir(home, quiet=1)  # an import that compiles is another thing
        print(f"old: {revision}\nnew: the present tree\n{CPU if options.cpu else ''}")
        print(_row("", "old", "new", "new / old", "quartiles of the rounds"))
        succeeded = [_compare(name, homes, options) for name in options.paths or PATHS]
    return 0 if all(succeeded) else 1


def _extract(revision: str, home: Path) -> str:
    """Puts the package into a folder as it was, and returns which revision that is."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout

    commit = git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit, "supervisor"))) as archive:
        archive.extractall(home, filter="data")
    return git("log", "-1", "--format=%h %s", commit).decode().strip()


def _compare(name: str, homes: dict[str, Path], options: argparse.Namespace) -> bool:
    """Measures a path in turns, after a first round that does not count, and prints its row; whether that worked."""
    path, took = PATHS[name], {checkout: list[float]() for checkout in homes}
    for turn in range(options.rounds + 1):
        for checkout in sorted(homes, reverse=turn % 2 == 0):
            try:
                took[checkout].append(_measured(name, homes[checkout], quick=options.quick, cpu=options.cpu))
            except (CalledProcessError, TimeoutExpired) as error:
                said = (error.stderr or b"").decode(errors="replace").split("\n")
                print(f"{path.title}: failed, {checkout}: {[str(error), *filter(None, said)][-1]}", flush=True)
                return False
    old, new = took["old"][1:], took["new"][1:]
    ratio = f"{median(new) / median(old):.3f}"
    spread = quantiles([after / before for before, after in zip(old, new, strict=True)], n=4, method="inclusive")
    figures = [f"{median(each):.4g} {path.unit}" for each in (old, new)]
    print(_row(path.title, *figures, ratio, "  ".join(f"{each:.3f}" for each in spread)), flush=True)
    return True


def _row(title: str, *cells: str) -> str:
    return f"{title:<38} {cells[0]:>12} {cells[1]:>12} {cells[2]:>10}   {cells[3]}"


def _measured(name: str, home: Path, *, quick: bool, cpu: bool) -> float:
    """Measures a path of the package in a folder, in a new process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(home), str(ROOT)])}
    for variable, wanted in {"BENCHMARKS_QUICK": quick, "BENCHMARKS_CPU": cpu}.items():
        environment.pop(variable, None)
        if wanted:
            environment[variable] = "1"
    code = f"from benchmarks import compare; print(compare.measure({name!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, timeout=TIMEOUT, check=True
    )
    return float(done.stdout)


def measure(name: str) -> float:
    """Measures a path of the package that stands in the current directory, on one core."""
    found = Path(supervisor.__file__).parents[1]
    assert found == Path.cwd(), f"this would measure {found}, not {Path.cwd()}"

    async def figure() -> float:
        return await PATHS[name].measure()

    with pinned():
        return asyncio.run(figure())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the copies are removed
    sys.exit(main(sys.argv[1:]))
