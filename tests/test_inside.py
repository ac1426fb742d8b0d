"""What is private in the library is reached through `inside` alone: whoever changes it has one place to mend."""

import ast
import re
from pathlib import Path

import pytest

from . import inside

TESTS = Path(__file__).parent
DOORS = (TESTS / "inside.py", *TESTS.glob("inside_*.py"))
FILES = [path for path in TESTS.rglob("*.py") if path not in (*DOORS, Path(__file__))]
OTHERS = {  # private names of others, which the library has to get along with
    *("_exit", "_replace", "_set_running_loop", "_log_destroy_pending"),
    *("_condition", "_threads_queues", "_threads", "_work_queue", "_selector", "_current_frames"),
    *("_resource_tracker", "_stop"),
    *("_base", "_config", "_get_running_loop"),
    "_backends",  # of anyio, whose threads are replaced
    "_measured",  # that of the benchmarks
    "_in_units",  # the same
    "_cache",  # of Celery's backends
    "_pubsub",  # the same
    "_instances",  # of Dask's workers
}
MODULE = re.compile(r"supervisor(\.\w+)*\._(?!_)\w+")
ATTRIBUTE = re.compile(r"\b(?!self\b|cls\b)\w+(?:\(\))?\.(_[a-z]\w+)")


def imported(node):
    """The full names that an import statement brings in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def reaches(path):
    """The private things of the library that a file of the tests reaches by itself, in the programs it starts too."""
    own_module = path.parent.name == "core"  # a module of the pure core is tested as it is
    for node in ast.walk(ast.parse(path.read_text())):
        found = [name for name in imported(node) if MODULE.match(name) and not own_module]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [match.group() for match in MODULE.finditer(node.value)]
            found += [match.group() for match in ATTRIBUTE.finditer(node.value) if match.group(1) not in OTHERS]
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr) and node.attr not in OTHERS:
            owner = node.value.func if isinstance(node.value, ast.Call) else node.value
            if not isinstance(owner, ast.Name) or owner.id not in ("self", "cls", "super"):
                found.append(ast.unparse(node))
        yield from (f"{path.relative_to(TESTS.parent)}:{node.lineno}: {name}" for name in found)


def test_no_test_reaches_what_is_private_but_through_inside():
    found = [reach for path in FILES for reach in reaches(path)]
    assert not found, "\n".join(["reached otherwise than by tests/inside.py and its like:", *found])


@pytest.mark.parametrize(
    "text",
    [
        "from supervisor._loop.inbox import Inbox",
        "from supervisor import _loop",
        "import supervisor._loop",
        "sup._runtime",
        "sup.group('x')._group",
        "monkeypatch.setattr('supervisor._loop.inbox.TURN', 1)",
        "script = 'print(sup._runtime)'",
    ],
)
def test_such_a_reach_is_found(text, monkeypatch, tmp_path):
    monkeypatch.setattr("tests.test_inside.TESTS", tmp_path)
    file = tmp_path / "test_it.py"
    file.write_text(text)
    assert list(reaches(file))


@pytest.mark.parametrize("name", [name for name, value in vars(inside).items() if isinstance(value, inside.Struck)])
def test_all_functions_that_interrupts_are_to_strike_are_where_they_are_looked_for(name):
    assert not getattr(inside, name).missing()
