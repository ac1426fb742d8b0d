"""What the activities of the tests do; worker processes import it."""

import os
import signal
import threading
import time

import pytest

pytest.importorskip("temporalio", reason="temporalio cannot be imported here")

from temporalio import activity  # noqa: E402

LIMIT = 20

door = threading.Event()
entered = threading.Event()
"""For activities in threads."""


@activity.defn
def add(a: int, b: int) -> int:
    return a + b


@activity.defn
def where() -> list:
    return [os.getpid(), threading.current_thread().name, activity.info().activity_type]


@activity.defn
def beat() -> str:
    activity.heartbeat("half", 50)
    return "done"


@activity.defn
def wait_for_cancel() -> str:
    activity.heartbeat("waiting")
    entered.set()
    activity.wait_for_cancelled_sync(LIMIT)
    return "asked" if activity.is_cancelled() else "not asked"


@activity.defn
def wait_until_struck() -> str:
    """Hears of its cancellation, and waits for the exception that comes next."""
    entered.set()
    activity.wait_for_cancelled_sync(LIMIT)
    while not door.is_set():
        time.sleep(0.01)
    return "not struck"


@activity.defn
def wait_for_worker_shutdown() -> str:
    activity.heartbeat("waiting")
    activity.wait_for_worker_shutdown_sync(LIMIT)
    return "told" if activity.is_worker_shutdown() else "not told"


@activity.defn
def spin() -> str:
    activity.heartbeat("spinning")
    entered.set()
    while True:
        pass


@activity.defn
def deaf() -> str:
    """Cannot be cancelled by an exception from outside."""
    with activity.shield_thread_cancel_exception():
        entered.set()
        while not door.is_set():
            time.sleep(0.01)
    return "heard nothing"


@activity.defn
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@activity.defn
def fail() -> None:
    raise ZeroDivisionError("on purpose")


ALL = [add, where, beat, wait_for_cancel, wait_until_struck, wait_for_worker_shutdown, spin, deaf, die, fail]
