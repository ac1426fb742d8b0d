"""The pictures of the ladders show the default policy, on light pages and on dark ones."""

import runpy
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from supervisor import EscalationPolicy

LADDERS = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "ladders.py"))
DRAWINGS = [pytest.param(*drawing, id=LADDERS["target"](*drawing).stem) for drawing in LADDERS["DRAWINGS"]]
TEXT = "{http://www.w3.org/2000/svg}text"


@pytest.mark.parametrize(("kind", "paper"), DRAWINGS)
def test_the_picture_in_the_docs_is_that_of_the_policy(kind, paper):
    assert LADDERS["target"](kind, paper).read_text() == LADDERS["svg"](kind, paper), "run `python docs/ladders.py`"


@pytest.mark.parametrize(("kind", "paper"), DRAWINGS)
def test_it_has_each_step_when_it_begins_and_how_a_worker_ends_there(kind, paper):
    texts = [element.text for element in ET.parse(LADDERS["target"](kind, paper)).iter(TEXT)]
    at = 0.0
    for step in EscalationPolicy().for_kind(kind):
        assert {type(step).__name__, step.ended} <= set(texts)
        assert any(text.split(":")[0] == f"{at:g} s" for text in texts)
        at += step.grace
    assert {f"{at:g} s", "abandoned"} <= set(texts)


def test_only_what_stands_on_the_page_itself_differs_between_light_and_dark():
    light, dark = LADDERS["PAPERS"]
    for kind in LADDERS["KINDS"]:
        redrawn = LADDERS["svg"](kind, light).replace(light.ink, dark.ink).replace(light.faint, dark.faint)
        assert redrawn == LADDERS["svg"](kind, dark)
