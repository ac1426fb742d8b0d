"""Supervisors for tests: a stuck worker costs them tenths of a second, and they shut down with their event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._api.inspection import inspection_of
from .._api.supervisor import Supervisor
from .._core.policy import Ask, EscalationPolicy, Inject, Kill, Terminate
from .virtual_time import VirtualTime

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from .._core.outcome import Outcome

__all__ = ["QUICK_LADDER", "QuickSupervisor", "closed"]

QUICK_LADDER = EscalationPolicy(Ask(0.5), Inject(0.2, every=0.05), Terminate(0.3), Kill(2.0))
"""The default ladder in tenths of a second: who obeys has the time that this takes, a stuck thread costs 0.7 s."""

QUICK_SHUTDOWN = 5.0
"""Seconds that a shutdown may take where the test has not said otherwise."""

SLACK = 5.0
"""Seconds beyond its shutdown that a supervisor of another thread's loop is waited for."""


class QuickSupervisor(Supervisor):
    """A Supervisor for one test.

    It shuts down, at the latest, together with its event loop: whoever runs that, on closing it, closes what is left of
    asynchronous generators, and one of them waits for just that. So it needs to know nothing of who runs the test.

    Args:
        ladder: The ladder of those that have none.
        options: As of Supervisor.
    """

    def __init__(self, name: str, *, ladder: EscalationPolicy = QUICK_LADDER, **options: Any) -> None:
        options.setdefault("shutdown_timeout", QUICK_SHUTDOWN)
        super().__init__(name, **options)
        self._abandoned: list[Outcome] = []
        self._closer: AsyncGenerator[None, None] | None = None
        self._inspection = inspection_of(self)
        self._inspection.prepare(ladder=ladder, bound=self._watch_the_loop, abandoned=self._abandoned.append)

    @property
    def abandoned(self) -> tuple[Outcome, ...]:
        """The workers that it had to abandon, whatever became of them afterwards."""
        return tuple(self._abandoned)

    def close(self) -> None:
        """Shuts it down from outside of its event loop, if that is still open.

        Raises:
            RuntimeError: The loop is closed, and the supervisor is not; or this is called in the loop itself.
        """
        loop, closer = self._inspection.loop, self._closer
        if loop is None or closer is None or self.report is not None:
            return
        if loop.is_closed():
            raise RuntimeError(
                f"the event loop of supervisor {self.name!r} was closed before it could shut down; it has still "
                f"{len(self.workers())} workers"
            )
        if loop.is_running():
            if asyncio._get_running_loop() is loop:
                raise RuntimeError(f"supervisor {self.name!r}: await its shutdown(), as this is its own event loop")
            limit = self._inspection.shutdown_timeout + SLACK
            asyncio.run_coroutine_threadsafe(closer.aclose(), loop).result(limit)
        else:
            loop.run_until_complete(closer.aclose())

    def _watch_the_loop(self) -> None:
        self._closer = self._close_with_the_loop()
        begin(self._closer)

    async def _close_with_the_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            clock = self._inspection.clock
            if isinstance(clock, VirtualTime):
                clock.flow()
            await self.shutdown()


def begin(generator: AsyncGenerator[None, None]) -> None:
    """Runs an asynchronous generator up to its first `yield`, without waiting; the running loop gets to know of it."""
    try:
        generator.__anext__().__await__().send(None)
    except StopIteration:
        pass


def closed(supervisor: QuickSupervisor, *, may_abandon: bool) -> Iterator[str]:
    """Shuts a supervisor down, and says what was wrong with it."""
    try:
        supervisor.close()
    except RuntimeError as error:
        yield str(error)
    if supervisor.abandoned and not may_abandon:
        yield f"supervisor {supervisor.name!r} had to abandon {len(supervisor.abandoned)} of its workers:"
        for outcome in supervisor.abandoned:
            yield f"- worker {outcome.worker!r} ({outcome.kind}), which stood at\n{outcome.stack or ''}".rstrip()
