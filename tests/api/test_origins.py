"""Where each call and worker was submitted."""

import asyncio
import inspect
import threading

import pytest
import uvloop

from supervisor import Supervisor

from ..inside import integration_of
from ..waiting import until

FACTORIES = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=FACTORIES, ids=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine function, which is given a supervisor and an Event that ends its calls."""

    async def body(main):
        release = threading.Event()
        async with Supervisor("app", origins=True) as sup:
            try:
                await main(sup, release)
            finally:
                release.set()

    def run(main):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(body(main))

    return run


def here(less=0):
    """The line that calls this."""
    frame = inspect.currentframe().f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno - less}"


async def only(sup, name):
    await until(lambda: sup.worker(name))
    where = sup.worker(name).submitted_from
    (row,) = integration_of(sup).survey(matching=name).workers
    assert row.submitted_from == where
    return where


def test_a_call_that_is_awaited(run):
    async def main(sup, release):
        async def calls():
            nonlocal where
            where = here(-1)
            await sup.run(release.wait, name="c")

        where = ""
        task = asyncio.ensure_future(calls())
        assert await only(sup, "c") == where
        release.set()
        await task

    run(main)


def test_a_call_that_a_task_awaits_was_submitted_where_it_was_made(run):
    async def main(sup, release):
        gathered = asyncio.gather(sup.run(release.wait, name="a"), sup.run(release.wait, name="b"))
        assert await only(sup, "a") == await only(sup, "b") == here(1)
        task = asyncio.create_task(sup.run(release.wait, name="t"))
        assert await only(sup, "t") == here(1)
        timed = asyncio.ensure_future(asyncio.wait_for(sup.run(release.wait, name="w"), 60))
        assert await only(sup, "w") == here(1)
        release.set()
        await asyncio.gather(gathered, task, timed)

    run(main)


def test_a_call_of_a_pool_or_a_group(run):
    async def main(sup, release):
        pool, group = sup.pool("mail", kind="thread", size=4), sup.group("feeds")
        tasks = [asyncio.create_task(pool.run(release.wait, name="p"))]
        assert await only(sup, "p") == here(1)
        tasks.append(asyncio.create_task(group.run(release.wait, name="g")))
        assert await only(sup, "feeds/g") == here(1)
        tasks.append(asyncio.create_task(sup.run(release.wait, name="n", timeout=60, pool=pool)))
        assert await only(sup, "n") == here(1)
        release.set()
        await asyncio.gather(*tasks)

    run(main)


def test_a_worker_and_each_run_of_it(run):
    async def main(sup, release):
        worker = await sup.start(lambda ctx: ctx.stop.wait(), name="w")
        where = here(1)
        assert worker.submitted_from == await only(sup, "w") == where
        await worker.restart()
        assert worker.submitted_from == await only(sup, "w") == where
        await worker.stop("enough")
        assert worker.submitted_from == where
        assert {incident.submitted_from for incident in sup.incidents()} == {where}
        task = asyncio.create_task(sup.start(lambda ctx: ctx.stop.wait(), name="t"))
        assert (await task).submitted_from == here(1)

    run(main)


def test_what_makes_many(run):
    async def main(sup, release):
        def makes():
            release.wait()
            yield 1

        items = sup.iterate(makes, name="i")
        where = here(1)
        task = asyncio.create_task(anext(items))
        assert await only(sup, "i") == where
        results = sup.map(lambda _: release.wait(), range(2))
        where = here(1)
        other = asyncio.create_task(anext(results))
        await until(lambda: len(sup.workers()) == 3)
        assert [worker.submitted_from for worker in sup.workers()[1:]] == [where] * 2
        pool = sup.pool("mail", kind="thread")
        mapped = pool.map(lambda _: release.wait(), range(1))
        where = here(1)
        last = asyncio.create_task(anext(mapped))
        await until(lambda: len(sup.workers()) == 4)
        assert sup.workers()[-1].submitted_from == where
        release.set()
        await asyncio.gather(task, other, last)
        await results.aclose()
        await items.aclose()
        await mapped.aclose()

    run(main)


def test_calls_of_executors(run):
    async def main(sup, release):
        executor, loop = sup.executor(), asyncio.get_running_loop()

        def where():
            (worker,) = sup.workers()
            return worker.submitted_from

        executor.submit(release.wait)
        assert where() == here(1)
        release.set()
        await until(lambda: not sup.workers())
        release.clear()
        loop.run_in_executor(executor, release.wait)
        assert where() == here(1)
        release.set()
        await until(lambda: not sup.workers())
        release.clear()
        sup.install_as_default_executor()
        loop.run_in_executor(None, release.wait)
        assert where() == here(1)
        release.set()
        await until(lambda: not sup.workers())
        release.clear()

        async def calls():
            await asyncio.to_thread(release.wait)

        line = f"{__file__}:{calls.__code__.co_firstlineno + 1}"
        task = asyncio.create_task(calls())
        await until(sup.workers)
        assert where() == line
        release.set()
        await task
        release.clear()
        task = asyncio.create_task(asyncio.to_thread(release.wait))  # nobody is among the callers who has made it
        await until(sup.workers)
        assert where() is None
        release.set()
        await task

    run(main)


def test_another_thread_that_submits_and_a_worker(run):
    async def main(sup, release):
        executor = sup.executor()

        def submits():
            executor.submit(release.wait)

        await asyncio.to_thread(submits)
        (worker,) = sup.workers()
        assert worker.submitted_from == f"{__file__}:{submits.__code__.co_firstlineno + 1}"

    run(main)


def test_what_fails_keeps_it(run):
    async def main(sup, release):
        with pytest.raises(ValueError, match="seven"):
            await sup.run(int, "seven")
        assert sup.incidents()[-1].submitted_from == here(1)
        with pytest.raises(ValueError, match="seven"):
            await asyncio.wrap_future(sup.executor().submit(int, "seven"))
        assert sup.incidents()[-1].submitted_from == here(1)

    run(main)


async def test_nothing_is_kept_unless_it_was_asked_for():
    async with Supervisor("app") as sup:
        release = threading.Event()
        call = asyncio.create_task(sup.run(release.wait, name="c"))
        await until(lambda: sup.worker("c"))
        assert sup.worker("c").submitted_from is None
        assert not {"run", "start"} & set(vars(sup))
        release.set()
        await call
