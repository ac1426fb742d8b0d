"""What is told of workers: log events, transitions, statistics, the report."""

import json
import pickle

import pytest

from supervisor import ShutdownReport, Supervisor

from . import functions as f
from .test_calls import held
from .test_stopping import INJECTING, started


def of(events, worker):
    return [event for event in events if event.get("worker") == worker]


async def test_the_events_of_a_call(kind, board, events):
    async with Supervisor("app") as sup:
        assert await sup.run(int, "5", kind=kind, name="call") == 5
    queued, running, ended = of(events, "call")
    assert [event["event"] for event in (queued, running, ended)] == ["worker.queued", "worker.running", "worker.ended"]
    assert {event["level"] for event in (queued, running, ended)} == {"debug"}
    assert {(event["kind"], event["attempt"], event["supervisor"]) for event in (queued, running, ended)} == {
        (kind, 1, "app")
    }
    which, other = ("ident", "pid") if kind == "thread" else ("pid", "ident")
    assert which not in queued
    assert running[which] == ended[which] > 0
    assert not any(other in event for event in (queued, running, ended))
    assert ended["ended"] == "returned"


async def test_the_events_of_a_worker_that_climbs_its_ladder(kind, board, events):
    async with Supervisor(policy=INJECTING) as sup:
        worker = await started(sup, board, f.spinner_worker, kind, name="w")
        await worker.stop("why")
    told = [(event["event"], event["level"], event.get("step"), event.get("reason")) for event in of(events, "w")]
    again = told.count(("worker.escalated", "warning", "inject", "why"))
    assert told == [
        ("worker.running", "info", None, None),
        ("worker.stopping", "info", "ask", "why"),
        *[("worker.escalated", "warning", "inject", "why")] * again,
        ("worker.ended", "info", "inject", "why"),
    ]
    assert again == 1
    (escalated,) = (event for event in of(events, "w") if event["event"] == "worker.escalated")
    assert "in spin" in escalated["stack"] or "does not answer" in escalated["stack"]  # a process that gets no time


async def test_a_worker_that_fails_is_told_with_its_error(kind, events):
    async with Supervisor() as sup:
        await (await sup.start(f.fails, ValueError("mine"), kind=kind, name="w")).wait()
    ended = of(events, "w")[-1]
    assert (ended["event"], ended["level"], ended["ended"]) == ("worker.ended", "error", "failed")
    assert str(ended["exc_info"]) == "mine"


async def test_every_change_of_a_worker_is_seen_in_order(kind, board):
    async with Supervisor("app", policy=INJECTING) as sup:
        seen = sup.transitions()
        worker = await started(sup, board, f.spinner_worker, kind, name="spin")
        await worker.stop("enough")
    transitions = [transition async for transition in seen]
    assert [
        (transition.worker, transition.old, transition.new, transition.step, transition.ended)
        for transition in transitions
    ] == [
        ("spin", "starting", "running", None, None),
        ("spin", "running", "stopping", "ask", None),
        ("spin", "stopping", "stopping", "inject", None),
        ("spin", "stopping", "ended", "inject", "injected"),
    ]
    assert {transition.kind for transition in transitions} == {kind}
    assert {transition.reason for transition in transitions[1:]} == {"enough"}
    assert {(transition.pid is None, transition.ident is None) for transition in transitions} == {
        (kind == "thread", kind == "process")
    }
    assert sorted(transition.at for transition in transitions) == [transition.at for transition in transitions]


async def test_calls_are_seen_too(kind):
    async with Supervisor() as sup:
        seen = sup.transitions()
        await sup.run(int, kind=kind, name="call")
        assert [(await anext(seen)).new for _ in range(3)] == ["queued", "running", "ended"]


async def test_statistics_count_what_there_is(kind, where, board):
    async with Supervisor(max_threads=1, max_processes=1) as sup:
        assert sup.statistics().processes == 0
        call = await held(sup, board, kind)
        waiting = [sup.executor(kind).submit(int) for _ in range(2)]
        await sup.start(f.wait_for_stop, kind=kind)
        now = sup.statistics()
        assert (dict(now.workers), now.queued, now.abandoned, now.stopping) == (
            {"running": 2, "queued": 2},
            *(2, 0, False),
        )
        assert (now.threads, now.processes) == {"thread": (2, 0), "process": (0, 2)}.get(where, (0, 0))  # those here
        board.post("release")
        await call
        assert len(waiting) == 2
    now = sup.statistics()
    assert (dict(now.workers), now.threads, now.processes, now.stopping) == ({}, 0, 0, True)


async def test_the_report_and_its_outcomes_survive_pickling_and_are_json(kind, board):
    sup = Supervisor(policy=INJECTING)
    await started(sup, board, f.spinner_worker, kind, name="w")
    report = await sup.shutdown(reason="deploy")
    copy = pickle.loads(pickle.dumps(report))
    assert isinstance(copy, ShutdownReport)
    assert copy.counts() == report.counts() == {"injected": 1}
    (outcome,) = json.loads(json.dumps(report.to_dict()))["outcomes"]
    assert (outcome["worker"], outcome["kind"], outcome["ended"], outcome["step"]) == ("w", kind, "injected", "inject")
    assert "in spin" in outcome["stack"] or "does not answer" in outcome["stack"]  # a process that gets no time


@pytest.mark.parametrize("listened", [False, True])
async def test_calls_come_out_the_same_whether_anybody_listens_or_not(kind, listened):
    async with Supervisor() as sup:
        seen = sup.transitions() if listened else None
        assert await sup.run(int, "5", kind=kind) == 5
        with pytest.raises(ValueError, match="invalid literal"):
            await sup.run(int, "x", kind=kind)
        with pytest.raises(OSError):
            await sup.run(f.fail, OSError(2, "text"), kind=kind)
    assert (seen is not None) is listened
