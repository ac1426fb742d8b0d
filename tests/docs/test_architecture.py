"""The files that the architecture page leads its reader through are there."""

import re
from pathlib import Path

import pytest

import supervisor

HOUSE = Path(supervisor.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
FILES = {path.relative_to(HOUSE).as_posix() for path in HOUSE.rglob("*.py")}
NAMED = sorted(set(re.findall(r"`((?!docs/)[\w/]+\.py)`", PAGE.read_text())))


def test_the_page_names_files():
    assert len(NAMED) > 20


@pytest.mark.parametrize("name", NAMED)
def test_a_file_that_the_page_names_is_there(name):
    assert any(file == name or file.endswith(f"/{name}") for file in FILES)
