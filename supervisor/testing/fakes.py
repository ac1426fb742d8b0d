"""Workers that only pretend: no thread and no process is there, and a script says what each does."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._api.executors import Chunk
from .._core.values import checked_seconds
from .._loop import aside
from .._run.channel import Producer
from .._run.names import innermost
from .._runtime import runtime as _runtime
from .fake_kind import RANKS, FakeKind, FakeRun, Script

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from .._core.policy import StepName
    from .._core.pools import PoolSettings
    from .._run.ports import Services
    from .._run.run import Run, WorkerKind

__all__ = ["FakeWorkers"]


class FakeWorkers:
    """Has supervisors run nothing: their workers follow scripts, at once and without a thread or a process.

    Each supervisor that is first used inside the `with` block keeps its fakes for good, in all its pools. All else is
    real: queues, names, ladders and their times, restarts, groups, outcomes, the report, the log. So what your code
    makes of a timeout, of an abandoned worker, of a process that died can be tried without making it happen. Together
    with `VirtualTime` it takes no time either.

    Functions are never called, and what is given to processes is not pickled. A function without a script fails, with
    a LookupError that names it. One is in force at a time, in all threads of the process.

    Attributes:
        runs: All runs so far, the oldest first.

    Example:
        >>> import asyncio
        >>> from supervisor import Supervisor, WorkerTimeout
        >>> def render(page):
        ...     raise AssertionError("never called")
        >>> async def main():
        ...     with FakeWorkers() as fakes:
        ...         fakes.script(render, obeys="ask", delay=0.1)
        ...         async with Supervisor() as sup:
        ...             try:
        ...                 await sup.run(render, "index", kind="process", timeout=0.01)
        ...             except WorkerTimeout as error:
        ...                 return error.outcome.ended, fakes.runs[0].steps
        >>> asyncio.run(main())
        ('stopped', ['ask'])
    """

    def __init__(self) -> None:
        self.runs: list[FakeRun] = []
        self._scripts: list[tuple[Callable[..., Any] | str, Script]] = []
        self._unseen: deque[FakeRun] = deque()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def script(
        self,
        worker: Callable[..., Any] | str,
        /,
        *,
        obeys: StepName | None = "ask",
        delay: float = 0.0,
        after: float | None = None,
        returns: Any = None,
        raises: BaseException | None = None,
        exit_code: int | None = None,
        ready: bool = True,
    ) -> None:
        """Says what runs that begin from now on do; replaces what was said of the same worker before.

        Args:
            worker: The function as it is given to the supervisor, `functools.partial` taken off, be it by way of
                `asyncio.to_thread` or of an executor's `map`, each item of which gets what it returns; or the worker's
                name, which goes before the function, with the groups around it: "feeds/poller".
            obeys: The step that ends it, or a higher one where the ladder lacks it; None: none does, and it is
                abandoned. Mind that threads meet "ask" and "inject" alone.
            delay: Seconds from that step to its end, on the supervisor's clock.
            after: Seconds from its entry, on that clock, after which it ends by itself; None: it does not.
            returns: What it returns then, or on Ask; of `Supervisor.iterate`, an iterable of what it yields before it
                ends.
            raises: What it raises then, or on Ask. With neither of the two, Ask unwinds it by StopRequested.
            exit_code: With this exit code its process ends by itself, `after` so many seconds; a thread, which cannot,
                fails with a RuntimeError then.
            ready: It calls `ctx.ready()` when it is entered. Otherwise `FakeRun.ready` does it.

        Raises:
            TypeError, ValueError: An argument is wrong; the message names it.
        """
        if not callable(worker) and not isinstance(worker, str):
            raise TypeError(f"script({worker!r}): must be a function or the name of a worker")
        if obeys is not None and obeys not in RANKS:
            raise ValueError(f"script(obeys={obeys!r}): must be one of {', '.join(map(repr, RANKS))}, or None")
        if raises is not None and not isinstance(raises, BaseException):
            raise TypeError(f"script(raises={raises!r}): must be an exception")
        if exit_code is not None and after is None:
            raise ValueError(f"script(exit_code={exit_code!r}): needs after=, the seconds after which it dies")
        script = Script(
            obeys,
            checked_seconds("script(delay={!r})", delay),
            None if after is None else checked_seconds("script(after={!r})", after),
            returns,
            raises,
            exit_code,
            ready,
        )
        target = worker if isinstance(worker, str) else _bare(worker)
        self._scripts = [(known, said) for known, said in self._scripts if known != target]
        self._scripts.append((target, script))

    async def next_run(self) -> FakeRun:
        """Waits for the next run that begins, and returns it; each run is returned once, the oldest first.

        Cancelling it stops only the waiting.
        """
        while not self._unseen:
            loop = asyncio.get_running_loop()
            begun: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, begun))
            try:
                await begun
            finally:
                with suppress(ValueError):  # it was notified
                    self._waiting.remove((loop, begun))
        return self._unseen.popleft()

    # ------------------------------------------------------------------------------------ what the kinds ask of it

    def script_of(self, run: Run) -> Script | None:
        """Returns what a run is to do, where the test has said so."""
        said = [script for target, script in self._scripts if target == run.name]
        said += [script for target, script in self._scripts if target == _bare(run.fn)]
        return said[0] if said else None

    def began(self, fake: FakeRun) -> None:
        """Takes note of a run that has begun."""
        self.runs.append(fake)
        self._unseen.append(fake)
        waiting, self._waiting = self._waiting, []
        for loop, begun in waiting:
            try:
                aside.call_soon_threadsafe(loop, _set_done, begun)
            except RuntimeError:
                if not loop.is_closed():  # else nobody waits there any more
                    raise

    # ------------------------------------------------------------------------------------ being in force

    def __enter__(self) -> Self:
        """Puts it in force.

        Raises:
            RuntimeError: Another one is.
        """
        if _runtime.stand_in is not None:
            raise RuntimeError("FakeWorkers: there are some in force already; use those, or leave their block first")
        _runtime.stand_in = self._kind
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _runtime.stand_in = None

    def _kind(self, services: Services, settings: PoolSettings) -> WorkerKind:
        return FakeKind(settings, services, self.script_of, self.began)


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _bare(fn: Callable[..., Any]) -> Callable[..., Any]:
    fn = innermost(fn)
    return _bare(fn.fn) if isinstance(fn, Chunk | Producer) else fn
