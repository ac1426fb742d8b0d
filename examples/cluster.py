"""Calls and workers on the nodes of a Dask cluster, one of which is killed: see what ends, and what goes on elsewhere.

    python examples/cluster.py                            # three nodes on this machine, which end with it
    python examples/cluster.py tcp://10.0.0.7:8786        # a cluster of yours, of which no node is killed

Calls (`sup.run`) estimate pi in processes of the nodes. One worker (`sup.start`) has a `Restart`: when its node is
killed, it goes on on another one. Another worker never listens: its ladder ends it on its node. Stop it at any moment
with Ctrl-C or SIGTERM: the report says how each of them ended.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import distributed

from supervisor import Ask, EscalationPolicy, Inject, Restart, Supervisor, WorkerDied, current_context

if TYPE_CHECKING:
    from supervisor import WorkerContext

local_cluster: Any = distributed.LocalCluster  # it has no types
POINTS = 200_000
QUICKLY = EscalationPolicy(Ask(0.5), Inject(2))


def hits(seed: int) -> int:
    """A call: returns how many of some random points are within the circle."""
    dice = random.Random(seed)
    return sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(POINTS))


def wait() -> None:
    """A call that ends when it is asked to."""
    current_context().stop.wait()


def follow(ctx: WorkerContext) -> None:
    """A worker that listens."""
    while not ctx.stop.wait(0.1):
        ctx.heartbeat()


def spin(_ctx: WorkerContext) -> None:
    """A worker that does not."""
    while True:
        pass


async def work(sup: Supervisor, *, kill: bool) -> None:
    follower = await sup.start(follow, on="cluster", name="follower", restart=Restart("failure"), heartbeat=10)
    others = [node.address for node in sup.statistics().nodes if node.name != follower.node]  # it is not to be killed
    await sup.start(spin, on="cluster", nodes=others or None, name="spinner", policy=QUICKLY)
    print(f"running: the follower is on node {follower.node}; stop it with Ctrl-C", flush=True)
    found = await asyncio.gather(*(sup.run(hits, seed, on="cluster", kind="process") for seed in range(12)))
    print(f"pi is about {4 * sum(found) / (len(found) * POINTS):.3f}", flush=True)
    if kill and (node := follower.node) is not None:
        await kill_node(sup, node)
        while follower.node in (None, node):
            await asyncio.sleep(0.01)
        print(f"the follower goes on: it is on node {follower.node} now", flush=True)


async def kill_node(sup: Supervisor, node: str) -> None:
    """Kills a node that has a call."""
    pid = await sup.run(os.getpid, on="cluster", nodes=node)  # in a thread there: it is the node's own process
    waiting = asyncio.create_task(sup.run(wait, on="cluster", nodes=node, name="waiter"))
    while all(worker.node != node for worker in sup.workers() if worker.name == "waiter"):
        await asyncio.sleep(0.01)
    print(f"killing node {node}", flush=True)
    os.kill(pid, signal.SIGKILL)
    try:
        await waiting
    except WorkerDied as error:
        print(f"as expected: {error}", flush=True)  # nobody runs it again


def stop_at_a_signal() -> None:
    """Has the first SIGINT or SIGTERM cancel this task; all that it has opened ends within a known time, then."""
    task, loop, signals = asyncio.current_task(), asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    assert task is not None

    def stop() -> None:
        for number in signals:
            loop.add_signal_handler(number, lambda: None)  # once is enough
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, stop)


async def main(address: str | None = None) -> None:
    stop_at_a_signal()  # from the beginning, as the nodes have to end, too
    async with AsyncExitStack() as ends:
        cluster = address or await ends.enter_async_context(
            local_cluster(n_workers=3, threads_per_worker=2, dashboard_address=":0", asynchronous=True)
        )
        sup = await ends.enter_async_context(Supervisor("estimate", cluster=cluster))
        try:
            await work(sup, kill=address is None)
        finally:
            print(await sup.shutdown(), flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:2]))
    except asyncio.CancelledError:
        print("stopped by a signal")
