"""`wait_for_signal` and `request_shutdown`, with real signals."""

import asyncio
import gc
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor

from .. import inside
from ..waiting import LIMIT

pytestmark = pytest.mark.timeout(150)

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.set_wakeup_fd(-1) == -1


async def turns(condition):
    while not condition():
        await asyncio.sleep(0.001)


def send(number):
    os.kill(os.getpid(), number)


# ------------------------------------------------------------------------------------------------ waiting


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_is_returned(number):
    async with Supervisor() as sup:
        waiting = asyncio.ensure_future(sup.wait_for_signal())
        await asyncio.sleep(0)
        send(number)
        assert await waiting is number
        assert await sup.wait_for_signal() is number
        assert sup.statistics().stopping is False


async def test_only_the_signals_that_are_named_are_waited_for():
    before = signal.getsignal(signal.SIGTERM)
    async with Supervisor() as sup:
        waiting = asyncio.ensure_future(sup.wait_for_signal(signal.SIGUSR1))
        await asyncio.sleep(0)
        assert signal.getsignal(signal.SIGTERM) is before
        send(signal.SIGUSR1)
        assert await waiting is signal.SIGUSR1


async def test_a_shutdown_that_begins_otherwise_ends_the_waiting_with_none():
    async with Supervisor() as sup:
        waiting = asyncio.ensure_future(sup.wait_for_signal())
        await asyncio.sleep(0)
        threading.Thread(target=sup.request_shutdown, args=("enough",)).start()
        assert await waiting is None
        assert (await sup.wait_closed()).reason == "enough"
    assert await sup.wait_for_signal() is None


async def test_cancelling_it_stops_only_the_waiting_and_keeps_the_handlers():
    async with Supervisor() as sup:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sup.wait_for_signal(), 0.01)
        send(signal.SIGTERM)
        assert await sup.wait_for_signal() is signal.SIGTERM


async def test_several_may_wait():
    async with Supervisor() as sup:
        waiting = [asyncio.ensure_future(sup.wait_for_signal()) for _ in range(3)]
        await asyncio.sleep(0)
        send(signal.SIGTERM)
        assert await asyncio.gather(*waiting) == [signal.SIGTERM] * 3


async def test_a_second_signal_leaves_the_shutdown_a_second(leftovers):
    policy = EscalationPolicy(Ask(600))
    async with Supervisor(policy=policy, shutdown_timeout=600) as sup:
        await sup.start(leftovers.block, name="deaf")
        waiting = asyncio.ensure_future(sup.wait_for_signal())
        await asyncio.sleep(0)
        send(signal.SIGTERM)
        assert await waiting is signal.SIGTERM
        closing = asyncio.ensure_future(sup.shutdown(reason="SIGTERM"))
        await turns(lambda: sup.statistics().stopping)
        send(signal.SIGTERM)
        report = await asyncio.wait_for(closing, 30)
    assert (report.reason, report.counts()) == ("SIGTERM", {"abandoned": 1})


async def test_a_second_signal_begins_the_shutdown_where_nobody_has():
    async with Supervisor() as sup:
        waiting = asyncio.ensure_future(sup.wait_for_signal())
        await asyncio.sleep(0)
        send(signal.SIGTERM)
        await waiting
        send(signal.SIGINT)
        assert (await sup.wait_closed()).reason == "SIGINT again"


async def test_a_first_signal_during_a_shutdown_does_not_shorten_it(leftovers):
    async with Supervisor(policy=EscalationPolicy(Ask(600)), shutdown_timeout=600) as sup:
        worker = await sup.start(lambda ctx: leftovers.block(), name="deaf")
        waiting = asyncio.ensure_future(sup.wait_for_signal())
        await asyncio.sleep(0)
        sup.request_shutdown()
        assert await waiting is None
        send(signal.SIGTERM)
        await turns(lambda: inside.first_signal(sup) is not None)
        assert inside.time_of_step(sup, worker) > 500
        leftovers.release.set()


# ------------------------------------------------------------------------------------------------ other handlers


async def test_the_applications_own_handler_is_called_as_well():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        async with Supervisor() as sup:
            waiting = asyncio.ensure_future(sup.wait_for_signal())
            await asyncio.sleep(0)
            send(signal.SIGTERM)
            await waiting
        assert seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_handler_of_the_loop_is_called_as_well():
    seen = []
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, seen.append, "loop")
    async with Supervisor() as sup:
        waiting = asyncio.ensure_future(sup.wait_for_signal())
        await asyncio.sleep(0)
        send(signal.SIGTERM)
        await waiting
        await turns(lambda: seen)
    send(signal.SIGTERM)
    await turns(lambda: len(seen) == 2)
    loop.remove_signal_handler(signal.SIGTERM)


async def test_a_handler_that_replaced_ours_is_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    try:
        async with Supervisor() as sup:
            waiting = asyncio.ensure_future(sup.wait_for_signal())
            await asyncio.sleep(0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            waiting.cancel()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("first_to_close", [0, 1])
async def test_two_supervisors_may_close_in_any_order(first_to_close):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    mine = signal.getsignal(signal.SIGTERM)
    try:
        both = [Supervisor("a"), Supervisor("b")]
        waiting = []
        for sup in both:
            waiting.append(asyncio.ensure_future(sup.wait_for_signal(signal.SIGTERM)))
            await asyncio.sleep(0)
        await both.pop(first_to_close).shutdown()
        send(signal.SIGTERM)
        assert await waiting.pop(1 - first_to_close) is signal.SIGTERM
        assert seen == [signal.SIGTERM]
        await both[0].shutdown()
        assert signal.getsignal(signal.SIGTERM) is mine
        assert await waiting[0] is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_supervisor_that_was_lost_with_its_loop_harms_no_later_one():
    before = signal.getsignal(signal.SIGTERM)

    async def lose():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Supervisor("old").wait_for_signal(signal.SIGTERM), 0.01)
        gc.collect()

    async def use():
        async with Supervisor("new") as sup:
            waiting = asyncio.ensure_future(sup.wait_for_signal(signal.SIGTERM))
            await asyncio.sleep(0)
            send(signal.SIGTERM)
            return await waiting

    seen = []
    mine = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with pytest.warns(ResourceWarning, match="'old' was never shut down"):
            asyncio.run(lose())
        assert asyncio.run(use()) is signal.SIGTERM
        send(signal.SIGTERM)
        assert seen == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, mine)
    assert signal.getsignal(signal.SIGTERM) == before


async def test_the_signal_gives_the_shutdown_its_reason():
    async with Supervisor() as sup:
        waiting = asyncio.ensure_future(sup.wait_for_signal())
        await asyncio.sleep(0)
        send(signal.SIGTERM)
        await waiting
    assert sup.report.reason == "SIGTERM"


SLOW = re.compile(r"^Executing <.*> took [0-9.]+ seconds\n", re.MULTILINE)
"""What asyncio's debug mode says where the machine is slow."""


def run_script(body, *numbers, loop="asyncio", status=0, warnings="error"):
    """Runs `main()` of a script in a process, sends a signal at each line "now", and returns what else it printed."""
    head = (
        "import asyncio, os, signal, sys, threading, time\n"
        "from supervisor import *\n"
        "def say(text):\n    print(text, flush=True)\n"
    )
    tail = (
        ("import uvloop\nfactory = uvloop.new_event_loop\n" if loop == "uvloop" else "factory = None\n")
        + "with asyncio.Runner(loop_factory=factory) as runner:\n"
        + "    runner.get_loop().slow_callback_duration = 10  # a busy machine is no error\n"
        + "    runner.run(main())\nsay('end')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", warnings, "-c", head + body + tail],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(100, process.kill)
    watchdog.start()
    try:
        left, lines = list(numbers), []
        for line in process.stdout:
            if line == "now\n":
                process.send_signal(left.pop(0))
            else:
                lines.append(line.strip())
        errors = SLOW.sub("", process.stderr.read())
        assert process.wait(100) == status, errors
        return lines, errors
    finally:
        watchdog.cancel()
        process.kill()
        process.stdout.close()
        process.stderr.close()
        process.wait()


WAITS = """
async def main():
    async with Supervisor(policy=EscalationPolicy(Ask(20))) as sup:
        await sup.start(lambda ctx: ctx.stop.wait(), name="waiter")
        waiting = asyncio.ensure_future(sup.wait_for_signal())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, say, "now")
        number = await waiting
        say(number.name)
    say(sup.report.counts())
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_beside_asyncio_run(loop, number):
    lines, errors = run_script(WAITS, number, loop=loop)
    assert (lines, errors) == ([number.name, "{'stopped': 1}", "end"], "")


@pytest.mark.parametrize("loop", LOOPS)
def test_after_the_supervisor_has_closed_ctrl_c_is_asyncios_again(loop):
    body = WAITS + "    say('now')\n    await asyncio.sleep(3600)\n"
    lines, errors = run_script(body, signal.SIGINT, signal.SIGINT, loop=loop, status=-signal.SIGINT)
    assert lines == ["SIGINT", "{'stopped': 1}"]
    assert "KeyboardInterrupt" in errors


def test_a_forked_child_has_the_handlers_from_before():
    body = """
async def main():
    async with Supervisor() as sup:
        waiting = asyncio.ensure_future(sup.wait_for_signal())
        await asyncio.sleep(0)
        up, say_up = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(say_up, b"!")
            time.sleep(30)
            os._exit(0)
        os.read(up, 1)  # the interpreter forgets a signal that comes while it forks
        os.kill(pid, signal.SIGTERM)
        say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        for _ in range(10):
            await asyncio.sleep(0)
        say(waiting.done())
        waiting.cancel()
"""
    assert run_script(body, warnings="ignore")[0] == ["-15", "False", "end"]


def test_what_a_shell_has_ignored_for_a_job_in_the_background_stays_ignored():
    body = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
async def main():
    async with Supervisor() as sup:
        waiting = asyncio.ensure_future(sup.wait_for_signal())
        await asyncio.sleep(0)
        say(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
        signal.raise_signal(signal.SIGTERM)
        say((await waiting).name)
"""
    assert run_script(body)[0] == ["True", "SIGTERM", "end"]


def test_a_signal_that_was_never_waited_for_to_the_end_kills_as_if_nothing_had_been_there():
    body = """
async def main():
    sup = Supervisor()
    with __import__('contextlib').suppress(TimeoutError):
        await asyncio.wait_for(sup.wait_for_signal(), 0.01)
    asyncio.get_running_loop().call_soon(lambda: None)
asyncio.run(main())
say("now")
for _ in range(300): time.sleep(0.1)  # a signal that comes just before a sleep is handled after it
async def main(): pass
"""
    lines, _ = run_script(body, signal.SIGTERM, status=-signal.SIGTERM)
    assert lines == []


# ------------------------------------------------------------------------------------------------ from handlers


def test_request_shutdown_in_a_raw_signal_handler():
    body = """
async def main():
    sup = Supervisor()
    signal.signal(signal.SIGTERM, lambda *_: sup.request_shutdown("SIGTERM"))
    async with sup:
        await sup.start(lambda ctx: ctx.stop.wait(), name="waiter")
        asyncio.get_running_loop().call_later(0.05, say, "now")
        say((await sup.wait_closed()).reason)
"""
    assert run_script(body, signal.SIGTERM)[0] == ["SIGTERM", "end"]


def test_signals_that_land_anywhere_in_a_stop_do_no_harm():
    """A storm of handlers, each asking for the shutdown, while the main thread sets stop Events without end."""
    body = """
async def main():
    sup = Supervisor("storm", policy=EscalationPolicy(Ask(5)))
    landed, storms = 0, False
    def handler(*_):
        nonlocal landed
        landed += 1
        last.request_shutdown("signal")
        last.statistics()
        last.workers()
        if storms:  # the next one comes only now: on a slow machine each would interrupt the one before
            signal.setitimer(signal.ITIMER_REAL, 0.0003)
    last = Supervisor("last", policy=EscalationPolicy(Ask(5)))
    signal.signal(signal.SIGALRM, handler)
    async with last:
        await last.start(lambda ctx: ctx.stop.wait(), name="waiter")
        for _ in range(40):
            async with Supervisor("turn", policy=EscalationPolicy(Ask(5))) as sup:
                for number in range(20):
                    await sup.start(lambda ctx: ctx.stop.wait(), name=f"w{number}")
                storms = True
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                report = await sup.shutdown()
                storms = False
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert report.counts() == {"stopped": 20}, report
    assert landed > 40, landed
    say(last.report.reason)
"""
    assert run_script(body)[0] == ["signal", "end"]


# ------------------------------------------------------------------------------------------------ misuse


@pytest.mark.parametrize("wrong", ["SIGTERM", 1.5, True, None])
async def test_what_is_no_signal_is_refused(wrong):
    with pytest.raises(TypeError, match="must be signals"):
        await Supervisor().wait_for_signal(wrong)


@pytest.mark.parametrize("wrong", [9999, signal.SIGKILL, signal.SIGSTOP])
async def test_what_cannot_be_handled_is_refused(wrong):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="wait_for_signal"):
        await Supervisor().wait_for_signal(signal.SIGTERM, wrong)
    assert signal.getsignal(signal.SIGTERM) is before


async def test_outside_the_main_thread_it_says_what_to_do():
    def elsewhere():
        async def main():
            async with Supervisor("other") as sup:
                with pytest.raises(RuntimeError, match=r"'other'.*main thread.*request_shutdown"):
                    await sup.wait_for_signal()

        asyncio.run(main())

    await asyncio.to_thread(elsewhere)


async def test_a_ladder_goes_on_while_a_signal_is_waited_for():
    async with Supervisor(policy=EscalationPolicy(Ask(0.01), Inject(LIMIT))) as sup:
        waiting = asyncio.ensure_future(sup.wait_for_signal())

        def spin(ctx):
            entered.set()
            while True:
                pass

        entered = threading.Event()
        worker = await sup.start(spin)
        await asyncio.to_thread(entered.wait)
        assert (await worker.stop()).ended == "injected"
        waiting.cancel()
