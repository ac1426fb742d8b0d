"""`Supervisor(signals=True)`: a signal ends the block of a plain script, by a ladder."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from supervisor import Ask, EscalationPolicy, Supervisor, SupervisorClosed, current_context

from ..waiting import LIMIT, until
from .test_signals import LOOPS, handlers_are_put_back, run_script

__all__ = ["handlers_are_put_back"]  # a fixture

NUMBERS = [signal.SIGTERM, signal.SIGINT]


def send(number):
    os.kill(os.getpid(), number)


SCRIPT = """
async def main():
    async with Supervisor(signals=True, policy=EscalationPolicy(Ask(5))) as sup:
        await sup.start(lambda ctx: ctx.stop.wait(), name="waiter")
        asyncio.get_running_loop().call_later(0.05, say, "now")
        try:
            await asyncio.sleep(3600)
        finally:
            say("left")
    say(sup.report.reason)
    say(sup.report.counts())
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_ends_the_body_and_what_comes_after_goes_on(loop, number):
    lines, errors = run_script(SCRIPT, number, loop=loop)
    assert (lines, errors) == (["left", number.name, "{'stopped': 1}", "end"], "")


def test_after_the_block_ctrl_c_is_asyncios_again():
    body = SCRIPT + "    say('now')\n    await asyncio.sleep(3600)\n"
    _, errors = run_script(body, signal.SIGTERM, signal.SIGINT, status=-signal.SIGINT)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


async def test_the_handlers_are_there_from_the_block_on_alone():
    before = signal.getsignal(signal.SIGTERM)
    sup = Supervisor(signals=True)
    await sup.run(int)
    assert signal.getsignal(signal.SIGTERM) is before
    async with sup:
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


async def test_the_signal_can_be_asked_for_afterwards():
    async with Supervisor(signals=True) as sup:
        send(signal.SIGTERM)
        await asyncio.sleep(30)
    assert sup.report.reason == "SIGTERM"
    assert await sup.wait_for_signal() is signal.SIGTERM
    assert asyncio.current_task().cancelling() == 0


async def test_calls_of_the_body_climb_their_ladders_and_its_tasks_are_cancelled():
    ends = []

    def obey():
        try:
            current_context().sleep(30)
        finally:
            ends.append(current_context().reason)

    async with Supervisor(signals=True) as sup, asyncio.TaskGroup() as tasks:
        tasks.create_task(sup.run(obey))
        tasks.create_task(sup.run(obey))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"] * 2)
        send(signal.SIGTERM)
    assert ends == ["cancelled", "cancelled"]


async def test_a_body_that_does_not_go_holds_up_no_shutdown():
    async with Supervisor(signals=True) as sup:
        worker = await sup.start(lambda ctx: ctx.stop.wait())
        send(signal.SIGTERM)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            assert (await worker.wait()).ended == "stopped"
        with pytest.raises(SupervisorClosed):
            await sup.run(int)
    assert sup.report.reason == "SIGTERM"


async def test_a_second_signal_leaves_the_shutdown_a_second(leftovers):
    async with Supervisor(signals=True, policy=EscalationPolicy(Ask(30))) as sup:
        await sup.start(leftovers.block)
        await until(lambda: leftovers.entered)
        asyncio.get_running_loop().call_later(0.3, send, signal.SIGINT)
        send(signal.SIGTERM)
        await asyncio.sleep(30)
    assert sup.report.seconds < 10
    assert sup.report.counts() == {"abandoned": 1}


async def test_a_signal_during_a_shutdown_of_another_cause_ends_the_body():
    async with Supervisor(signals=True) as sup:
        sup.request_shutdown("enough")
        await sup.wait_closed()
    async with Supervisor(signals=True, policy=EscalationPolicy(Ask(LIMIT))) as sup:
        heard = threading.Event()
        worker = await sup.start(lambda ctx: ctx.stop.wait() and heard.wait(LIMIT))
        sup.request_shutdown("enough")
        await until(lambda: worker.state == "stopping")
        send(signal.SIGTERM)
        try:
            await asyncio.sleep(30)
        finally:
            heard.set()
    assert sup.report.reason == "enough"


async def test_a_cancellation_from_outside_goes_on():
    async def main():
        async with Supervisor(signals=True) as sup:
            worker.append(await sup.start(lambda ctx: ctx.stop.wait()))
            await asyncio.sleep(30)

    worker = []
    task = asyncio.create_task(main())
    await until(lambda: worker)
    task.cancel()
    send(signal.SIGTERM)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_body_is_not_lost():
    with pytest.raises(KeyError, match="mine"):
        async with Supervisor(signals=True):
            send(signal.SIGTERM)
            try:
                await asyncio.sleep(30)
            finally:
                raise KeyError("mine")
    assert asyncio.current_task().cancelling() == 0


async def test_outside_the_main_thread_it_says_what_to_do():
    def elsewhere():
        async def main():
            sup = Supervisor("other", signals=True)
            with pytest.raises(RuntimeError, match=r"'other'.*signals=True.*main thread.*request_shutdown"):
                await sup.__aenter__()

        asyncio.run(main())

    await asyncio.to_thread(elsewhere)


def test_what_is_no_choice_is_refused():
    with pytest.raises(TypeError, match="signals=15"):
        Supervisor(signals=15)


def test_without_it_sigterm_kills_a_plain_script():
    """What the docs say of a program that listens for nothing."""
    script = SCRIPT.replace("signals=True, ", "")
    code = "import asyncio, signal\nfrom supervisor import *\nsay = lambda _: signal.raise_signal(signal.SIGTERM)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{script}\nasyncio.run(main())"], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGTERM
