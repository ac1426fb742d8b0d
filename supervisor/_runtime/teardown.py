"""The end of a supervisor, and of each of its groups: who is stopped, by when, and what the report says."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core.errors import SupervisorClosed
from .._loop import aside
from .._loop.errors import insist
from .._observe.notices import ShutdownBegun, ShutdownEnded
from .nodes import GroupNode, Node, WorkerNode, scope_of
from .scopes import PoolScope, pool_closed, supervisor_closed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._core.outcome import Outcome
    from .._loop.backlog import Backlog
    from .._loop.inbox import Inbox
    from .._observe.log import Log
    from .._observe.publisher import Publisher
    from .._run.run import Run, WorkerKind
    from .closing import Closing
    from .deadlines import Deadlines
    from .ends import Ends
    from .escalation import Escalation
    from .kinds import Kinds
    from .last_resort import LastResort
    from .losses import Losses
    from .portal import Portal
    from .scopes import AnyScope
    from .stop_signals import StopSignals
    from .tree import Tree
    from .wakeups import WakeUps

__all__ = ["Teardown"]


class Teardown:
    """Shuts scopes down: a supervisor, or groups of it alone. On the loop's thread, but for `refuse`.

    What a shutdown is about and has met stands in the `shutdown` of its scope. The supervisor is a scope like any
    other; what only it does at its end is in `closing` and `signals`.

    Args:
        supervisor: Its name, for messages.
        seconds: How long a shutdown may take where nobody has said it.
        drain: For how many of these calls go on, where nobody has said it.
        deadlines: By when it must have ended what it stops.
        ends: What ends calls, groups and pools.

    Attributes:
        asks: Some of the workers that a shutdown stops have not been asked yet.
        tree: The tree of nodes; set by who makes it, as that one needs this.
    """

    tree: Tree

    def __init__(
        self,
        supervisor: str,
        seconds: float,
        drain: float,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        inbox: Inbox[Any],
        log: Log,
        publisher: Publisher,
        kinds: Kinds,
        losses: Losses,
        portal: Portal,
        escalation: Escalation,
        root: GroupNode,
        *,
        closing: Closing,
        signals: StopSignals,
        backlog: Backlog,
        wakeups: WakeUps,
        last_resort: LastResort,
        deadlines: Deadlines,
        ends: Ends,
    ) -> None:
        self._supervisor = supervisor
        self._seconds = seconds
        self._drain = drain
        self._loop = loop
        self._clock = clock
        self._inbox = inbox
        self._log = log
        self._publisher = publisher
        self._kinds = kinds
        self._losses = losses
        self._portal = portal
        self._escalation = escalation
        self._root = root
        self._closing = closing
        self._signals = signals
        self._backlog = backlog
        self.asks = False
        self._wakeups = wakeups
        self._deadlines = deadlines
        self._last_resort = last_resort
        self._ends = ends

    # ------------------------------------------------------------------------------------ a scope is shut down

    def begin(
        self, scope: AnyScope, timeout: float | None = None, reason: str = "", drain: float | None = None
    ) -> asyncio.Future[None]:
        """Stops all that is in a scope, or shortens its shutdown; an interrupt only delays it.

        Args:
            scope: The supervisor, a group or a pool.
            timeout: Seconds from now; None: as many as the supervisor has for its shutdown.
            reason: Why. The first caller's counts.
            drain: For how many of these seconds calls go on; None: as the supervisor has it, or as it was begun.

        Returns:
            A future that is done when the report is there.
        """
        try:
            return self._begin(scope, timeout, reason, drain)
        except (KeyboardInterrupt, SystemExit):
            aside.call_soon(self._loop, self.begin, scope, timeout, reason, drain)
            raise

    def _begin(self, scope: AnyScope, timeout: float | None, reason: str, drain: float | None) -> asyncio.Future[None]:
        shutdown = scope.shutdown
        if not shutdown.begun:
            self._inbox.catch_up()  # what has ended by now was not stopped
            self._log.refresh()
        if shutdown.report is not None:  # a group may have one without a shutdown
            closed = self._loop.create_future()
            closed.set_result(None)
            return closed
        now = self._clock()
        first = not shutdown.begun
        if first:
            seconds = self._seconds if timeout is None else timeout
            drain = self._drain if drain is None else drain
            if isinstance(scope, PoolScope):
                self._ends.pools.open(scope)
            else:
                self._begin_reports(scope)
            closed = self._loop.create_future()
            shutdown.begin(now, seconds, drain, closed, reason or self._signal_that_ends(scope))
            self._last_resort.arm(scope)  # before anything else, so that it depends on none of it
            if not shutdown.draining:
                self._ends.draining.hold(scope)
            self._insist(self._announce, scope)
        elif shutdown.shorten(now, timeout, drain):
            self._last_resort.arm(scope)
        elif shutdown.all_asked:
            return shutdown.closed
        self._insist(self._ask_all, scope, now, first)
        return shutdown.closed

    def _insist(self, do: Callable[..., object], *args: Any) -> None:
        """No failure of one part keeps a shutdown from doing the others."""
        insist(partial(self._publisher.fault, "shutdown", self._supervisor), do, *args)

    def _signal_that_ends(self, scope: AnyScope) -> str:
        signal = self._signals.first
        return signal.name if signal is not None and scope is self._root else ""

    def _begin_reports(self, scope: GroupNode) -> None:
        """What a group has stopped up to now was for a restart of its own, and does not belong into its report."""
        scope.changed()
        if not scope.ending:
            scope.shutdown.forget()
        for member in scope.members.values():
            if isinstance(member, GroupNode):
                self._begin_reports(member)
            else:
                member.changed()

    def _announce(self, scope: AnyScope) -> None:
        shutdown = scope.shutdown
        if isinstance(scope, PoolScope):
            self._log.pool_stopping(scope.name, shutdown.reason, shutdown.seconds_of_drain())
            return
        if scope is not self._root:
            self._log.group_stopping(scope.name, shutdown.reason, shutdown.seconds_of_drain())
        self._publisher.publish(ShutdownBegun(shutdown.reason, shutdown.deadline, scope.name))

    def _ask_all(self, scope: AnyScope, now: float, first: bool) -> None:
        if isinstance(scope, PoolScope):
            self._ask_pool(scope)
            return
        shutdown = scope.shutdown
        if scope is self._root:
            self._insist(self._closing.begin, shutdown.deadline - now)
        self._insist(self._portal.hasten)
        if scope is self._root:
            self.tree.close()
        nodes = self.tree.workers_in(scope)
        calls = None
        if first and scope is self._root:
            calls = running, queued = self._ends.draining.sorted_calls(scope)
            seconds, drain = shutdown.deadline - now, shutdown.seconds_of_drain()
            self._log.stopping(shutdown.reason, seconds, drain, len(nodes) + len(running), len(queued))
        if any(node.after or node.group is not scope for node in nodes):
            self._deadlines.reserve(nodes, now, shutdown.deadline)
        self._ends.draining.begin(scope, calls)
        if scope is self._root:
            self._signals.give_up()
            self.asks = True
            self._backlog.add(deque(nodes), self._ask_worker, self._all_asked)
        else:
            self._ask_group(scope, nodes)
        self._backlog.go_on()

    def _ask_pool(self, pool: PoolScope) -> None:
        self._insist(self._portal.hasten)
        self._ends.draining.begin(pool)
        self._backlog.go_on()
        self._ends.pools.close(pool)
        pool.shutdown.all_asked = True  # last: until then, an interrupt has all of it done again

    def _ask_group(self, group: GroupNode, nodes: list[WorkerNode]) -> None:
        reason = group.shutdown.reason
        stopping = deque(node for node in nodes if node.run.climb is not None)
        self._backlog.add(stopping, lambda node: self._escalation.stop(node.run, "shutdown", reason))
        if not self._root.shutdown.begun:  # else the supervisor's own shutdown asks all others, in their order
            self.tree.stop(group, "shutdown", reason)
        self._ends.groups.close(group)
        group.shutdown.all_asked = True  # last: until then, an interrupt has all of it done again

    def _ask_worker(self, node: WorkerNode) -> None:
        if not node.over and (not node.blocked or node.between_runs):
            self.tree.stop(node, "shutdown", self._root.shutdown.reason)

    def _all_asked(self) -> None:
        self.asks = False
        self._wakeups.announce()
        self._root.shutdown.all_asked = True
        self._ends.groups.close_all()
        self.finish_if_quiet()

    def fail(self, node: Node, error: BaseException) -> None:
        """A worker or group of the root is given up, and `on_exhausted` has all others go with it."""
        if self._root.failure is None:  # else an interrupt has come in between
            self._publisher.given_up(node.role)
        self._root.failure = error
        self.begin(self._root, None, f"{node.name!r} is given up")

    # ------------------------------------------------------------------------------------ what others ask

    def refuse(self, scope: GroupNode, kind: WorkerKind | None = None) -> None:
        """Raises where a scope takes no new work, or where a pool takes none. Any thread."""
        if not scope.takes_work:
            raise SupervisorClosed(f"group {scope.name!r} has ended, or is being stopped, and takes no new work")
        if self._root.shutdown.begun:
            raise supervisor_closed(self._supervisor, self._root.shutdown)
        if kind is not None and kind.closing:
            raise pool_closed(self._supervisor, kind.settings.name)

    # ------------------------------------------------------------------------------------ what has ended

    def call_ended(self, run: Run, outcome: Outcome) -> None:
        """A call has ended: it goes into the reports of all that it was in."""
        if run.future is None and outcome.ended == "returned":
            return  # an initializer has done its work: nobody has called it
        pool = self._ends.pools.under_way.get(run.kind)
        scopes: list[AnyScope] = [*scope_of(run).around]
        scopes.reverse()  # the innermost last: once its report has it, so have the others
        if pool is not None:
            scopes.append(pool)
        if any(scope.shutdown.has_reported(run.number) for scope in scopes):
            return  # an interrupt has it end once more, and meanwhile others may have begun
        for scope in scopes:
            if scope.shutdown.begun or self._root.shutdown.begun:
                if outcome.ended == "cancelled":
                    scope.shutdown.note_withdrawn(run.number)
                else:
                    scope.shutdown.note(run.number, outcome)

    def worker_ended(self, node: WorkerNode) -> None:
        """A worker has ended for good."""
        self._insist(self._losses.note, node)
        self._deadlines.ended(node)
        if self._root.shutdown.begun:
            self._ends.groups.close(node.group)

    # ------------------------------------------------------------------------------------ the end of the supervisor

    def finish_if_quiet(self) -> None:
        """Once no worker and no call is left, waits for the pool's idle threads, for a moment at most."""
        shutdown = self._root.shutdown
        self._ends.pools.close_all()
        if shutdown.draining and not self._kinds.used_in(self._root):
            self._ends.draining.end(self._root)
        if shutdown.report is not None:
            self._closing.close_inbox()
        elif shutdown.begun and not (self.tree.workers or self._kinds.have_calls() or self._portal.open):
            # Calls to the loop that are left over have been cancelled, and are about to end or to be given up.
            self._closing.when_idle(self._finish)

    def _finish(self) -> None:
        shutdown = self._root.shutdown
        if shutdown.closed.done():
            return
        if shutdown.report is None:
            self._insist(self._closing.close)
            report = self._ends.reports.of(self._root)
            self._insist(self._closing.conclude, report)
            shutdown.report = report
        self._insist(self._closing.close_inbox)
        self._insist(self._ends.pools.finish_all)
        self._insist(self._ends.groups.close_all)
        self._insist(self._signals.put_back)
        self._insist(self._publisher.publish, ShutdownEnded(shutdown.report))
        self._insist(self._root.changed)
        self._last_resort.call_off(self._root)
        self._insist(self._closing.call_off)
        shutdown.closed.set_result(None)

    def end(self, scope: AnyScope) -> None:
        """Ends the shutdown of a scope in which nothing is left that anybody could wait for."""
        if isinstance(scope, PoolScope):
            self._ends.pools.finish(scope)
        elif scope is self._root:
            self._finish()
        else:
            self._ends.groups.end(scope)
