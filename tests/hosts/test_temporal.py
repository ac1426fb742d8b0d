"""`executor()` under Temporal's activity worker: all of it that is Python, with a stand-in for the server behind it."""

import asyncio
import inspect
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, Terminate

from ..foreign import example
from ..waiting import LIMIT, until

pytest.importorskip("temporalio", reason="temporalio cannot be imported here")

from temporalio.bridge.proto import activity_task
from temporalio.bridge.proto.activity_task import ActivityCancellationDetails
from temporalio.bridge.worker import PollShutdownError
from temporalio.common import MetricMeter
from temporalio.converter import DataConverter
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import SharedStateManager
from temporalio.worker._activity import _ActivityWorker

from . import temporal_activities as acts

POLICY = EscalationPolicy(Ask(0.2), Inject(10, every=0.05), Terminate(LIMIT))


class Server:
    """What the worker knows of Temporal's core: tasks come out of it, completions and heartbeats go in."""

    def __init__(self):
        self._tasks = asyncio.Queue()
        self.heartbeats = []
        self.completions = {}

    async def poll_activity_task(self):
        task = await self._tasks.get()
        if task is None:
            raise PollShutdownError
        return task

    async def complete_activity_task(self, completion):
        self.completions[completion.task_token].set_result(completion.result)

    def record_activity_heartbeat(self, heartbeat):
        self.heartbeats.append(heartbeat)

    # -------------------------------------------------------------------------------- what tests do

    async def begin(self, activity, *args, timeout=None):
        """Has the worker begin an activity; returns how it will have ended."""
        token = f"{activity.__name__}-{len(self.completions)}".encode()
        self.completions[token] = asyncio.get_running_loop().create_future()
        task = activity_task.ActivityTask(task_token=token)
        task.start.activity_type = activity.__name__
        task.start.activity_id = token.decode()
        task.start.workflow_execution.workflow_id = "workflow"
        task.start.workflow_namespace = "default"
        task.start.attempt = 1
        task.start.input.extend(await DataConverter.default.encode(args))
        if timeout is not None:
            task.start.start_to_close_timeout.FromTimedelta(timedelta(seconds=timeout))
        self._tasks.put_nowait(task)
        return self.completions[token]

    def cancel(self, future):
        (token,) = [token for token, other in self.completions.items() if other is future]
        task = activity_task.ActivityTask(task_token=token)
        task.cancel.details.CopyFrom(ActivityCancellationDetails(is_cancelled=True))
        self._tasks.put_nowait(task)

    def close(self):
        self._tasks.put_nowait(None)


async def value(future):
    result = await asyncio.wait_for(asyncio.shield(future), LIMIT)
    assert result.WhichOneof("status") == "completed", result
    (found,) = await DataConverter.default.decode([result.completed.result])
    return found


async def failure(future, status="failed"):
    result = await asyncio.wait_for(asyncio.shield(future), LIMIT)
    assert result.WhichOneof("status") == status, result
    return getattr(result, status).failure


@asynccontextmanager
async def activity_worker(executor, manager=None, interceptors=()):
    server = Server()
    offered = {
        "bridge_worker": lambda: server,
        "task_queue": "queue",
        "activities": acts.ALL,
        "activity_executor": executor,
        "shared_state_manager": manager,
        "data_converter": DataConverter.default,
        "interceptors": interceptors,
        "metric_meter": MetricMeter.noop,
        "client": SimpleNamespace(namespace="default"),
        "encode_headers": False,
    }
    taken = inspect.signature(_ActivityWorker).parameters
    worker = _ActivityWorker(**{name: offered[name] for name in offered if name in taken})
    running = asyncio.create_task(worker.run())
    server.worker, server.running = worker, running
    try:
        yield server
    finally:
        acts.door.set()
        server.close()
        await asyncio.wait([running])
        await worker.wait_all_completed()


@pytest.fixture
async def sup():
    async with Supervisor("temporal", policy=POLICY, shutdown_timeout=LIMIT, max_processes=2) as supervisor:
        yield supervisor


@pytest.fixture(autouse=True)
def _doors():
    acts.door.clear()
    acts.entered.clear()


# ------------------------------------------------------------------------------------------------ threads


async def test_activities_run_on_threads_without_a_shared_state_manager(sup):
    async with activity_worker(sup.executor()) as server:
        assert await value(await server.begin(acts.add, 2, 3)) == 5
        pid, thread, name = await value(await server.begin(acts.where))
        assert pid == os.getpid()
        assert thread.startswith("temporal/")
        assert name == "where"
        assert "on purpose" in (await failure(await server.begin(acts.fail))).message


async def test_heartbeats_of_threads_arrive(sup):
    async with activity_worker(sup.executor()) as server:
        assert await value(await server.begin(acts.beat)) == "done"
        (heartbeat,) = server.heartbeats
        assert await DataConverter.default.decode(heartbeat.details) == ["half", 50]


async def test_a_cancelled_activity_hears_of_it(sup):
    async with activity_worker(sup.executor()) as server:
        for _ in range(3):  # and its thread goes on
            acts.entered.clear()
            waiting = await server.begin(acts.wait_until_struck)
            await until(acts.entered.is_set)
            server.cancel(waiting)
            assert (await failure(waiting, "cancelled")).HasField("canceled_failure_info")
        spinning = await server.begin(acts.spin)
        acts.entered.clear()
        await until(acts.entered.is_set)
        server.cancel(spinning)
        await failure(spinning, "cancelled")
        assert await value(await server.begin(acts.add, 2, 3)) == 5


async def test_the_worker_says_that_it_shuts_down(sup):
    async with activity_worker(sup.executor()) as server:
        waiting = await server.begin(acts.wait_for_worker_shutdown)
        await until(lambda: server.heartbeats)
        server.worker.notify_shutdown()
        assert await value(waiting) == "told"


async def test_a_shutdown_of_the_supervisor_ends_what_temporal_cannot(sup):
    async with activity_worker(sup.executor()) as server:
        stuck = await server.begin(acts.deaf)
        await until(acts.entered.is_set)
        server.cancel(stuck)
        report = await sup.shutdown()
        assert [outcome.ended for outcome in report.outcomes] == ["injected"]
        await failure(stuck)
        assert "takes no new work" in str(await failure(await server.begin(acts.add, 2, 3)))


async def test_in_temporals_own_environment_a_cancellation_strikes_the_activity_and_its_thread_goes_on(sup):
    environment = ActivityEnvironment()
    executor = sup.executor()
    future = executor.submit(environment.run, acts.spin)
    await until(acts.entered.is_set)
    environment.cancel()
    with pytest.raises(CancelledError):
        await asyncio.wait_for(asyncio.wrap_future(future), LIMIT)
    assert await asyncio.wrap_future(executor.submit(ActivityEnvironment().run, acts.add, 2, 3)) == 5


# ------------------------------------------------------------------------------------------------ processes


@pytest.fixture(scope="module")
def manager():
    with multiprocessing.get_context("spawn").Manager() as manager:
        queue = manager.Queue()
        queue.put("this thread keeps a connection as long as there is something of the manager's")
        yield manager


@pytest.fixture
def shared(manager):
    with ThreadPoolExecutor(1) as reader:
        yield SharedStateManager.create_from_multiprocessing(manager, reader)


async def test_without_a_shared_state_manager_temporal_refuses_processes(sup):
    with pytest.raises(ValueError, match="shared_state_manager"):
        async with activity_worker(sup.executor("process")):
            pass


async def test_activities_run_in_processes(sup, shared):
    async with activity_worker(sup.executor("process"), shared) as server:
        assert await value(await server.begin(acts.add, 2, 3)) == 5
        pid, _, name = await value(await server.begin(acts.where))
        assert pid != os.getpid()
        assert name == "where"
        assert await value(await server.begin(acts.beat)) == "done"
        (heartbeat,) = server.heartbeats
        assert await DataConverter.default.decode(heartbeat.details) == ["half", 50]
        assert "on purpose" in (await failure(await server.begin(acts.fail))).message


async def test_an_activity_in_a_process_hears_of_a_cancellation_and_of_the_workers_shutdown(sup, shared):
    async with activity_worker(sup.executor("process"), shared) as server:
        waiting = await server.begin(acts.wait_for_cancel)
        await until(lambda: server.heartbeats)
        server.cancel(waiting)
        assert await value(waiting) == "asked"
        waiting = await server.begin(acts.wait_for_worker_shutdown)
        await until(lambda: len(server.heartbeats) == 2)
        server.worker.notify_shutdown()
        assert await value(waiting) == "told"


async def test_a_shutdown_of_the_supervisor_ends_a_process_that_spins(sup, shared):
    async with activity_worker(sup.executor("process"), shared) as server:
        spinning = await server.begin(acts.spin)
        await until(lambda: server.heartbeats)
        await sup.shutdown()
        await failure(spinning)


# ------------------------------------------------------------------------------------------------ the example


async def test_a_process_that_dies_ends_its_own_activity_and_the_worker_goes_on(sup, shared, supervised):
    async with activity_worker(sup.executor("process"), shared, [supervised]) as server:
        died = await failure(await server.begin(acts.die))
        assert died.application_failure_info.type == "WorkerDied"
        assert "SIGKILL" in died.message
        assert await value(await server.begin(acts.add, 2, 3)) == 5
        assert not server.running.done()


@pytest.mark.usefixtures("manager")  # whose process is there, then, before it is looked what a test leaves behind
@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_an_activity_whose_time_is_over_is_stopped(sup, kind, request, supervised):
    manager = request.getfixturevalue("shared") if kind == "process" else None
    async with activity_worker(sup.executor(kind), manager, [supervised]) as server:
        spinning = await server.begin(acts.spin, timeout=1)
        await failure(spinning)
        await until(lambda: not sup.workers())
        assert await value(await server.begin(acts.add, 2, 3)) == 5


@pytest.fixture
def supervised():
    return example("temporal_worker").Supervised()
