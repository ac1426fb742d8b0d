"""The docs' front page shows both ladders, and says what they show; the page of examples has each of them."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LADDERS = runpy.run_path(str(ROOT / "docs" / "ladders.py"))
FRONT = (ROOT / "docs" / "index.md").read_text()
EXAMPLES = (ROOT / "docs" / "examples.md").read_text()


@pytest.mark.parametrize("kind", LADDERS["KINDS"])
def test_it_shows_each_ladder_on_light_and_on_dark_pages_and_says_what_it_shows(kind):
    for paper in LADDERS["PAPERS"]:
        picture = LADDERS["target"](kind, paper).name
        assert f'<img src="{picture}" class="only-{paper.name}" alt="{LADDERS["described"](kind)}">' in FRONT


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.*")), ids=lambda path: path.name)
def test_each_example_is_shown_with_a_link_to_its_file(example):
    assert f"```{{literalinclude}} ../examples/{example.name}\n" in EXAMPLES
    assert f"[{example.name}](../examples/{example.name})" in EXAMPLES


def test_a_page_that_names_an_example_links_to_it():
    for page in (ROOT / "docs").rglob("*.md"):
        if "_build" not in page.parts:
            assert not re.findall(r"(?<!\[)`examples/[\w.]+`", page.read_text()), page
