"""What people and programs read cannot be forged: at each exit, reasons, function names and errors break no line.

Names are not among them: those that could are refused (tests/api/test_names.py).
"""

import asyncio
import json
import pickle
import sys
import threading

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from supervisor import Ask, EscalationPolicy, Outcome, ShutdownReport, Supervisor, WorkerContext
from supervisor.metrics import register
from supervisor.otel import instrument
from supervisor.systemd import notify

from ..waiting import until

EVIL = "x\n2026-11-28 [critical ] root shell opened\r\x1b[31m\x9b2J\u2028\u202e\ud800"
REASON = f"why {EVIL}"


def evil(function):
    function.__qualname__ = f"evil {EVIL}"
    return function


def is_one_line(text):
    return text.isprintable()


def is_text(text):
    """Whether it has nothing that is shown otherwise than it is but for line breaks, which it may have."""
    return all(is_one_line(line.replace("\t", "")) for line in text.split("\n"))


class EvilError(Exception):
    def __str__(self):
        return EVIL


@evil
def fails():
    raise EvilError


@evil
def waits(ctx):
    ctx.stop.wait()


def deaf(event):
    """A function that hears nothing, in a file of an evil name."""
    names = {"event": event}
    file = EVIL if sys.gettrace() is None else EVIL.replace("\ud800", "")  # coverage's tracer would raise over that one
    exec(compile("def deaf(ctx):\n    event.wait()", f"/tmp/{file}.py", "exec"), names)
    return evil(names["deaf"])


async def a_life_full_of_evil(sup, leftovers):
    """Has everything happen that says something: failures, stops, groups, abandoned runs; returns the report."""
    with pytest.raises(EvilError):
        await sup.run(fails)
    with pytest.raises(EvilError):
        await sup.run(fails, kind="process")
    worker = await sup.start(evil(lambda ctx: fails()))
    await worker.wait()
    await (await sup.start(waits)).stop(REASON)

    @evil
    def callback():
        raise EvilError

    def calls_back(ctx: WorkerContext):
        with ctx.on_stop(callback):
            ctx.stop.wait()

    group = sup.group("feeds")
    await group.start(calls_back)
    await group.shutdown(reason=REASON)
    await sup.start(deaf(leftovers.release))
    return await sup.shutdown(timeout=0.2, reason=REASON)


@pytest.fixture
def lines():
    """The log, each event as one line without any quotes, and apart from it the stacks and errors."""
    written = []

    def capture(logger, method, event):
        for name, value in event.items():
            if name == "stack":
                assert is_text(value)
            elif name != "exc_info":
                written.append(f"{name}={value}")
        raise structlog.DropEvent

    structlog.configure(processors=[capture])
    yield written
    structlog.reset_defaults()


EXITS = EscalationPolicy(Ask(0.05))


async def test_the_log(lines, leftovers):
    async with Supervisor(policy=EXITS) as sup:
        await a_life_full_of_evil(sup, leftovers)
    assert len(lines) > 50
    assert [line for line in lines if not is_one_line(line)] == []
    for event in ("worker.ended", "worker.callback_failed", "supervisor.group_stopping", "supervisor.stopped"):
        assert f"event={event}" in lines


async def test_the_report(quiet, leftovers):
    async with Supervisor(policy=EXITS) as sup:
        report = await a_life_full_of_evil(sup, leftovers)
    text = str(report)
    assert is_text(text)
    assert [line for line in text.split("\n") if line.startswith("2026")] == []
    assert text.split("\n", maxsplit=1)[0].startswith(
        r"shutdown (why x\n2026-11-28 [critical ] root shell opened\r\x1b[31m"
    )
    assert json.dumps(report.to_dict(), ensure_ascii=False).encode()


def test_a_report_that_somebody_has_made():
    outcome = Outcome(EVIL, "thread", ended="abandoned", error=EvilError(), stack=f"  File {EVIL}\n")
    lines = str(ShutdownReport(REASON, (outcome,), 1.0)).split("\n")
    assert all(map(is_one_line, lines))
    assert len(lines) == 7  # two of them the stack's


async def test_the_metrics(quiet, leftovers):
    registry = CollectorRegistry()
    async with Supervisor(policy=EXITS) as sup:
        register(sup, registry=registry)
        await a_life_full_of_evil(sup, leftovers)
        assert is_text(generate_latest(registry).decode())


async def test_spans(quiet, leftovers):
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with Supervisor(policy=EXITS) as sup:
        instrument(sup, tracer_provider=provider)
        await a_life_full_of_evil(sup, leftovers)
    spans = exporter.get_finished_spans()
    assert len(spans) >= 8
    texts = [span.name for span in spans] + [span.status.description or "" for span in spans]
    for attributes in [span.attributes for span in spans] + [
        event.attributes for span in spans for event in span.events
    ]:
        texts += [value for value in attributes.values() if isinstance(value, str)]
    assert [text for text in texts if not is_text(text)] == []
    assert any(EVIL.encode("unicode_escape").decode() in text.replace("\n", r"\n") for text in texts)


async def test_systemd(quiet, leftovers, monkeypatch, tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with Supervisor(policy=EXITS) as sup:
            notify(sup).ready(EVIL)
            await a_life_full_of_evil(sup, leftovers)
        lines = []
        while True:
            try:
                lines += manager.recv(5000).decode().split("\n")
            except BlockingIOError:
                break
    assert all(map(is_one_line, lines))
    assert {line.split("=")[0] for line in lines} == {"READY", "STATUS", "STOPPING", "EXTEND_TIMEOUT_USEC"}


async def test_transitions_and_what_the_supervisor_says_of_what_is_there(quiet, leftovers):
    async with Supervisor(policy=EXITS) as sup:
        transitions = sup.transitions()
        worker = await sup.start(waits)
        call = asyncio.ensure_future(sup.run(evil(lambda: leftovers.release.wait(0.3))))
        executor = sup.executor()
        future = executor.submit(evil(lambda: leftovers.release.wait(0.3)))
        await until(lambda: len(sup.stacks()) == 3)
        said = [*sup.stacks(), *map(repr, sup.workers()), repr(sup), repr(future), repr(sup.health()), worker.name]
        assert all(map(is_one_line, said))
        assert all(map(is_text, sup.stacks().values()))
        names = [thread.name for thread in threading.enumerate()]
        assert any("evil" in name for name in names)
        assert all(map(is_one_line, names))
        await call
        await asyncio.wrap_future(future)
        await a_life_full_of_evil(sup, leftovers)
    for transition in [transition async for transition in transitions]:
        assert is_one_line(repr(transition))
        assert is_one_line(f"{transition.worker} {transition.reason}")


async def test_errors(quiet, leftovers):
    async with Supervisor(policy=EXITS) as sup:
        with pytest.raises(TypeError) as refused:
            await sup.run(evil(lambda: None).__get__(threading.Lock()), kind="process")
        assert is_one_line(str(refused.value))
        worker = await sup.start(waits)
        running = asyncio.ensure_future(sup.run(deaf(leftovers.release), None))
        await until(lambda: len(sup.stacks()) == 2)
        await sup.shutdown(timeout=0.1, reason=REASON)
        with pytest.raises(Exception, match="evil") as stopped:
            await running
        assert is_one_line(str(stopped.value))
        assert is_one_line(repr(pickle.loads(pickle.dumps(worker.outcome))))
