"""`executor()` as the executor of a Dask worker: a real scheduler, worker and client, in the test's own loop."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerDied, WorkerStopped, current_context

from ..foreign import EXAMPLES, example, imported_distributed
from ..waiting import LIMIT, until

distributed = imported_distributed()
dask = pytest.importorskip("dask")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),  # Dask's own affair
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
]

POLICY = EscalationPolicy(Ask(0.2), Inject(LIMIT, every=0.05))
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.worker.memory.spill": False,
}


@pytest.fixture(scope="module", autouse=True)
def what_dask_leaves_is_there_before():
    """Threads that live as long as the process, which Dask starts at the first use."""

    async def one_call():
        with dask.config.set(QUIET):
            async with (
                distributed.Scheduler(protocol="inproc", port=0, dashboard=False) as scheduler,
                distributed.Worker(scheduler.address, nthreads=1, memory_limit=0, dashboard=False),
                distributed.Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
            ):
                await client.submit(pow, 2, 2)

    asyncio.run(one_call())


@pytest.fixture
async def sup():
    async with Supervisor("dask", policy=POLICY, shutdown_timeout=LIMIT) as supervisor:
        yield supervisor


@pytest.fixture
async def scheduler():
    with dask.config.set(QUIET):
        async with distributed.Scheduler(protocol="inproc", port=0, dashboard=False) as scheduler:
            yield scheduler


@pytest.fixture
async def client(scheduler):
    async with distributed.Client(scheduler.address, asynchronous=True, set_as_default=False) as client:
        yield client


def worker_of(scheduler, executor, nthreads=1, **options):
    return distributed.Worker(
        scheduler.address, nthreads=nthreads, executor=executor, memory_limit=0, dashboard=False, **options
    )


class Door:
    """Where tasks wait until the test lets them go on; they share this process's memory."""

    def __init__(self):
        self.entered = threading.Event()
        self.open = threading.Event()


door = Door()


@pytest.fixture(autouse=True)
def _doors():
    door.entered.clear()
    door.open.clear()


def what_it_sees(x):
    worker = distributed.get_worker()
    return worker.address, threading.current_thread().name, current_context().name, worker.get_current_task(), x


async def test_a_task_runs_as_a_supervised_call_and_finds_its_worker(sup, scheduler, client):
    lane = sup.pool("tasks", kind="thread", size=2)
    async with worker_of(scheduler, {"default": lane.executor()}, nthreads=2) as worker:
        future = client.submit(what_it_sees, 1, key="what-it-sees")
        address, thread, call, key, x = await future
    assert (address, key, x) == (worker.address, "what-it-sees", 1)
    assert thread.startswith("dask/tasks-")
    assert call.startswith("what-it-sees-")


def step_aside(x):
    with distributed.worker_client() as client:
        return client.submit(pow, x, 2).result(timeout=LIMIT)


async def test_worker_client_gives_its_place_to_the_task_that_it_waits_for(sup, scheduler, client):
    lane = sup.pool("tasks", kind="thread", size=1)
    async with worker_of(scheduler, lane.executor()):
        assert await client.gather(client.map(step_aside, range(3))) == [0, 1, 4]
        assert lane.statistics().capacity == 1
        assert await client.submit(pow, 5, 2) == 25


def leave_for_good():
    distributed.secede()
    door.entered.set()
    door.open.wait(LIMIT)


async def test_a_task_that_has_seceded_takes_no_place_and_its_end_gives_none_back(sup, scheduler, client):
    lane = sup.pool("tasks", kind="thread", size=1)
    async with worker_of(scheduler, lane.executor()):
        left = client.submit(leave_for_good)
        await until(door.entered.is_set)
        assert lane.statistics().capacity == 2
        assert await asyncio.wait_for(client.submit(pow, 2, 5), LIMIT) == 32
        door.open.set()
        await left
        await until(lambda: lane.statistics().capacity == 1)
        assert await client.gather(client.map(pow, range(5), [2] * 5)) == [0, 1, 4, 9, 16]


def leave_and_come_back():
    distributed.secede()
    distributed.rejoin()
    door.entered.set()
    door.open.wait(LIMIT)
    return threading.get_ident()


async def test_a_task_that_rejoins_has_its_place_at_once(sup, scheduler, client):
    lane = sup.pool("tasks", kind="thread", size=1)
    async with worker_of(scheduler, lane.executor()):
        back = client.submit(leave_and_come_back)
        await until(door.entered.is_set)
        assert lane.statistics().capacity == 1
        door.open.set()
        await back


async def test_resources_hold_as_ever(sup, scheduler, client):
    async with worker_of(scheduler, sup.executor(), nthreads=4, resources={"GPU": 1}):
        together = client.map(at_once, range(4), resources={"GPU": 1})
        assert await client.gather(together) == [1] * 4


running = []


def at_once(x):
    running.append(x)
    time.sleep(0.02)
    number = len(running)
    running.remove(x)
    return number


def fail(x):
    raise ZeroDivisionError(x)


async def test_an_error_comes_as_it_is_and_the_worker_goes_on(sup, scheduler, client):
    async with worker_of(scheduler, sup.executor()):
        with pytest.raises(ZeroDivisionError, match="7"):
            await client.submit(fail, 7)
        assert await client.submit(pow, 2, 3) == 8


def spin():
    door.entered.set()
    while True:
        pass


async def test_closing_the_worker_climbs_the_ladders_of_its_tasks(sup, scheduler, client):
    worker = await worker_of(scheduler, sup.executor())
    client.submit(spin, key="spinning", pure=False)
    await until(door.entered.is_set)
    assert [call.name.rpartition("-")[0] for call in sup.workers()] == ["spinning"]
    await asyncio.wait_for(worker.close(), LIMIT)
    assert not sup.workers()
    assert await sup.run(pow, 2, 2) == 4  # only the executor is closed


async def test_a_shutdown_ends_the_tasks_and_the_worker_answers_for_them(sup, scheduler, client):
    async with worker_of(scheduler, sup.executor()) as worker:
        spinning = client.submit(spin)
        await until(door.entered.is_set)
        report = await sup.shutdown()
        assert [outcome.ended for outcome in report.outcomes] == ["injected"]
        with pytest.raises(WorkerStopped, match="spin-"):
            await asyncio.wait_for(spinning, LIMIT)
        assert not worker.state.executing


# ------------------------------------------------------------------------------------------------ the example


@pytest.fixture
def supervised():
    return example("dask_worker").Supervised()


async def test_the_plugin_stops_a_task_that_is_cancelled_and_its_thread_takes_the_next_one(
    scheduler, client, supervised
):
    async with distributed.Worker(scheduler.address, nthreads=1, memory_limit=0, dashboard=False):
        await client.register_plugin(supervised)
        spinning = client.submit(spin)
        await until(door.entered.is_set)
        await spinning.cancel()
        assert await asyncio.wait_for(client.submit(pow, 2, 5), LIMIT) == 32


@pytest.mark.slow
def test_the_example_runs():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "dask_worker.py"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "285" in done.stdout
    assert "1 injected" in done.stdout


# ------------------------------------------------------------------------------------------------ processes


def die(x):
    os.kill(os.getpid(), signal.SIGKILL)


async def test_processes_run_the_tasks_that_are_for_them_and_the_death_of_one_ends_its_own_task_alone(
    sup, scheduler, client
):
    executors = {"default": sup.executor(), "process": sup.executor("process")}
    async with worker_of(scheduler, executors, nthreads=2):
        with dask.annotate(executor="process"):
            elsewhere, dying, after = client.submit(os.getpid), client.submit(die, 1), client.submit(pow, 2, 10)
        assert await client.submit(os.getpid, pure=False, key="here") == os.getpid()
        assert await elsewhere != os.getpid()
        with pytest.raises(WorkerDied, match="SIGKILL"):
            await dying
        assert await after == 1024
