"""The pytest plugin: fixtures over `supervisor.testing`. Lean: what a fixture needs is imported when it is set up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._api.supervisor import Supervisor
    from .testing import FakeWorkers, VirtualTime

MARKER = (
    "supervisor(**options): options of the fixtures `supervisor` and `make_supervisor`, as of Supervisor; "
    "may_abandon=True: a worker that had to be abandoned does not fail the test; "
    "may_leak=True: what the test leaves behind does not fail it"
)

LADDER_TIME = pytest.StashKey["VirtualTime"]()

Options = dict[str, Any]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds what can be configured."""
    parser.addini(
        "supervisor_policy",
        "the default ladder of `supervisor` and `make_supervisor`, as: ask=0.5 inject=0.2 terminate=0.3 kill=2",
        type="args",
    )
    parser.addini("supervisor_no_leaks", "every test has the fixture `no_leaks`", type="bool", default=False)
    parser.addini(
        "supervisor_leaks_ignored",
        "patterns of names of threads, and of command lines of processes, that `no_leaks` does not blame",
        type="linelist",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known, and the check that is asked for everywhere."""
    config.addinivalue_line("markers", MARKER)
    if config.getini("supervisor_no_leaks"):
        config.pluginmanager.register(NoLeaksEverywhere(), "supervisor-no-leaks")


class NoLeaksEverywhere:
    """The plugin that is there where the configuration asks for the check in all tests."""

    @pytest.fixture(autouse=True)
    def _supervisor_no_leaks(self, no_leaks: None) -> None:
        """Checks each test, as the configuration says."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Nothing moves the clock any more, and what is torn down may wait for it."""
    time = item.stash.get(LADDER_TIME, None)
    if time is not None:
        time.flow()


@pytest.fixture
def make_supervisor(request: pytest.FixtureRequest) -> Iterator[Callable[..., Supervisor]]:
    """Makes supervisors with a quick ladder: `make_supervisor(name=..., **options)`, with options as of Supervisor.

    Each is shut down when the test is over, on the loop that has used it, whichever plugin runs it. The test fails
    if one of them had to abandon a worker, and says where that stands; unless marked with
    `@pytest.mark.supervisor(may_abandon=True)`. Further options in that marker are those of all that are made here.
    """
    from .testing.quick import QUICK_LADDER, QuickSupervisor, closed

    options = _marked(request)
    may_abandon = options.pop("may_abandon", False)
    options.pop("may_leak", None)
    ladder = _configured_ladder(request.config) or QUICK_LADDER
    stem = request.node.name.replace("/", "_")
    made: list[QuickSupervisor] = []

    def make(*, name: str | None = None, **more: Any) -> Supervisor:
        given = {"name": stem if not made else f"{stem}-{len(made) + 1}", **options, **more}
        if name is not None:
            given["name"] = name
        made.append(QuickSupervisor(ladder=ladder, **given))
        return made[-1]

    yield make
    problems = [problem for supervisor in reversed(made) for problem in closed(supervisor, may_abandon=may_abandon)]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def supervisor(make_supervisor: Callable[..., Supervisor]) -> Supervisor:
    """A Supervisor with a quick ladder, shut down when the test is over; see `make_supervisor`."""
    return make_supervisor()


@pytest.fixture
def ladder_time(request: pytest.FixtureRequest) -> Iterator[VirtualTime]:
    """The time of all supervisors that are first used in this test: a `supervisor.testing.VirtualTime`."""
    from .testing import VirtualTime

    with VirtualTime() as time:
        request.node.stash[LADDER_TIME] = time
        yield time


@pytest.fixture
def fake_workers() -> Iterator[FakeWorkers]:
    """Has the supervisors that are first used in this test run nothing: `supervisor.testing.FakeWorkers`."""
    from .testing import FakeWorkers

    with FakeWorkers() as fakes:
        yield fakes


@pytest.fixture
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves supervisors, workers, threads or child processes behind; shows where they stand.

    What fixtures of a wider scope have is not blamed; neither is a test with `@pytest.mark.supervisor(may_leak=True)`.
    """
    from .testing import LeakCheck

    check = LeakCheck(ignore=request.config.getini("supervisor_leaks_ignored"))
    check.look()
    yield
    if not _marked(request).get("may_leak", False) and (left := check.left()):
        pytest.fail(f"{request.node.name} has left behind:\n" + "\n".join(left), pytrace=False)


def _marked(request: pytest.FixtureRequest) -> Options:
    """Returns what the markers say, those that are nearer to the test last."""
    options: Options = {}
    for marker in reversed(list(request.node.iter_markers("supervisor"))):
        if marker.args:
            raise pytest.UsageError(f"@pytest.mark.supervisor{marker.args!r}: takes keyword arguments alone")
        options.update(marker.kwargs)
    return options


def _configured_ladder(config: pytest.Config) -> Any:
    from ._core.errors import PolicyError
    from ._core.policy import EscalationPolicy

    words = config.getini("supervisor_policy")
    if not words:
        return None
    pairs = (word.partition("=") for word in words)
    try:
        return EscalationPolicy.from_config({step: float(grace) for step, _, grace in pairs})
    except (PolicyError, ValueError) as error:
        raise pytest.UsageError(f"supervisor_policy: {error}; say for instance: ask=0.5 inject=0.2") from None
