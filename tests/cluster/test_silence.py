"""A node that is not heard of gets nothing, though its connection stands."""

import asyncio
import signal

from supervisor import Supervisor

from ..waiting import until
from . import functions as f


def states(sup):
    return {node.name: node.state for node in sup.statistics().nodes}


async def test_a_node_that_is_silent_gets_no_runs_until_it_is_heard_of_again(nodes):
    for name in "ab":
        nodes.add(name)
    async with Supervisor(cluster=nodes.address, cluster_lease=8) as sup:
        for name in "ab":
            await sup.run(int, on="cluster", nodes=name)
        nodes.nodes["a"].kill(signal.SIGSTOP)
        await until(lambda: states(sup) == {"a": "unreachable", "b": "up"})
        where = await asyncio.gather(*(sup.run(f.pid, on="cluster") for _ in range(6)))
        assert set(where) == {nodes.nodes["b"].pid}
        nodes.nodes["b"].kill(signal.SIGSTOP)
        await until(lambda: "no node takes runs" in "".join(sup.health().reasons))
        waits = asyncio.ensure_future(sup.run(f.pid, on="cluster", name="waits"))
        await until(lambda: sup.workers())
        assert sup.worker("waits").state == "queued"
        nodes.nodes["a"].kill(signal.SIGCONT)
        assert await waits == nodes.nodes["a"].pid
