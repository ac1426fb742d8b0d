"""Calls while a page is open, beside none: the page is asked for by a process of its own, as a browser does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from supervisor import Supervisor

from .measure import SILENT, Goal, Table, in_turns, sized
from .peers import noop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["page"]

CALLS = sized(100_000, 50)
"""Calls of one measurement, one after the other: for that long a page looks some times."""

WORKERS = 20
"""That the page shows, each of which waits for its stop."""

NONE, MOUNTED, OPEN = "no page", "a page is mounted, and nobody looks", "**one page is open**"

LOOKS = """
import sys, time, urllib.request
while True:
    urllib.request.urlopen(sys.argv[1]).read()
    print(flush=True)
    time.sleep(2)
"""
"""What an open page does: it asks every two seconds."""


def page() -> list[Table]:
    """One call at a time in a thread, while nobody looks and while somebody does."""
    figures = asyncio.run(_measured())
    return [
        Table(
            "One call at a time in a thread, in a service with a page",
            "µs",
            ["asyncio"],
            {name: [figures[name]] for name in (NONE, MOUNTED, OPEN)},
            beside=NONE,
            goals=[Goal(OPEN, "asyncio", 1.05, beside_row=NONE)],
            note=f"The mean of {CALLS:,} calls. The page shows {WORKERS} workers, and is asked for every two seconds.",
        )
    ]


async def _measured() -> dict[str, float]:
    async with _service(mounted=False) as (bare, _), _service(mounted=True) as (watched, url):
        return await in_turns(
            {NONE: partial(_calls, bare), MOUNTED: partial(_calls, watched), OPEN: partial(_while_open, watched, url)},
            sized(5, 1),
        )


async def _calls(sup: Supervisor) -> float:
    began = perf_counter()
    for _ in range(CALLS):
        await sup.run(noop)
    return (perf_counter() - began) / CALLS * 1e6


async def _while_open(sup: Supervisor, url: str) -> float:
    looking = await asyncio.create_subprocess_exec(sys.executable, "-c", LOOKS, url, stdout=subprocess.PIPE)
    try:
        assert looking.stdout is not None
        await looking.stdout.readline()
        return await _calls(sup)
    finally:
        looking.kill()
        await looking.communicate()


@asynccontextmanager
async def _service(*, mounted: bool) -> AsyncIterator[tuple[Supervisor, str]]:
    """A supervisor in a service under uvicorn, on this event loop; with the address of its page."""
    import uvicorn  # noqa: PLC0415  # what serves is imported by whoever measures this

    from supervisor import dashboard  # noqa: PLC0415

    async with Supervisor(logger=SILENT, max_threads=1) as sup:
        for each in range(WORKERS):
            await sup.start(lambda ctx: ctx.stop.wait(), name=f"worker-{each}")
        if not mounted:
            yield sup, ""
            return
        config = uvicorn.Config(dashboard.app(sup), port=0, ws="none", lifespan="off", log_level="critical")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield sup, f"http://127.0.0.1:{port}/?live=1"
        server.should_exit = True
        await serving
