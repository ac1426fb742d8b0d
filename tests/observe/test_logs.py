"""One structlog event for each transition: which, at which level, with which fields; and a logger that misbehaves."""

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import signal
import sys
import threading

import pytest
import structlog

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerDied, WorkerTimeout

from .. import inside
from ..waiting import until


def spin():
    while True:
        pass


def told(events, worker=None):
    return [
        (event["level"], event["event"], event.get("step"), event.get("ended"))
        for event in events
        if event.get("worker") == worker
    ]


async def test_a_call_is_told_at_debug(events):
    async with Supervisor("app") as sup:
        await sup.run(int, name="call")
        with pytest.raises(ValueError):
            await sup.run(int, "x", name="fails")
    assert told(events, "call") == [
        ("debug", "worker.queued", None, None),
        ("debug", "worker.running", None, None),
        ("debug", "worker.ended", None, "returned"),
    ]
    assert told(events, "fails")[-1] == ("debug", "worker.ended", None, "failed")
    queued, running, ended = (event for event in events if event.get("worker") == "call")
    assert queued.keys() == {"supervisor", "worker", "kind", "attempt", "new", "elapsed", "event", "level"}
    assert (queued["supervisor"], queued["kind"], queued["attempt"], queued["new"]) == ("app", "thread", 1, "queued")
    assert (running["old"], running["new"]) == ("queued", "running")
    assert isinstance(running["ident"], int)
    assert (ended["old"], ended["new"]) == ("running", "ended")


async def test_what_a_logger_leaves_out_is_not_made_for_it_but_errors_are_always_given_to_it():
    given = []

    class Picky:
        def is_enabled_for(self, level):
            return level > logging.ERROR

        def bind(self):
            return self

        def __getattr__(self, method):
            return lambda event, **fields: given.append((method, event))

    async with Supervisor(logger=Picky(), policy=EscalationPolicy(Ask(0), Inject(20))) as sup:
        await (await sup.start(lambda ctx: spin())).stop()
        await (await sup.start(lambda ctx: 1 / 0)).wait()
    assert [event for event in given if event[1].startswith("worker")] == [("error", "worker.ended")]


async def test_a_long_lived_worker_is_told_at_info(events):
    async with Supervisor() as sup:
        worker = await sup.start(lambda ctx: ctx.stop.wait(), name="w")
        await worker.stop("why")
    assert told(events, "w") == [
        ("info", "worker.running", None, None),
        ("info", "worker.stopping", "ask", None),
        ("info", "worker.ended", "ask", "stopped"),
    ]
    assert [event.get("reason") for event in events if event.get("worker") == "w"] == [None, "why", "why"]
    of_stop = [event.get("stop_seconds") for event in events if event.get("worker") == "w"]
    assert of_stop == [None, None, round(worker.outcome.stop_seconds, 6)]


async def test_a_long_lived_worker_that_fails_is_told_as_an_error_with_its_traceback(events):
    async with Supervisor() as sup:
        await (await sup.start(lambda ctx: 1 / 0, name="w")).wait()
    assert told(events, "w")[-1] == ("error", "worker.ended", None, "failed")
    assert isinstance(events[-3]["exc_info"], ZeroDivisionError)


async def test_escalation_is_told_as_a_warning_with_the_stack_and_abandonment_as_an_error(events, leftovers):
    sup = Supervisor(policy=EscalationPolicy(Ask(0.02), Inject(0.05, every=0.01)))
    worker = await sup.start(leftovers.block, name="w")
    await until(lambda: "lock.acquire" in worker.stack())
    report = await sup.shutdown(reason="deploy")
    assert told(events, "w") == [
        ("info", "worker.running", None, None),
        ("info", "worker.stopping", "ask", None),
        ("warning", "worker.escalated", "inject", None),
        ("error", "worker.ended", "inject", "abandoned"),
    ]
    escalated, ended = (event for event in events if "stack" in event)
    assert "in block" in escalated["stack"]
    assert escalated["stack"] == ended["stack"] == report.outcomes[0].stack
    stopping, stopped = (event for event in events if event["event"].startswith("supervisor."))
    assert (stopping["level"], stopping["reason"], stopping["workers"]) == ("info", "deploy", 1)
    assert (stopped["level"], stopped["clean"], stopped["counts"]) == ("warning", False, {"abandoned": 1})


async def test_nothing_is_printed_by_a_newcomers_first_run(capfd):
    structlog.reset_defaults()
    async with Supervisor() as sup:
        await sup.start(lambda ctx: ctx.stop.wait())
        await sup.run(int)
    assert capfd.readouterr().out == ""


async def test_a_warning_is_printed_though_nobody_configured_anything(capfd):
    structlog.reset_defaults()
    async with Supervisor(policy=EscalationPolicy(Ask(0.01), Inject(20))) as sup:
        await (await sup.start(lambda ctx: spin())).stop()
    out = capfd.readouterr().out
    assert "worker.escalated" in out
    assert "in spin" in out


async def test_a_configuration_that_comes_later_is_honoured():
    seen = []

    def capture(logger, method, event):
        seen.append(event["event"])
        raise structlog.DropEvent

    async with Supervisor() as sup:
        await sup.run(int)
        structlog.configure(processors=[capture])
        try:
            await (await sup.start(lambda ctx: ctx.stop.wait())).stop()
            await sup.run(int)
        finally:
            structlog.reset_defaults()
    assert seen == [
        "worker.running",
        "worker.stopping",
        "worker.ended",
        "worker.queued",
        "worker.running",
        "worker.ended",
    ]


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
async def test_debug_costs_nothing_where_it_is_filtered_out(level):
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    try:
        async with Supervisor() as sup:
            assert not inside.logs_debug(sup)
    finally:
        structlog.reset_defaults()


async def test_a_logger_of_the_users_own_is_used(events):
    entries = []
    logger = structlog.wrap_logger(None, processors=[lambda _, method, event: entries.append((method, event)) or ""])
    logger = logger.bind(service="mine")

    class Sink:
        def __getattr__(self, name):
            return lambda *args, **kwargs: None

    logger = structlog.wrap_logger(
        Sink(), processors=[lambda _, method, event: entries.append((method, dict(event))) or ""], service="mine"
    )
    async with Supervisor(logger=logger) as sup:
        await sup.run(int)
    assert events == []
    assert {event["service"] for _, event in entries} == {"mine"}
    assert [event["event"] for _, event in entries][:3] == ["worker.queued", "worker.running", "worker.ended"]


def broken_logger(error):
    class Broken:
        def fail(self, *args, **kwargs):
            raise error

        debug = info = warning = error = fail

    return Broken()


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, asyncio.CancelledError, GeneratorExit])
async def test_a_logger_that_raises_harms_nobody_and_is_reported_once(error):
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    async with Supervisor(
        "app", logger=broken_logger(error("disk full")), policy=EscalationPolicy(Ask(0.02), Inject(20))
    ) as sup:
        assert await sup.run(int, "5") == 5
        worker = await sup.start(lambda ctx: spin())
        with pytest.raises(WorkerTimeout):
            await sup.run(spin, timeout=0.01)
        assert (await worker.stop()).ended == "injected"
    assert sup.report is not None
    (report,) = reports
    assert "supervisor 'app': its logger raised" in report["message"]
    assert str(report["exception"]) == "disk full"


async def test_a_logger_and_an_exception_handler_that_both_exit_end_nothing():
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: sys.exit("handler"))
    async with Supervisor(logger=broken_logger(SystemExit("logger"))) as sup:
        assert await sup.run(int, "5") == 5
        await (await sup.start(lambda ctx: ctx.stop.wait())).stop()
    assert sup.report.clean


async def test_a_logger_that_exits_ends_no_thread_that_submits_and_none_that_works():
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with Supervisor(logger=broken_logger(SystemExit(3))) as sup:
        executor = sup.executor()
        assert await asyncio.to_thread(lambda: executor.submit(int, "5").result()) == 5
        transitions = sup.transitions()  # from here on each call is logged
        assert await asyncio.to_thread(lambda: executor.submit(int, "6").result()) == 6
        assert await sup.run(threading.get_ident) == await sup.run(threading.get_ident)
        await transitions.aclose()


async def test_an_interrupt_that_strikes_in_a_logger_is_the_loops():
    """Ctrl-C may come at any moment, while an event is written as well: it is not lost."""
    interrupts = [KeyboardInterrupt()]

    class Interrupted:
        def write(self, event, **fields):
            if event == "worker.running" and interrupts:
                raise interrupts.pop()

        debug = info = warning = error = write

    def serve():
        async def main():
            async with Supervisor(logger=Interrupted()) as sup:
                await sup.start(lambda ctx: ctx.stop.wait())
                await asyncio.sleep(30)

        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(main())

    with pytest.raises(KeyboardInterrupt):
        await asyncio.to_thread(serve)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_only_an_interrupt_on_the_loops_thread_or_the_main_one_passes(error):
    loop = asyncio.new_event_loop()
    handled = []

    def handler(loop, context):
        handled.append(context["message"])
        raise error

    def report(where):
        inside.report_error(loop, where, ValueError())

    async def report_on_the_loop():
        report("on the loop")

    def passes(function, *args):
        try:
            function(*args)
        except KeyboardInterrupt:
            return True
        return False

    loop.set_exception_handler(handler)
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        assert not other.submit(passes, report, "elsewhere").result()
        on_the_loop = other.submit(passes, lambda: loop.run_until_complete(report_on_the_loop())).result()
    assert on_the_loop == passes(report, "on the main thread") == (error is KeyboardInterrupt)
    loop.close()
    assert handled == ["elsewhere", "on the loop", "on the main thread"]


def dies(how):
    if how < 0:
        os.kill(os.getpid(), -how)
    os._exit(how)


@pytest.mark.parametrize(
    ("how", "name"),
    [(3, None), (-signal.SIGKILL, "SIGKILL"), (-(signal.SIGRTMIN + 2), f"signal {signal.SIGRTMIN + 2}")],
)
async def test_how_a_process_has_died_is_told(events, how, name):
    async with Supervisor() as sup:
        with pytest.raises(WorkerDied):
            await sup.run(dies, how, kind="process", name="call")
    ended = events[[event["event"] for event in events].index("worker.ended")]
    assert (ended["level"], ended["ended"], ended["exit_code"], ended.get("signal")) == ("error", "died", how, name)
