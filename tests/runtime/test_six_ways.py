"""The six ways to end a thread, each through the public interface; together they are the ladder."""

import subprocess
import sys
import textwrap

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerContext, WorkerExit
from tests.conftest import Leftovers
from tests.waiting import until

QUICK = EscalationPolicy(Ask(0.1), Inject(20, every=0.05))


async def test_1_a_flag() -> None:
    def poll(ctx: WorkerContext) -> str:
        while not ctx.stop.is_set():
            pass
        return "saw the flag"

    async with Supervisor() as sup:
        outcome = await (await sup.start(poll)).stop()
    assert (outcome.ended, outcome.step, outcome.value) == ("stopped", "ask", "saw the flag")


async def test_2_an_event_that_all_workers_share() -> None:
    async with Supervisor() as sup:
        for _ in range(5):
            await sup.start(lambda ctx: ctx.stop.wait())
        report = await sup.shutdown()
    assert report.counts() == {"stopped": 5}
    assert [outcome.value for outcome in report.outcomes] == [True] * 5


def test_3_a_daemon_thread_never_holds_the_interpreters_exit() -> None:
    script = """
        import asyncio, queue
        from supervisor import Ask, EscalationPolicy, Supervisor

        async def main():
            sup = Supervisor(policy=EscalationPolicy(Ask(0.1)))
            await sup.start(lambda ctx: queue.SimpleQueue().get(), name="sleeper")
            print((await sup.shutdown()).abandoned[0].worker)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "sleeper"


async def test_4_sys_exit_ends_that_worker_alone() -> None:
    async with Supervisor() as sup:
        leaving = await sup.start(lambda ctx: sys.exit(3))
        staying = await sup.start(lambda ctx: ctx.stop.wait())
        outcome = await leaving.wait()
        assert outcome.ended == "failed"
        assert isinstance(outcome.error, WorkerExit)
        assert outcome.error.code == 3
        assert staying.state == "running"
        quiet = await (await sup.start(lambda ctx: sys.exit())).wait()
        assert (quiet.ended, quiet.value, quiet.error) == ("returned", None, None)


async def test_5_what_can_be_terminated_is_asked_and_injected_first_and_what_cannot_be_is_given_up(
    leftovers: Leftovers,
) -> None:
    """A thread has no terminate(); its ladder ends where a process's would go on."""
    sup = Supervisor(policy=EscalationPolicy(Ask(0.05), Inject(0.05)))
    worker = await sup.start(leftovers.block)
    await until(lambda: leftovers.entered)
    outcome = await worker.stop()
    assert (outcome.ended, outcome.step) == ("abandoned", "inject")
    assert outcome.stack is not None
    assert "in block" in outcome.stack
    await sup.shutdown()


async def test_6_an_exception_raised_by_ctypes() -> None:
    def spin() -> None:
        while True:
            pass

    unwound = []

    def stubborn(ctx: WorkerContext) -> None:
        try:
            spin()
        finally:
            unwound.append(ctx.reason)

    async with Supervisor(policy=QUICK) as sup:
        worker = await sup.start(stubborn)
        await until(lambda: "in spin" in worker.stack())
        outcome = await worker.stop("enough")
    assert (outcome.ended, outcome.step, outcome.error) == ("injected", "inject", None)
    assert unwound == ["enough"]
    assert outcome.stack is not None
    assert "in spin" in outcome.stack
