"""Looks which calls run for longer than they should, and logs where they stand while they run."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from .._core.stacks import cut
from .._loop.clock import moment_on
from .._loop.errors import insist
from .._loop.inbox import TURN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._loop.alarms import Alarms
    from .._observe.publisher import Publisher
    from .._run.run import Run
    from .calls import Calls
    from .kinds import Kinds
    from .pools import Pools

__all__ = ["Slowness"]

SHOWN = 5
"""Runs that are logged at one look, each with its stack; of all others only how many they are."""

REST = 1.0
"""Seconds between two looks at which anything is logged."""

SHARE = 20
"""A look that takes so long is followed by a pause of so many times that: it costs the loop a twentieth at most."""

EARLY = 0.001
"""Seconds by which an alarm may ring too early."""

CROWD = 64
"""Calls with seconds of their own of which, at least, it is looked together which have ended."""


class Slow(NamedTuple):
    """A run that is to be logged."""

    since: float
    run: Run
    after: float


class Slowness:
    """All calls, and the workers that asked for it, at which it looks together while there are any.

    No call is noted for that: it looks at those that are there, as often as one could have become slow meanwhile. While
    there is none it sets no alarm; the next call is what wakes it. On the loop's thread, but for `pool_made`.

    Args:
        after: Seconds after which a call that still runs is logged, where nobody else says it; None: never.
        alarms: It sets alarms for itself, and `rung` is to be called when one rings.
        calls: Whose `begun` and `expect` it sets.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        alarms: Alarms[Slowness],
        publisher: Publisher,
        kinds: Kinds,
        pools: Pools,
        after: float | None,
        calls: Calls,
    ) -> None:
        self._clock = clock
        self._alarms = alarms
        self._publisher = publisher
        self._kinds = kinds
        self._pools = pools
        self._after = inf if after is None else after
        self._calls = calls
        self._asked: dict[Run, None] = {}  # those of which somebody has said it, and that have not ended
        self._next_at: float | None = None  # None: no alarm is set, or an interrupt has struck while one rang
        self._rests_until = 0.0
        self._crowd = CROWD
        self.over = True
        calls.expect = self.expect
        self.pool_made()

    def pool_made(self) -> None:
        """There is a pool more, or another one, whose calls may be slow sooner. Any thread."""
        self._calls.begun = self._begin if self._of_pools() < inf else None

    def _of_pools(self) -> float:
        """Returns the seconds after which the first call can be slow of which nobody says it."""
        said = [pool.slow_after for pool in self._pools]
        return min((self._after if after is None else after for after in said), default=inf)

    def expect(self, run: Run, after: float) -> None:
        """Has a run logged that still runs so many seconds after it was entered, whatever holds for others."""
        run.slow_after = after
        if after < inf:
            if len(self._asked) > self._crowd:  # calls that ended long before they could be slow
                self._forget_ended()
                self._crowd = 2 * len(self._asked) + CROWD
            self._asked[run] = None
            self.over = False
            self._look_at(self._clock() + after)

    def _begin(self) -> None:
        """A call is there that may become slow."""
        self.over = False
        self._look_at(self._clock() + self._of_pools())
        self._calls.begun = None  # last: until then, the next call does all of it again

    def _look_at(self, at: float) -> None:
        if at < inf and (self._next_at is None or at < self._next_at):
            self._alarms.set(at, self)
            self._next_at = at

    def rung(self) -> None:
        """Looks at all of them, unless this alarm has been replaced by another one."""
        now = next_at = self._clock()
        if self._next_at is not None and now < self._next_at - EARLY:
            return
        self._next_at = None
        try:
            next_at = self._look(now)
        finally:
            if next_at < inf:
                ended = self._clock()  # where a test holds the clock, a look takes no time
                self._look_at(max(next_at, ended + SHARE * (ended - now)))
            else:
                self._rest()

    def _rest(self) -> None:
        """Nothing is there. First said, then looked: a call that comes in between says so, or is seen."""
        self.over = True
        self.pool_made()
        if self._calls.begun is not None and any(kind.calls for kind in self._kinds):
            self._begin()

    def _look(self, now: float) -> float:
        """Logs those whose time has come; returns when the next one's can, infinitely far away where none is there."""
        due: list[Slow] = []
        self._forget_ended()
        soonest = min((run.slow_after for run in self._asked), default=inf)
        if any(kind.calls for kind in self._kinds):
            soonest = min(soonest, self._of_pools())
        next_at = now + soonest  # one may be entered this very moment
        for run, after in self._running():
            since = moment_on(self._clock, run.started_at)
            at = getattr(run, "slow_at", since + after)
            if at <= now + EARLY:
                due.append(Slow(since, run, after))
            else:
                next_at = min(next_at, at)
        if due and now < self._rests_until:
            return min(next_at, self._rests_until)
        return min(next_at, self._log(due, now)) if due else next_at

    def _running(self) -> Iterator[tuple[Run, float]]:
        """Gives those that run, each with the seconds after which it is slow."""
        for kind in self._kinds:
            after = self._after if kind.settings.slow_after is None else kind.settings.slow_after
            left = max(kind.capacity, kind.alive) if after < inf else 0
            for run in tuple(kind.calls.values()) if left else ():
                if run.started_at and not run.ended_at:
                    if not hasattr(run, "slow_after"):
                        yield run, after
                    left -= 1
                    if left <= 0:
                        break  # the others wait: they came later
        for run in self._asked:
            if run.started_at and not run.ended_at:
                yield run, run.slow_after

    def _forget_ended(self) -> None:
        self._asked = {run: None for run in self._asked if not run.over}

    def _log(self, due: list[Slow], now: float) -> float:
        """Logs the oldest ones with their stacks, and how many others there are; returns when they come again."""
        began = self._clock()
        due.sort(key=lambda slow: slow.since)
        shown: list[tuple[Slow, str]] = []
        left_out = 0
        for slow in due:
            if shown and (len(shown) >= SHOWN or self._clock() >= began + TURN):
                left_out += 1
            elif (stack := self._stack_of(slow.run)) is not None:
                shown.append((slow, stack))
        for slow, stack in shown:
            last = slow is shown[-1][0]
            self._publisher.slow(slow.run, now - slow.since, stack, left_out if last else 0)
        for slow in due:  # last: an interrupt before this has them logged again
            slow.run.slow_at = slow.since + _next_step(slow.after, now - slow.since)
        self._rests_until = now + max(REST, SHARE * (self._clock() - began))
        return min(slow.run.slow_at for slow in due)

    def _stack_of(self, run: Run) -> str | None:
        """Returns where it stands; empty where nobody knows, None where it has ended meanwhile."""
        stacks: list[str | None] = []
        report = partial(self._publisher.fault, "slow", run.name)
        if not insist(report, lambda: stacks.append(run.kind.stack(run))):
            return ""
        return None if stacks[0] is None or run.ended_at or run.over else cut(stacks[0])


def _next_step(after: float, elapsed: float) -> float:
    """Returns the seconds, `after` doubled again and again, that are the next ones after so many."""
    while after <= elapsed + EARLY:
        after *= 2
    return after
