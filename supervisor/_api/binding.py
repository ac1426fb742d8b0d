"""What ties a supervisor to one event loop and to one process."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakSet

from .._core.errors import SupervisorMisused
from .._core.policy import EscalationPolicy
from .._observe.subscribers import Subscribers
from .._runtime.nodes import GroupNode
from .._runtime.runtime import Runtime
from .forgotten import forget
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread

    from .._core.pools import PoolSettings
    from .._runtime.settings import Settings

__all__ = ["Binding", "everyone"]

ANOTHER_LOOP = (
    "is bound to another event loop: build one in each loop, where it is used, or go through its own with "
    "asyncio.run_coroutine_threadsafe(...)"
)

NO_GUARD = (
    "is used by the main module while a worker process imports that module to find a function of it: "
    'put what starts the program under `if __name__ == "__main__":`'
)

NOT_FREED = (
    "is used in a worker process of a frozen program before that has become one: call multiprocessing.freeze_support() "
    'as the first thing under `if __name__ == "__main__":`'
)


class Binding:
    """Binds one supervisor to the event loop that first uses it. Its groups share it.

    Args:
        settings: What the user has said.
        beside: Begins what goes beside it, once it is bound.

    Attributes:
        settings: What the user has said.
        root: The supervisor as a scope, in which its groups are.
        default_policy: The ladder where nobody has named one.
        subscribers: Who receives what it publishes; it may have some before its first use.
        late_subscribers: The same for the calls that come too late; see `late_runtime`.
        when_bound: Is called just before it is bound, in the loop that it is bound to.
        companions: The threads of what goes beside it.
        loop, runtime: What it is bound to; None before the first use, and in a forked process.
        late: The runtime of late calls, once there was such a call.
        late_ends_with_loop: Somebody has the event loop end it, and calls come until then.
        lost: Why nobody can use it any more; None where somebody can.
    """

    def __init__(self, settings: Settings, beside: Callable[[Binding], object]) -> None:
        self.settings = settings
        self._beside = beside
        self.root = _root(settings)
        self.default_policy = EscalationPolicy()
        self.subscribers = Subscribers()
        self.late_subscribers = Subscribers()
        self.when_bound: Callable[[], object] | None = None
        self.companions: list[Thread] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.runtime: Runtime | None = None
        self.late: Runtime | None = None
        self.late_ends_with_loop = False
        self.lost: str | None = None
        _everyone.add(self)

    def bind(self) -> Runtime:
        """Returns the runtime, which belongs to the running loop; binds to that loop at the first use.

        Raises:
            RuntimeError: This is another loop than the supervisor's, or another process, or trio.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise self.misused(self.lost or (_why_no_loop() if self.loop is None else ANOTHER_LOOP)) from None
        runtime = self.runtime
        if loop is self.loop and runtime is not None:
            return runtime
        if self.lost is not None:
            raise self.misused(self.lost)
        if getattr(sys.modules.get("supervisor._kinds.processes.child.main_module"), "importing", False):
            raise self.misused(NO_GUARD)
        if getattr(sys, "frozen", False) and sys.argv[1:2] == ["--multiprocessing-fork"]:
            raise self.misused(NOT_FREED)
        if self.loop is not None:
            raise self.misused(ANOTHER_LOOP)
        if self.when_bound is not None:
            self.when_bound()
        runtime = Runtime(loop, self.settings, self.root, self.subscribers, Worker, default_policy=self.default_policy)
        # First bound, then looked: a request to shut down that comes in between sees the one or is seen.
        self.loop, self.runtime = loop, runtime
        self._beside(self)
        asked = self.root.shutdown.asked
        if asked is not None:
            runtime.teardown.begin(self.root, None, asked)
        else:
            runtime.kinds.warm_up()
        return runtime

    def add_pool(self, settings: PoolSettings, scope: GroupNode) -> None:
        """Takes in a pool that is made through a scope; before it is bound, from any thread.

        Raises:
            ValueError: The name is taken, or the pool of this name has been used.
        """
        if self.lost is not None:
            raise self.misused(self.lost)
        runtime = None if self.runtime is None else self.bind()
        if runtime is not None:
            runtime.teardown.refuse(scope)
        always_there = self.settings.pools.is_always_there(settings.name)
        if runtime is not None and always_there and runtime.kinds.used(settings.name):
            raise ValueError(
                f"name={settings.name!r}: supervisor {self.settings.name!r} has used this pool already: say what is "
                "set for it before its first call or worker"
            )
        if not self.settings.pools.add(settings):
            raise ValueError(f"name={settings.name!r}: supervisor {self.settings.name!r} has a pool of this name")
        if runtime is not None:
            runtime.kinds.renew(settings.name)
            if settings.warm:
                runtime.kinds.get(settings.name)  # which starts them

    def resize_pool(self, name: str, size: int, *, below_warm: bool = False) -> None:
        """Gives a pool another size; before it is bound, from any thread.

        Args:
            name: The pool.
            size: How many of its calls run at once.
            below_warm: It may be less than are kept warm; then so many are.
        """
        if self.lost is not None:
            raise self.misused(self.lost)
        runtime = None if self.runtime is None else self.bind()
        pools = self.settings.pools
        if size < pools[name].warm and not below_warm:
            raise ValueError(f"resize(size={size!r}): must be {pools[name].warm} or more, which are kept warm")
        pools.resize(name, size)
        kind = None if runtime is None else runtime.kinds.made(name)
        if kind is not None:
            kind.resize(size)

    def reach(self) -> Runtime:
        """Returns the runtime from any thread, once it is bound; before that, binds to the running loop."""
        return self.runtime or self.bind()

    def late_runtime(self) -> Runtime:
        """Returns the runtime of calls that come once the supervisor has begun to shut down, named "<name>-late"."""
        if self.late is None:
            runtime = self.reach()
            settings = replace(self.settings, name=f"{self.settings.name}-late")
            self.late = Runtime(
                runtime.loop,
                settings,
                _root(settings),
                self.late_subscribers,
                Worker,
                default_policy=self.default_policy,
                like=runtime,
            )
        return self.late

    def runtimes(self) -> list[Runtime]:
        """Returns its runtime, and that of late calls, as far as they are there. Any thread."""
        return [runtime for runtime in (self.runtime, self.late) if runtime is not None]

    def __del__(self, _forget: Callable[[Settings, list[Runtime]], None] = forget) -> None:
        """Nobody can shut it down any more: no supervisor, group or executor is left."""
        if self.runtime is not None:
            settings, runtimes = self.settings, self.runtimes()
            del self  # or the traceback of a warning that is made an error would hold it
            _forget(settings, runtimes)

    def misused(self, how: str) -> SupervisorMisused:
        return SupervisorMisused(f"supervisor {self.settings.name!r} {how}")

    def _forked(self) -> None:
        """This process is a copy: the threads and the loop have stayed behind."""
        if self.runtime is not None:
            self.runtime.signals.forked()
        if self.loop is not None:
            self.loop = self.runtime = self.late = None
            self.lost = f"was used in process {os.getppid()} before the fork: build one in this process"


def _root(settings: Settings) -> GroupNode:
    return GroupNode(None, settings.strategy, settings.on_exhausted)


_everyone: WeakSet[Binding] = WeakSet()


def everyone() -> list[Binding]:
    """Returns the bindings of all supervisors of this process that somebody still holds. Any thread."""
    return list(_everyone)


def _after_fork() -> None:
    for binding in _everyone:
        binding._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _why_no_loop() -> str:
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return "works on asyncio only: under trio, use it through asyncio, or trio's own threads"
    return "needs a running asyncio event loop: use it inside asyncio.run(...)"
