"""The drawings in the docs show what the machines do."""

import runpy
from pathlib import Path

import pytest

DIAGRAM = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "diagram.py"))


@pytest.mark.parametrize("drawing", DIAGRAM["DRAWINGS"], ids=lambda drawing: drawing.file)
def test_the_drawing_in_the_docs_is_that_of_the_machine(drawing):
    assert drawing.target.read_text() == drawing.svg(), "run `python docs/diagram.py`"


def test_the_drawing_of_a_run_has_every_state_of_the_machine_and_what_matters():
    edges = DIAGRAM["RUN"].edges()
    assert {state for edge in edges for state in edge} == {"queued", "starting", "running", "stopping", "ended"}
    assert edges["running", "stopping"] == ["StopAsked"]
    assert edges["stopping", "ended"] == ["Exited", "Abandoned"]


def test_the_drawing_of_a_worker_has_every_state_of_the_machine_and_what_matters():
    edges = DIAGRAM["WORKER"].edges()
    assert edges == {
        ("up", "backing off"): ["RunEnded (failed)"],
        ("up", "over"): ["RunEnded (returned)"],
        ("up", "up"): ["RestartAsked", "StopAsked"],
        ("backing off", "held"): ["TimePassed", "RestartAsked"],
        ("backing off", "over"): ["StopAsked"],
        ("held", "up"): ["TurnCame"],
        ("held", "over"): ["StopAsked"],
    }


def test_the_drawing_of_a_group_has_every_phase_and_what_matters():
    edges = DIAGRAM["GROUP"].edges()
    assert {state for edge in edges for state in edge} == {"steady", "coming down", "going up", "ending"}
    assert edges["steady", "coming down"] == ["Failed"]
    assert {"Due", "Gone"} <= set(edges["coming down", "going up"])
    assert edges["going up", "coming down"] == ["Failed"]
    assert "Ready" in edges["going up", "steady"]
    assert edges["ending", "steady"] == ["Emptied"]
    assert all(edges[state, "ending"] == ["EndAsked"] for state in ("steady", "coming down", "going up"))
