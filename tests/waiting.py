"""Ways to wait that the tests share."""

import asyncio
import threading
import time
from typing import Any

LIMIT = 20
"""Seconds after which whoever waits gives up."""


async def until(condition, seconds=LIMIT):
    """Waits until a condition holds, in real time, whatever the loop's clock does; returns how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"it did not come to be within {seconds} s"
        time.sleep(0.0005)
        await asyncio.sleep(0)
    return time.monotonic() - began


async def turns(number=10):
    """Gives the loop some turns, in which whatever is on its way in it happens."""
    for _ in range(number):
        await asyncio.sleep(0)


async def refused_elsewhere(*calls):
    """Calls coroutine functions on another event loop, each in a thread; returns what their RuntimeErrors say."""
    errors = []

    def elsewhere(call):
        try:
            asyncio.run(call())
        except RuntimeError as error:
            errors.append(str(error))

    for call in calls:
        await asyncio.to_thread(elsewhere, call)
    return errors


class Release:
    """An Event that no injection wakes: who waits for it waits in a bare lock."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[Any] = []

    def set(self) -> None:
        self._set = True
        while self._waiting:
            self._waiting.pop().release()

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float = -1) -> bool:
        lock = threading.Lock()
        lock.acquire()
        self._waiting.append(lock)
        if not self._set:
            lock.acquire(timeout=timeout)
        return self._set
