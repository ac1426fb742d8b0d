"""Begins workflows on a Temporal server, whose activities the example carries out: a program, as its runtime stays."""

import asyncio
import signal
import sys
from datetime import timedelta

import pytest

pytest.importorskip("temporalio", reason="temporalio cannot be imported here")

from temporalio import workflow  # noqa: E402
from temporalio.client import Client, WorkflowFailureError  # noqa: E402
from temporalio.common import RetryPolicy  # noqa: E402
from temporalio.worker import UnsandboxedWorkflowRunner, Worker  # noqa: E402

LIMIT = 20


@workflow.defn
class Primes:
    @workflow.run
    async def run(self, limit: int, seconds: float) -> int:
        return await workflow.execute_activity(
            "count_primes",
            limit,
            task_queue="primes",
            start_to_close_timeout=timedelta(seconds=seconds),
            retry_policy=RetryPolicy(maximum_attempts=1),
            result_type=int,
        )


async def failed(handle):
    try:
        await asyncio.wait_for(handle.result(), LIMIT)
    except WorkflowFailureError as error:
        return str(error.cause.cause)
    raise AssertionError("it has not failed")


async def main(address, example):
    client = await Client.connect(address)
    worker = await asyncio.create_subprocess_exec(sys.executable, example, address, stdout=asyncio.subprocess.PIPE)
    try:
        assert (await worker.stdout.readline()).startswith(b"running")

        async def begin(limit, seconds):
            args, name = [limit, seconds], f"{limit}-{seconds}"
            return await client.start_workflow(Primes.run, args=args, id=name, task_queue="flows")

        async with Worker(client, task_queue="flows", workflows=[Primes], workflow_runner=UnsandboxedWorkflowRunner()):
            assert await asyncio.wait_for((await begin(100, 20)).result(), LIMIT) == 25
            assert "timeout" in await failed(await begin(10**7, 1))
            endless = await begin(10**7, 60)
            await asyncio.sleep(1)
            worker.send_signal(signal.SIGTERM)
            out, _ = await asyncio.wait_for(worker.communicate(), 25)
            assert worker.returncode == 0
            assert b"2 injected" in out, out
            assert "WorkerStopped" in await failed(endless)
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
