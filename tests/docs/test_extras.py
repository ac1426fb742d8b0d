"""The table of extras has those of pyproject.toml, with what they bring in."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TABLE = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|", (ROOT / "docs" / "extras.md").read_text(), re.MULTILINE))


def name(requirement):
    return re.match(r"[\w.-]+", requirement)[0]


def test_the_table_has_each_extra_and_names_its_packages():
    assert set(TABLE) == set(EXTRAS)
    for extra, requirements in EXTRAS.items():
        assert all(name(requirement) in TABLE[extra] for requirement in requirements)


def test_what_is_said_to_need_nothing_needs_nothing():
    for extra, text in TABLE.items():
        if "needs nothing" in text:
            for requirement in EXTRAS[extra]:
                needed = [other for other in requires(name(requirement)) or () if "extra ==" not in other]
                assert needed == [], requirement
