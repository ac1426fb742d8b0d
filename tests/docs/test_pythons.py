"""The supported Pythons are the same wherever they are listed, in the table of what an injection leaves as well."""

import re
import runpy
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEAKS = runpy.run_path(str(ROOT / "docs" / "leaks.py"))


def supported():
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    return [version for classifier in classifiers for version in re.findall(r"Python :: (3\.\d+)$", classifier)]


def test_ci_gets_those_that_the_package_says_it_supports():
    script = (ROOT / ".ci" / "pythons").read_text()
    assert re.search(r'supported="(.*)"', script)[1].split() == supported()


def test_the_pages_name_the_oldest_and_the_newest():
    first, last = supported()[0], supported()[-1]
    for page in ("README.md", "docs/explanation/promises.md", "CONTRIBUTING.md"):
        assert f"{first} to {last}" in (ROOT / page).read_text(), page


def test_the_table_of_leaks_has_each_case_on_each_python():
    rows = re.search(r"<!-- leaks -->\n(.*?)\n<!-- -->", (ROOT / "docs" / "injection.md").read_text(), re.DOTALL)[1]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]
    assert cells[0][1:] == supported()
    assert [row[0] for row in cells[2:]] == [case.__doc__ for case in LEAKS["CASES"]]


def test_a_loop_in_a_function_of_its_own_misses_no_handler():
    assert LEAKS["tried"](20)[LEAKS["InACallee"].__doc__] == 0
