"""A Temporal worker whose activities run in processes that can be ended, and which stops in a time that is known.

    temporal server start-dev
    python examples/temporal_worker.py [HOST:PORT]

Stop it with Ctrl-C or SIGTERM. Activities that run have 8 seconds to end; those that do not are stopped by their
ladders, and Temporal tries them again elsewhere.
"""

import asyncio
import multiprocessing
import sys
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    SharedStateManager,
    Worker,
)

from supervisor import Supervisor, WorkerDied


class Supervised(Interceptor):
    """Stops an activity whose time is over, and has the worker go on where a process has died."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002, D102
        return _Supervised(super().intercept_activity(next))


class _Supervised(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        limit = activity.info().start_to_close_timeout
        try:
            # When it is over, the server lets another worker try. Nothing else would end this attempt.
            async with asyncio.timeout(limit.total_seconds() if limit else None):
                return await super().execute_activity(input)
        except WorkerDied as error:
            # To Temporal any BrokenExecutor means that the executor is of no more use, and the worker neither.
            raise ApplicationError(str(error), type="WorkerDied") from error


@activity.defn
def count_primes(limit: int) -> int:
    return sum(all(number % divisor for divisor in range(2, number)) for number in range(2, limit))


async def main(address: str) -> None:
    client = await Client.connect(address)
    with multiprocessing.Manager() as manager:
        async with Supervisor("activities", max_processes=4, drain=8, shutdown_timeout=20) as sup:
            worker = Worker(
                client,
                task_queue="primes",
                activities=[count_primes],
                activity_executor=sup.executor("process"),
                max_concurrent_activities=4,
                shared_state_manager=SharedStateManager.create_from_multiprocessing(manager),
                interceptors=[Supervised()],
            )
            running = asyncio.create_task(worker.run())
            print("running; stop it with Ctrl-C", flush=True)
            await sup.wait_for_signal()
            await asyncio.gather(worker.shutdown(), sup.shutdown())
            await running
            print(sup.report)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "localhost:7233"))
