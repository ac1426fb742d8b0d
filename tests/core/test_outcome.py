"""Outcomes, transitions and reports: values that survive pickling, JSON and a terminal."""

import dataclasses
import json
import pickle
import threading

import pytest

from supervisor import (
    Outcome,
    RemoteError,
    ShutdownReport,
    SupervisorBusy,
    SupervisorClosed,
    Transition,
    WorkerExit,
    WorkerFailed,
    WorkerStopped,
    WorkerTimeout,
)

from .. import inside


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Unloadable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


STOPPED = Outcome("poller", "thread", ended="stopped", step="ask", seconds=3.0, stop_seconds=0.5)
STUCK = Outcome("sleeper", "thread", ended="abandoned", step="inject", stack="  File x, line 1\n")


@pytest.mark.parametrize(
    "outcome",
    [
        STOPPED,
        STUCK,
        Outcome("a", "thread", value={"rows": [1, 2]}),
        Outcome("a", "process", 3, ended="died", exit_code=-9),
    ],
)
def test_an_outcome_survives_pickling(outcome: Outcome) -> None:
    assert pickle.loads(pickle.dumps(outcome)) == outcome


@pytest.mark.parametrize("value", [threading.Lock(), lambda: 1])
def test_a_value_that_cannot_be_pickled_becomes_none(value: object) -> None:
    copy = pickle.loads(pickle.dumps(Outcome("a", "thread", value=value, seconds=2.0)))
    assert copy == Outcome("a", "thread", value=None, seconds=2.0)


def test_an_error_that_cannot_be_pickled_becomes_a_remote_error() -> None:
    copy = pickle.loads(pickle.dumps(Outcome("a", "thread", ended="failed", error=Unloadable(1, 2))))
    assert isinstance(copy.error, RemoteError)
    assert str(copy.error) == "Unloadable: 1"


@pytest.mark.parametrize(
    "error",
    [
        WorkerStopped(STUCK),
        WorkerTimeout(STUCK),
        WorkerExit("a", 3),
        WorkerFailed("a", KeyboardInterrupt("x")),
        RemoteError("x"),
        SupervisorBusy("x"),
        SupervisorClosed("x"),
    ],
)
def test_errors_survive_pickling(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert repr(vars(copy)) == repr(vars(error))


def test_errors_say_what_happened_to_whom() -> None:
    assert str(WorkerStopped(STUCK)).startswith("worker 'sleeper' was stopped: it was abandoned 0.0 s after")
    assert "ran out of time" in str(WorkerTimeout(STOPPED))
    assert "had not started" in str(WorkerStopped(Outcome("q", "thread", ended="cancelled")))
    assert str(WorkerFailed("a", KeyboardInterrupt())) == "worker 'a' raised KeyboardInterrupt()"


def test_a_report_is_clean_unless_somebody_was_forced() -> None:
    assert ShutdownReport().clean
    assert ShutdownReport(outcomes=(STOPPED, Outcome("a", "thread"), Outcome("b", "thread", ended="cancelled"))).clean
    for ended in ("failed", "injected", "terminated", "killed", "abandoned", "died"):
        assert not ShutdownReport(outcomes=(Outcome("a", "thread", ended=ended),)).clean  # type: ignore[arg-type]


def test_a_report_counts_and_lists() -> None:
    report = ShutdownReport("deploy", (STOPPED, STUCK, STUCK), 1.5, never_started=7)
    assert report.counts() == {"stopped": 1, "abandoned": 2, "cancelled": 7}
    assert report.abandoned == (STUCK, STUCK)


def test_a_report_is_json() -> None:
    failed = Outcome("f", "thread", ended="failed", error=Unprintable(), value=object())
    data = json.loads(json.dumps(ShutdownReport("deploy", (STOPPED, STUCK, failed), 1.5).to_dict()))
    assert data["reason"] == "deploy"
    assert data["clean"] is False
    assert data["counts"] == {"stopped": 1, "abandoned": 1, "failed": 1}
    assert data["outcomes"][0]["ended"] == "stopped"
    assert data["outcomes"][1]["stack"] == "  File x, line 1\n"
    assert data["outcomes"][2]["error"] == "Unprintable: <its text is not to be had: RuntimeError>"
    assert "value" not in data["outcomes"][2]


def test_the_text_of_a_report_is_a_table_with_the_stacks_of_the_stuck() -> None:
    failed = Outcome("f", "thread", 2, ended="failed", error=ValueError("no\nmore"))
    lines = str(ShutdownReport("deploy", (STOPPED, STUCK, failed), 1.5)).splitlines()
    assert lines[0] == "shutdown (deploy) took 1.50 s: 1 failed, 1 stopped, 1 abandoned"
    assert lines[1].split() == ["worker", "kind", "ended", "step", "ran", "to", "stop", "error"]
    assert lines[2].split() == ["poller", "thread", "stopped", "ask", "3.00", "s", "0.50", "s"]
    assert "f (run 2)" in lines[4]
    assert lines[4].endswith("ValueError: no")
    assert lines[-2:] == ["sleeper was last seen at:", "  File x, line 1"]
    assert "in C code; what would end it: " in lines[3]
    assert str(ShutdownReport()) == "shutdown took 0.00 s: nothing was running"


def test_a_report_survives_pickling() -> None:
    report = ShutdownReport("deploy", (STOPPED, STUCK), 1.5, never_started=7)
    assert pickle.loads(pickle.dumps(report)) == report


def test_a_transition_names_its_event() -> None:
    assert Transition("s", "w", "thread").event == "worker.queued"
    assert Transition("s", "w", "thread", old="running", new="stopping").event == "worker.stopping"
    assert Transition("s", "w", "thread", old="stopping", new="stopping").event == "worker.escalated"
    assert Transition("s", "w", "thread", old="stopping", new="ended").event == "worker.ended"


@pytest.mark.parametrize(("record", "make"), [(Outcome, inside.make_outcome), (Transition, inside.make_transition)])
def test_a_record_that_is_made_quickly_is_like_any_other(record, make):
    quick, usual = make("poller", "thread", 3), record("poller", "thread", 3)
    assert type(quick) is record
    assert quick == usual
    assert repr(quick) == repr(usual)
    assert pickle.loads(pickle.dumps(quick)) == usual
    with pytest.raises(dataclasses.FrozenInstanceError):
        quick.worker = "other"


def test_a_record_that_is_made_quickly_has_each_value_in_its_place():
    values = tuple(range(len(dataclasses.fields(Transition))))
    assert dataclasses.astuple(inside.make_transition(*values)) == values
