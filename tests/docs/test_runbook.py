"""The runbook has an answer for each log event and each alert."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

import supervisor
from supervisor import Health, Statistics, Supervisor
from supervisor.metrics import METRICS

from .. import inside
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
    named = set(re.findall(r"`(\w+)`", look)) - {"shutdown", "stop", "timeout", "cancelled", "abandoned"}
    assert named <= fields


# ------------------------------------------------------------------------------------------------ what else it names

FIELDS = {field for _, fields in catalogue().values() for field in fields}
WORDS = {
    *get_args(inside.StepName),
    *get_args(inside.Ended),
    *(field.name for kind in (Health, Statistics) for field in dataclasses.fields(kind)),
    *(name for name in dir(Supervisor) if not name.startswith("_")),
    *supervisor.__all__,
    *inspect.signature(Supervisor).parameters,
}
OF_PLATFORMS = {"terminationGracePeriodSeconds", "TimeoutStopSec", "NOTIFY_SOCKET"}
QUOTED = re.compile(r"`([^`\n]+)`")


@pytest.mark.parametrize("name", sorted(set(QUOTED.findall(RUNBOOK))))
def test_what_it_tells_its_reader_to_look_at_is_there_under_that_name(name):
    if re.fullmatch(r"supervisor_\w+", name):
        assert name in {metric.name for metric in METRICS}
    elif re.fullmatch(r"(worker|supervisor|loop)\.\w+", name):
        assert name in catalogue()
    elif re.fullmatch(r"Supervisor[A-Z]\w+", name):
        assert name in alerts()
    elif match := re.fullmatch(r"(\w+)=(\w+)", name):  # a field, or an argument, with a value
        assert match[1] in FIELDS | {"kind"}
        assert match[2] in WORDS | {"process"}
    elif match := re.fullmatch(r"(?:sup\.)?(\w+)\(\)", name):
        assert match[1] in WORDS
    elif re.fullmatch(r"\w+", name):
        assert name in FIELDS | WORDS | OF_PLATFORMS | {"stop", "cancelled"}
    else:
        assert name in OTHERS


OTHERS = {
    "python -m supervisor ps",
    "python -m supervisor ps --incidents",
    "python -m supervisor stack",
    "/ready",
    "/live",
    "py-spy dump --pid PID",
    'kind="process"',
    'on_abandoned="exit"',
    "ctx.stop",
    "os._exit",
    "os.closerange",
    "docs/prometheus/alerts.yml",
    "docs/prometheus/dashboard.json",
}
