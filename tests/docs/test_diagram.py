"""The diagram in the docs shows what the machine does."""

import runpy
from pathlib import Path

DIAGRAM = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "diagram.py"))


def test_the_drawing_in_the_docs_is_that_of_the_machine():
    assert DIAGRAM["TARGET"].read_text() == DIAGRAM["drawing"](), "run `python docs/diagram.py`"


def test_the_drawing_has_every_state_of_the_machine_and_what_matters():
    edges = DIAGRAM["edges"]()
    assert {state for edge in edges for state in edge} == {"queued", "starting", "running", "stopping", "ended"}
    assert edges["running", "stopping"] == ["StopAsked"]
    assert edges["stopping", "ended"] == ["Exited", "Abandoned"]
