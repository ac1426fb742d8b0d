"""The table of blocked calls is what the Python at hand does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .test_pythons import supported

DOCS = Path(__file__).parents[2] / "docs"
HERE = "{}.{}".format(*sys.version_info)

A_FEW = ("lock", "event", "recv", "loop", "stop_wait")


def cells(table):
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines() if row.startswith("|")]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in (rows[0], *rows[2:])}


PAGE = cells(re.search(r"<!-- blocked -->\n(.*?)\n<!-- -->", (DOCS / "blocked.md").read_text(), re.DOTALL)[1])


def tried(*rows):
    command = [sys.executable, DOCS / "blocked.py", "--print", *(("--rows", *rows) if rows else ())]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_CORE")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {name: row[HERE] for name, row in cells(done.stdout).items() if name != "blocked in"}


def what(cell):
    """What ended it, without how long it took."""
    return cell.split(",")[0]


def test_it_has_all_the_pythons_and_nothing_that_was_not_tried():
    assert list(PAGE["blocked in"])[:-1] == supported()
    assert not [name for name, row in PAGE.items() if "not tried" in row.values() or "[" in row["otherwise"]]


def test_a_few_rows_are_what_happens_here():
    found = tried(*A_FEW)
    assert len(found) == len(A_FEW)
    assert {name: what(cell) for name, cell in found.items()} == {name: what(PAGE[name][HERE]) for name in found}


@pytest.mark.slow
def test_all_rows_are_what_happens_here():
    found = tried()
    assert list(found) == list(PAGE)[1:]
    differ = {name: cell for name, cell in found.items() if what(cell) not in ("not tried", what(PAGE[name][HERE]))}
    assert not differ
