"""One running supervisor: its parts, and how they are wired.

One runtime belongs to one supervisor and one event loop. All of it runs on the loop's thread unless it says otherwise;
other threads come in through the inbox. A KeyboardInterrupt may strike between any two lines, so what was begun is done
again rather than left undone: each command can be carried out twice.
"""

from __future__ import annotations

import os
import random
from _thread import get_ident
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from .._loop.alarms import Alarms
from .._loop.backlog import Backlog
from .._loop.clock import clock_of
from .._loop.inbox import Inbox
from .._loop.pace import Pace
from .._loop.signals import SECOND_TIMEOUT
from .._observe.incidents import Incidents
from .._observe.log import Log
from .._observe.publisher import Publisher
from .._run.loop_call import LoopCall
from .._run.ports import Services
from .._run.run import Run
from .._worker.stop_event import Chain
from .calls import Calls
from .closing import JOIN_SLACK, Closing
from .deadlines import Deadlines
from .ends import Ends
from .escalation import Escalation
from .executor_calls import ExecutorCalls
from .kinds import Kinds
from .last_resort import LastResort
from .losses import Losses
from .making import Maker
from .names import Names
from .nodes import GroupNode, Node, WorkerNode
from .portal import Portal
from .rules import DEFAULT_POLICY, RuleBook
from .sampler import Sampler
from .slowness import Slowness
from .snapshot import Snapshot
from .stop_signals import StopSignals
from .teardown import Teardown
from .tree import Tree
from .wakeups import WakeUps
from .watchdog import Watchdog
from .workers import Workers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._core.policy import EscalationPolicy
    from .._core.pools import PoolSettings
    from .._observe.subscribers import Subscribers
    from .._run.run import Handle, WorkerKind
    from .scopes import PoolScope
    from .settings import Settings
    from .stalls import Stalls

    NewHandle: TypeAlias = Callable[["Runtime", Run | WorkerNode], Handle]
    StandIn: TypeAlias = Callable[[Services, PoolSettings], WorkerKind]

__all__ = ["Runtime"]

stand_in: StandIn | None = None
"""Makes the pools of a runtime, in place of the real ones; set by `supervisor.testing` alone.

It is given what a kind asks of the runtime, and what is set for the pool.
"""


class Runtime:
    """Makes the parts of one supervisor, and wires them.

    Args:
        new_handle: Makes what users hold of a worker or a call.
        default_policy: The ladder where nobody has named one.
        like: The runtime whose clock and stand-ins it takes, and which has reported the ladders that take too long;
            None: it takes those that are in force now, and reports by itself.

    Attributes:
        calls: The calls of `run()`, and the owner of all calls.
        executor_calls: The calls of executors.
        pace: Where many workers are started at once, each waits here for its turn.
        workers: The workers of `start()`.
        tree: Where workers and groups have their places.
        escalation: How runs are stopped.
        portal: What workers have the loop do, by `ctx.call`.
        snapshot: What there is at this moment.
        incidents: The last failures and stops.
        names: Who has which name.
        losses: What was lost, and not replaced.
        kinds: How runs are carried out: the pools, each an instance of its kind.
        rules: Which ladder a run climbs.
        thread, pid: The thread and the process of the loop.
        root: The supervisor as a scope, in which its groups are.
        shutdown: Its shutdown, whether that has begun or not.
        teardown: What begins it, and ends it; and those of groups.
        signals: The signals that end the service.
        stalls: Who looks whether the loop is blocked; None where nobody does.
        stand_in: What makes its pools, in place of the real ones.
    """

    calls: Calls
    executor_calls: ExecutorCalls
    workers: Workers
    tree: Tree
    portal: Portal
    escalation: Escalation
    teardown: Teardown
    signals: StopSignals
    snapshot: Snapshot

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        root: GroupNode,
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
        self.thread = get_ident()
        self.pid = os.getpid()
        self.root = root
        self.shutdown = root.shutdown
        self.stalls: Stalls | None = None

        self.incidents = Incidents(self.clock, settings.incidents)
        self.publisher = Publisher(settings.name, self.clock, self.log, subscribers, self.incidents)
        self.rules = RuleBook(settings, default_policy, self.log)
        self._chain = Chain()
        self._inbox: Inbox[Run | Callable[[], object]] = Inbox(loop, self._arrived, rests=lambda: bool(self._chain))
        self._alarms: Alarms[Run | Node | LoopCall | Sampler | Slowness] = Alarms(loop, self.clock, self._rung)
        self._next_number = count(1).__next__
        self.kinds = Kinds(settings.name, self._make_kind, settings.pools)
        self.losses = Losses()
        self.names = Names(
            settings.name, self._next_number, lambda: self.tree.workers, self.kinds, self.losses, self.rules.unmatched
        )
        self._maker = Maker(settings, self._chain)
        self._backlog = Backlog(loop, self.log.refresh, self._could_not_stop)
        self.pace = Pace(loop, self.log.refresh)
        self._wire_stops()
        self._wire_calls()
        self._wire_slowness()
        self._wire_workers(partial(new_handle, self))
        self._services = Services(
            loop,
            self.clock,
            post=self._inbox.post,
            post_notice=self._inbox.post_notice,
            ended=self.calls.ended,
            settle=self.executor_calls.settle,
            extend=self.escalation.extend,
            remaining=self.escalation.remaining,
            call=self.portal.carry_out,
            iterate=self.portal.iterate,
            begin_call=self.portal.begin,
            cut_call=self.portal.cut,
            leave_call=self.portal.leave,
            own_call=self.calls.own_call,
            callback_failed=self.calls.callback_failed,
            measure=Sampler(self.clock, self._alarms, self.publisher).begin,
            forward=self.log.forward,
            write=self.log.write,
            named=self.rules.named,
            stepped=self.escalation.stepped,
        )
        self.stand_in: StandIn | None = stand_in if like is None else like.stand_in
        self.kinds.begin()
        if like is None:
            self.rules.report_over_budget("thread")
            self.rules.await_names()

    def _wire_stops(self) -> None:
        """Makes what stops a run, and what shuts a scope down."""
        settings, loop, root = self.settings, self.loop, self.root
        backlog = self._backlog
        closing_pools: dict[WorkerKind, PoolScope] = {}
        self.deadlines = Deadlines(self.rules.budget, closing_pools)
        wakeups = WakeUps(loop, self._chain, lambda: self.teardown.asks)
        self.portal = Portal(
            loop,
            self.clock,
            self._inbox,
            self._alarms,
            self.publisher,
            lambda run: run.owner.deadline(run),
            self._loop_call_ended,
        )
        self.escalation = Escalation(
            loop,
            self.clock,
            self._inbox,
            self._alarms,
            self.log,
            self.publisher,
            self.portal,
            rules=self.rules.of,
            wakeups=wakeups,
            asks_many=lambda: bool(backlog),
            run_ended=lambda: self.teardown.finish_if_quiet(),  # noqa: PLW0108  # which is not there yet
        )
        self.signals = StopSignals(
            settings.name,
            loop,
            self.shutdown,
            lambda again: self.teardown.begin(root, SECOND_TIMEOUT, f"{again.name} again", drain=0.0),
        )
        closing = Closing(
            loop,
            self._inbox,
            self._alarms,
            self.log,
            self.kinds,
            self.escalation.abandoned,
            Watchdog(self.log) if settings.on_abandoned == "exit" else None,
            lambda: self.calls.log_rest(),  # noqa: PLW0108  # which are not there yet
            self.rules.report_unmatched,
            lambda: self.executor_calls.hand_all_on(),  # noqa: PLW0108  # the same
        )
        self._last_resort = LastResort(
            loop,
            self.clock,
            self.publisher,
            self.kinds,
            self.portal,
            self.escalation,
            lambda scope: self.teardown.end(scope),  # noqa: PLW0108  # as above
        )
        self.ends = Ends(
            settings.name,
            loop,
            self.clock,
            self.log,
            self.publisher,
            self.kinds,
            settings.pools,
            self.names,
            self.losses,
            self.portal,
            self.escalation,
            root,
            backlog=backlog,
            closing=closing,
            last_resort=self._last_resort,
            closing_pools=closing_pools,
        )
        self.teardown = Teardown(
            settings.name,
            settings.shutdown_timeout,
            settings.drain,
            loop,
            self.clock,
            self._inbox,
            self.log,
            self.publisher,
            self.kinds,
            self.losses,
            self.portal,
            self.escalation,
            root,
            closing=closing,
            signals=self.signals,
            backlog=backlog,
            wakeups=wakeups,
            last_resort=self._last_resort,
            deadlines=self.deadlines,
            ends=self.ends,
        )

    def _wire_calls(self) -> None:
        """Makes the calls."""
        settings, loop, root = self.settings, self.loop, self.root
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
            root,
            origins=settings.origins,
            refuse=self.teardown.refuse,
            deadline=self.deadlines.of_call,
            note_end=self.teardown.call_ended,
            close_groups=self.ends.groups.close,
        )
        self.executor_calls = ExecutorCalls(
            settings.name,
            loop,
            self.clock,
            self.kinds,
            self.names,
            self._next_number,
            self._inbox,
            self.publisher,
            self.portal,
            self.escalation,
            self.calls,
            root,
            origins=settings.origins,
            refuse=self.teardown.refuse,
            close_groups=self.ends.groups.close,
            call_ended=self.teardown.finish_if_quiet,
        )

    def _wire_slowness(self) -> None:
        """Makes what looks at those that run for too long."""
        settings = self.settings
        self._slowness = Slowness(
            self.clock, self._alarms, self.publisher, self.kinds, settings.pools, settings.slow_after, self.calls
        )

    def _wire_workers(self, new_handle: Callable[[Run | WorkerNode], Handle]) -> None:
        """Makes the workers, their tree, and what looks at all of it."""
        settings, loop = self.settings, self.loop
        self.workers = Workers(
            loop,
            self.clock,
            self._alarms,
            self.publisher,
            settings.config,
            self.names,
            self.escalation,
            next_number=self._next_number,
            new_handle=new_handle,
            run_ended=self.calls.ended,
            forget=self.calls.forget,
            refuse=self.teardown.refuse,
            deadline=self.deadlines.of_worker,
            deadline_of_group=self.deadlines.of_scope,
            note_end=self.teardown.worker_ended,
            worker_ended=self.teardown.finish_if_quiet,
            report_limits=self.rules.report_irreplaceable,
            expect=self._slowness.expect,
            group_added=self.ends.groups.add,
        )
        self.tree = self.workers.tree = self.teardown.tree = self._last_resort.tree = Tree(
            loop,
            self.clock,
            self._alarms,
            self.publisher,
            self.losses,
            self._backlog,
            random.random,
            self.root,
            next_number=self._next_number,
            enlist=self.workers.enlist,
            begin_run=self.workers.begin_run,
            stop_run=self.escalation.stop,
            worker_ended=self.workers.ended,
            group_ended=self.ends.groups.close,
            shut_down=self.teardown.fail,
        )
        self.snapshot = Snapshot(
            settings.name,
            self.clock,
            self.kinds,
            self.names,
            self.tree,
            self.escalation.abandoned,
            self.losses,
            new_handle,
        )

    @property
    def busy(self) -> bool:
        """Whether any work is under way, or will come again. Any thread."""
        return bool(self.tree.workers or self.kinds.have_calls() or self.portal.open)

    def let_go(self) -> None:
        """Lets go of threads, processes and files where there is no loop any more that could climb a ladder."""
        for run in (*self.kinds.calls(), *(node.run for node in tuple(self.tree.workers.values()))):
            self.escalation.ask_alone(run)
        self._chain.release_all()
        for kind in self.kinds:
            if kind.own_threads:
                kind.retire()
            else:
                kind.join(JOIN_SLACK, set())
        self._inbox.close()

    def _make_kind(self, pool: PoolSettings) -> WorkerKind:
        self._slowness.pool_made()
        if self.stand_in is not None:
            return self.stand_in(self._services, pool)
        if pool.kind == "process" and pool.on is None:
            self._inbox.post(partial(self.rules.report_over_budget, pool.kind))
        return self._maker.make(pool, self._services, self.executor_calls.resolving(pool.name))

    # ------------------------------------------------------------------------------------ what happens

    def _arrived(self, item: Run | Callable[[], object]) -> None:
        if isinstance(item, Run):
            self.calls.ended(item)
        else:
            item()

    def _rung(self, item: Run | Node | LoopCall | Sampler | Slowness) -> None:
        """A moment has come for which somebody had set an alarm."""
        self._inbox.catch_up()  # what has ended by now need not be stopped
        if item.over:
            return
        if isinstance(item, Node):
            self.tree.rung(item)
        elif isinstance(item, LoopCall):
            self.portal.rung(item)
        elif isinstance(item, Sampler | Slowness):
            item.rung()
        else:
            self.escalation.rung(item)

    def _could_not_stop(self, what: Run | Node | None, error: Exception) -> None:
        self.publisher.fault("ask", self.settings.name if what is None else what.name, error)

    def _loop_call_ended(self, scope: GroupNode) -> None:
        """A worker's call to the loop has ended for which a shutdown, or the end of a group, may wait."""
        self.teardown.finish_if_quiet()
        self.ends.groups.close(scope)
