"""`install_as_default_executor()` and the end of the loop: what is stuck does not hold it up; and late calls."""

import asyncio
import concurrent.futures
import concurrent.futures.thread
import math
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Supervisor,
    SupervisorClosed,
    WorkerStopped,
    current_context,
)

from .. import inside
from .default_executors import FACTORIES, LIMIT, PATIENT, SHORT, until, who


@pytest.fixture(params=FACTORIES)
def run(request):
    """Runs a coroutine function as `asyncio.run` does; returns how many seconds the loop took to end."""

    def run(main):
        runner = asyncio.Runner(loop_factory=FACTORIES[request.param])
        try:
            runner.run(main())
        finally:
            began = time.monotonic()
            runner.close()
        return time.monotonic() - began

    return run


def test_the_end_of_the_loop_does_not_wait_for_a_call_that_the_shutdown_gave_up(run, leftovers):
    async def main():
        async with Supervisor(policy=SHORT) as sup:
            sup.install_as_default_executor()
            call = asyncio.create_task(asyncio.to_thread(leftovers.block))
            await until(lambda: leftovers.entered)
        with pytest.raises(WorkerStopped):
            await call

    assert run(main) < LIMIT / 2


@pytest.mark.parametrize("timeout", [LIMIT, math.inf])
def test_the_end_of_the_loop_shuts_down_a_supervisor_that_nobody_did(run, leftovers, timeout):
    kept = []

    async def main():
        sup = Supervisor(policy=SHORT, shutdown_timeout=timeout)
        sup.install_as_default_executor()
        kept.extend((sup, asyncio.get_running_loop().run_in_executor(None, leftovers.block)))
        await until(lambda: leftovers.entered)
        await sup.start(lambda ctx: ctx.stop.wait(), policy=PATIENT)

    assert run(main) < LIMIT / 2
    sup, future = kept
    assert sup.report.counts() == {"stopped": 1, "abandoned": 1}
    assert sup.report.reason == "the event loop shuts its default executor down"
    assert isinstance(future.exception(), WorkerStopped)


def test_that_keeps_to_shutdown_timeout(run, leftovers):
    kept = []

    async def main():
        sup = Supervisor(policy=EscalationPolicy(Ask(60)), shutdown_timeout=0.3)
        kept.append(sup)
        sup.install_as_default_executor()
        call = asyncio.get_running_loop().run_in_executor(None, leftovers.block)
        call.add_done_callback(lambda call: call.exception())
        await until(lambda: leftovers.entered)

    assert 0.2 < run(main) < LIMIT / 2
    assert kept[0].report.counts() == {"abandoned": 1}


def test_a_call_that_the_end_of_the_loop_finds_running_may_finish_in_its_grace(run):
    entered, finished = threading.Event(), []

    def write():
        entered.set()
        current_context().stop.wait()
        finished.append("written")

    async def main():
        Supervisor(policy=PATIENT).install_as_default_executor()
        asyncio.get_running_loop().run_in_executor(None, write)
        await until(entered.is_set)

    run(main)
    assert finished == ["written"]


def test_the_standard_librarys_machinery_in_it_stands_idle(runner):
    before = set(concurrent.futures.thread._threads_queues)

    async def main():
        async with Supervisor() as sup:
            sup.install_as_default_executor()
            await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.01) for _ in range(8)))
            assert isinstance(inside.default_executor(sup), concurrent.futures.ThreadPoolExecutor)
            assert inside.default_executor(sup)._threads == set()
            assert inside.default_executor(sup)._work_queue.empty()

    runner.run(main())
    assert set(concurrent.futures.thread._threads_queues) == before


SCRIPT = """
import asyncio, gc, socket, structlog, sys, threading, uvloop
gc.disable()  # Ctrl-C during a collection strikes in the callback of a weak reference, say, where Python ignores it
from supervisor import Ask, EscalationPolicy, Supervisor

who, loop, grace = sys.argv[1:]
structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(), processors=[lambda _, __, event: event["event"]])
silent, _ = socket.socketpair()
entered = threading.Event()

def stuck(*_):
    entered.set()
    return silent.recv(1)  # in C, for ever

async def main():
    if who != "stock":
        sup = Supervisor(policy=EscalationPolicy(Ask(float(grace))), shutdown_timeout=60)
        sup.install_as_default_executor()
    if loop == "asyncio":
        socket.getaddrinfo = stuck
        look_up = asyncio.create_task(asyncio.get_running_loop().getaddrinfo("example", 80))
    else:
        look_up = asyncio.create_task(asyncio.to_thread(stuck))
    while not entered.is_set():
        await asyncio.sleep(0.001)
    if who == "left":
        await sup.shutdown()
        look_up.exception()

with asyncio.Runner(loop_factory=asyncio.new_event_loop if loop == "asyncio" else uvloop.new_event_loop) as runner:
    runner.run(main())
    print("leaving", flush=True)
print("closed", flush=True)
"""


@pytest.fixture
def program():
    """Starts a program in which a call of the default executor is stuck in C."""
    processes = []

    def start(who, loop, grace=0.1):
        command = [sys.executable, "-c", SCRIPT, who, loop, str(grace)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("loop", FACTORIES)
@pytest.mark.parametrize("who", ["left", "forgotten"])
def test_a_process_whose_look_up_is_stuck_exits(program, who, loop):
    process = program(who, loop)
    output, _ = process.communicate(timeout=3 * LIMIT)
    assert process.returncode == 0
    assert re.fullmatch(r"(.*\n)*worker\.ended\n(.*\n)*closed\n", output), output


@pytest.mark.parametrize("loop", FACTORIES)
def test_with_the_standard_executor_it_hangs(program, loop):
    process = program("stock", loop)
    assert process.stdout.readline() == "leaving\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)


@pytest.mark.parametrize("loop", FACTORIES)
def test_ctrl_c_ends_the_waiting_for_a_shutdown_at_the_end_of_the_loop(program, loop):
    process = program("forgotten", loop, grace=50)
    while process.stdout.readline() != "supervisor.stopping\n":
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=3 * LIMIT)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in output


# ------------------------------------------------------------------------------------------------ late calls


def test_calls_after_the_shutdown_run_under_a_supervisor_of_their_own(runner, events):
    async def main():
        async with Supervisor("app") as sup:
            sup.install_as_default_executor()
        assert await asyncio.to_thread(lambda: threading.current_thread().name) == "app-late/thread-1"
        assert await asyncio.get_running_loop().run_in_executor(None, who) == "who-2"
        assert sup.workers() == ()

    runner.run(main())
    assert {event["supervisor"] for event in events if event.get("worker") == "who-2"} == {"app-late"}


def test_so_do_those_that_come_while_it_goes_on(runner):
    async def clean_up():
        try:
            await asyncio.to_thread(lambda: current_context().sleep(60))
        finally:
            cleaned.append(await asyncio.to_thread(lambda: threading.current_thread().name))

    async def main():
        async with Supervisor("app", policy=PATIENT) as sup:
            sup.install_as_default_executor()
            await sup.start(lambda ctx: (ctx.stop.wait(), done.wait(LIMIT)))
            task = asyncio.create_task(clean_up())
            await until(lambda: len(sup.workers()) == 2)
            await until(lambda: sup.workers()[1].state == "running")
            sup.request_shutdown()
            with pytest.raises(WorkerStopped):
                await task
            assert sup.report is None
            done.set()

    cleaned, done = [], threading.Event()
    runner.run(main())
    assert cleaned == ["app-late/thread-1"]


def test_a_late_call_that_is_stuck_does_not_hold_up_the_end_of_the_loop(run, leftovers, events):
    calls = []

    async def main():
        async with Supervisor("app", policy=SHORT, shutdown_timeout=LIMIT) as sup:
            sup.install_as_default_executor()
        entered = threading.Event()
        calls.append(asyncio.create_task(asyncio.to_thread(lambda: (entered.set(), leftovers.block()))))
        await until(entered.is_set)

    assert run(main) < LIMIT / 2
    assert calls[0].cancelled()
    stopped = [event for event in events if event["event"] == "supervisor.stopped"]
    # The end of the loop cancels the call first, and so it may have been given up before its supervisor is shut down.
    assert [(event["supervisor"], event["counts"] | event.get("earlier", {})) for event in stopped] == [
        ("app", {}),
        ("app-late", {"abandoned": 1}),
    ]


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_a_loop_that_is_only_closed_leaves_no_thread_of_late_calls_behind(factory):
    async def main():
        async with Supervisor("app") as sup:
            sup.install_as_default_executor()
        assert await asyncio.to_thread(who) == "who-1"
        return inside.default_executor(sup)

    loop = factory()
    executor = loop.run_until_complete(main())
    loop.close()
    with pytest.raises(SupervisorClosed):
        executor.submit(who)
    # its thread is one that the fixture `nothing_left_behind` waits for


def test_another_thread_cannot_submit_late_calls(runner):
    """It is the loop that hands calls to its default executor, on its own thread."""

    async def main():
        async with Supervisor("app") as sup:
            sup.install_as_default_executor()
        with concurrent.futures.ThreadPoolExecutor(1) as aside, pytest.raises(SupervisorClosed, match="'app'"):
            await asyncio.wrap_future(aside.submit(inside.default_executor(sup).submit, who))

    runner.run(main())


def test_no_module_is_imported_when_a_traceback_is_printed_later():
    """uvloop joins a thread in a finalizer, which may run within such an import, for which that thread may wait."""
    script = """if True:
        import asyncio, io, sys, traceback
        from supervisor import Supervisor

        async def main():
            async with Supervisor() as sup:
                sup.install_as_default_executor()
                before = set(sys.modules)
                traceback.print_exception(ValueError(), file=io.StringIO())
                print(sorted(set(sys.modules) - before))

        asyncio.run(main())
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "[]\n", done.stderr
