"""What people and programs read cannot be forged: at each exit, reasons, function names and errors break no line.

Names are not among them: those that could are refused (tests/api/test_names.py).
"""

import asyncio
import contextlib
import enum
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

from supervisor import (
    Ask,
    EscalationPolicy,
    Outcome,
    Restart,
    ShutdownReport,
    Supervisor,
    WorkerContext,
    WorkerExit,
    WorkerFailed,
)
from supervisor.metrics import register
from supervisor.otel import instrument
from supervisor.systemd import notify

from ..waiting import LIMIT, until

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
        called.set()
        raise EvilError

    def calls_back(ctx: WorkerContext):
        with ctx.on_stop(callback):
            called.wait(LIMIT)

    called = threading.Event()
    group = sup.group("feeds")
    await group.start(calls_back, policy=EscalationPolicy(Ask(LIMIT)))
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
        go_on = threading.Event()
        call = asyncio.ensure_future(sup.run(evil(lambda: go_on.wait(LIMIT))))
        executor = sup.executor()
        future = executor.submit(evil(lambda: go_on.wait(LIMIT)))
        await until(lambda: len(sup.stacks()) == 3)
        said = [*sup.stacks(), *map(repr, sup.workers()), repr(sup), repr(future), repr(sup.health()), worker.name]
        assert all(map(is_one_line, said))
        assert all(map(is_text, sup.stacks().values()))
        names = [thread.name for thread in threading.enumerate()]
        assert any("evil" in name for name in names)
        assert all(map(is_one_line, names))
        go_on.set()
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


# ------------------------------------------------------------------------------------------------ what lies


class Liar(str):
    """A text that says of itself what it likes."""

    __slots__ = ()

    def isprintable(self):
        return True

    def __str__(self):
        return self

    def __repr__(self):
        return EVIL

    def __format__(self, spec):
        return EVIL

    def __contains__(self, other):
        return False

    def __iter__(self):
        return iter("fine")

    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


class Colour(str, enum.Enum):  # noqa: UP042  # of which str() is no value
    RED = "red"


class Raises(type):
    def __getattribute__(cls, name):
        return 1 / 0 if name in ("__qualname__", "__name__") else type.__getattribute__(cls, name)


class NamelessError(Exception, metaclass=Raises):
    def __str__(self):
        raise SystemExit

    def __repr__(self):
        raise SystemExit


class Nameless(metaclass=Raises):
    def __getattr__(self, name):
        raise ZeroDivisionError if name == "__qualname__" else AttributeError

    def __call__(self):
        raise NamelessError


class ForgedError(Exception):
    pass


ForgedError.__qualname__ = ForgedError.__module__ = EVIL


@pytest.mark.parametrize("name", [Liar(EVIL), Liar("a/b"), Liar("")], ids=["evil", "slash", "empty"])
async def test_a_text_that_lies_about_itself_is_no_name(name):
    with pytest.raises(ValueError, match=r"must (not be empty|have no line breaks)"):
        Supervisor(name)
    async with Supervisor() as sup:
        for refused in (sup.start(waits, name=name), sup.run(int, name=name)):
            with pytest.raises(ValueError):
                await refused


async def test_a_name_or_a_reason_is_the_text_that_it_is_and_no_more(events):
    async with Supervisor(Liar("app")) as sup:
        worker = await sup.start(waits, name=Colour.RED)
        await worker.stop(Liar(EVIL))
        await (await sup.group(Colour.RED).start(waits, name=Liar("reader"))).stop(Colour.RED)
        await sup.shutdown(reason=Liar(EVIL))
    texts = [value for event in events for value in event.values() if isinstance(value, str)]
    assert {type(text) for text in texts} == {str}
    assert all(map(is_one_line, texts))
    assert {event["worker"] for event in events if "worker" in event} == {"red", "red/reader"}


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_types_that_lie_about_their_names(lines, kind):
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with Supervisor() as sup:
        instrument(sup, tracer_provider=provider)
        with contextlib.suppress(Exception):  # pytest would show the name of its type
            await sup.run(Nameless(), kind=kind)
        workers = [await sup.start(raises, error, kind=kind) for error in ("forged", "nameless", "exit")]
        outcomes = [await worker.wait() for worker in workers]
        assert sup.statistics().failed == 3
    for outcome in outcomes:
        assert is_one_line(repr(outcome))
        assert is_text(json.dumps(outcome.to_dict(), ensure_ascii=False))
    assert is_text(str(sup.report))
    assert is_text(repr(sup.report))
    assert "NamelessError: <its text is not to be had: SystemExit>" in str(sup.report)
    assert [line for line in lines if not is_one_line(line)] == []
    texts = [value for span in exporter.get_finished_spans() for value in span.attributes.values()]
    assert [text for text in texts if isinstance(text, str) and not is_text(text)] == []


def raises(ctx, what):
    if what == "exit":
        sys.exit(ForgedRepr())
    raise ForgedError(EVIL) if what == "forged" else NamelessError


class ForgedRepr:
    def __repr__(self):
        return EVIL


def test_errors_show_what_they_hold_as_one_line():
    assert is_one_line(str(WorkerExit("w", ForgedRepr())))
    assert is_one_line(str(WorkerFailed("w", KeyboardInterrupt(Liar(EVIL)))))
    assert str(WorkerFailed("w", NamelessError())) == "worker 'w' raised <NamelessError, whose repr raises SystemExit>"


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_no_frame_of_a_stack_can_be_forged(quiet, kind):
    async with Supervisor(policy=EXITS) as sup:
        worker = await sup.start(stands_in_a_forged_frame, kind=kind, ready_timeout=120)
        lines = []
        while not any("in_here" in line for line in lines):
            lines = worker.stack().split("\n")
    assert [line for line in lines if not is_one_line(line) or line.startswith('  File "forged')] == []
    assert any(r"\n  File " in line for line in lines)


def stands_in_a_forged_frame(ctx):
    ctx.ready()
    names = {"is_set": ctx.stop.is_set}  # it runs in Python: of what stands in C code, the frames are written otherwise
    exec(compile("def in_here():\n    while not is_set(): pass", 'x", line 1 in y\n  File "forged.py', "exec"), names)
    names["in_here"]()


async def test_the_log_escapes_what_others_have_not(events):
    def fails_for_good(ctx):
        raise ForgedError

    async with Supervisor() as sup:
        group = sup.group("feeds", restart=Restart("never"))
        await group.start(fails_for_good, restart=Restart("failure", max_restarts=0))
        await group.wait_closed()
    texts = [value for event in events for key, value in event.items() if isinstance(value, str) and key != "stack"]
    assert all(map(is_one_line, texts))
