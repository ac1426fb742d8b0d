"""However many calls there are, and however much those that fail have held: memory is as after the first of them."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from supervisor import Supervisor

HELD = 1 << 20
"""Bytes that the traceback of a call that fails holds."""

AT_ONCE = 50
STAGES = 10

GROWTH = 16 << 20
"""Bytes by which memory may differ: of what calls hold, a few are between the allocator and the system."""

FULL = {"thread": 1_000_000, "process": 200_000}
"""Calls, where `SUPERVISOR_FULL_CAMPAIGNS` is set; else a tenth of them."""


class Failure(Exception):
    pass


def succeed_or_fail(number):
    if number % 10 == 0:
        held = b"x" * HELD
        raise Failure(number, len(held))
    return number


def resident(pid):
    """Bytes that a process has in memory; none where there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def everybody():
    """This process and its children."""
    pids = {os.getpid()}
    for path in Path("/proc/self/task").glob("*/children"):
        pids |= {int(pid) for pid in path.read_text().split()}
    return pids


async def call(sup, kind, numbers):
    for number in numbers:
        try:
            came = await sup.run(succeed_or_fail, number, kind=kind), 0
        except Failure as error:
            came = error.args
        assert came == (number, 0 if number % 10 else HELD)


async def grown(kind, total):
    """Makes the calls; returns how much memory is in use after each stage, all processes together."""
    used = []
    async with Supervisor(max_threads=4, max_processes=2) as sup:
        for stage in range(STAGES):
            numbers = iter(range(stage * total // STAGES, (stage + 1) * total // STAGES))
            await asyncio.gather(*(call(sup, kind, numbers) for _ in range(AT_ONCE)))
            used.append(sum(map(resident, everybody())))
    return used


def check(kind, total):
    began = time.monotonic()
    used = asyncio.run(grown(kind, total))
    print(f"{total} calls, kind {kind}, {time.monotonic() - began:.0f} s; MB in use: {[each >> 20 for each in used]}")
    assert max(used[STAGES // 2 :]) <= max(used[: STAGES // 2]) + GROWTH


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_memory_is_flat(kind):
    check(kind, FULL[kind] if os.environ.get("SUPERVISOR_FULL_CAMPAIGNS") else FULL[kind] // 10)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_memory_is_flat_over_a_few(kind):
    check(kind, 2_000)
