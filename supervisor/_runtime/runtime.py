"""One running supervisor: its parts, and how they are wired.

One runtime belongs to one supervisor and one event loop. All of it runs on the loop's thread unless it says otherwise;
other threads come in through the inbox. A KeyboardInterrupt may strike between any two lines, so what was begun is done
again rather than left undone: each command can be carried out twice.
"""

from __future__ import annotations

import logging
import math
import os
import random
import time
from _thread import get_ident
from collections import deque
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from .._core.errors import SupervisorClosed
from .._core.ladder import StopAsked, TimePassed
from .._core.report import ShutdownReport
from .._kinds.threads import Threads
from .._loop.alarms import Alarms
from .._loop.clock import clock_of
from .._loop.inbox import TURN, Inbox
from .._loop.signals import SECOND_TIMEOUT, Signals
from .._observe.log import Log
from .._observe.notices import GroupEnded, ShutdownBegun, ShutdownEnded
from .._observe.publisher import Publisher
from .._run.loop_call import LoopCall
from .._run.ports import Services
from .._run.run import Run
from .._worker.stop_event import Chain
from .calls import Calls
from .escalation import Escalation
from .kinds import Kinds
from .names import Names, full_name
from .nodes import GroupNode, Node, WorkerNode, stop_deadlines
from .portal import Portal
from .rules import DEFAULT_POLICY, RuleBook
from .shutdown import Shutdown
from .snapshot import Snapshot
from .tree import Tree
from .wakeups import WakeUps
from .workers import Workers

if TYPE_CHECKING:
    import asyncio
    import signal
    from collections.abc import Callable

    from .._core.outcome import Outcome
    from .._core.policy import EscalationPolicy, Kind
    from .._observe.subscribers import Subscribers
    from .._run.run import Handle, WorkerKind
    from .settings import Settings

    NewHandle: TypeAlias = Callable[["Runtime", Run | WorkerNode], Handle]
    StandIn: TypeAlias = Callable[[Services, int, int], list[WorkerKind]]

__all__ = ["Runtime"]

JOIN_SLACK = 0.05
"""Seconds at most that a shutdown waits for threads that are past their last line."""

QUIET_SLACK = 0.1
"""Seconds that a shutdown gives idle threads to end, beyond its deadline if need be."""

stand_in: StandIn | None = None
"""Makes the kinds of a runtime, first that of threads, in place of the real ones; set by `supervisor.testing` alone.

It is given what a kind asks of the runtime, and how many calls may run at once in threads and in processes.
"""


class Runtime:
    """Makes the parts of one supervisor, and wires them.

    Args:
        new_handle: Makes what users hold of a worker or a call.
        default_policy: The ladder where nobody has named one.
        like: The runtime whose clock and stand-ins it takes, and which has reported the ladders that take too long;
            None: it takes those that are in force now, and reports by itself.

    Attributes:
        calls: The calls of `run()` and of executors.
        workers: The workers of `start()`.
        tree: Where workers and groups have their places.
        escalation: How runs are stopped.
        portal: What workers have the loop do, by `ctx.call`.
        snapshot: What there is at this moment.
        names: Who has which name.
        kinds: How runs are carried out.
        rules: Which ladder a run climbs.
        thread, pid: The thread and the process of the loop.
        closing: The shutdown, once it has begun.
        report: The report, once it has ended.
        failure: What a worker was given up for, where that has shut the supervisor down.
        closed: Done when the report is there.
        stand_in: What has given it its kinds, in place of the real ones.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        subscribers: Subscribers,
        new_handle: NewHandle,
        *,
        default_policy: EscalationPolicy = DEFAULT_POLICY,
        like: Runtime | None = None,
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.clock: Callable[[], float] = clock_of(loop) if like is None else like.clock
        self.log = Log(settings.name, settings.logger, loop)
        self.closing: Shutdown | None = None
        self.report: ShutdownReport | None = None
        self.closed: asyncio.Future[None] = loop.create_future()
        self.thread = get_ident()
        self.pid = os.getpid()
        self.failure: BaseException | None = None
        self._deadlines: dict[Node, float] = {}  # during a shutdown, of those that others wait for
        self._asking: deque[WorkerNode] = deque()
        self._groups: list[GroupNode] = []  # those that have no report yet
        self._signals: Signals | None = None

        self.publisher = Publisher(settings.name, self.clock, self.log, subscribers)
        self.rules = RuleBook(settings, default_policy, self.log)
        self._inbox: Inbox[Run | Callable[[], object]] = Inbox(loop, self._arrived)
        self._alarms: Alarms[Run | Node | LoopCall] = Alarms(loop, self.clock, self._rung)
        self.portal = Portal(
            loop,
            self.clock,
            self._inbox,
            self._alarms,
            self.publisher,
            lambda run: run.owner.deadline(run),
            self._loop_call_ended,
        )
        chain = Chain()
        self._wakeups = WakeUps(loop, chain, self._asks_many)
        self.escalation = Escalation(
            loop,
            self.clock,
            self._inbox,
            self._alarms,
            self.log,
            self.publisher,
            self.portal,
            rules=self.rules.of,
            wakeups=self._wakeups,
            asks_many=self._asks_many,
            run_ended=self._run_ended,
        )
        self._next_number = count(1).__next__
        self.kinds = Kinds(self._make_kind)
        self.names = Names(settings.name, self._next_number, lambda: self.tree.all, self.kinds)
        self.calls = Calls(
            settings.name,
            loop,
            self.clock,
            self.kinds,
            self.names,
            self._next_number,
            self._inbox,
            self._alarms,
            self.publisher,
            self.portal,
            self.escalation,
            max_queued=settings.max_queued,
            refuse=self.refuse_if_closing,
            deadline=self._deadline_in,
            note_end=self._note_call,
            close_groups=self._close_groups,
            call_ended=self._run_ended,
        )
        self.workers = Workers(
            loop,
            self.clock,
            self._alarms,
            self.log,
            self.publisher,
            settings.config,
            self.names,
            self.escalation,
            next_number=self._next_number,
            new_handle=partial(new_handle, self),
            ended=self.calls.ended,
            forget=self.calls.forget,
            refuse=self.refuse_if_closing,
            deadline=self._deadline_of,
            note_end=self._note_worker,
            worker_ended=self._run_ended,
            shut_down=self._fail,
            group_ended=self._close_groups,
        )
        root = GroupNode(None, settings.strategy, settings.on_exhausted)
        self.tree = self.workers.tree = Tree(self.workers, self.clock, random.random, root)
        self.snapshot = Snapshot(
            settings.name,
            self.kinds,
            self.tree,
            self.escalation.abandoned,
            partial(new_handle, self),
            lambda: self.closing is not None,
        )
        self._services = Services(
            loop,
            self.clock,
            self._inbox.post,
            self.calls.ended,
            self.calls.settle,
            self.escalation.extend,
            self.escalation.remaining,
            self.portal.carry_out,
            self.portal.begin,
            self.calls.callback_failed,
            self.log.forward,
        )
        self.stand_in: StandIn | None = stand_in if like is None else like.stand_in
        if self.stand_in is not None:
            self.kinds.add(self.stand_in(self._services, settings.max_threads, settings.max_processes))
        else:
            self.kinds.add([Threads(settings.name, settings.max_threads, self._services, chain, self.calls.resolving)])
        if like is None:
            self.rules.report_over_budget("thread")

    def _make_kind(self, name: Kind) -> WorkerKind:
        assert name == "process"
        from .._kinds.processes import Processes  # noqa: PLC0415  # most supervisors never need it

        settings = self.settings
        kind = Processes(
            settings.name,
            self._services,
            max_processes=settings.max_processes,
            max_tasks=settings.max_tasks,
            start_timeout=settings.process_start_timeout,
        )
        self._inbox.post(partial(self.rules.report_over_budget, name))
        return kind

    # ------------------------------------------------------------------------------------ what happens

    def _arrived(self, item: Run | Callable[[], object]) -> None:
        if isinstance(item, Run):
            self.calls.ended(item)
        else:
            item()

    def _rung(self, item: Run | Node | LoopCall) -> None:
        """A moment has come for which somebody had set an alarm."""
        self._inbox.drain()  # what has ended by now need not be stopped
        if item.over:
            return
        if isinstance(item, Node):
            self.tree.rung(item)
        elif isinstance(item, LoopCall):
            self.portal.rung(item)
        elif item.climb is not None:
            self.escalation.feed(item, TimePassed())
        elif item.expires_at is None:
            return
        elif self.clock() < item.expires_at:
            if item.expires_at < math.inf:
                self._alarms.set(item.expires_at, item)
        else:
            item.owner.expired(item)

    def _asks_many(self) -> bool:
        return bool(self._asking)

    def _loop_call_ended(self) -> None:
        self._run_ended()
        if self._groups:
            self._close_groups()

    def _run_ended(self) -> None:
        self._finish_if_quiet()
        self._inbox_may_close()

    def _fail(self, node: Node, error: BaseException) -> None:
        """A worker or group is given up, and `on_exhausted` has all others go with it."""
        if self.failure is None:  # else an interrupt has come in between
            self.publisher.given_up("group" if isinstance(node, GroupNode) else "worker")
        self.failure = error
        self.begin_shutdown(None, f"{node.name!r} is given up")

    # ------------------------------------------------------------------------------------ groups

    def add_group(self, group: GroupNode, name: str) -> None:
        """Takes in a group; its name is taken for as long as it has not ended."""
        assert group.group is not None
        self.refuse_if_closing(group.group)
        group.number = self._next_number()
        group.name = full_name(group.group, name)
        self.names.take(group.name, group)
        self.tree.add(group)
        self._groups.append(group)

    def close_group(self, group: GroupNode, timeout: float | None, reason: str = "") -> asyncio.Future[None]:
        """Stops a group alone, or shortens its shutdown; returns a future that is done when its report is there."""
        if group.report is not None:
            done = self.loop.create_future()
            done.set_result(None)
            return done
        now = self.clock()
        deadline = now + (self.settings.shutdown_timeout if timeout is None else timeout)
        if group.closed is None:
            self.tree.begin_report(group)
            group.closed = self.loop.create_future()
            group.began_at, group.deadline, group.reason = now, deadline, reason
            self.log.write(logging.INFO, "supervisor.group_stopping", group=group.name, reason=reason)
            self.publisher.publish(ShutdownBegun(reason, deadline, group.name))
        elif timeout is None or deadline >= group.deadline:
            return group.closed
        group.deadline = deadline
        self._stop_group(group)
        return group.closed

    def _stop_group(self, group: GroupNode) -> None:
        """Asks all of a group that is shut down to stop; an interrupt only delays it."""
        try:
            self.portal.hasten()
            self._stop_all_of(group)
            self._close_groups()
        except (KeyboardInterrupt, SystemExit):
            self.loop.call_soon(self._stop_group, group)
            raise

    def _stop_all_of(self, group: GroupNode) -> None:
        lives = list(group.lives)
        if any(life.after or life.group is not group for life in lives):
            self._reserve(lives, self.clock(), group.deadline)
        for run in self.kinds.calls():
            if group.holds(run.group):
                self.escalation.stop(run, "shutdown", group.reason)
        for life in lives:
            if life.run.climb is not None:
                self.escalation.stop(life.run, "shutdown", group.reason)
        if self.closing is None:  # else the supervisor's own shutdown asks all others, in their order
            self.tree.stop(group, "shutdown", group.reason)

    def _close_groups(self) -> None:
        """Makes the reports of groups of which nothing is left."""
        for group in tuple(self._groups):
            ended = group.gone or self.report is not None or (self.closing is not None and group.empty)
            runs = [*self.kinds.calls(), *self.portal.open] if ended else []
            if ended and (self.report is not None or not any(group.holds(run.group) for run in runs)):
                seconds = self.clock() - group.began_at if group.closed is not None else 0.0
                outcomes = tuple(group.outcomes.values())
                if group.gone:
                    self.names.release_group(group)  # only now: its end is told by its name
                group.report = ShutdownReport(group.reason, outcomes, seconds, never_started=len(group.withdrawn))
                if group.closed is not None:
                    level = logging.INFO if group.report.clean else logging.WARNING
                    counts = group.report.counts()
                    self.log.write(level, "supervisor.group_stopped", group=group.name, counts=counts)
                    self.publisher.publish(ShutdownEnded(group.report, group.name))
                    if not group.closed.done():
                        group.closed.set_result(None)
                self.publisher.publish(GroupEnded(group.name))
                group.changed()
        if any(group.report is not None for group in self._groups):
            self._groups = [group for group in self._groups if group.report is None]

    # ------------------------------------------------------------------------------------ shutdown

    def refuse_if_closing(self, group: GroupNode | None = None) -> None:
        if group is not None and not group.takes_work:
            raise SupervisorClosed(f"group {group.name!r} has ended, or is being stopped, and takes no new work")
        if self.closing is not None:
            how = "is shutting down" if self.report is None else "has shut down"
            raise SupervisorClosed(f"supervisor {self.settings.name!r} {how} and takes no new work")

    def _deadline_in(self, group: GroupNode | None) -> float:
        """By when a shutdown must have ended what is in a group."""
        deadline = math.inf if self.closing is None else self.closing.deadline
        return deadline if group is None else min(deadline, *(around.deadline for around in group.around))

    def _deadline_of(self, node: WorkerNode) -> float:
        """By when a shutdown must have ended a worker: those that it comes after still need time after it."""
        deadline = self._deadline_in(node.group)
        return min(deadline, self._deadlines.get(node, deadline))

    def _note_call(self, run: Run, outcome: Outcome) -> None:
        if self.closing is not None:
            self.closing.note(run.number, outcome, own=False)
        for around in () if run.group is None else run.group.around:
            if around.closed is not None or self.closing is not None:
                if outcome.ended == "cancelled":
                    around.withdrawn.add(run.number)
                else:
                    around.outcomes[run.number] = outcome

    def _note_worker(self, node: WorkerNode, outcome: Outcome) -> None:
        self._deadlines.pop(node, None)
        if self.closing is not None:
            self.closing.note(node.number, outcome, own=True)
            self._close_groups()

    async def wait_for_signal(self, wanted: tuple[signal.Signals, ...]) -> signal.Signals | None:
        if self.closing is not None:
            return None if self._signals is None else self._signals.first
        if self._signals is None:
            self._signals = Signals(self.loop, lambda again: self.begin_shutdown(SECOND_TIMEOUT, f"{again.name} again"))
        return await self._signals.wait(wanted)

    def begin_shutdown(self, timeout: float | None = None, reason: str = "") -> None:
        """Stops everything, or shortens the shutdown that is under way; an interrupt only delays it."""
        try:
            self._begin_shutdown(timeout, reason)
        except (KeyboardInterrupt, SystemExit):
            self.loop.call_soon(self.begin_shutdown, timeout, reason)
            raise

    def _begin_shutdown(self, timeout: float | None, reason: str) -> None:
        now = self.clock()
        closing = self.closing
        first = closing is None
        if closing is None:
            seconds = self.settings.shutdown_timeout if timeout is None else timeout
            self._inbox.drain()  # what has ended by now was not stopped
            self.log.refresh()
            if not reason and self._signals is not None and self._signals.first is not None:
                reason = self._signals.first.name
            closing = self.closing = Shutdown(reason, now, seconds, self.settings.on_abandoned, self.log)
            self.publisher.publish(ShutdownBegun(closing.reason, closing.deadline))
        elif self.report is not None or not closing.shorten(now, timeout):
            return
        self.calls.closing = True
        for kind in self.kinds:
            kind.retire()
        self.portal.hasten()
        self.tree.root.reason = reason
        self.tree.close()
        lives = list(self.tree.all.values())
        calls = self.kinds.calls()
        self._inbox.drain()  # what other threads have submitted up to now is handled first
        calls = [run for run in calls if not run.over]
        for run in calls:  # first all of this, or threads that become free would take calls that are queued
            if run.climb is None and not self.escalation.give_climb(run, "shutdown", reason):
                self.calls.forget_unseen(run)
        calls = [run for run in calls if run.climb is not None]
        if first:
            queued = sum(run.handle is None for run in calls)
            self.log.stopping(closing.reason, closing.deadline - now, len(lives) + len(calls) - queued, queued)
        if any(life.after or life.group.after or life.group is not self.tree.root for life in lives):
            self._reserve(lives, now, closing.deadline)
        for run in calls:
            self.escalation.feed(run, StopAsked("shutdown", closing.deadline))
        if self._signals is not None:
            self._signals.give_up()
        self._asking = deque(lives)
        self._ask_lives(closing)

    def _ask_lives(self, closing: Shutdown) -> None:
        """Asks the workers of `start()` to stop, as many as fit into a turn of the loop: it must not be held up."""
        if not self._asking:
            try:
                self._wakeups.announce()
                closing.begun = True
                self._finish_if_quiet()
            except (KeyboardInterrupt, SystemExit):
                self.loop.call_soon(self._ask_lives, closing)
                raise
            return
        self.loop.call_soon(self._ask_lives, closing)  # first, so that an interrupt here leaves nobody unasked
        self.log.refresh()
        until = time.monotonic() + TURN
        while self._asking and time.monotonic() < until:
            life = self._asking[0]
            if not life.over and (not life.blocked or life.between_runs):
                self.tree.stop(life, "shutdown", closing.reason)
            if self._asking and self._asking[0] is life:
                self._asking.popleft()

    def _reserve(self, lives: list[WorkerNode], now: float, deadline: float) -> None:
        """Keeps the time that workers need which others come after; what is kept already is only brought nearer."""
        budgets: dict[Node, float] = {life: self.rules.budget(life.run) for life in lives}
        for life, at in stop_deadlines(budgets, now, deadline).items():
            self._deadlines[life] = min(at, self._deadlines.get(life, at))

    def _finish_if_quiet(self) -> None:
        """Once no worker is left, waits for the pool's idle threads, for a moment at most."""
        closing = self.closing
        if closing is None or closing.quiet or self.tree.all or any(kind.calls for kind in self.kinds):
            return
        if self.portal.open:
            return  # those that are left over have been cancelled, and are about to end or to be given up
        closing.quiet = True
        self.loop.call_later(QUIET_SLACK, self._finish)
        here = list(self.kinds)

        def gone(kind: WorkerKind) -> None:
            if kind in here:
                here.remove(kind)
            if not here:
                self._finish()

        for kind in self.kinds:
            kind.when_gone(partial(gone, kind))

    def _finish(self) -> None:
        closing = self.closing
        if closing is None or self.report is not None:
            return
        self._alarms.close()
        for kind in self.kinds:
            kind.join(JOIN_SLACK, {run.ident for run in self.escalation.abandoned.values()})
        self.report = closing.end(self.clock())
        self._inbox_may_close()
        self._close_groups()
        self.put_signals_back()
        self.publisher.publish(ShutdownEnded(self.report))
        if not self.closed.done():
            self.closed.set_result(None)

    def put_signals_back(self) -> None:
        if self._signals is not None:
            try:
                self._signals.close()
            except Exception as error:
                message = f"supervisor {self.settings.name!r}: the signal handlers could not be put back"
                self.loop.call_exception_handler({"message": message, "exception": error})

    def forked(self) -> None:
        """This is a copy, in a process of its own: the loop and its signals are not here."""
        if self._signals is not None:
            self._signals.forked()

    def _inbox_may_close(self) -> None:
        """Listens until the last abandoned thread has come back, so that its late end is logged."""
        if self.report is not None and not self.escalation.abandoned:
            self._inbox.close()
