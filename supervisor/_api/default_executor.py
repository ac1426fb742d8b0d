"""The supervisor's pool as an event loop's default executor, which `asyncio.to_thread` and look-ups of names use."""

from __future__ import annotations

import os
import threading
from _thread import get_ident
from io import StringIO
from traceback import print_exception
from typing import TYPE_CHECKING

from .._loop import aside
from .._worker.current import shielded
from .thread_executor import SupervisedThreadPoolExecutor

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._runtime.runtime import Runtime
    from .binding import Binding

__all__ = ["DefaultExecutor"]

REASON = "the event loop shuts its default executor down"

SLACK = 1.0
"""Seconds beyond `shutdown_timeout` that `shutdown` waits for an event loop that does not go on."""


def _import_what_prints_tracebacks() -> None:
    """Prints one to nobody: from 3.15 on, modules are imported when the first one is printed.

    uvloop joins a thread in a finalizer, which may run within such an import; where that thread prints a traceback
    itself, it waits for the import, and both wait for ever.
    """
    print_exception(None, file=StringIO())


class DefaultExecutor(SupervisedThreadPoolExecutor):
    """That of all threads, for whoever uses the event loop.

    It serves for as long as the loop does. Calls that come once the supervisor has begun to shut down are those of
    other parts of the application, which end later: they run under a runtime of their own, which ends with the loop.

    Args:
        runtime: The runtime that it serves for.
        binding: Gives it that of late calls, too.
    """

    no_inject_on_cancel = True

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        settings = runtime.settings
        _import_what_prints_tracebacks()
        size = settings.pools["thread"].size
        super().__init__(settings.name, None, self._serving, size)
        self._binding = binding
        binding.late_ends_with_loop = True
        self._main = runtime
        self._over = threading.Event()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shuts the supervisor down, unless that is done; asyncio calls it, from a thread, when the loop is to close.

        Args:
            wait: Wait for it, for `shutdown_timeout` at most. False: closes this executor alone, and nobody waits for
                it any more.
            cancel_futures: A shutdown withdraws all calls that wait.

        Raises:
            RuntimeError: `wait` would block the supervisor's own event loop.
        """
        with shielded(), self._closing:
            self._closed = True
        if not wait:
            self._over.set()
            late = self._binding.late
            if late is not None:
                late.kinds.threads.retire()  # the loop may never have been asked to shut it down
        elif any(runtime.shutdown.report is None for runtime in self._runtimes()):
            self._main.executor_calls.refuse_blocking("shutdown(wait=True) of its default executor")
            self._call(self._shut_down)
            self._over.wait(min(self._main.settings.shutdown_timeout + SLACK, threading.TIMEOUT_MAX))

    def _shut_down(self) -> None:
        """On the loop's thread; an interrupt only delays it."""
        left: list[asyncio.Future[None]] = []

        def ended(_closed: asyncio.Future[None]) -> None:
            if all(closed.done() for closed in left):
                self._over.set()

        try:
            for runtime in self._runtimes():
                seconds = runtime.settings.shutdown_timeout
                left.append(runtime.teardown.begin(runtime.root, seconds, REASON))
            for closed in left:
                aside.when_done(closed, ended)
            if not left:
                self._over.set()
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._main.loop, self._shut_down)
            raise

    def _call(self, function: Callable[[], object]) -> None:
        loop = self._main.loop
        try:
            aside.call_soon_threadsafe(loop, function)
        except RuntimeError:
            if not loop.is_closed():
                raise
            self._over.set()  # nothing goes on there

    def _runtimes(self) -> list[Runtime]:
        if self._main.pid != os.getpid():  # a fork: they have stayed behind
            return []
        return self._binding.runtimes()

    def _serving(self) -> Runtime:
        """Returns the runtime that takes a new call."""
        runtime = self._binding.reach()
        if not runtime.shutdown.begun or get_ident() != runtime.thread:
            return runtime
        return self._binding.late_runtime()
