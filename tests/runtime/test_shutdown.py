"""`await sup.shutdown()`: bounded, shared, deaf to cancellation, and told in a report."""

import asyncio
import math
import signal
import subprocess
import sys
import textwrap
import threading
import time

import anyio
import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    ShutdownReport,
    Supervisor,
    SupervisorClosed,
    WorkerStopped,
    current_context,
)

from .. import inside
from ..waiting import LIMIT, until

QUICK = EscalationPolicy(Ask(0.05), Inject(0.1, every=0.02))
PATIENT = EscalationPolicy(Ask(LIMIT))


def wait_for_stop(ctx):
    return ctx.stop.wait()


def spin():
    while True:
        pass


async def test_an_unused_supervisor_shuts_down():
    sup = Supervisor()
    assert sup.report is None
    report = await sup.shutdown(reason="nothing to do")
    assert report == ShutdownReport("nothing to do", (), report.seconds)
    assert sup.report is report
    assert report.clean


async def test_the_report_has_one_outcome_for_each_worker_that_had_not_ended(leftovers):
    sup, entered = Supervisor(policy=QUICK), threading.Event()
    await (await sup.start(wait_for_stop, name="gone before")).stop()
    await sup.start(wait_for_stop, name="obeys", policy=PATIENT)
    await sup.start(lambda ctx: spin(), name="spins", policy=EscalationPolicy(Ask(0.05), Inject(LIMIT)))
    await sup.start(leftovers.block, name="stuck")
    waits = sup.run(lambda: entered.set() or current_context().stop.wait(), name="call", policy=PATIENT)
    call = asyncio.create_task(waits)
    await until(lambda: entered.is_set() and leftovers.entered)
    report = await sup.shutdown(reason="deploy")
    assert {outcome.worker: outcome.ended for outcome in report.outcomes} == {
        "obeys": "stopped",
        "spins": "injected",
        "stuck": "abandoned",
        "call": "stopped",
    }
    assert [outcome.worker for outcome in report.abandoned] == ["stuck"]
    assert "in block" in (report.abandoned[0].stack or "")
    assert not report.clean
    assert report.reason == "deploy"
    assert 0.15 <= report.seconds < LIMIT / 2
    assert await call is True


@pytest.mark.parametrize("timeout", [0, 0.05, 0.3])
async def test_it_returns_in_time_whatever_the_workers_do(leftovers, timeout):
    sup = Supervisor(policy=EscalationPolicy(Ask(math.inf), Inject(60)), shutdown_timeout=60)
    for _ in range(10):
        await sup.start(leftovers.block)
    calls = [asyncio.create_task(sup.run(leftovers.block)) for _ in range(100)]
    busy = 10 + min(32, len(calls), inside.settings(sup).pools["thread"].size)
    await until(lambda: len(leftovers.entered) == busy)
    began = time.monotonic()
    report = await sup.shutdown(timeout=timeout)
    assert time.monotonic() - began < timeout + LIMIT, "it has 0.25 s for that where the machine is not busy"
    assert len(report.abandoned) == busy
    assert all(isinstance(error, WorkerStopped) for error in await asyncio.gather(*calls, return_exceptions=True))


async def test_who_obeys_at_once_has_a_moment_for_it_also_where_no_time_is_left(monkeypatch):
    inside.patch(monkeypatch, ASKED_LEAST=LIMIT, LAST_LEAST=LIMIT, LAST_RESORT_SLACK=LIMIT)  # on any machine
    sup = Supervisor(policy=EscalationPolicy(Ask(5)))
    for _ in range(3):
        await sup.start(lambda ctx: ctx.stop.wait())
    call = asyncio.create_task(sup.run(lambda: current_context().stop.wait()))
    await until(lambda: len(sup.workers()) == 4 and all(worker.state == "running" for worker in sup.workers()))
    report = await sup.shutdown(timeout=0)
    assert report.counts() == {"stopped": 4}
    assert await call is True


def test_every_step_still_happens_within_a_short_deadline(virtual, events, leftovers):
    async def main(loop):
        sup = Supervisor(policy=EscalationPolicy(Ask(60), Inject(20, every=100)), shutdown_timeout=8)
        await sup.start(leftovers.block, name="stuck")
        closing = asyncio.create_task(sup.shutdown())
        await loop.advance(0)
        await loop.advance(5.9)
        assert [event["step"] for event in events if event.get("worker") == "stuck" and "step" in event] == ["ask"]
        await loop.advance(0.2)
        assert sup.workers()[0].state == "stopping"
        await loop.advance(2)
        return await closing

    report = virtual(main)
    assert report.counts() == {"abandoned": 1}
    steps = [event["step"] for event in events if event.get("worker") == "stuck" and "step" in event]
    assert steps == ["ask", "inject", "inject"]


def test_a_second_call_shares_the_report_and_only_shortens(virtual, leftovers):
    async def main(loop):
        sup = Supervisor(policy=EscalationPolicy(Ask(math.inf)), shutdown_timeout=100)
        await sup.start(leftovers.block)
        first = asyncio.create_task(sup.shutdown(reason="first"))
        await loop.advance(1)
        second = asyncio.create_task(sup.shutdown(timeout=1000, reason="second"))
        await loop.advance(50)
        assert not first.done()
        third = asyncio.create_task(sup.shutdown(timeout=10))
        await loop.advance(0)
        await loop.advance(9)
        assert not first.done()
        await loop.advance(1.5)
        reports = [await task for task in (first, second, third)]
        assert reports[0] is reports[1] is reports[2] is sup.report
        assert await sup.shutdown() is reports[0]
        return reports[0]

    report = virtual(main)
    assert report.reason == "first"
    assert report.seconds == pytest.approx(61.5, abs=1)


async def test_leaving_the_block_under_cancellation_still_shuts_down():
    ended = []

    def work(ctx):
        ctx.stop.wait()
        time.sleep(0.05)
        ended.append(ctx.reason)

    async def service(cancel):
        async with Supervisor() as sup:
            await sup.start(work)
            cancel()
            await asyncio.sleep(100)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(service(lambda: asyncio.current_task().cancel()))
    with anyio.CancelScope() as scope:
        await service(scope.cancel)
    assert scope.cancelled_caught
    assert ended == ["shutdown", "shutdown"]


@pytest.mark.parametrize("what", ["run", "stop", "shutdown"])
async def test_waiting_out_a_ladder_under_anyio_burns_no_cpu(what, monkeypatch):
    """anyio delivers a cancellation anew on each turn of the loop to whoever waits unshielded."""
    release, turns, selector = threading.Event(), [], asyncio.get_running_loop()._selector
    select = selector.select
    monkeypatch.setattr(selector, "select", lambda *args: turns.append(1) or select(*args))

    def slow_to_obey(*_):
        current_context().stop.wait()
        release.wait(20)

    sup = Supervisor(policy=EscalationPolicy(Ask(30)), shutdown_timeout=60)
    worker = None if what == "run" else await sup.start(slow_to_obey)
    timer = threading.Timer(1.0, release.set)
    began = time.monotonic()
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_later(0.05, lambda: scope.cancel() or timer.start())
        if what == "run":
            await sup.run(slow_to_obey)
        elif what == "stop":
            assert worker is not None
            await worker.stop()
        else:
            await sup.shutdown()
    assert scope.cancelled_caught
    assert time.monotonic() - began >= 0.9
    assert len(turns) < 200, "the loop spun"
    timer.join()
    await sup.shutdown()


async def test_request_shutdown_from_the_loop_and_from_a_thread():
    for where in ("loop", "thread"):
        async with Supervisor() as sup:
            await sup.start(wait_for_stop)
            if where == "loop":
                sup.request_shutdown("asked")
            else:
                thread = threading.Thread(target=sup.request_shutdown, args=("asked",))
                thread.start()
                thread.join()
            report = await sup.wait_closed()
            assert report.reason == "asked"
            assert report.counts() == {"stopped": 1}
            with pytest.raises(SupervisorClosed):
                await sup.run(int)


async def test_request_shutdown_before_the_first_use_is_remembered():
    sup = Supervisor()
    sup.request_shutdown("early")
    async with sup:
        with pytest.raises(SupervisorClosed):
            await sup.start(wait_for_stop)
    assert sup.report is not None
    assert sup.report.reason == "early"


def test_request_shutdown_after_the_loop_has_gone_is_quiet():
    async def main(sup):
        await sup.run(int)

    sup = Supervisor()
    asyncio.run(main(sup))
    sup.request_shutdown("too late")
    with pytest.warns(ResourceWarning, match="never shut down"):
        del sup


async def test_request_shutdown_in_a_signal_handler_that_interrupts_anything():
    """The handler strikes wherever the loop's thread is, a thousand times, also inside the supervisor's own code."""
    struck = 0
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        for _ in range(20):
            sup, storm = Supervisor(), [True]

            def handler(*_, sup=sup, storm=storm):
                nonlocal struck
                struck += 1
                sup.request_shutdown("signal")
                if storm:  # the next one comes only now: on a slow machine each would interrupt the one before
                    signal.setitimer(signal.ITIMER_REAL, 0.0005)

            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            try:
                async with sup:
                    while True:
                        await sup.run(int)
                        await sup.start(wait_for_stop)
            except (SupervisorClosed, WorkerStopped):
                pass
            finally:
                storm.clear()
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert sup.report is not None
            assert sup.report.clean, str(sup.report)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert struck >= 20


async def test_cancelling_wait_closed_stops_only_the_waiting():
    async with Supervisor() as sup:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sup.wait_closed(), 0.01)
        assert await sup.run(int, "5") == 5


async def test_one_life_for_each_supervisor():
    async with Supervisor(name="once") as sup:
        pass
    with pytest.raises(SupervisorClosed, match="'once' has shut down"):
        async with sup:
            pass
    with pytest.raises(SupervisorClosed):
        await sup.run(int)


async def test_an_idle_pool_leaves_no_thread_behind():
    def ours():
        return [thread for thread in threading.enumerate() if thread.name.startswith("idle/")]

    async with Supervisor("idle", max_threads=8) as sup:
        barrier = threading.Barrier(8)
        await asyncio.gather(*(sup.run(barrier.wait, LIMIT) for _ in range(8)))
        await sup.start(wait_for_stop)
        assert len(ours()) == 9
    await until(lambda: not ours())  # whoever is past its last line is waited for, for a moment


async def test_cancelled_calls_are_given_the_whole_ladder_by_a_shutdown():
    entered, unwound = threading.Event(), []

    def work():
        try:
            entered.set()
            spin()
        finally:
            unwound.append(True)

    async with Supervisor(policy=EscalationPolicy(Ask(0.1), Inject(LIMIT))) as sup:
        task = asyncio.create_task(sup.run(work))
        await until(entered.is_set)
        task.cancel()
        await until(lambda: sup.workers()[0].state == "stopping")
        report = await sup.shutdown(timeout=LIMIT)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert report.counts() == {"injected": 1}
    assert unwound == [True]


BEGINS = "import asyncio, supervisor, sys, time; open(sys.argv[1], 'w').write(str(time.monotonic()))\n"


@pytest.fixture
def script(tmp_path):
    """Runs scripts; returns what came of each, and the seconds from the end of its imports to that of its process."""

    def run(body):
        began = tmp_path / "began"
        command = [sys.executable, "-c", BEGINS + textwrap.dedent(body), str(began)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done, time.monotonic() - float(began.read_text())

    return run


def test_a_script_whose_worker_is_blocked_for_ever_exits_within_its_ladder(script):
    done, seconds = script("""
        import asyncio, queue
        from supervisor import Ask, EscalationPolicy, Inject, Supervisor

        def sleeper(ctx):
            queue.SimpleQueue().get()

        async def main():
            async with Supervisor(policy=EscalationPolicy(Ask(0.5), Inject(0.5))) as sup:
                await sup.start(sleeper)
            return sup.report

        print(asyncio.run(main()))
    """)
    assert done.returncode == 0, done.stderr
    assert "1 abandoned" in done.stdout
    assert "in sleeper" in done.stdout
    assert done.stderr == ""
    assert 1.0 <= seconds < 60


def test_on_abandoned_exit_ends_the_process(script):
    done, _ = script("""
        import asyncio, time
        from supervisor import Ask, EscalationPolicy, Supervisor

        async def main():
            async with Supervisor(policy=EscalationPolicy(Ask(0.1)), on_abandoned="exit") as sup:
                await sup.start(lambda ctx: time.sleep(3600))
            print("not reached")

        print("flushed", end="")
        asyncio.run(main())
    """)
    assert done.returncode == 1
    assert "flushed" in done.stdout
    assert "supervisor.stopped" in done.stdout
    assert "not reached" not in done.stdout


def test_on_abandoned_exit_lets_a_clean_shutdown_return(script):
    """The watchdog, which the interpreter has only one of, is called off, and no longer ends the process."""
    done, _ = script("""
        import asyncio, faulthandler
        from supervisor import Supervisor

        def noted(name):
            does = getattr(faulthandler, name)
            def does_it(*args, **options):
                print(name)
                return does(*args, **options)
            setattr(faulthandler, name, does_it)

        noted("dump_traceback_later")
        noted("cancel_dump_traceback_later")

        async def main():
            async with Supervisor(on_abandoned="exit", shutdown_timeout=60) as sup:
                await sup.start(lambda ctx: ctx.stop.wait())
            print("reached")

        asyncio.run(main())
    """)
    assert done.returncode == 0, done.stderr
    armed, *called_off, reached = done.stdout.splitlines()
    assert (armed, reached) == ("dump_traceback_later", "reached")
    assert called_off[-1] == "cancel_dump_traceback_later"


def test_the_watchdog_ends_a_process_whose_interpreter_is_held_by_c_code(script):
    """From the moment on at which the shutdown has begun, and before it has stopped anybody."""
    done, seconds = script("""
        import asyncio, re, sys, threading
        import structlog
        from supervisor import Supervisor

        begun, held = threading.Event(), threading.Event()

        def holds(ctx):
            begun.wait()
            sys.setswitchinterval(1000)  # who waits for the interpreter asks for it only after so many seconds
            held.set()
            re.match(r"(a*)*b", "a" * 40)

        def hold_when_it_begins(logger, method, event):
            if event["event"] == "supervisor.stopping":
                begun.set()
                held.wait()
            raise structlog.DropEvent

        async def main():
            structlog.configure(processors=[hold_when_it_begins])
            async with Supervisor(on_abandoned="exit", shutdown_timeout=0.2) as sup:
                await sup.start(holds)
            print("not reached")

        asyncio.run(main())
    """)
    assert done.returncode == 1
    assert "not reached" not in done.stdout
    assert "Timeout" in done.stderr
    assert "in holds" in done.stderr
    assert seconds < 60


def test_the_watchdog_watches_until_the_report_is_logged(script):
    done, seconds = script("""
        import asyncio, time, structlog
        from supervisor import Supervisor

        def stuck(logger, method, event):
            if event["event"] == "supervisor.stopped":
                time.sleep(3600)
            raise structlog.DropEvent

        structlog.configure(processors=[stuck])

        async def main():
            async with Supervisor(on_abandoned="exit", shutdown_timeout=0.2):
                pass
            print("not reached")

        asyncio.run(main())
    """)
    assert done.returncode == 1
    assert "not reached" not in done.stdout
    assert "Timeout" in done.stderr
    assert seconds < 60


def test_a_shutdown_that_nobody_awaited_holds_nothing_up(script):
    done, seconds = script("""
        import asyncio, time
        from supervisor import Supervisor

        async def main():
            sup = Supervisor()
            await sup.start(lambda ctx: time.sleep(3600))
            print((await sup.run(divmod, 7, 2)))

        asyncio.run(main())
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(3, 1)\n", "")
    assert seconds < 60


@pytest.mark.parametrize("real_stderr", [True, False])
async def test_on_abandoned_exit_step_by_step(monkeypatch, leftovers, events, real_stderr):
    ended = []
    inside.patch(monkeypatch, WATCHDOG_SLACK=60)  # else the real one may end the tests on a slow machine
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr("logging.shutdown", lambda: ended.append("logs are flushed"))
    if not real_stderr:
        monkeypatch.setattr("sys.stderr", None)
    sup = Supervisor(policy=EscalationPolicy(Ask(5)), on_abandoned="exit")
    await sup.start(leftovers.block)
    closing = asyncio.create_task(sup.shutdown())
    await asyncio.sleep(0)
    await sup.shutdown(timeout=0.02)
    await closing
    assert ended == ["logs are flushed", 1]
    names = [event["event"] for event in events]
    assert ("supervisor.watchdog_missing" in names) is not real_stderr
    assert names[-1] == "supervisor.stopped"


async def test_no_queued_call_starts_once_a_shutdown_has_begun_and_each_is_in_the_report():
    """Also where the logger is slow, so that telling everybody takes long."""
    release, started = threading.Event(), []

    class SlowLogger:
        def slow(self, *args, **kwargs):
            release.wait(0.002)

        debug = info = warning = error = slow

    def work(n):
        started.append(n)
        release.wait(0.001)

    sup = Supervisor(logger=SlowLogger(), max_threads=4)
    for _ in range(10):
        await sup.start(lambda ctx: ctx.stop.wait())
    calls = [asyncio.create_task(sup.run(work, n)) for n in range(200)]
    await asyncio.sleep(0)
    live = len(inside.runs(sup))
    begun = asyncio.create_task(sup.shutdown())
    await asyncio.sleep(0)
    at_the_beginning = len(started)
    report = await begun
    await asyncio.gather(*calls, return_exceptions=True)
    assert len(started) - at_the_beginning <= 4
    assert sum(report.counts().values()) >= live - at_the_beginning


async def test_ladders_side_by_side_escalate_each_in_its_time():
    async with Supervisor(policy=EscalationPolicy(Ask(0.1), Inject(60, every=40)), shutdown_timeout=60) as sup:
        for _ in range(3):
            await sup.start(lambda ctx: spin())
        report = await sup.shutdown()
    assert report.counts() == {"injected": 3}
    assert max(outcome.stop_seconds for outcome in report.outcomes) < LIMIT, "the first injection was for each of them"
