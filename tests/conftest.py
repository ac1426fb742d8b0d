"""What all tests share: captured events, virtual time, and the check that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import structlog
import uvloop
from hypothesis import given, settings, strategies

from supervisor.testing import LeakCheck, VirtualTime

from . import inside
from .docs.catalogue import contradictions
from .waiting import LIMIT, Release

pytest_plugins = ["pytester", "tests.cluster.fixtures"]

if "coverage.collector" in sys.modules:
    # Its tracer takes a lock in whichever thread it meets a file; a worker that is injected just then would leave it
    # taken, and all others would wait for ever. What the lock guards is a dict, which the GIL guards as well.
    sys.modules["coverage.collector"].Collector.lock_data = lambda _: None
    sys.modules["coverage.collector"].Collector.unlock_data = lambda _: None

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job is begun so, and all that it starts; the programs that the tests interrupt must hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("default", deadline=None)
settings.load_profile("default")

Events = list[dict[str, Any]]


@pytest.fixture
def virtual() -> Iterator[Callable[[Callable[[VirtualTime], Coroutine[Any, Any, Any]]], Any]]:
    """Runs a coroutine function, which is given the time, in virtual time."""

    def run(main: Callable[[VirtualTime], Coroutine[Any, Any, Any]]) -> Any:
        with VirtualTime(patience=0) as time:
            return asyncio.run(main(time))

    return run


@pytest.fixture
def events() -> Iterator[Events]:
    """The structlog events of the test, debug included, as the application sees them; the docs must have them all."""
    captured: Events = []

    def capture(logger: object, method: str, event: dict[str, Any]) -> Any:
        captured.append({**event, "level": method})
        raise structlog.DropEvent

    structlog.configure(processors=[capture])
    yield captured
    structlog.reset_defaults()
    undocumented = list(contradictions(captured))
    assert not undocumented, f"logged otherwise than docs/logs.md says: {undocumented}"


@pytest.fixture
def quiet() -> Iterator[None]:
    """Nothing is printed; `events`, where a test asks for it, captures what is logged."""

    def drop(logger: object, method: str, event: dict[str, Any]) -> Any:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    yield
    structlog.reset_defaults()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item, report: object) -> None:
    """Sees to it that a test that has failed ends, and harms none of those that come after it.

    What it has blocked would hold up the end of its loop, over which nobody watches: pytest-timeout does until a test
    fails.
    """
    if not isinstance(report, pytest.TestReport) or report.when != "call":
        return
    leftovers = getattr(node, "funcargs", {}).get("leftovers")
    if leftovers is not None:
        leftovers.release.set()
    inside.ask_all()
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGALRM, _overdue)
    signal.setitimer(signal.ITIMER_REAL, 30)  # until pytest-timeout takes it away, at the test's end


def _overdue(*_: object) -> None:
    raise TimeoutError("what a test that has failed has left does not end")


class Leftovers:
    """Threads that a test abandons on purpose and releases at its end."""

    def __init__(self) -> None:
        self.release = Release()
        self.entered: list[int] = []
        """The threads that have come to block."""

    def block(self, *_: object) -> None:
        """Blocks in C, deaf to everything, until the test is over."""
        self.entered.append(threading.get_ident())
        while not self.release.wait(30):
            pass


@pytest.fixture
def leftovers() -> Iterator[Leftovers]:
    mine = Leftovers()
    yield mine
    mine.release.set()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def named_files() -> list[str]:
    names = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.append(f"{fd}: {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:  # noqa: PERF203  # that of the listing itself
            pass
    return names


uvloop.new_event_loop().close()  # the first one opens files that belong to the process


@pytest.fixture(scope="session", autouse=True)
def what_is_imported_stays() -> None:
    """Keeps the collector, which runs before each test, from looking each time at all that has been imported."""
    given(strategies.none())(lambda _: None)()  # makes Hypothesis's generator, and asks the collector who holds it
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test must leave no supervisor, no worker, no thread, no child process and no open file behind."""
    if "leftovers" in request.fixturenames:
        request.getfixturevalue("leftovers")  # set up first, so released last but one
    gc.collect()
    before, check = open_files(), LeakCheck(grace=LIMIT)
    check.look()
    tracer = sys.gettrace()
    yield
    if sys.gettrace() is not tracer:  # coverage's, which a test has taken away: the next tests are to be measured
        sys.settrace(tracer)
    structlog.reset_defaults()  # what a test has configured is not to reach the next one
    if "leftovers" in request.fixturenames:
        request.getfixturevalue("leftovers").release.set()
    marker = request.node.get_closest_marker("supervisor")
    left = [] if marker is not None and marker.kwargs.get("may_leak") else check.left()
    if left:
        inside.let_go_of_all()  # or the next tests would hear of it
    assert not left, "left behind:\n" + "\n".join(left)
    if open_files() > before:
        gc.collect()
    until = time.monotonic() + LIMIT
    while open_files() > before and time.monotonic() < until:
        time.sleep(0.01)  # a thread that ends may be about to close them
    assert open_files() <= before, f"files were left open, of these: {named_files()}"
