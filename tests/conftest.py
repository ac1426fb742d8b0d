"""What all tests share: captured events, virtual time, and the check that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import structlog
import uvloop
from hypothesis import settings

from .docs.catalogue import contradictions
from .processes.faults import children

settings.register_profile("default", deadline=None)
settings.load_profile("default")

Events = list[dict[str, Any]]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still until a test moves it."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual_now = 1000.0
        self._clock_resolution = 0.0  # a timer that rang early would ring for ever: this clock does not go on

        self._rushing_since = 0.0

    def time(self) -> float:
        rushed = (time.monotonic() - self._rushing_since) * 1000 if self._rushing_since else 0.0
        return self._virtual_now + rushed

    def rush(self) -> None:
        """Lets the clock run a thousand times too fast from now on, so that what a failed test left ends."""
        self._rushing_since = time.monotonic()

    async def advance(self, seconds: float) -> None:
        """Moves the clock, and lets everything run that this makes due."""
        self._virtual_now += seconds + 1e-6  # a timer is due only once its moment has passed
        for _ in range(8):
            await asyncio.sleep(0)


@pytest.fixture
def virtual() -> Iterator[Callable[[Callable[[VirtualLoop], Coroutine[Any, Any, Any]]], Any]]:
    """Runs a coroutine function, which is given the loop, in virtual time."""

    def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, Any]]) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, VirtualLoop)
            try:
                return runner.run(main(loop))
            finally:
                loop.rush()

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


class Leftovers:
    """Threads that a test abandons on purpose and releases at its end."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def block(self, *_: object) -> None:
        """Blocks in C, deaf to everything, until the test is over."""
        while not self.release.wait(30):
            pass


@pytest.fixture
def leftovers() -> Iterator[Leftovers]:
    mine = Leftovers()
    yield mine
    mine.release.set()


def ours() -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and getattr(thread, "_target", None) is not None and "/" in thread.name
    ]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


uvloop.new_event_loop().close()  # the first one opens files that belong to the process


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test must leave no thread of a supervisor, no child process, no zombie and no open file behind."""
    if "leftovers" in request.fixturenames:
        request.getfixturevalue("leftovers")  # set up first, so released last but one
    gc.collect()
    before, already, parented = open_files(), set(ours()), children()
    yield
    if "leftovers" in request.fixturenames:
        request.getfixturevalue("leftovers").release.set()
    until = time.monotonic() + 5
    while (threads := set(ours()) - already) and time.monotonic() < until:
        next(iter(threads)).join(0.05)
    assert not threads, f"threads were left behind: {threads}"
    while (processes := children() - parented) and time.monotonic() < until:
        time.sleep(0.01)
    assert not processes, f"processes were left behind, perhaps as zombies: {processes}"
    if open_files() > before:
        gc.collect()
    assert open_files() <= before, "files were left open"
