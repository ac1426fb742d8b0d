"""Calls on the nodes of a cluster beside tasks of Dask's, on one machine; and how long deaths and stops take there."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, get_args

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerDied

from .measure import SILENT, Goal, Table, in_turns, several, sized
from .peers import noop, optional

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


__all__ = ["cluster"]

Client = optional("distributed", "Client")

FLOOR = "floor: a message to the scheduler, and its answer"
WAITS = "floor: the waits alone, spread over the nodes"
DASK = "`client.submit`"
THREAD = '**`sup.run(on="cluster")`**'
PROCESS = '**`sup.run(on="cluster", kind="process")`**'

NODES = "Two nodes of one thread."
CALLS = sized(30, 2)
AT_ONCE = sized(1_000, 10)
ROUNDS = sized(2, 1)
GROWTH = sized((2, 4, 8), (2,))
WAIT, WAITING = 0.02, sized(200, 4)
"""Seconds that a call waits, and how many calls do."""
DEATHS = sized(3, 1)
"""And stops."""

QUICKLY = EscalationPolicy(Ask(0.1), Inject(5, every=0.1))

Kind = Literal["thread", "process"]

SCHEDULER = """
import asyncio
from distributed import Scheduler
async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()
asyncio.run(main())
"""
NODE = """
import asyncio, sys
from distributed import Worker
async def main():
    where = {"host": "127.0.0.1", "dashboard": False, "local_directory": sys.argv[2]}
    async with Worker(sys.argv[1], nthreads=1, **where) as worker:
        print(worker.address, flush=True)
        await worker.finished()
asyncio.run(main())
"""


def cluster() -> list[Table]:
    """All that is measured of it."""
    logging.disable()  # Dask says at length that a scheduler has gone
    return asyncio.run(_measured())


async def _measured() -> list[Table]:
    with _nodes(2) as address:
        one = await _beside_dask(address, _one_at_a_time, 3)
        many = await _beside_dask(address, _at_once, ROUNDS, but=FLOOR)
        spin = await _end_of_a_spin(address)
    death = await several(_death, DEATHS)()
    return [
        _against_dask("One call at a time on a node", "ms", one, 1.1, f"The mean of {CALLS} calls. {NODES}"),
        _against_dask(f"{AT_ONCE:,} calls at once on two nodes, each", "ms", many, 1.5, NODES),
        await _growth(),
        Table(
            "What ends on a node",
            "ms",
            ["after"],
            {
                "a node dies, until its call has ended as `died`": [death],
                "a spin in a thread is stopped, beyond its `Ask`": [spin["thread"]],
                "a spin in a process is stopped, beyond its `Ask`": [spin["process"]],
            },
            note="The node is on the same machine, where it is known at once that its process is gone. "
            "A ladder may take 0.5 s longer on a node than it would here.",
        ),
    ]


def _against_dask(title: str, unit: str, figures: dict[str, float], at_most: float, note: str) -> Table:
    goals = [Goal(row, "asyncio", at_most, beside_row=DASK) for row in (THREAD, PROCESS)]
    return Table(title, unit, ["asyncio"], {n: [f] for n, f in figures.items()}, beside=DASK, goals=goals, note=note)


# ------------------------------------------------------------------------------------------------ beside Dask


@asynccontextmanager
async def _both(address: str) -> AsyncIterator[dict[str, Callable[..., Awaitable[Any]]]]:
    """Gives ways to call a function on a node."""
    assert Client is not None, "this needs distributed"
    async with Client(address, asynchronous=True) as client, Supervisor(cluster=client, logger=SILENT) as sup:
        yield {
            FLOOR: lambda *_: client.scheduler.identity(n_workers=0),
            DASK: partial(client.submit, pure=False),
            THREAD: partial(sup.run, on="cluster"),
            PROCESS: partial(sup.run, on="cluster", kind="process"),
        }


async def _beside_dask(
    address: str, measure: Callable[..., Awaitable[float]], rounds: int, but: str = ""
) -> dict[str, float]:
    async with _both(address) as calls:
        return await in_turns({name: partial(measure, call) for name, call in calls.items() if name != but}, rounds)


async def _one_at_a_time(call: Callable[..., Awaitable[Any]]) -> float:
    began = perf_counter()
    for _ in range(CALLS):
        await call(noop)
    return (perf_counter() - began) / CALLS * 1e3


async def _at_once(call: Callable[..., Awaitable[Any]]) -> float:
    began = perf_counter()
    await asyncio.gather(*(call(noop) for _ in range(AT_ONCE)))
    return (perf_counter() - began) / AT_ONCE * 1e3


async def _growth() -> Table:
    figures: dict[str, list[float | None]] = {name: [] for name in (WAITS, DASK, THREAD)}
    for nodes in GROWTH:
        figures[WAITS].append(WAITING * WAIT / nodes * 1e3)
        with _nodes(nodes) as address:
            async with _both(address) as calls:
                took = await in_turns({name: partial(_waiting, calls[name]) for name in (DASK, THREAD)}, ROUNDS)
        for name, each in took.items():
            figures[name].append(each)
    return Table(
        f"{WAITING} calls that wait {WAIT * 1e3:g} ms, until all have ended",
        "ms",
        [f"{nodes} nodes" for nodes in GROWTH],
        figures,
        beside=WAITS,
        note="All nodes are on one machine, and have one thread each: what they say grows, and no processor does.",
    )


async def _waiting(call: Callable[..., Awaitable[Any]]) -> float:
    began = perf_counter()
    await asyncio.gather(*(call(time.sleep, WAIT) for _ in range(WAITING)))
    return (perf_counter() - began) * 1e3


# ------------------------------------------------------------------------------------------------ ends


async def _end_of_a_spin(address: str) -> dict[str, float]:
    async with Supervisor(cluster=address, logger=SILENT) as sup:
        return {kind: await several(partial(_spin, sup, kind), DEATHS)() for kind in get_args(Kind)}


async def _spin(sup: Supervisor, kind: Kind) -> float:
    worker = await sup.start(_for_ever, kind=kind, on="cluster", policy=QUICKLY)
    began = perf_counter()
    await worker.stop()
    return (perf_counter() - began - 0.1) * 1e3


def _for_ever(_ctx: object) -> None:
    while True:
        pass


async def _death() -> float:
    with _nodes(1) as address:
        async with Supervisor(cluster=address, logger=SILENT) as sup:
            pid = await sup.run(os.getpid, on="cluster")
            call = asyncio.ensure_future(sup.run(time.sleep, 60, on="cluster"))
            while [worker.state for worker in sup.workers()] != ["running"]:
                await asyncio.sleep(0.01)
            began = perf_counter()
            os.kill(pid, signal.SIGKILL)
            try:
                await call
            except WorkerDied:
                return (perf_counter() - began) * 1e3
            raise AssertionError("it lives on")


# ------------------------------------------------------------------------------------------------ the cluster


@contextmanager
def _nodes(number: int) -> Iterator[str]:
    """Gives the address of a scheduler with so many nodes, each a process."""
    with TemporaryDirectory(prefix="bench-nodes-") as folder, ExitStack() as ends:
        address = _process(ends, SCHEDULER)()
        nodes = [_process(ends, NODE, address, folder) for _ in range(number)]
        for said in nodes:
            said()
        yield address


def _process(ends: ExitStack, code: str, *arguments: str) -> Callable[[], str]:
    """Starts one, which ends with the block; returns what waits until it says its address."""
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    said = process.stdout
    assert said is not None
    ends.callback(said.close)
    ends.callback(process.wait)
    ends.callback(_kill, process.pid)
    return lambda: said.readline().strip()


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)  # its worker processes, too
    except ProcessLookupError:
        pass
