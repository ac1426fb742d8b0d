"""Tries what an injection leaves half done in code of the application's own, and writes the table in `injection.md`.

    python docs/leaks.py .venv-3.11/bin/python .venv-3.12/bin/python ...

tries it on each of these Pythons, which takes a minute for each. `python docs/leaks.py` alone tries it on its own
Python, and prints what it has found.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from supervisor import Ask, EscalationPolicy, Inject, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).with_name("injection.md")
RUNS = 200
AT_ONCE = EscalationPolicy(Ask(0.004), Inject(5))


class WithLock:
    """`with lock:`"""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def work(self, _: object) -> None:
        while True:
            with self.lock:
                pass

    def went_wrong(self) -> bool:
        return not self.lock.acquire(timeout=0.01)


class WithRLock(WithLock):
    """`with rlock:`"""

    def __init__(self) -> None:
        self.lock = threading.RLock()


class ByHand(WithLock):
    """`lock.acquire()`, then `try:` ... `finally: lock.release()`"""

    def work(self, _: object) -> None:
        while True:
            self.lock.acquire()
            try:
                pass
            finally:
                self.lock.release()


class Managed:
    """`with manager: work()`, with an `__exit__` in Python: that does not run"""

    def __init__(self) -> None:
        self.entered = 0

    def __enter__(self) -> None:
        self.entered += 1

    def __exit__(self, *_: object) -> None:
        self.entered -= 1

    def work(self, _: object) -> None:
        while True:
            with self:
                sum(range(50))

    def went_wrong(self) -> bool:
        return self.entered != 0


class Endless:
    """`while True: pass`, on one line, directly inside a `try`: its handler is missed"""

    def __init__(self) -> None:
        self.handled = False

    def work(self, _: object) -> None:
        try:
            while True: pass  # fmt: skip  # noqa: E701  # as it is missed nowhere on two lines
        finally:
            self.handled = True

    def went_wrong(self) -> bool:
        return not self.handled


class While(Endless):
    """`while condition:` directly inside a `try`: the same"""

    def work(self, _: object) -> None:
        number = 0
        try:
            while number >= 0:
                number += 1
        finally:
            self.handled = True


class InACallee(Endless):
    """the same loop in a function of its own, called inside the `try`"""

    def work(self, _: object) -> None:
        try:
            self.loop()
        finally:
            self.handled = True

    def loop(self) -> None:
        while True:
            pass


CASES = (WithLock, WithRLock, ByHand, Managed, Endless, While, InACallee)


async def percentage(case: Callable[[], WithLock | Managed | Endless], runs: int) -> int:
    wrong = 0
    async with Supervisor() as sup:
        for _ in range(runs):
            thing = case()
            worker = await sup.start(thing.work, policy=AT_ONCE)
            await worker.stop()
            wrong += thing.went_wrong()
    return round(100 * wrong / runs)


def tried(runs: int = RUNS) -> dict[str, int]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    return {case.__doc__ or "": asyncio.run(percentage(case, runs)) for case in CASES}


def table(found: dict[str, dict[str, int]]) -> str:
    """The table, given what each Python has found."""
    rows = [["in a loop, struck once", *found], ["---"] * (len(found) + 1)]
    rows += [[what, *(f"{each[what]} %" for each in found.values())] for what in next(iter(found.values()))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(pythons: list[str]) -> None:
    if not pythons:
        print(json.dumps({"{}.{}".format(*sys.version_info): tried()}))
        return
    found: dict[str, dict[str, int]] = {}
    for python in pythons:
        done = subprocess.run([python, __file__], stdout=subprocess.PIPE, text=True, check=True)
        found |= json.loads(done.stdout)
    text = re.sub(r"(?<=<!-- leaks -->\n).*?(?=\n<!-- -->)", table(found), PAGE.read_text(), flags=re.DOTALL)
    PAGE.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
