"""What workers log in their processes is logged here."""

import asyncio
import os
import queue
import time

import pytest
import structlog

from supervisor import Supervisor

from ... import inside
from . import logging_tasks as tasks


@pytest.fixture
def logged():
    """What this process logs, but for the library's own events of runs and shutdowns."""
    captured = []

    def capture(_, method, event):
        if event["event"] == "worker.logs_dropped" or not event["event"].startswith(("worker.", "supervisor.")):
            captured.append({**event, "level": method})
        raise structlog.DropEvent

    structlog.configure(processors=[capture])
    yield captured
    structlog.reset_defaults()


@pytest.fixture
def patient(monkeypatch):
    """A process that leaves has the time that it needs for it on a busy machine."""
    inside.patch(monkeypatch, LEAVE_TIMEOUT=20, QUIET_SLACK=20)


async def until(logged, number):
    deadline = time.monotonic() + 20
    while len(logged) < number:
        assert time.monotonic() < deadline, logged
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("method", ["debug", "info", "warning", "error", "critical"])
async def test_an_event_comes_with_its_level_and_whose_it_is(logged, method):
    async with Supervisor("app") as sup:
        await sup.run(tasks.says, "hello", method, kind="process", name="greeter")
        await until(logged, 1)
    (event,) = logged
    pid = event.pop("pid")
    assert pid != os.getpid()
    assert event == {
        "event": "hello",
        "level": method,
        "supervisor": "app",
        "worker": "greeter",
        "kind": "process",
        "attempt": 1,
    }


async def test_fields_of_its_own_go_before_those_of_the_worker(logged):
    async with Supervisor() as sup:
        await sup.run(says_as_somebody_else, kind="process", name="w")
        await until(logged, 1)
    assert (logged[0]["worker"], logged[0]["kind"], logged[0]["n"]) == ("somebody", "process", 3)


def says_as_somebody_else():
    tasks.says("posing", worker="somebody", n=3)


async def test_what_is_bound_comes_along(logged):
    async with Supervisor() as sup:
        await sup.run(tasks.says_bound, kind="process")
        await until(logged, 1)
    assert (logged[0]["request"], logged[0]["part"]) == ("r1", 2)


async def test_what_cannot_be_sent_comes_as_its_repr(logged):
    async with Supervisor() as sup:
        await sup.run(tasks.says_unsendable, kind="process")
        await until(logged, 1)
    assert (logged[0]["value"], logged[0]["plain"]) == ("<unsendable>", 5)


async def test_an_error_comes_as_the_text_of_its_traceback(logged):
    async with Supervisor() as sup:
        await sup.run(tasks.says_error, kind="process")
        await until(logged, 1)
    assert logged[0]["level"] == "error"
    assert "in says_error" in logged[0]["exception"]
    assert "ValueError: of the worker" in logged[0]["exception"]


async def test_all_of_a_worker_that_ends_is_logged_by_the_end_of_the_shutdown(logged, patient):
    """Its process leaves with its last line: what waits to be sent goes first."""
    async with Supervisor() as sup:
        for number in range(20):
            await sup.start(tasks.worker_says_many, 50, kind="process", name=f"w{number}")
        outcomes = await asyncio.gather(*(worker.wait() for worker in sup.workers()))
    assert all(outcome.ended == "returned" for outcome in outcomes)
    for number in range(20):
        assert [event["n"] for event in logged if event["worker"] == f"w{number}"] == list(range(50))


async def test_what_is_said_after_the_stop_is_logged(logged, patient):
    async with Supervisor() as sup:
        worker = await sup.start(tasks.says_when_stopped, kind="process")
        await worker.ready()
    assert [event["event"] for event in logged] == ["going"]


async def test_a_value_is_logged_as_it_was(logged):
    async with Supervisor() as sup:
        await sup.run(tasks.says_what_changes, kind="process")
        await until(logged, 5)
    assert [event["seen"] for event in logged] == [list(range(n + 1)) for n in range(5)]


async def test_a_value_that_can_later_not_be_sent_any_more_harms_nobody(logged):
    async with Supervisor() as sup:
        await sup.run(tasks.says_what_cannot_be_sent_any_more, kind="process")
        await until(logged, 201)
    assert logged[-1]["event"] == "last"


async def test_threads_of_a_worker_may_log(logged):
    async with Supervisor() as sup:
        await sup.run(tasks.says_in_threads, 100, kind="process", name="w")
        await until(logged, 400)
    assert sorted(event["n"] for event in logged) == sorted([*range(100)] * 4)


async def test_what_is_too_much_is_counted(logged, board):
    """The loop listens to nobody meanwhile: what does not fit on the way is lost, and the call is not held up."""
    async with Supervisor() as sup:
        await sup.run(int, kind="process")
        call = asyncio.ensure_future(sup.run(tasks.says_many, 20_000, board, kind="process", name="w"))
        await asyncio.sleep(0)
        board.wait("said")
        await call
        while not logged or logged[-1]["event"] != "worker.logs_dropped":
            await until(logged, len(logged) + 1)
    lines = [event["n"] for event in logged if event["event"] == "line"]
    (dropped,) = (event for event in logged if event["event"] == "worker.logs_dropped")
    assert len(lines) + dropped["dropped"] == 20_000
    assert lines == sorted(lines)
    assert (dropped["worker"], dropped["level"]) == ("w", "warning")


async def test_who_configures_structlog_in_there_logs_by_himself(logged):
    async with Supervisor() as sup:
        assert await sup.run(tasks.configured_itself, kind="process") == ["my own"]
    assert logged == []


def test_an_event_that_cannot_be_forwarded_keeps_no_other_from_it():
    sent = queue.SimpleQueue()
    errors = [MemoryError("on purpose")]

    def send(parts):
        if errors:
            raise errors.pop()
        sent.put(inside.said(parts))

    by_it = inside.forwarder(send)
    inside.forward(by_it, event="first")
    forwarded = []
    while ("logs_dropped", "w", 1) not in forwarded:
        inside.forward(by_it, event="another")
        forwarded.append(sent.get(timeout=5))
    assert [what[0] for what in forwarded] == ["log"] * (len(forwarded) - 1) + ["logs_dropped"]


def test_events_are_forwarded_with_and_without_a_thread_for_that(monkeypatch):
    sent = queue.SimpleQueue()
    by_it = inside.forwarder(lambda parts: sent.put(inside.said(parts)))

    def start(*args):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("_thread.start_new_thread", start)
        inside.forward(by_it, event="first")
        assert sent.qsize() == 1
    inside.forward(by_it, event="second")
    assert [sent.get(timeout=5)[4] for _ in range(2)] == ["first", "second"]
