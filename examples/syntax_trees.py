"""Analyses the syntax trees of a source tree in killable processes, including some input that never ends.

    python examples/syntax_trees.py [PATH]      # the Python standard library by default, 300 files at most

Each file is one call, `sup.run(..., kind="process", timeout=...)`; as many run at once as there are processors. Three
inputs explode: a regular expression that backtracks forever, 9**9**9, and a very long sum. All of them are C code
that holds the interpreter (GIL): in a thread it would block the whole program. Here their timeout ends them, and the
other calls continue meanwhile. The first two check for signals now and then, so they end as "injected". The sum does
not, so its process is terminated.

At the end it prints a table of the results and of the calls that were ended, then the report of the shutdown. Ctrl-C
and SIGTERM end it at any moment within two seconds; the table and the report then contain what is known by that time.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import logging
import os
import re
import signal
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Kill,
    Supervisor,
    SupervisorClosed,
    Terminate,
    WorkerStopped,
    WorkerTimeout,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = 300


class Analysis(NamedTuple):
    """What the syntax tree of one file contains."""

    lines: int
    nodes: int
    functions: int


def analyse(path: str) -> Analysis:
    source = Path(path).read_bytes()
    tree = ast.parse(source, path)
    kinds = Counter(type(node) for node in ast.walk(tree))
    return Analysis(source.count(b"\n"), kinds.total(), kinds[ast.FunctionDef] + kinds[ast.AsyncFunctionDef])


def backtrack(text: str) -> bool:
    return re.fullmatch("(a+)+", text) is not None


def power(base: int) -> int:
    return int(base**base**base)


def add_up(end: int) -> int:
    return sum(range(end))


EXPLOSIONS: list[tuple[Callable[..., object], object]] = [(backtrack, "a" * 40 + "b"), (power, 9), (add_up, 10**13)]


class Job:
    """The inputs that are left, and the results."""

    def __init__(self, sup: Supervisor, files: list[str], timeout: float) -> None:
        self.sup = sup
        self.timeout = timeout
        self.todo: list[tuple[Callable[..., object], object]] = [(analyse, path) for path in files]
        for place, explosion in enumerate(EXPLOSIONS):
            self.todo.insert(5 * place + 3, explosion)
        self.todo.reverse()
        self.analyses: dict[str, Analysis] = {}
        self.problems: dict[str, str] = {}

    async def serve(self) -> None:
        """Does the job under supervision, until it is done or a shutdown is requested."""
        print(f"{len(self.todo)} inputs, {len(EXPLOSIONS)} of them explode", flush=True)
        async with self.sup:
            await asyncio.gather(*(self.take() for _ in range(os.cpu_count() or 1)))

    async def take(self) -> None:
        """Processes one input after the other, until there are no more or the supervisor closes."""
        while self.todo:
            function, argument = self.todo.pop()
            name = f"{function.__name__}({str(argument)[-40:]})"
            try:
                result = await self.sup.run(function, argument, kind="process", timeout=self.timeout)
            except SupervisorClosed:
                self.todo.append((function, argument))
                return
            except WorkerTimeout as error:
                self.problems[name] = f"{error.outcome.ended} after {self.timeout:g} s and the ladder"
            except WorkerStopped as error:
                self.problems[name] = f"{error.outcome.ended} by the shutdown"
            except Exception as error:  # raised in the process, and re-raised here unchanged
                self.problems[name] = f"{type(error).__name__}: {error}"
            else:
                if isinstance(result, Analysis):
                    self.analyses[str(argument)] = result

    def __str__(self) -> str:
        largest = sorted(self.analyses.items(), key=lambda item: -item[1].nodes)[:10]
        lines = [f"{'lines':>7} {'nodes':>8} {'functions':>9}  file"]
        lines += ["{:7} {:8} {:9}  {}".format(*analysis, path) for path, analysis in largest]
        lines += [f"  {name}: {problem}" for name, problem in self.problems.items()]
        return "\n".join([*lines, f"{len(self.analyses)} analysed, {len(self.problems)} not, {len(self.todo)} left"])


def stop_at_signals(sup: Supervisor) -> list[int]:
    """From now on SIGINT and SIGTERM only begin the shutdown; returns the list of the signals received."""
    received: list[int] = []

    def handler(number: int, _frame: object) -> None:
        received.append(number)
        sup.request_shutdown(signal.Signals(number).name)  # safe in a handler; remembered if the loop does not run yet

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
    return received


def main() -> int:
    parser = argparse.ArgumentParser(description="Analyses syntax trees in processes.")
    parser.add_argument("tree", nargs="?", default=sysconfig.get_path("stdlib"), metavar="PATH")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds for each input (default: 2)")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # the table is enough
    sup = Supervisor("syntax-trees", policy=EscalationPolicy(Ask(0.2), Inject(0.3), Terminate(0.5), Kill(0.5)))
    received = stop_at_signals(sup)
    files = sorted(str(path) for path in Path(options.tree).rglob("*.py") if path.is_file())[:FILES]
    job = Job(sup, files, options.timeout)
    asyncio.run(job.serve())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # or a late signal would kill the process while the interpreter exits
    print(job, sup.report, sep="\n", flush=True)
    return 128 + received[0] if received else 0


if __name__ == "__main__":
    sys.exit(main())
