"""Dask workers whose tasks are supervised: a cancelled task is stopped, and a worker closes in a time that is known.

    python examples/dask_worker.py

On a cluster of your own, `client.register_plugin(Supervised())` brings it to all workers, also to later ones.
"""

import asyncio
from typing import Any

from distributed import Client, LocalCluster, Worker, WorkerPlugin

from supervisor import Ask, EscalationPolicy, Inject, Supervisor

RUNNING = ("executing", "long-running")


class Supervised(WorkerPlugin):
    """Has the tasks of a Dask worker run under a Supervisor: in its threads, or in its processes, if they want it."""

    name = "supervised"

    async def setup(self, worker: Worker) -> None:  # noqa: D102
        self.worker = worker
        self.stopping = set[asyncio.Task[Any]]()
        threads = worker.state.nthreads
        policy = EscalationPolicy(Ask(2), Inject(2))
        self.sup = Supervisor("dask", max_threads=threads, max_processes=threads, policy=policy, shutdown_timeout=10)
        worker.executors.update(default=self.sup.executor(), process=self.sup.executor("process"))

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """A task that runs is wanted no more: Dask itself would let it go on."""
        if start not in RUNNING or finish != "released":
            return
        threads = {ident for ident, running in self.worker.active_threads.items() if running == key}
        for call in self.sup.workers():
            if call.ident in threads:
                task = asyncio.get_running_loop().create_task(call.stop(f"Dask has released {key}"))
                self.stopping.add(task)
                task.add_done_callback(self.stopping.discard)

    async def teardown(self, worker: Worker) -> None:  # noqa: D102
        print(await self.sup.shutdown(), flush=True)


def spin() -> None:
    while True:
        pass


async def main() -> None:
    async with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, asynchronous=True
        ) as cluster,
        Client(cluster, asynchronous=True) as client,  # type: ignore[no-untyped-call]
    ):
        await client.register_plugin(Supervised())
        spinning = client.submit(spin)
        await asyncio.sleep(0.5)  # by then it runs
        await spinning.cancel()  # and now it really ends
        print(sum(await client.gather(client.map(pow, range(10), [2] * 10))))  # prints: 285


if __name__ == "__main__":
    asyncio.run(main())
