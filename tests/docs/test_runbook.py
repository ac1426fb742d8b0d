"""The runbook has an answer for each log event and each alert."""

import re
from pathlib import Path

import pytest
import yaml

from .catalogue import catalogue

DOCS = Path(__file__).parents[2] / "docs"
RUNBOOK = (DOCS / "runbook.md").read_text()
ROW = re.compile(r"^\| `([\w.]+)` \| (.+) \|$", re.MULTILINE)


def rows(heading):
    """First column -> the others, of the table under a heading."""
    (part,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    return {name: cells.split(" | ") for name, cells in ROW.findall(part)}


def alerts():
    rules = yaml.safe_load((DOCS / "prometheus" / "alerts.yml").read_text())
    return {rule["alert"] for group in rules["groups"] for rule in group["rules"]}


def test_it_knows_each_log_event_and_no_other():
    assert set(rows("By log event")) == set(catalogue())


def test_it_knows_each_alert_and_no_other():
    assert set(rows("By alert")) == alerts()


@pytest.mark.parametrize("event", sorted(catalogue()))
def test_the_fields_to_look_at_are_those_of_the_event(event):
    meaning, look, do = rows("By log event")[event]
    assert meaning.strip()
    assert do.strip()
    _, fields = catalogue()[event]
    named = set(re.findall(r"`(\w+)`", look)) - {"shutdown", "timeout", "cancelled", "abandoned"}
    assert named <= fields
