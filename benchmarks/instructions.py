"""How many instructions the main paths take: the one figure that does not depend on what else the machine does.

`python -m benchmarks.instructions [--keep]`, or `make instructions`, on Linux with valgrind; `make check` compares with
what `benchmarks/instructions.json` keeps for this Python. All threads of this process are counted, not its children,
nor the kernel. Each figure is a multiple of what one call of `run_in_executor(None)` takes in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import structlog

from supervisor import Supervisor
from supervisor._kinds.threads import queue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supervisor import WorkerContext

KEPT = Path(__file__).with_suffix(".json")

BUILD = f"{platform.python_version()}, {platform.python_compiler()}"
"""Another build of the same Python takes other instructions for the same work: then nothing is held against anybody."""

MARK = "getpriority"
"""A function of the C library that nothing else calls: at each call of it, valgrind writes what it has counted."""

KEPT_VARIABLES = ("HOME", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH")
"""Of the environment. The others are left out: each call in a process compares all that there are."""

VARIABLES = {"PYTHONHASHSEED": "0", "PYTHONMALLOC": "pymalloc"}
"""With the hashes of strings as they are, dicts fill up in the same way each time."""

PAUSE = 0.01
"""Seconds that each of the calls made one at a time takes, and that pass before the next one.

So what is waited for is asleep each time: the loop when the result comes, the thread when the next call does. Without
that, it depends on how the machine shares out its time, and how much there is to do depends on that.
"""

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

# ------------------------------------------------------------------------------------------------ the paths


def _mark() -> None:
    os.getpriority(os.PRIO_PROCESS, 0)


async def _one_at_a_time(call: Callable[[], Awaitable[object]], number: int) -> None:
    for _ in range(number):
        await call()
        sleep(PAUSE)  # noqa: ASYNC251  # nothing else is to happen in the loop


async def _at_once(call: Callable[[], Awaitable[object]], number: int) -> None:
    await asyncio.gather(*(call() for _ in range(number)))


async def _mapped(sup: Supervisor, number: int) -> None:
    async for _ in sup.map(abs, range(number)):
        pass


def _wait(ctx: WorkerContext) -> None:
    ctx.stop.wait()


async def _start_and_stop(sup: Supervisor, number: int) -> None:
    for _ in range(number):
        worker = await sup.start(_wait)
        await worker.stop()


class _Nowhere:
    """Takes what is logged, and drops it."""

    def debug(self, _: str) -> None: ...

    info = warning = error = debug


async def _shutdown(number: int) -> None:
    async with Supervisor() as sup:
        await asyncio.gather(*(sup.start(_wait) for _ in range(number)))
        _mark()
    _mark()


async def _measure() -> None:
    """Carries out each path once to warm it up, and once between two marks."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    queue.LOST_AFTER = inf  # each system call takes long here
    pause = partial(sleep, PAUSE)
    loop = asyncio.get_running_loop()
    sup = Supervisor(max_threads=4)
    executor = sup.executor()
    json: Any = structlog.wrap_logger(
        _Nowhere(), [structlog.processors.JSONRenderer()], structlog.make_filtering_bound_logger(10)
    )
    logged, heard = Supervisor("logged", logger=json), Supervisor("heard")
    transitions = heard.transitions(buffer=10)
    paths: list[tuple[Callable[[int], Awaitable[None]], int]] = [
        (partial(_one_at_a_time, lambda: loop.run_in_executor(None, pause)), 100),
        (partial(_one_at_a_time, lambda: sup.run(pause)), 100),
        (partial(_at_once, lambda: sup.run(monotonic)), 1000),
        (partial(_mapped, sup), 1000),
        (partial(_one_at_a_time, lambda: loop.run_in_executor(executor, pause)), 100),
        (partial(_at_once, lambda: loop.run_in_executor(executor, monotonic)), 1000),
        (partial(_one_at_a_time, lambda: sup.run(pause, kind="process")), 100),
        (partial(_start_and_stop, sup), 50),
        (partial(_one_at_a_time, lambda: heard.run(pause)), 100),
        (partial(_one_at_a_time, lambda: logged.run(pause)), 100),
    ]
    for path, number in paths:
        await path(20)
        gc.collect()
        _mark()
        await path(number)
        _mark()
    del transitions
    await asyncio.gather(*(each.shutdown() for each in (sup, logged, heard)))
    gc.collect()
    await _shutdown(200)


@dataclass(frozen=True, slots=True)
class Counted:
    """A path, as the table has it.

    Attributes:
        name: What is done.
        number: How often.
        bound: How many times as many instructions as are kept it may take: by how much they differ by themselves, and
            some more.
    """

    name: str
    number: int
    bound: float = 1.05


PATHS = (
    Counted("one call of run_in_executor(None)", 100),
    Counted("one call of sup.run", 100),
    Counted("sup.run, 1,000 at once, each", 1000),
    Counted("sup.map, each of 1,000", 1000, 1.15),
    Counted("one call of run_in_executor(sup.executor())", 100),
    Counted("run_in_executor(sup.executor()), 1,000 at once, each", 1000),
    Counted("one call of sup.run(kind='process'), in the owner", 100, 1.15),  # it may look whether the end is there
    Counted("a worker, from start to stopped", 50, 1.1),
    Counted("one call of sup.run, with a listener", 100, 1.1),
    Counted("one call of sup.run, with its debug events as JSON", 100, 1.1),
    Counted("the shutdown of 200 waiting workers, each", 200, 1.15),
)

# ------------------------------------------------------------------------------------------------ counting


def counted() -> dict[str, float]:
    """Returns how many instructions each path takes, in units.

    Raises:
        RuntimeError: It failed.
    """
    with TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", f"--dump-before={MARK}"]
        done = subprocess.run(
            [*command, "-q", sys.executable, "-X", "frozen_modules=off", "-m", "benchmarks.instructions", "--paths"],
            check=False,
            cwd=Path(__file__).parents[1],
            stderr=subprocess.PIPE,
            text=True,
            env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | VARIABLES,
            timeout=900,
        )
        if done.returncode:
            raise RuntimeError(f"counting has failed, with status {done.returncode}:\n{done.stderr}")
        dumps = sorted(Path(folder).glob("out.*"), key=lambda path: int(path.suffix[1:]))
        counts = [int(re.search(r"^summary: (\d+)", path.read_text(), re.MULTILINE)[1]) for path in dumps]  # type: ignore[index]
    return _in_units(counts[1::2])


def _in_units(counts: list[int]) -> dict[str, float]:
    """Returns what each path takes, in units; the first one is the unit."""
    each = [count / path.number for path, count in zip(PATHS, counts, strict=True)]
    return {path.name: round(one / each[0], 3) for path, one in zip(PATHS[1:], each[1:], strict=True)}


def _worse(found: dict[str, float], kept: dict[str, float]) -> list[str]:
    """Returns the paths that take too many."""
    return [path.name for path in PATHS if found.get(path.name, 0.0) > kept.get(path.name, inf) * path.bound]


def _shown(found: dict[str, float], kept: dict[str, float]) -> str:
    """Returns the table of what was found, beside what is kept."""
    lines = [f"Python {BUILD}, in units of {PATHS[0].name}:"]
    for name, count in found.items():
        before = kept.get(name)
        change = "" if before is None else f"  {count / before:.3f} of {before:.3f}"
        lines.append(f"  {name:<55}{count:8.3f}{change}")
    return "\n".join(lines)


def main() -> int:
    """Counts, and compares or keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep what was counted, in place of what was kept")
    parser.add_argument("--paths", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.paths:
        asyncio.run(_measure())
        return 0
    if shutil.which("valgrind") is None:
        print("instructions: not counted: there is no valgrind")
        return 0
    all_kept: dict[str, Any] = json.loads(KEPT.read_text())
    kept = all_kept.get(VERSION, {})
    counts = kept.get("counts", {}) if kept.get("build") == BUILD else {}
    found = counted()
    if _worse(found, counts):  # what differs by itself only ever adds some: the lower one counts
        again = counted()
        found = {name: min(count, again[name]) for name, count in found.items()}
    print(_shown(found, counts))
    if options.keep:
        all_kept[VERSION] = {"build": BUILD, "counts": found}
        KEPT.write_text(json.dumps(all_kept, indent=1, sort_keys=True) + "\n")
        return 0
    if not counts:
        print("instructions: nothing is kept for this build of Python; `--keep` keeps this")
    worse = _worse(found, counts)
    for name in worse:
        print(f"instructions: {name}: takes more than it did; where that is worth it, `--keep` keeps it")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
