"""`supervisor.otel`: which spans there are, whose children they are, and what they say."""

import asyncio
import contextlib
import contextvars
import functools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Restart,
    Supervisor,
    SupervisorBusy,
    WorkerDied,
    WorkerStopped,
    WorkerTimeout,
)
from supervisor.otel import instrument

from .. import inside
from ..waiting import until
from . import lean, traced


class Traces:
    """A real SDK, whose spans stay in memory."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def ended(self, name):
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name):
        (span,) = self.ended(name)
        return span

    def instrument(self, sup):
        return instrument(sup, tracer_provider=self.provider)


@pytest.fixture
def traces():
    return Traces()


@pytest.fixture(params=["thread", "process"])
def kind(request):
    return request.param


def ids(span):
    return span.context.trace_id, span.context.span_id


def is_child(span, parent):
    return span.parent is not None and (span.parent.trace_id, span.parent.span_id) == ids(parent)


def event_names(span):
    return [event.name for event in span.events]


async def eventually(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        await asyncio.sleep(0.002)


# ------------------------------------------------------------------------------------------------ whose child


async def test_a_call_is_a_child_of_the_callers_span_and_the_current_one_inside(traces, kind):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        with traces.tracer.start_as_current_span("request") as request:
            within = await sup.run(traced.current_span, kind=kind, name="call")
    span = traces.one("current_span")
    assert is_child(span, request)
    assert within == ids(span)


async def test_a_worker_is_a_child_of_its_starters_span_and_the_current_one_inside(traces, kind):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        with traces.tracer.start_as_current_span("request") as request:
            worker = await sup.start(traced.current_spans_of, kind=kind)
        outcome = await worker.wait()
    span = traces.one("current_spans_of")
    assert is_child(span, request)
    assert outcome.value == ids(span)


async def test_an_executors_call_is_a_child_of_its_submitters_span_from_any_thread(traces, kind):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        executor = sup.executor(kind)

        def elsewhere():
            with traces.tracer.start_as_current_span("thread") as outer:
                return outer, executor.submit(traced.current_span)

        outer, future = await asyncio.to_thread(elsewhere)
        within = await asyncio.wrap_future(future)
        await eventually(lambda: traces.ended("current_span"))
    span = traces.one("current_span")
    assert is_child(span, outer)
    assert within == ids(span)


async def test_a_call_of_the_default_executor_has_its_span_inside(traces):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        sup.install_as_default_executor()
        with traces.tracer.start_as_current_span("outer") as outer:
            within = await asyncio.to_thread(traced.current_span)
        await eventually(lambda: traces.ended("current_span"))
    span = traces.one("current_span")
    assert is_child(span, outer)
    assert within == ids(span)


async def test_a_context_that_a_function_enters_keeps_no_span(traces):
    own = contextvars.copy_context()
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        executor = sup.executor()
        for _ in range(2):
            within = await asyncio.wrap_future(executor.submit(functools.partial(own.run, traced.current_span)))
            await eventually(lambda: traces.ended("current_span"))
            assert within == ids(traces.one("current_span"))
            assert own.run(trace.get_current_span) is trace.INVALID_SPAN
            traces.exporter.clear()


async def test_a_context_that_somebody_is_in_is_left_alone(traces, events):
    own = contextvars.copy_context()
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        future = own.run(sup.executor().submit, functools.partial(own.run, traced.current_span))
        with contextlib.suppress(RuntimeError):  # where the thread was faster than who submitted it
            await asyncio.wrap_future(future)
        await eventually(lambda: traces.ended("current_span"))
    assert "supervisor.listener_failed" not in [event["event"] for event in events]


async def test_a_span_that_the_function_starts_is_a_child_of_the_calls(traces, kind):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        trace_id, parent = await sup.run(traced.own_span, kind=kind)
    assert (trace_id, parent) == ids(traces.one("own_span"))


async def test_calls_of_several_tasks_each_belong_to_their_own_tasks_span(traces, kind):
    async def request(number):
        with traces.tracer.start_as_current_span(f"request {number}") as span:
            return ids(span), await sup.run(traced.own_span, kind=kind)

    async with Supervisor("app", max_processes=2) as sup:
        traces.instrument(sup)
        pairs = await asyncio.gather(*map(request, range(20)))
    assert len({outer for outer, _ in pairs}) == 20
    for (trace_id, _), within in pairs:
        assert within[0] == trace_id


async def test_without_a_callers_span_a_call_begins_a_trace(traces):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        await sup.run(traced.current_span)
    assert traces.one("current_span").parent is None


async def test_nothing_of_it_stays_on_the_thread_or_in_the_process(traces, kind):
    async with Supervisor("app", max_threads=1, max_processes=1) as sup:
        instrumentation = traces.instrument(sup)
        await sup.run(traced.current_span, kind=kind)
        instrumentation.undo()
        assert await sup.run(traced.current_span, kind=kind) == (0, 0)


async def test_baggage_reaches_threads_and_processes(traces, kind):
    token = context.attach(baggage.set_baggage("fruit", "äpple"))
    try:
        async with Supervisor("app") as sup:
            traces.instrument(sup)
            assert await sup.run(traced.fruit_in_the_baggage, kind=kind) == "äpple"
    finally:
        context.detach(token)


async def test_a_process_imports_opentelemetry_only_for_a_call_that_belongs_to_a_span(traces):
    async with Supervisor("app", max_processes=1) as sup:
        assert not await sup.run(lean.has_opentelemetry, kind="process")
        instrumentation = traces.instrument(sup)
        assert await sup.run(lean.has_opentelemetry, kind="process")
        instrumentation.undo()
    async with Supervisor("app", max_processes=1) as sup:
        instrument(sup)  # with the global provider, which is none here: there are no spans
        assert not await sup.run(lean.has_opentelemetry, kind="process")


# ------------------------------------------------------------------------------------------------ what a span says


async def test_the_attributes_say_which_run_it_was_and_how_it_ended(traces, kind):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        await sup.run(time.sleep, 0.05, kind=kind, name="call")
    span = traces.one("sleep")
    attributes = dict(span.attributes)
    seconds = attributes.pop("supervisor.seconds")
    assert seconds >= 0.05 if kind == "thread" else seconds > 0  # what a process says may be heard late
    handle = attributes.pop("thread.id" if kind == "thread" else "process.pid")
    assert handle != (threading.get_ident() if kind == "thread" else os.getpid())
    assert attributes == {
        "supervisor.name": "app",
        "supervisor.worker": "call",
        "supervisor.kind": kind,
        "supervisor.attempt": 1,
        "supervisor.ended": "returned",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.end_time - span.start_time >= 0.05e9


async def test_the_name_is_the_functions_whatever_the_worker_is_called(traces):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        for number in range(3):
            await sup.run(abs, -1, name=f"call of {number}")
        await sup.run(abs, -1)
    assert len(traces.ended("abs")) == 4


async def test_the_time_in_the_queue_can_be_seen(traces):
    free = threading.Event()
    async with Supervisor("app", max_threads=1) as sup:
        traces.instrument(sup)
        calls = [asyncio.ensure_future(sup.run(fn, *args)) for fn, *args in ((free.wait,), (time.sleep, 0.1))]
        await until(lambda: sup.statistics().workers == {"running": 1, "queued": 1})
        time.sleep(0.05)
        free.set()
        await asyncio.gather(*calls)
    span = traces.one("sleep")
    (entered,) = span.events
    assert entered.name == "worker.running"
    assert entered.attributes["supervisor.wait_seconds"] >= 0.04
    assert entered.timestamp - span.start_time >= 0.04e9
    assert span.end_time - entered.timestamp >= 0.09e9


async def test_the_times_are_those_of_the_thread_also_where_the_loop_is_late(traces):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        call = asyncio.ensure_future(sup.run(time.sleep, 0.01))
        await asyncio.sleep(0)
        (worker,) = sup.workers()
        while not inside.is_ending(worker):
            time.sleep(0.001)
        time.sleep(0.01)
        late = time.time_ns()  # the loop hears of the beginning and of the end only now
        await call
    span = traces.one("sleep")
    assert span.start_time <= span.events[0].timestamp <= span.end_time < late


async def test_an_error_is_recorded(traces, kind):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        with pytest.raises(ValueError):
            await sup.run(traced.fails, kind=kind)
    span = traces.one("fails")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "ValueError: no"
    assert span.attributes["supervisor.ended"] == "failed"
    assert span.attributes["error.type"] == "ValueError"
    exception = span.events[-1]
    assert exception.name == "exception"
    assert 'raise ValueError("no")' in exception.attributes["exception.stacktrace"]


async def test_the_death_of_a_process_is_an_error(traces):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        with pytest.raises(WorkerDied):
            await sup.run(traced.dies, kind="process")
    span = traces.one("dies")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "died with exit code 7"
    assert (span.attributes["error.type"], span.attributes["supervisor.exit_code"]) == ("died", 7)


def test_a_call_that_is_stopped_is_no_error_and_its_steps_are_events(virtual, monkeypatch, traces, kind):
    inside.patch(monkeypatch, ASKING_TIME=10)  # a busy process may be late to say where it stands

    async def main(virtual_time):
        async with Supervisor("app", policy=EscalationPolicy(Ask(0.05), Inject(10))) as sup:
            traces.instrument(sup)
            call = asyncio.ensure_future(sup.run(traced.spins, kind=kind, timeout=5))
            await until(lambda: "in spins" in "".join(sup.stacks().values()))
            await virtual_time.advance(5.05)
            with pytest.raises(WorkerTimeout):
                await call

    virtual(main)
    span = traces.one("spins")
    assert span.status.status_code is StatusCode.UNSET
    assert event_names(span) == ["worker.running", "worker.stopping", "worker.escalated"]
    assert [event.attributes.get("supervisor.step") for event in span.events] == [None, "ask", "inject"]
    assert "in spins" in span.events[2].attributes["code.stacktrace"]
    assert (span.attributes["supervisor.ended"], span.attributes["supervisor.step"]) == ("injected", "inject")
    assert span.attributes["supervisor.reason"] == "timeout"
    assert span.attributes["supervisor.stop_seconds"] == pytest.approx(0.05)


async def test_a_queued_call_that_is_withdrawn_ends_its_span(traces):
    free = threading.Event()
    async with Supervisor("app", max_threads=1) as sup:
        traces.instrument(sup)
        busy = asyncio.ensure_future(sup.run(free.wait))
        await asyncio.sleep(0)
        with pytest.raises(WorkerTimeout):
            await sup.run(abs, -1, timeout=0.01)
        free.set()
        await busy
    assert traces.one("abs").attributes["supervisor.ended"] == "cancelled"


async def test_an_abandoned_run_is_an_error_whose_rest_is_a_child(traces, leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(0.01), Inject(0.01))) as sup:
        traces.instrument(sup)
        call = asyncio.ensure_future(sup.run(leftovers.block))
        await until(lambda: leftovers.entered)
        await sup.workers()[0].stop()
        with pytest.raises(WorkerStopped):
            await call
        span = traces.one("Leftovers.block")
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "abandoned"
        assert not traces.ended("Leftovers.block (abandoned)")
        await asyncio.sleep(0.05)
        leftovers.release.set()
        await eventually(lambda: traces.ended("Leftovers.block (abandoned)"))
    rest = traces.one("Leftovers.block (abandoned)")
    assert is_child(rest, span)
    assert rest.start_time == span.end_time
    assert rest.end_time - rest.start_time >= 0.04e9


async def test_a_call_that_cannot_be_sent_to_a_process_has_an_error(traces):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        lock = threading.Lock()
        with pytest.raises(TypeError):
            await sup.run(id, lock, kind="process", name="call")
        with pytest.raises(TypeError):
            await sup.start(traced.waits, lock, kind="process")
        assert await sup.run(id, 1, kind="process", name="call")
    refused, _ = traces.ended("id")
    for span in (refused, traces.one("waits")):
        assert span.status.status_code is StatusCode.ERROR
        assert "cannot be sent to a process" in span.status.description


async def test_a_call_that_is_one_too_many_has_an_error(traces):
    free = threading.Event()
    async with Supervisor("app", max_threads=1, max_queued=0) as sup:
        traces.instrument(sup)
        busy = asyncio.ensure_future(sup.run(free.wait))
        await asyncio.sleep(0)
        with pytest.raises(SupervisorBusy):
            sup.executor().submit(abs, -1)
        free.set()
        await busy
    assert traces.one("abs").status.status_code is StatusCode.ERROR


# ------------------------------------------------------------------------------------------------ restarts, shutdowns


async def test_a_restart_is_a_sibling_with_a_link_to_the_run_before(traces):
    attempts = []
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        with traces.tracer.start_as_current_span("starter") as starter:
            await sup.start(traced.fails_once, attempts, restart=Restart("failure", backoff=0), name="worker")
        await eventually(lambda: len(attempts) == 2)
    first, second = traces.ended("fails_once")
    assert attempts == [ids(first), ids(second)]
    assert is_child(first, starter)
    assert is_child(second, starter)
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is StatusCode.UNSET
    assert [(link.context.trace_id, link.context.span_id) for link in second.links] == [ids(first)]
    assert not first.links
    assert [span.attributes["supervisor.attempt"] for span in (first, second)] == [1, 2]


async def test_the_last_run_of_a_worker_that_is_given_up_is_traced_as_it_ended(traces):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        again = Restart("failure", max_restarts=1, backoff=0, within=600)
        worker = await sup.start(traced.dies_as_worker, kind="process", restart=again)
        await worker.wait()
    assert [span.attributes["supervisor.ended"] for span in traces.ended("dies_as_worker")] == ["died", "died"]
    assert [span.attributes["error.type"] for span in traces.ended("dies_as_worker")] == ["died", "died"]


async def test_the_workers_of_a_group_that_begins_anew_are_still_children_of_their_starters_span(traces):
    attempts = []
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        group = sup.group("feeds", restart=Restart("always", backoff=0))
        with traces.tracer.start_as_current_span("starter") as starter:
            await group.start(traced.fails_once, attempts, restart=Restart("failure", max_restarts=0), name="worker")
        await eventually(lambda: len(attempts) == 2)
    first, second = traces.ended("fails_once")
    assert is_child(second, starter)
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert first.status.description.startswith("ValueError")


async def test_a_shutdown_is_a_child_of_the_span_of_who_asked_for_it(traces):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        await sup.start(traced.waits)
        with traces.tracer.start_as_current_span("end") as end:
            await sup.shutdown(reason="deploy")
    span = traces.one("shutdown")
    assert is_child(span, end)
    assert dict(span.attributes) == {
        "supervisor.name": "app",
        "supervisor.reason": "deploy",
        "supervisor.clean": True,
        "supervisor.outcomes.stopped": 1,
    }
    assert span.status.status_code is StatusCode.UNSET
    worker = traces.one("waits")
    assert span.start_time <= worker.end_time <= span.end_time


async def test_a_shutdown_that_has_to_abandon_is_an_error(traces, leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(0.01))) as sup:
        traces.instrument(sup)
        await sup.start(leftovers.block)
    span = traces.one("shutdown")
    assert span.status.status_code is StatusCode.ERROR
    assert "1 abandoned" in span.status.description


async def test_the_shutdown_of_a_group_is_a_span_of_its_own(traces):
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        async with sup.group("feeds") as group:
            await group.start(traced.waits, name="worker")
    of_group, of_all = traces.ended("shutdown")
    assert of_group.attributes["supervisor.group"] == "feeds"
    assert "supervisor.group" not in of_all.attributes
    assert traces.one("waits").attributes["supervisor.worker"] == "feeds/worker"


# ------------------------------------------------------------------------------------------------ on and off


async def test_it_may_be_switched_on_before_the_first_use_and_while_runs_are_under_way(traces):
    sup = Supervisor("app")
    instrumentation = traces.instrument(sup)
    async with sup:
        await sup.run(abs, -1)
        instrumentation.undo()
        await sup.run(abs, -1)
        worker = await sup.start(traced.waits)
        traces.instrument(sup)
        await worker.stop()
        await sup.run(abs, -1)
    assert len(traces.ended("abs")) == 2
    assert not traces.ended("waits")


async def test_what_has_begun_still_ends_after_an_undo(traces):
    async with Supervisor("app") as sup:
        instrumentation = traces.instrument(sup)
        worker = await sup.start(traced.waits)
        instrumentation.undo()
        instrumentation.undo()
        assert "undone" in repr(instrumentation)
        await sup.run(abs, -1)
        assert inside.has_subscribers(sup)
        await worker.stop()
        assert not inside.has_subscribers(sup)  # and from here on it costs nothing again
    assert traces.one("waits").attributes["supervisor.ended"] == "stopped"
    assert not traces.ended("abs")
    assert not traces.ended("shutdown")


async def test_to_switch_it_on_twice_is_refused(traces):
    sup = Supervisor("app")
    instrumentation = traces.instrument(sup)
    with pytest.raises(RuntimeError, match=r"'app' is instrumented already: undo\(\)"):
        traces.instrument(sup)
    instrumentation.undo()
    traces.instrument(sup)
    async with sup:
        await sup.run(abs, -1)
    assert traces.one("abs")


async def test_wrong_arguments_are_refused_at_once(traces):
    with pytest.raises(TypeError, match="supervisor='app'"):
        instrument("app")
    with pytest.raises(TypeError, match="tracer_provider=3"):
        instrument(Supervisor(), tracer_provider=3)
    async with Supervisor("app") as sup:
        with pytest.raises(ValueError, match="is a group"):
            instrument(sup.group("feeds"))


def test_without_opentelemetry_the_error_names_the_extra():
    script = "import sys; sys.modules['opentelemetry'] = None; import supervisor.otel"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr.strip().endswith(
        "ImportError: supervisor.otel needs opentelemetry-api: install the extra stopladder[otel]"
    )


# ------------------------------------------------------------------------------------------------ what goes wrong


class Broken(SpanProcessor):
    """Raises at each span: a listener's error, to the supervisor."""

    def on_start(self, span, parent_context=None):
        raise SystemExit("broken")


async def test_a_span_processor_that_raises_harms_no_worker_and_is_logged_once(traces, kind, events):
    traces.provider.add_span_processor(Broken())
    async with Supervisor("app") as sup:
        traces.instrument(sup)
        assert await sup.run(abs, -1, kind=kind) == 1
        assert await asyncio.wrap_future(sup.executor(kind).submit(abs, -2)) == 2
        worker = await sup.start(traced.waits, kind=kind)
        assert (await worker.stop()).ended == "stopped"
    failed = [event for event in events if event["event"] == "supervisor.listener_failed"]
    assert [(event["level"], event["listener"]) for event in failed] == [("error", "Spans.receive")]
    assert isinstance(failed[0]["exc_info"], SystemExit)


async def test_where_a_process_cannot_import_opentelemetry_the_call_goes_on_and_it_is_logged(traces, events):
    async with Supervisor("app", max_processes=1) as sup:
        await sup.run(traced.hides_opentelemetry, kind="process")
        traces.instrument(sup)
        assert await sup.run(abs, -1, kind="process", name="call") == 1
    (failed,) = [event for event in events if event["event"] == "supervisor.listener_failed"]
    assert (failed["worker"], failed["listener"]) == ("call", "SpanContext")
    assert "ModuleNotFoundError" in str(failed["exc_info"])


async def test_in_a_workers_thread_a_listener_is_shielded(traces):
    """An exception that is injected must not strike in what a listener calls."""
    depths = []
    async with Supervisor("app") as sup:

        def listen(news):
            if isinstance(news, inside.RunSubmitted) and threading.current_thread() is not threading.main_thread():
                depths.append(inside.depth_of_shield(sup))

        with inside.subscribed(sup, listen):
            inner = await sup.run(lambda: sup.executor().submit(abs, -1))
            assert await asyncio.wrap_future(inner) == 1
    assert len(depths) == 1
    assert depths[0] > 0


async def test_injections_and_spans_do_not_meet(traces):
    """Calls that are cancelled at any moment: each has one span, and none is current where it does not belong."""

    async def request(number):
        with contextlib.suppress(WorkerTimeout):
            await sup.run(traced.spins, timeout=0.001 * (number % 7), policy=EscalationPolicy(Inject(10, every=0.01)))

    async with Supervisor("app", max_threads=4) as sup:
        instrumentation = traces.instrument(sup)
        await asyncio.gather(*map(request, range(200)))
        instrumentation.undo()
        assert await asyncio.gather(*(sup.run(traced.current_span) for _ in range(20))) == [(0, 0)] * 20
    spans = traces.ended("spins")
    assert len(spans) == 200
    assert {span.attributes["supervisor.ended"] for span in spans} <= {"injected", "cancelled"}


async def test_a_process_that_is_killed_by_somebody_else_ends_its_span(traces):
    async with Supervisor("app", max_processes=1) as sup:
        traces.instrument(sup)
        worker = await sup.start(traced.waits, kind="process")
        os.kill(worker.pid, signal.SIGKILL)
        await worker.wait()
    assert traces.one("waits").status.description == "died with exit code -9"
