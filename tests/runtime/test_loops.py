"""Event loops and processes: which one is the supervisor's, and what happens when it is another, or gone."""

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import textwrap
import threading
import time

import anyio.to_thread
import pytest
import trio
import uvloop

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, SupervisorError, WorkerTimeout

from .. import inside
from ..waiting import LIMIT, until


def wait_for_stop(ctx):
    return ctx.stop.wait()


def spin():
    while True:
        pass


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("eventfd", [True, False])
def test_the_whole_ladder_on_each_loop(factory, eventfd, monkeypatch, leftovers):
    if not eventfd:
        monkeypatch.delattr(os, "eventfd")

    async def main():
        sup = Supervisor(policy=EscalationPolicy(Ask(0.05), Inject(0.05)))
        async with sup:
            assert await asyncio.gather(*(sup.run(int, str(n)) for n in range(1000))) == list(range(1000))
            with pytest.raises(WorkerTimeout):
                await sup.run(spin, timeout=0.05)
            await sup.start(wait_for_stop, policy=EscalationPolicy(Ask(LIMIT)))
            await sup.start(lambda ctx: spin(), policy=EscalationPolicy(Ask(0.05), Inject(LIMIT)))
            await sup.start(leftovers.block)
            assert len(sup.workers()) == 3
        return sup.report

    with asyncio.Runner(loop_factory=factory) as runner:
        report = runner.run(main())
    assert report.counts() == {"stopped": 1, "injected": 1, "abandoned": 1}
    assert report.seconds < LIMIT / 2


def test_time_left_is_right_on_a_loop_that_caches_its_clock():
    """uvloop reads the clock once a turn: in a thread its time would be that of the last turn."""
    seen = []

    def work(ctx):
        ctx.stop.wait()
        time.sleep(0.2)
        seen.append(ctx.remaining())

    async def main():
        async with Supervisor(policy=EscalationPolicy(Ask(10.0))) as sup:
            await sup.start(work)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert 0 < seen[0] < 9.85


def test_a_supervisor_may_be_built_before_any_loop_and_refuses_a_second():
    sup = Supervisor(name="mine")

    async def use():
        return await sup.run(int, "5")

    async def use_and_shut_down():
        await sup.run(int)
        await sup.shutdown()

    with asyncio.Runner() as first:
        assert first.run(use()) == 5
        with asyncio.Runner() as second, pytest.raises(RuntimeError, match="'mine' is bound to another event loop"):
            second.run(use())
        first.run(use_and_shut_down())


def test_without_a_loop_the_error_says_what_to_do():
    sup = Supervisor()
    call = sup.run(int)
    with pytest.raises(RuntimeError, match=r"inside asyncio\.run"):
        call.send(None)


def test_under_trio_the_error_says_what_to_do():
    async def main():
        async with Supervisor():
            pass

    with pytest.raises(SupervisorError, match="asyncio only"):
        trio.run(main)


def test_after_a_fork_a_used_supervisor_is_refused_and_an_unused_one_works():
    script = """
        import asyncio, os
        from supervisor import Supervisor, SupervisorError

        used, unused = Supervisor("used"), Supervisor("unused")

        async def call(sup):
            try:
                return await sup.run(int, "5")
            except SupervisorError as error:
                return str(error)

        async def parent():
            print("parent", await call(used), flush=True)
            pid = os.fork()
            if pid == 0:
                asyncio._set_running_loop(None)
                print("child", asyncio.run(call(used)), flush=True)
                print("child", asyncio.run(call(unused)), flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
            print("parent", await call(used), flush=True)
            await used.shutdown()

        asyncio.run(parent())
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "parent 5"
    assert lines[1].startswith("child supervisor 'used' was used in process")
    assert lines[1].endswith("build one in this process")
    assert lines[2:] == ["child 5", "parent 5"]


def test_a_loop_that_is_closed_before_a_worker_ends_is_left_in_peace(capfd):
    release, ended, entered = threading.Event(), threading.Event(), threading.Semaphore(0)

    def work(*_):
        entered.release()
        release.wait(10)
        ended.set()
        raise ValueError("nobody listens")

    async def main():
        sup = Supervisor(max_threads=1)
        await sup.start(work)
        task = asyncio.create_task(sup.run(work))
        for _ in range(2):
            await until(lambda: entered.acquire(blocking=False))
        task.get_loop().call_soon(task.get_loop().stop)
        return sup, task

    for eventfd in (True, False):
        release.clear()
        ended.clear()
        loop = asyncio.new_event_loop()
        with pytest.MonkeyPatch.context() as patch:
            if not eventfd:
                patch.delattr(os, "eventfd")
            sup, task = loop.run_until_complete(main())
        task._log_destroy_pending = False
        loop.close()
        release.set()
        assert ended.wait(5)
        inside.retire_threads(sup)
        with pytest.warns(ResourceWarning, match="never shut down"):  # noqa: PT031
            task.get_coro().close()
            del sup, task
    assert capfd.readouterr().err == ""


async def test_a_starved_default_executor_and_limiter_stop_nothing():
    release, entered = threading.Event(), threading.Semaphore(0)

    def hog():
        entered.release()
        release.wait(2 * LIMIT)

    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
    hogs = [loop.run_in_executor(None, hog) for _ in range(3)]
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    hogs.append(asyncio.ensure_future(anyio.to_thread.run_sync(hog)))
    for _ in range(2):
        await until(lambda: entered.acquire(blocking=False))
    async with Supervisor() as sup:
        await sup.start(wait_for_stop)
        assert await sup.run(int, "5") == 5
        began = time.monotonic()
        assert (await sup.shutdown()).clean
        assert time.monotonic() - began < 10
    release.set()
    await asyncio.gather(*hogs)


def test_in_debug_mode_nothing_is_complained_of(caplog):
    async def main():
        async with Supervisor() as sup:
            await sup.start(wait_for_stop)
            with pytest.raises(WorkerTimeout):
                await sup.run(time.sleep, 0.05, timeout=0.01)
            return await sup.run(int, "5")

    with asyncio.Runner(debug=True) as runner:
        runner.get_loop().slow_callback_duration = 100.0  # a busy machine is no error
        assert runner.run(main()) == 5
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


def test_a_loop_in_another_thread():
    results = []

    def run():
        async def main():
            async with Supervisor() as sup:
                await sup.start(wait_for_stop)
                results.append(await sup.run(int, "5"))

        asyncio.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(LIMIT)
    assert results == [5]


async def test_a_copy_of_a_process_lets_go_of_what_it_has_not():
    used, unused = Supervisor("used"), Supervisor("unused")
    await used.run(int)
    shut_down = inside.copied_by_a_fork(used, unused)
    with pytest.raises(RuntimeError, match="before the fork"):
        await used.run(int)
    assert await unused.run(int, "5") == 5
    await unused.shutdown()
    await shut_down()
