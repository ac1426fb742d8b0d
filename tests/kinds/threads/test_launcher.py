"""Who starts threads: nobody waits for one that says by itself that it is up, and a shutdown waits for all."""

import sys
import threading
import time

import pytest

from ... import inside

LIMIT = 20


def await_end(started):
    """Waits until none of these threads is up, or coming up."""
    until = time.monotonic() + LIMIT
    while any(thread in threading.enumerate() for thread in started):
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there, each starter waits")
def test_who_hears_of_a_thread_anyway_does_not_wait_for_it_but_who_joins_all_does(monkeypatch):
    launcher = inside.launcher("s")
    may_come_up, called = threading.Event(), []
    inside.hold_threads_back(monkeypatch, may_come_up)
    for number in range(3):  # nor does one wait for another
        launcher.start_unawaited(f"t-{number}", lambda: called.append(threading.current_thread().name), called.append)
    assert called == []
    threading.Timer(0.05, may_come_up.set).start()
    launcher.join(LIMIT, set())
    assert sorted(called) == ["s/t-0", "s/t-1", "s/t-2"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("s/")]


def test_a_join_waits_for_no_thread_that_could_not_be_started(monkeypatch):
    launcher, errors = inside.launcher("s"), []

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    inside.start_threads_by(monkeypatch, refuse)
    launcher.start_unawaited("t", lambda: None, errors.append)
    assert [str(error) for error in errors] == ["can't start new thread"]
    began = time.monotonic()
    launcher.join(LIMIT, set())
    assert time.monotonic() - began < LIMIT / 2


def test_threads_that_come_up_start_none_again_that_is_on_its_way(monkeypatch):
    launcher, called, started = inside.launcher("s"), [], []

    def start(thread):
        started.append(thread)
        if thread.name != "s/of a pool":  # else it takes long to come up
            thread.start()

    inside.start_threads_by(monkeypatch, start)
    launcher.start("of a pool", lambda: called.append("of a pool"), called.append)
    for number in range(3):
        launcher.start_unawaited(f"t-{number}", lambda: called.append("t"), called.append)
    await_end(started)
    assert [thread.name for thread in started] == ["s/of a pool", "s/t-0", "s/t-1", "s/t-2"]
    started[0].start()
    launcher.join(LIMIT, set())
    assert called == ["t", "t", "t", "of a pool"]


def test_whoever_is_struck_as_it_starts_a_thread_has_it_started_once(monkeypatch):
    launcher, called, started = inside.launcher("s"), [], []

    def start_and_be_struck(thread):
        thread.start()
        started.append(thread)
        if len(started) == 1:
            raise KeyboardInterrupt

    inside.start_threads_by(monkeypatch, start_and_be_struck)
    with pytest.raises(KeyboardInterrupt):
        launcher.start_unawaited("t", lambda: called.append(1), called.append)
    await_end(started)
    assert called == [1]


def test_whoever_is_struck_before_it_starts_a_thread_has_it_started(monkeypatch):
    launcher, called, started = inside.launcher("s"), [], []

    def be_struck(thread):
        started.append(thread)
        if len(started) == 1:
            raise KeyboardInterrupt
        thread.start()

    inside.start_threads_by(monkeypatch, be_struck)
    with pytest.raises(KeyboardInterrupt):
        launcher.start_unawaited("t", lambda: called.append(1), called.append)
    launcher.join(LIMIT, set())
    assert called == [1]
