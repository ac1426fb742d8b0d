"""The table of log events in the docs has exactly the events of the code. Fields and levels are checked by `events`."""

import ast
import re
from pathlib import Path

import pytest

import supervisor
from supervisor import Transition

from .catalogue import catalogue, contradictions

CODE = [
    path for path in Path(supervisor.__file__).parent.rglob("*.py") if path.name not in ("outcome.py", "__init__.py")
]

EVENT = re.compile(r"(worker|supervisor|loop)\.[a-z_]+")


def literals():
    """Names of events that stand in calls and in dicts in the code."""
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            values = node.args if isinstance(node, ast.Call) else node.values if isinstance(node, ast.Dict) else ()
            for value in values:
                if isinstance(value, ast.Constant) and EVENT.fullmatch(str(value.value)):
                    yield value.value


def of_transitions():
    states = ("queued", "running", "stopping", "backing_off", "ended")
    yield from (Transition("app", "w", "thread", old=None, new=new).event for new in states)
    yield Transition("app", "w", "thread", old="stopping", new="stopping").event


def test_the_docs_have_exactly_the_events_of_the_code():
    assert set(catalogue()) == {*literals(), *of_transitions()}


@pytest.mark.parametrize(
    "event",
    [
        {"event": "worker.queued", "level": "info"},
        {"event": "worker.queued", "level": "debug", "pid": 3},
        {"event": "worker.gone", "level": "info"},
    ],
)
def test_what_the_docs_do_not_have_is_found(event):
    assert list(contradictions([event])) == [event]
    assert list(contradictions([{"event": "worker.queued", "level": "debug", "worker": "w"}])) == []
