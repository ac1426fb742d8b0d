"""`install_as_default_executor()`: what asyncio's default executor runs is supervised, and its end is bounded."""

import asyncio
import concurrent.futures
import concurrent.futures.thread
import contextvars
import functools
import gc
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest
import uvloop

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Supervisor,
    SupervisorBusy,
    SupervisorClosed,
    WorkerExit,
    WorkerStopped,
    current_context,
)

from .. import inside
from .default_executors import LIMIT, PATIENT, ROOT, SHORT, until, who


class Resolver:
    def look_up(self, host):
        return current_context().name, host


# ------------------------------------------------------------------------------------------------ what runs there


def test_to_thread_runs_on_a_supervised_thread(runner):
    async def main():
        async with Supervisor("app") as sup:
            sup.install_as_default_executor()
            return await asyncio.to_thread(lambda: threading.current_thread().name)

    assert runner.run(main()) == "app/thread-1"


def test_so_does_what_is_given_to_no_executor(runner):
    async def main():
        async with Supervisor() as sup:
            sup.install_as_default_executor()
            return await asyncio.get_running_loop().run_in_executor(None, who)

    assert runner.run(main()) == "who-1"


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda loop: asyncio.to_thread(who), "who-1"),
        (lambda loop: asyncio.to_thread(functools.partial(who)), "who-1"),
        (lambda loop: asyncio.to_thread(Resolver().look_up, "h"), ("Resolver.look_up-1", "h")),
        (lambda loop: asyncio.to_thread(Resolver().look_up, host="h"), ("Resolver.look_up-1", "h")),
        (lambda loop: loop.run_in_executor(None, contextvars.copy_context().run, who), "who-1"),
        (lambda loop: loop.run_in_executor(None, Resolver().look_up, "h"), ("Resolver.look_up-1", "h")),
    ],
)
def test_a_call_goes_by_the_name_of_its_function(runner, call, name):
    async def main():
        async with Supervisor() as sup:
            sup.install_as_default_executor()
            return await call(asyncio.get_running_loop())

    assert runner.run(main()) == name


def test_it_is_among_the_workers_and_in_the_log(runner, events):
    gate = threading.Event()

    async def main():
        async with Supervisor() as sup:
            sup.install_as_default_executor()
            call = asyncio.create_task(asyncio.to_thread(gate.wait, LIMIT))
            await until(
                lambda: [(worker.name, worker.state) for worker in sup.workers()] == [("Event.wait-1", "running")]
            )
            gate.set()
            assert await call

    runner.run(main())
    told = [event["event"] for event in events if event.get("worker") == "Event.wait-1"]
    assert told == ["worker.queued", "worker.running", "worker.ended"]


def test_look_ups_of_names_run_there_on_asyncio():
    async def main():
        async with Supervisor() as sup:
            sup.install_as_default_executor()
            told = sup.transitions()
            await asyncio.get_running_loop().getaddrinfo("localhost", 80)
            await asyncio.get_running_loop().getnameinfo(
                ("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
            )
        return {transition.worker async for transition in told}

    assert asyncio.run(main()) == {"getaddrinfo-1", "getnameinfo-2"}


def test_look_ups_of_names_do_not_on_uvloop():
    """libuv has threads of its own for them; the docs say so."""

    async def main():
        async with Supervisor() as sup:
            sup.install_as_default_executor()
            told = sup.transitions()
            await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        return [transition async for transition in told]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == []


def test_context_variables_of_the_caller_are_visible(runner):
    request = contextvars.ContextVar("request")

    async def main():
        async with Supervisor() as sup:
            sup.install_as_default_executor()
            request.set("mine")
            loop = asyncio.get_running_loop()
            return await asyncio.to_thread(request.get), await loop.run_in_executor(None, request.get)

    assert runner.run(main()) == ("mine", "mine")


def test_values_and_errors_come_as_from_the_pool(runner):
    async def main():
        async with Supervisor() as sup:
            sup.install_as_default_executor()
            assert await asyncio.to_thread(int, "ff", base=16) == 255
            with pytest.raises(ValueError, match="invalid literal"):
                await asyncio.to_thread(int, "x")
            with pytest.raises(WorkerExit):
                await asyncio.to_thread(sys.exit, 3)

    runner.run(main())


async def coroutine_function():
    pass


def test_a_coroutine_function_is_refused_rather_than_never_awaited(runner):
    async def main():
        async with Supervisor() as sup:
            sup.install_as_default_executor()
            with pytest.raises(TypeError, match="coroutine_function"):
                await asyncio.to_thread(coroutine_function)
            with pytest.raises(TypeError, match="coroutine"):  # uvloop refuses it by itself
                await asyncio.get_running_loop().run_in_executor(None, coroutine_function)

    runner.run(main())


def test_its_calls_count_against_the_bounds_of_the_supervisor(runner):
    gate = threading.Event()

    async def main():
        async with Supervisor(max_threads=1, max_queued=0) as sup:
            sup.install_as_default_executor()
            call = asyncio.create_task(asyncio.to_thread(gate.wait, LIMIT))
            await until(sup.workers)
            with pytest.raises(SupervisorBusy):
                await asyncio.to_thread(int)
            gate.set()
            await call

    runner.run(main())


# ------------------------------------------------------------------------------------------------ stopping


def test_cancelling_a_call_asks_it_to_stop(runner):
    ended = []

    def obey():
        try:
            current_context().sleep(LIMIT)
        finally:
            ended.append(current_context().reason)

    async def main():
        async with Supervisor(policy=PATIENT) as sup:
            sup.install_as_default_executor()
            call = asyncio.create_task(asyncio.to_thread(obey))
            await until(lambda: [worker for worker in sup.workers() if worker.state == "running"])
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: ended)

    runner.run(main())
    assert ended == ["cancelled"]


def test_a_cancellation_injects_nothing_into_a_librarys_code_and_a_shutdown_does(runner):
    release, entered = threading.Event(), threading.Semaphore(0)

    def deaf():
        entered.release()
        while not release.is_set():
            time.sleep(0.001)

    async def main():
        policy = EscalationPolicy(Ask(0.05), Inject(5))
        async with Supervisor(policy=policy) as sup:
            sup.install_as_default_executor()
            calls = [asyncio.create_task(asyncio.to_thread(deaf)) for _ in range(2)]
            told = sup.transitions()
            for _ in calls:
                await until(lambda: entered.acquire(blocking=False))
            calls[0].cancel()
            await until(lambda: sup.statistics().abandoned)  # given up after Ask, though the ladder has Inject
            await sup.shutdown()
            release.set()
            with pytest.raises(WorkerStopped):
                await calls[1]
        return [(transition.ended, transition.step) async for transition in told if transition.ended]

    assert runner.run(main()) == [("abandoned", "ask"), ("injected", "inject")]


def test_a_shutdown_stops_calls_that_run_and_withdraws_those_that_wait(runner):
    async def main():
        async with Supervisor(policy=PATIENT, max_threads=1) as sup:
            sup.install_as_default_executor()
            calls = [asyncio.create_task(asyncio.to_thread(lambda: current_context().sleep(60))) for _ in range(3)]
            await until(lambda: len(sup.workers()) == 3)
            await until(lambda: sup.workers()[0].state == "running")
        assert all(isinstance(error, WorkerStopped) for error in await asyncio.gather(*calls, return_exceptions=True))
        return sup.report.counts()

    assert runner.run(main()) == {"stopped": 1, "cancelled": 2}


def test_a_saturated_default_executor_that_is_the_supervisor_stops_no_shutdown(runner, leftovers):
    async def main():
        async with Supervisor(policy=SHORT, max_threads=1, shutdown_timeout=LIMIT) as sup:
            sup.install_as_default_executor()
            calls = [asyncio.create_task(asyncio.to_thread(leftovers.block)) for _ in range(5)]
            await until(lambda: len(sup.workers()) == 5 and leftovers.entered)
            await sup.start(lambda ctx: ctx.stop.wait(), policy=PATIENT)
            began = time.monotonic()
            report = await sup.shutdown()
            assert time.monotonic() - began < LIMIT / 2
            await asyncio.gather(*calls, return_exceptions=True)
        return report.counts()

    assert runner.run(main()) == {"stopped": 1, "abandoned": 1, "cancelled": 4}


# ------------------------------------------------------------------------------------------------ installing it


def test_calls_of_a_former_default_executor_end_as_they_would_have(runner):
    gate, entered = threading.Event(), threading.Semaphore(0)

    def former(n):
        entered.release()
        gate.wait(LIMIT)
        return n, threading.current_thread().name.split("/")[0]

    async def main():
        loop = asyncio.get_running_loop()
        pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="former")
        loop.set_default_executor(pool)
        calls = [loop.run_in_executor(None, former, n) for n in range(3)]
        await until(lambda: entered.acquire(blocking=False))
        gone = weakref.ref(pool)
        del pool
        async with Supervisor("app") as sup:
            sup.install_as_default_executor()
            gc.collect()
            assert gone() is None
            assert await asyncio.to_thread(lambda: threading.current_thread().name) == "app/thread-1"
            assert all(not call.done() for call in calls)
            gate.set()
            return await asyncio.gather(*calls)

    assert runner.run(main()) == [(0, "former_0"), (1, "former_0"), (2, "former_0")]
    for thread in threading.enumerate():
        if thread.name == "former_0":
            thread.join(LIMIT)
            assert not thread.is_alive()


def test_it_may_be_called_again_and_comes_back_where_another_one_had_replaced_it(runner):
    async def main():
        loop = asyncio.get_running_loop()
        async with Supervisor("app") as sup:
            sup.install_as_default_executor()
            sup.install_as_default_executor()
            assert await asyncio.to_thread(who) == "who-1"
            with concurrent.futures.ThreadPoolExecutor(1) as other:
                loop.set_default_executor(other)
                with pytest.raises(LookupError):
                    await asyncio.to_thread(who)
                sup.install_as_default_executor()
            assert await asyncio.to_thread(who) == "who-2"

    runner.run(main())


def test_of_two_supervisors_the_last_one_counts(runner):
    async def main():
        async with Supervisor("first") as first, Supervisor("second") as second:
            first.install_as_default_executor()
            second.install_as_default_executor()
            return await asyncio.to_thread(lambda: threading.current_thread().name)

    assert runner.run(main()) == "second/thread-1"


def test_without_a_running_loop_it_says_what_to_do():
    with pytest.raises(RuntimeError, match="needs a running asyncio event loop"):
        Supervisor().install_as_default_executor()


def test_it_may_be_the_first_use_of_a_supervisor_and_binds_it(runner):
    sup = Supervisor()

    async def main():
        sup.install_as_default_executor()
        assert await asyncio.to_thread(who) == "who-1"
        await sup.shutdown()

    async def elsewhere():
        with pytest.raises(RuntimeError, match="bound to another event loop"):
            sup.install_as_default_executor()

    runner.run(main())
    asyncio.run(elsewhere())


def test_a_supervisor_that_shuts_down_cannot_be_installed(runner):
    async def main():
        requested = Supervisor("early")
        requested.request_shutdown()
        with pytest.raises(SupervisorClosed, match=r"'early' (is shutting|has shut) down"):
            requested.install_as_default_executor()
        async with Supervisor("app", policy=PATIENT) as sup:
            await sup.start(lambda ctx: ctx.stop.wait())
            closing = asyncio.create_task(sup.shutdown())
            await asyncio.sleep(0)
            with pytest.raises(SupervisorClosed, match="'app' is shutting down"):
                sup.install_as_default_executor()
            await closing
        with pytest.raises(LookupError):  # the loop's own one serves
            await asyncio.to_thread(who)

    runner.run(main())


def test_a_group_cannot_be_installed(runner):
    async def main():
        async with Supervisor("app") as sup:
            with pytest.raises(RuntimeError, match=r"group 'feeds'.*on the supervisor 'app'"):
                sup.group("feeds").install_as_default_executor()

    runner.run(main())


def test_waiting_for_its_shutdown_on_the_loops_own_thread_is_refused(runner):
    async def main():
        async with Supervisor("app") as sup:
            sup.install_as_default_executor()
            with pytest.raises(RuntimeError, match="would block its event loop"):
                inside.default_executor(sup).shutdown()
        inside.default_executor(sup).shutdown()  # there is nothing left to wait for

    runner.run(main())


@pytest.mark.supervisor(may_leak=True)
def test_after_the_loop_has_been_closed_nothing_waits():
    async def main():
        sup = Supervisor(policy=SHORT)
        sup.install_as_default_executor()
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        return inside.default_executor(sup)

    loop = asyncio.new_event_loop()
    executor = loop.run_until_complete(main())
    loop.close()
    began = time.monotonic()
    executor.shutdown()
    executor.shutdown(wait=False)
    assert time.monotonic() - began < LIMIT / 2
    with pytest.warns(ResourceWarning, match="never shut down"):  # noqa: PT031
        del executor
        gc.collect()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_in_a_forked_child_its_shutdown_waits_for_nobody():
    script = """
    import asyncio, os, warnings
    from supervisor import Supervisor
    from tests import inside

    warnings.simplefilter("ignore")  # threads are there

    async def main():
        async with Supervisor() as sup:
            sup.install_as_default_executor()
            await asyncio.to_thread(int)
            child = os.fork()
            if child == 0:
                inside.default_executor(sup).shutdown()
                try:
                    inside.default_executor(sup).submit(int)
                except RuntimeError as error:
                    print(error, flush=True)
                os._exit(3)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    print(asyncio.run(main()))
    """
    script = textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=3 * LIMIT
    )
    assert done.stdout.endswith("\n3\n")
    assert re.search(r"executor of supervisor|before the fork", done.stdout)
