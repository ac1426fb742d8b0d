"""The shell: what happens goes into the machine as events, and the machine's commands are carried out.

One shell belongs to one supervisor and one event loop. Everything here runs on the loop's thread unless it says
otherwise; other threads come in through the inbox. A KeyboardInterrupt may strike between any two lines, so what was
begun is done again rather than left undone: each command can be carried out twice.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import time
from _thread import RLock, get_ident
from collections import Counter, deque
from concurrent.futures import InvalidStateError
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never, cast

from .._core.errors import StopRequested, SupervisorBusy, SupervisorClosed, SupervisorMisused
from .._core.failures import WorkerDied, WorkerStopped, WorkerTimeout
from .._core.ladder import (
    Abandon,
    Abandoned,
    Command,
    Conclude,
    EndedState,
    Entered,
    Event,
    Exited,
    GraceAsked,
    NoteLateEnd,
    Perform,
    Queued,
    Rules,
    Starting,
    StopAsked,
    Stopping,
    TimePassed,
    WakeAt,
    decide,
)
from .._core.outcome import Outcome, WorkerState
from .._core.policy import Ask, EscalationPolicy, Inject
from .._core.report import ShutdownReport, Statistics
from .._kinds.threads import Threads
from .._loop.alarms import Alarms
from .._loop.clock import clock_of
from .._loop.inbox import TURN, Inbox
from .._loop.signals import SECOND_TIMEOUT, Signals
from .._observe.log import Log
from .._observe.notices import GroupEnded, ShutdownBegun, ShutdownEnded
from .._observe.publisher import Publisher
from .._run.climb import Climb
from .._run.futures import CallFuture
from .._run.loop_call import LoopCall
from .._run.names import qualname
from .._run.ports import Services
from .._run.run import Run
from .._worker.stop_event import Chain
from .nodes import GroupNode, Node, WorkerNode, stop_deadlines
from .portal import Portal
from .shutdown import OnAbandoned, Shutdown
from .tree import Tree

if TYPE_CHECKING:
    import concurrent.futures
    import signal
    from collections.abc import Callable

    from .._core.ladder import Cause
    from .._core.outcome import Ended
    from .._core.policy import Kind, Step, StepName
    from .._core.restart import OnExhausted, Strategy
    from .._observe.counters import Key
    from .._observe.subscribers import Subscribers
    from .._run.futures import WorkFuture
    from .._run.ports import Handle, WorkerKind
    from ..config import Config

    NewHandle: TypeAlias = Callable[["Runtime", Run | WorkerNode], Handle]
    StandIn: TypeAlias = Callable[[Services, int, int], list[WorkerKind]]

__all__ = ["Runtime", "Settings"]

CHAIN_SLACK = 0.05
"""Seconds after which a chain of waiters that has not moved on is started again."""

KNOWN_RULES = 100
"""Ladders that are remembered as the machine wants them."""

JOIN_SLACK = 0.05
"""Seconds at most that a shutdown waits for threads that are past their last line."""

REMEMBERED = 1000
"""Of how many workers and groups it is remembered that they were given up."""

QUIET_SLACK = 0.1
"""Seconds that a shutdown gives idle threads to end, beyond its deadline if need be."""

DEFAULT_POLICY = EscalationPolicy()

REASONS: dict[Cause, str] = {
    "cancel": "cancelled",
    "timeout": "timeout",
    "stop": "stop",
    "stuck": "stuck",
    "shutdown": "shutdown",
}
"""What `ctx.reason` says where nobody gave a reason."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user has said once and for all; checked by the Supervisor."""

    name: str
    policy: EscalationPolicy | None
    shutdown_timeout: float
    max_threads: int
    max_processes: int
    max_tasks: int | None
    process_start_timeout: float
    max_queued: int | None
    strategy: Strategy
    on_exhausted: OnExhausted
    on_abandoned: OnAbandoned
    config: Config
    logger: Any


stand_in: StandIn | None = None
"""Makes the kinds of a runtime, first that of threads, in place of the real ones; set by `supervisor.testing` alone.

It is given what a kind asks of the runtime, and how many calls may run at once in threads and in processes.
"""


class Runtime:
    """Runs workers and climbs their ladders, on one event loop.

    Args:
        new_handle: Makes what users hold of a worker or a call.
        default_policy: The ladder where nobody has named one.
        like: The shell whose clock and stand-ins it takes, and which has told of ladders that take too long; None: it
            takes those that are in force now, and tells itself.

    Attributes:
        lives: The workers of `start()` that have not ended.
        errands: What workers have the loop do, by `ctx.call`.
        names: The workers and calls that were given a name and have not ended.
        abandoned: The runs that were given up and have not come back.
        exhausted: The names of the workers and groups that were given up alone, until others have these names.
        thread, pid: The thread and the process of the loop.
        closing: The shutdown, once it has begun.
        report: The report, once it has ended.
        failure: What a worker was given up for, where that has shut the supervisor down.
        closed: Done when the report is there.
        resolving: The futures of executors' calls that have ended, and that are being told so.
        stand_in: What has given it its kinds, in place of the real ones.
        threads, kinds: How runs are carried out.
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
        self._new_handle = new_handle
        self.clock: Callable[[], float] = clock_of(loop) if like is None else like.clock
        self.log = Log(settings.name, settings.logger, loop)
        self.names: dict[str, Run | Node] = {}
        self.abandoned: dict[int, Run] = {}
        self.exhausted: dict[str, None] = {}
        self.closing: Shutdown | None = None
        self.report: ShutdownReport | None = None
        self.closed: asyncio.Future[None] = loop.create_future()
        self.resolving: dict[int, asyncio.Future[Any] | concurrent.futures.Future[Any]] = {}
        self.publisher = Publisher(settings.name, self.clock, self.log, subscribers)
        self._numbers = count(1)
        self._deadlines: dict[Node, float] = {}  # during a shutdown, of those that others wait for
        self._known_rules: dict[tuple[EscalationPolicy | None, Kind, bool, bool], Rules] = {}
        self.thread = get_ident()
        self.pid = os.getpid()
        self._handles = RLock()  # a signal handler may come in between
        self._inbox: Inbox[Run | Callable[[], object]] = Inbox(loop, self._arrived)
        self._alarms: Alarms[Run | Node | LoopCall] = Alarms(loop, self.clock, self._rung)
        self.errands = Portal(
            loop, self.clock, self._inbox, self._alarms, self.publisher, self._deadline_of, self._errand_over
        )
        self.lives = Tree(self, self.clock, random.random, GroupNode(None, settings.strategy, settings.on_exhausted))
        self.failure: BaseException | None = None
        self._asking: deque[WorkerNode] = deque()
        self._groups: list[GroupNode] = []  # those that have no report yet
        self._chain = Chain()
        self._chain_due = False
        self._told_no_injection = False
        self._signals: Signals | None = None
        self.default_policy = default_policy
        self._services = Services(
            loop,
            self.clock,
            self._inbox.post,
            self._settle,
            self.settle,
            self.extend,
            self.remaining,
            self.errands.carry_out,
            self.errands.begin,
            self.callback_failed,
            self.log.forward,
        )
        self.threads: WorkerKind = Threads(
            settings.name, settings.max_threads, self._services, self._chain, self.resolving
        )
        self.kinds: list[WorkerKind] = [self.threads]
        self.stand_in: StandIn | None = stand_in if like is None else like.stand_in
        if self.stand_in is not None:
            self.kinds = self.stand_in(self._services, settings.max_threads, settings.max_processes)
            self.threads = self.kinds[0]
        if like is None:
            self._tell_over_budget("thread")

    # ------------------------------------------------------------------------------------ work comes in

    def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        timeout: float | None = None,
        policy: EscalationPolicy | None = None,
        name: str | None = None,
        kind: WorkerKind | None = None,
        group: GroupNode | None = None,
    ) -> CallFuture:
        """Submits a call to a pool, by default that of threads; returns the future that `run()` waits for."""
        if group is not None or self.closing is not None:
            self.refuse_if_closing(group)
        if kind is None:
            kind = self.threads
        if self.settings.max_queued is not None:
            self._refuse_if_busy(kind, self.settings.max_queued)
        future = CallFuture(loop=self.loop)
        now = self.clock()
        if group is not None and name is not None:
            name = _full_name(group, name)
        run = Run(self, kind, next(self._numbers), fn, args, now, future=future, name=name, policy=policy)
        run.group = group
        future.run = run
        if self.names or name is not None:
            self._register_name(run)
        if self.log.debug is not None or self.publisher.subscribers:
            run.watched = True
        if run.watched or kind is not self.threads:
            self._prepare(run)
        kind.calls[run.number] = run
        if timeout is not None:
            run.expires_at = now + timeout
            self._alarms.set(run.expires_at, run)
        if run.watched:
            self.publisher.transition(run, None, "queued")
        if timeout == 0:
            self.stop(run, "timeout")  # it has passed: the call never starts
        else:
            kind.submit(run)
        return future

    def submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        future: WorkFuture,
        kind: WorkerKind,
        group: GroupNode | None = None,
        no_inject_on_cancel: bool = False,
    ) -> None:
        """Submits an executor's call to a pool. Any thread."""
        if self.closing is not None or group is not None:
            self.refuse_if_closing(group)
        run = Run(self, kind, next(self._numbers), fn, args, self.clock(), future=future)
        run.group = group
        future.run = run
        run.no_inject_on_cancel = no_inject_on_cancel
        if self.names:
            self._register_name(run)
        if self.log.debug is not None or self.publisher.subscribers:
            run.watched = True
        if kind is self.threads:
            run.settle = RLock()
        if run.watched or kind is not self.threads:
            self._prepare(run)
        if self.settings.max_queued is None:
            self._list(run)
        else:
            try:
                with self._handles:
                    self._refuse_if_busy(kind, self.settings.max_queued)
                    self._list(run)
            except SupervisorBusy as error:
                self.publisher.refused(run, error)
                raise
        # A shutdown first says that it has begun, and then looks for calls: either it sees this one, or is seen here.
        if (self.closing is not None or (group is not None and not group.takes_work)) and self._take_back(run):
            self.refuse_if_closing(group)
        if kind is self.threads or get_ident() == self.thread:
            kind.submit(run)
        else:
            self._inbox.post(partial(kind.submit, run))

    def _list(self, run: Run) -> None:
        if run.watched:  # told before anybody can find it, and end it
            self._inbox.post(partial(self.publisher.transition, run, None, "queued"))
        run.kind.calls[run.number] = run

    def _take_back(self, run: Run) -> bool:
        """Withdraws a call that came too late; False where the shutdown has found it, and ends it."""
        if run.settle is not None and not run.settle.acquire(False):
            return False
        if not run.claim.acquire(False):
            return False
        run.kind.calls.pop(run.number, None)
        self._inbox.post(partial(self._taken_back, run))  # a shutdown may have seen it, and wait for it
        return True

    def _taken_back(self, run: Run) -> None:
        if run.ladder is not None:
            return  # a shutdown has found it as well, and told of its end
        outcome = Outcome(run.name, run.kind.name, ended="cancelled")
        run.over = True
        if run.worker is not None:
            run.worker.conclude(outcome)
        if run.watched:
            self.publisher.ended(run, outcome)
        self._close_groups()
        self._finish_if_quiet()

    def start(self, life: WorkerNode) -> None:
        """Starts a worker. Its first run's `entry` is done once that is ready or has ended."""
        self.refuse_if_closing(life.group)
        self.log.refresh()
        self.enlist(life)
        try:
            life.run = self._make_run(life, life.number)
            self._prepare(life.run)
        except BaseException:
            if self.names.get(life.name) is life:
                del self.names[life.name]
            raise
        self.lives.add(life)
        self._launch(life.run)

    def enlist(self, life: WorkerNode) -> None:
        """Gives a worker its number, its name and its handle; and its Restart, where only its name says which."""
        life.number = next(self._numbers)
        self._register_life(life)
        if life.given_restart is None:
            life.restart = self.settings.config.restart_for(life.name) or life.restart
        life.worker = self._new_handle(self, life)

    def renumber(self, group: GroupNode) -> None:
        group.number = next(self._numbers)

    def add_group(self, group: GroupNode, name: str) -> None:
        """Takes in a group; its name is taken for as long as it has not ended."""
        assert group.group is not None
        self.refuse_if_closing(group.group)
        group.number = next(self._numbers)
        group.name = _full_name(group.group, name)
        self._take_name(group.name, group)
        self.lives.add(group)
        self._groups.append(group)

    def group_told(self, group: GroupNode, event: str, reason: str) -> None:
        self.publisher.group_changed(event, group.name, reason)

    def group_over(self, group: GroupNode) -> None:
        self._close_groups()

    def close_group(self, group: GroupNode, timeout: float | None, reason: str = "") -> asyncio.Future[None]:
        """Stops a group alone, or shortens its shutdown; returns a future that is done when its report is there."""
        if group.report is not None:
            done = self.loop.create_future()
            done.set_result(None)
            return done
        now = self.clock()
        deadline = now + (self.settings.shutdown_timeout if timeout is None else timeout)
        if group.closed is None:
            self.lives.begin_report(group)
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
            self.errands.hasten()
            self._stop_all_of(group)
            self._close_groups()
        except (KeyboardInterrupt, SystemExit):
            self.loop.call_soon(self._stop_group, group)
            raise

    def _stop_all_of(self, group: GroupNode) -> None:
        lives = list(group.lives)
        if any(life.after or life.group is not group for life in lives):
            self._reserve(lives, self.clock(), group.deadline)
        for run in self.calls():
            if group.holds(run.group):
                self.stop(run, "shutdown", group.reason)
        for life in lives:
            if life.run.ladder is not None:
                self.stop(life.run, "shutdown", group.reason)
        if self.closing is None:  # else the supervisor's own shutdown asks all others, in their order
            self.lives.stop(group, "shutdown", group.reason)

    def _close_groups(self) -> None:
        """Makes the reports of groups of which nothing is left."""
        for group in tuple(self._groups):
            ended = group.gone or self.report is not None or (self.closing is not None and group.empty)
            runs = [*self.calls(), *self.errands.open] if ended else []
            if ended and (self.report is not None or not any(group.holds(run.group) for run in runs)):
                seconds = self.clock() - group.began_at if group.closed is not None else 0.0
                outcomes = tuple(group.outcomes.values())
                if group.gone and self.names.get(group.name) is group:  # only now: its end is told by its name
                    del self.names[group.name]
                    for name in [name for name in self.exhausted if name.startswith(f"{group.name}/")]:
                        del self.exhausted[name]  # nobody misses them any more
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

    async def change_of(self, member: Node) -> None:
        """Waits until something has happened to a member."""
        change = self.loop.create_future()
        member.waiters[change] = None
        try:
            await change
        finally:
            member.waiters.pop(change, None)  # it is still there where this was cancelled

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        self.loop.call_soon(callback, *args)

    def begin_run(self, life: WorkerNode) -> None:
        """Begins a further run of a worker. Idempotent: of two launches, the second one finds the run claimed."""
        if life.run.life is not life or life.run.attempt != life.attempt:  # else it was made before an interrupt
            run = self._make_run(life, next(self._numbers))
            try:
                self._prepare(run, life.run)
            except TypeError as error:  # what it was given has changed, and cannot be sent to a process any more
                run.claim.acquire(False)
                run.error = error
            life.run = run
        if life.run.handle is None and life.run.error is not None:
            self._settle(life.run)
        else:
            self._launch(life.run)

    def _make_run(self, life: WorkerNode, number: int) -> Run:
        now = self.clock()
        run = Run(self, life.kind, number, life.fn, life.args, now, name=life.name, policy=life.policy, life=life)
        run.group = None if life.group is self.lives.root else life.group
        run.worker = life.worker
        run.entry = self.loop.create_future()
        return run

    def _launch(self, run: Run) -> None:
        assert run.life is not None
        if run.life.ready_timeout is not None:
            run.expires_at = run.submitted_at + run.life.ready_timeout
            self._alarms.set(run.expires_at, run)
        run.kind.launch(run)

    def wake(self, member: Node, at: float) -> None:
        self._alarms.set(at, member)

    def restarts(self, life: WorkerNode) -> None:
        assert life.last_outcome is not None
        self.publisher.restarting(life.run, life.last_outcome)

    def escalate(self, member: Node, error: BaseException) -> None:
        """A worker or group is given up, and `on_exhausted` has all others go with it."""
        if self.failure is None:  # else an interrupt has come in between
            self.publisher.given_up(_role(member))
        self.failure = error
        self.begin_shutdown(None, f"{member.name!r} is given up")

    def given_up(self, member: Node) -> None:
        """A worker or group is given up, and ends alone."""
        if member.name not in self.exhausted:
            self.publisher.given_up(_role(member))
        self.exhausted[member.name] = None
        if len(self.exhausted) > REMEMBERED:
            del self.exhausted[next(iter(self.exhausted))]

    def life_over(self, life: WorkerNode) -> None:
        """A worker has ended for good."""
        final = life.final
        assert final is not None
        if self.names.get(life.name) is life:
            del self.names[life.name]
        self._deadlines.pop(life, None)
        self._alarms.forget()
        life.worker.conclude(final)
        if self.closing is not None:
            self.closing.note(life.number, final, own=True)
            self._close_groups()
        if final is life.last_outcome or final.error:
            self.publisher.ended(life.run, final, ran=life.last_outcome)
        else:
            self.publisher.ended(life.run, final, asked=life.reason)
        self._finish_if_quiet()

    async def until_ready(self, others: list[Node], life: WorkerNode) -> None:
        """Waits until all of what a new worker comes after are ready; raises where that can no longer come."""
        while True:
            self.refuse_if_closing(life.group)
            for other in others:
                if other.over and other not in life.after:
                    continue  # its group came after it, and goes on without it
                if other.over and isinstance(other, WorkerNode):
                    await other.worker.ready()  # raises
                elif other.over:
                    raise SupervisorClosed(f"after={other.name!r}: this group has ended")
                elif not other.ready:
                    await self.change_of(other)
                    break  # one may have gone down while another was waited for
            else:
                return

    def kind(self, name: Kind) -> WorkerKind:
        """Returns a kind; that of processes is made when it is first asked for. Any thread."""
        with self._handles:
            for kind in self.kinds:
                if kind.name == name:
                    return kind
            from .._kinds.processes import Processes  # noqa: PLC0415  # most supervisors never need it

            settings = self.settings
            kind = Processes(
                settings.name,
                self._services,
                max_processes=settings.max_processes,
                max_tasks=settings.max_tasks,
                start_timeout=settings.process_start_timeout,
            )
            self.kinds.append(kind)
            self._inbox.post(partial(self._tell_over_budget, "process"))
            return kind

    def _tell_over_budget(self, kind: Kind) -> None:
        """Tells of the ladders that take longer than the platform gives, once there may be workers of the kind."""
        settings = self.settings
        for over in settings.config.over_budget(
            kind, policy=settings.policy or self.default_policy, shutdown_timeout=settings.shutdown_timeout
        ):
            self.log.write(
                logging.WARNING,
                "supervisor.over_budget",
                pattern=over.pattern,
                kind=kind,
                platform=over.platform,
                seconds=over.seconds,
                given=over.given,
                reason=str(over),
            )

    def _prepare(self, run: Run, before: Run | None = None) -> None:
        self.publisher.submitted(run, before)
        try:
            run.kind.prepare(run)
        except BaseException as error:
            if run.given_name is not None and self.names.get(run.given_name) is run:
                del self.names[run.given_name]
            self.publisher.refused(run, error)
            raise

    def refuse_blocking(self, what: str) -> None:
        """Raises where `what` would block the event loop's own thread on something that needs the loop. Any thread."""
        if get_ident() == self.thread and not self.loop.is_closed():
            raise SupervisorMisused(
                f"supervisor {self.settings.name!r}: {what} would block its event loop's own thread, which must go on "
                "to end it; wait in another thread, or await asyncio.wrap_future(...)"
            )

    def refuse_if_closing(self, group: GroupNode | None = None) -> None:
        if group is not None and not group.takes_work:
            raise SupervisorClosed(f"group {group.name!r} has ended, or is being stopped, and takes no new work")
        if self.closing is not None:
            how = "is shutting down" if self.report is None else "has shut down"
            raise SupervisorClosed(f"supervisor {self.settings.name!r} {how} and takes no new work")

    def _refuse_if_busy(self, kind: WorkerKind, max_queued: int) -> None:
        room = kind.capacity + max_queued
        if len(kind.calls) >= room and get_ident() == self.thread:
            self._inbox.drain()  # what has ended makes room
        if len(kind.calls) >= room:
            raise SupervisorBusy(
                f"supervisor {self.settings.name!r} takes {room} {kind.name} calls, running or queued "
                f"(max_queued={max_queued}), and has as many: try again later, or raise max_queued"
            )

    def _register_name(self, run: Run) -> None:
        """Refuses a name that a live worker has; a generated name goes out of its way, to the next number."""
        if run.given_name is None:
            while run.name in self.names:
                run.number = next(self._numbers)
        else:
            self._take_name(run.given_name, run)

    def _register_life(self, life: WorkerNode) -> None:
        if life.given_name is not None:
            life.name = _full_name(life.group, life.given_name)
            self._take_name(life.name, life)
            return
        stem = _full_name(life.group, qualname(life.fn))
        life.name = f"{stem}-{life.number}"
        while life.name in self.names:
            life.number = next(self._numbers)
            life.name = f"{stem}-{life.number}"

    def member_named(self, group: GroupNode, name: str) -> Node | None:
        """Returns the live worker or group of a group that has this name."""
        name = _full_name(group, name)
        given = self.names.get(name)
        if given is not None:
            return given if isinstance(given, Node) else None
        return next((life for life in self.lives.all.values() if life.name == name), None)

    def refuse_taken_name(self, life: WorkerNode) -> None:
        """Refuses the name of a worker that is to start later; it is taken only then."""
        if life.given_name is not None:
            self._refuse_taken(_full_name(life.group, life.given_name))

    def _take_name(self, name: str, owner: Run | Node) -> None:
        self._refuse_taken(name)
        self.names[name] = owner
        if isinstance(owner, Node):
            self.exhausted.pop(name, None)

    def _refuse_taken(self, name: str) -> None:
        stem, _, number = name.rpartition("-")
        if name in self.names or (
            stem and number.isdecimal() and len(number) < 19 and self._generated(name, int(number))
        ):
            raise ValueError(
                f"name={name!r}: a live worker or group of supervisor {self.settings.name!r} has this name; "
                "it is free again when that one has ended"
            )

    def _generated(self, name: str, number: int) -> bool:
        """Whether a worker or a call has made this name from its number."""
        known: list[WorkerNode | Run | None] = [self.lives.all.get(number)]
        known += [kind.calls.get(number) for kind in self.kinds]
        return any(owner is not None and owner.name == name for owner in known)

    # ------------------------------------------------------------------------------------ what is there

    def calls(self) -> list[Run]:
        """Returns the calls that have not concluded. Any thread."""
        return [run for kind in tuple(self.kinds) for run in list(kind.calls.values())]

    def live(self) -> list[Run]:
        """Returns the present runs of all workers, and the calls, that have not concluded, oldest first. Any thread."""
        runs = [life.run for life in list(self.lives.all.values())]
        return sorted((run for run in runs + self.calls() if not run.over), key=lambda run: run.number)

    def workers(self, group: GroupNode | None = None) -> list[Handle]:
        """Returns the handles of all that has not ended, here or in a group, the oldest first. Any thread."""
        lives = [life for life in list(self.lives.all.values()) if group is None or group.holds(life.group)]
        numbered = [(life.number, life.worker) for life in lives]
        handles = ((run.number, self.handle(run)) for run in self.calls() if group is None or group.holds(run.group))
        numbered += [(number, worker) for number, worker in handles if worker is not None]
        return [worker for _, worker in sorted(numbered, key=lambda item: item[0])]

    def census(self) -> Counter[Key]:
        """Counts what has not ended, by kind, role and state. Any thread."""
        calls: list[Key] = [(run.kind.name, "call", run.state_name) for run in self.calls()]
        lives: list[Key] = [(life.kind.name, "worker", life.worker.state) for life in list(self.lives.all.values())]
        return Counter(key for key in calls + lives if key[2] != "ended")

    def statistics(self) -> Statistics:
        """Counts. Any thread."""
        states: Counter[WorkerState] = Counter()
        for (_, _, state), number in self.census().items():
            states[cast("WorkerState", state)] += number
        return Statistics(
            self.settings.name,
            workers=dict(states),
            queued=states["queued"],
            threads=self.threads.alive,
            processes=sum(kind.alive for kind in self.kinds if kind is not self.threads),
            abandoned=len(self.abandoned),
            stopping=self.closing is not None,
        )

    def handle(self, run: Run) -> Handle | None:
        """Returns the handle of a run; None where it has concluded. Any thread."""
        with self._handles:
            if run.worker is None:
                run.worker = self._new_handle(self, run)
        # `_conclude` first sets `over` and then looks for a handle: one of the two sees the other.
        return None if run.over else run.worker

    # ------------------------------------------------------------------------------------ stopping

    def stop(self, run: Run, cause: Cause, reason: str = "") -> None:
        """Begins to stop a run; of one that is being stopped, a shutdown can only shorten the ladder."""
        if run.ladder is None:
            self._inbox.drain()  # it may have been entered, or have ended, unheard
        if run.over:
            return
        if run.ladder is None:
            if not self._asking:  # else it is done once for many
                self.log.refresh()
            if not self._give_ladder(run, cause, reason):
                return
        elif cause != "shutdown" and isinstance(run.ladder.state, Stopping | EndedState):
            self._work_for(run, run.ladder)  # else an interrupt has kept the machine from hearing of it
            return
        self._feed(run, StopAsked(cause, self._deadline_of(run)))

    def _deadline_of(self, run: Run) -> float:
        """By when a shutdown must have ended a run: workers that it comes after still need time after it."""
        deadline = self._deadline()
        if run.group is not None:
            deadline = min(deadline, *(group.deadline for group in run.group.around))
        return deadline if run.life is None else min(deadline, self._deadlines.get(run.life, deadline))

    def stop_soon(self, run: Run) -> None:
        """Begins to stop a run that its caller has cancelled. Any thread."""
        # Through the loop, as `stop` itself handles what is in the inbox, and this is in there until it is done.
        self._inbox.post(lambda: self.loop.call_soon(self.stop, run, "cancel"))

    def _give_ladder(self, run: Run, cause: Cause, reason: str) -> bool:
        """From here on the machine decides about the run; if it has not been entered, it never will be.

        False where the thread that ran an executor's call is just now ending it by itself.
        """
        if run.settle is not None and not run.settle.acquire(False):
            return False
        run.ladder = ladder = Climb(run.state, cause, reason or REASONS[cause], self.clock(), self._rules(run))
        self._claim(run, ladder)
        return True

    def _claim(self, run: Run, ladder: Climb) -> None:
        """Sees to it that a run which has not been entered never will be; or else has the machine know that it was.

        After an interrupt it is done again, when the claim may be this thread's own.
        """
        again, ladder.claiming = ladder.claiming, True
        if run.claim.acquire(False):
            return
        # A process is given its run on this thread: one that was claimed without it has been withdrawn by its caller.
        if run.handle is not None or (run.kind is self.threads and not again):
            with ladder.lock:  # the worker may ask for more time
                ladder.state, _ = decide(ladder.state, Entered(), ladder.began_at, ladder.rules)

    def _rules(self, run: Run) -> Rules:
        config = self.settings.config
        named = run.policy or config._policy_in_layers(run.name) or _policy_of(run.group) or self.settings.policy
        known = (named, run.kind.name, run.own, run.no_inject_on_cancel)
        rules = self._known_rules.get(known)
        if rules is None:
            if len(self._known_rules) >= KNOWN_RULES:
                self._known_rules.clear()  # somebody makes a policy for each call
            rules = self._known_rules[known] = self._make_rules(*known)
        return rules

    def _make_rules(self, named: EscalationPolicy | None, kind: Kind, own: bool, no_inject_on_cancel: bool) -> Rules:
        steps = (named or self.default_policy).for_kind(kind)
        own_steps = steps
        if (named is None or no_inject_on_cancel) and not own and kind == "thread":
            own_steps = tuple(step for step in steps if not isinstance(step, Inject))
        return Rules(steps, own_steps, self.settings.shutdown_timeout)

    def extend(self, run: Run, seconds: float) -> float:
        """Grants more time on the present step. Any thread: the alarm rings too early then, which hurts nobody."""
        ladder = run.ladder
        if ladder is None:
            return 0.0
        with ladder.lock:
            before = ladder.state
            after, _ = decide(before, GraceAsked(seconds), self.clock(), ladder.rules)
            ladder.state = after
        if not (isinstance(before, Stopping) and isinstance(after, Stopping)):
            return 0.0
        return seconds if math.isinf(before.ends_at) else after.ends_at - before.ends_at

    def remaining(self, run: Run) -> float:
        """Returns the seconds until the next step. Any thread."""
        state = run.ladder.state if run.ladder is not None else None
        return max(0.0, state.ends_at - self.clock()) if isinstance(state, Stopping) else math.inf

    # ------------------------------------------------------------------------------------ what happens

    def _arrived(self, item: Run | Callable[[], object]) -> None:
        if isinstance(item, Run):
            self._settle(item)
        else:
            item()

    def _settle(self, run: Run) -> None:
        """A run has ended. The path of a call that nobody stopped, and that nobody watches, is this function."""
        if run.ladder is not None or run.worker is not None or run.watched or run.died or self.publisher.subscribers:
            self._feed(run, Exited(run.returned, run.died))
            return
        ended: Ended = "returned" if run.returned else "failed"
        if run.future is not None:
            self._resolve(run, run.future, run.value, run.error)
        self._forget(run)
        if run.group is not None and not run.group.takes_work:
            self._close_groups()
        if run.worker is not None:  # asked for meanwhile, by another thread
            self._conclude(run, ended, None)
        elif self.publisher.subscribers.counters:
            self.publisher.call_ended(run, ended)
        run.let_go()

    def _resolve(
        self,
        run: Run,
        future: asyncio.Future[Any] | concurrent.futures.Future[Any],
        value: Any,
        error: BaseException | None,
    ) -> None:
        """Resolves the future of a call, unless that is done. Any thread."""
        try:
            if future.done():
                pass
            elif error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        except (asyncio.InvalidStateError, InvalidStateError):
            pass  # its caller has cancelled it in between
        except BaseException as problem:  # sys.exit() in a done callback, say, must end neither a thread nor the loop
            if isinstance(problem, KeyboardInterrupt) and get_ident() == self.thread:
                raise
            self.callback_failed(run, "add_done_callback", problem)

    def settle(self, run: Run) -> None:
        """An executor's call has ended; its own thread resolves it, unless the loop is stopping it. Any thread.

        Its future comes last: what the application does in its callbacks may take any time.
        """
        assert run.settle is not None
        future, value, error = run.future, run.value, run.error
        if future is None:
            self._inbox.post(run)
            return
        self.resolving[run.number] = future  # whoever looks for it finds it among the calls, or else here
        try:
            if not run.settle.acquire(False) and not self.loop.is_closed():
                self._inbox.post(run)
                return
            self._end_unseen(run, "returned" if error is None else "failed", run)
            self._resolve(run, future, value, error)
        finally:
            del self.resolving[run.number]

    def withdrawn(self, run: Run) -> None:
        """An executor's call was cancelled before a thread had taken it. Any thread."""
        tell = partial(self._withdraw, run)
        if run.settle is not None and run.settle.acquire(False):
            self._end_unseen(run, "cancelled", tell)
        else:
            self._inbox.post(tell)

    def _withdraw(self, run: Run) -> None:
        self._feed(run, StopAsked("cancel") if run.ladder is None else Exited(returned=False))

    def _end_unseen(self, run: Run, ended: Ended, otherwise: Run | Callable[[], object]) -> None:
        """Concludes an executor's call here, where nobody but its future is to be told; else has the loop do it."""
        if not run.watched and run.worker is None:
            run.over = True
            self.errands.unseen_end(run)
            run.kind.calls.pop(run.number, None)
            if run.group is not None and not run.group.takes_work:  # as with a shutdown: one of the two sees the other
                self._inbox.post(self._close_groups)
            if self.closing is not None:  # the same: it may have looked before this was gone
                self._inbox.post(self._finish_if_quiet)
            if run.worker is None:  # or else another thread has asked for its handle meanwhile
                if self.publisher.subscribers.counters:
                    self.publisher.call_ended(run, ended)
                run.let_go()
                return
        self._inbox.post(otherwise)
        run.kind.calls.pop(run.number, None)  # it is no longer waiting, whenever the loop hears of it

    def _forget_unseen(self, run: Run) -> None:
        """Forgets a call that ends this very moment, as its thread is about to do, without telling anybody."""
        if not run.watched and run.worker is None:
            run.kind.calls.pop(run.number, None)

    def entered(self, run: Run) -> None:
        if run.over:
            return
        if run.reason is None:
            self.publisher.transition(run, "starting" if run.own else "queued", "running")
        if run.life is None or run.life.ready_timeout is None:
            self.readied(run)

    def readied(self, run: Run) -> None:
        """A run has become ready."""
        life = run.life
        if run.over or run.ladder is not None or life is None or (run.ready and life.readied == life.attempt):
            return  # for one that is being stopped it is too late
        run.ready = True
        if run.expires_at is not None:  # it is ready in time
            run.expires_at = math.inf
        if life.heartbeat is not None:
            run.beat_at = self.clock()
            run.expires_at = run.beat_at + life.heartbeat
            self._alarms.set(run.expires_at, run)
        if run.entry is not None and not run.entry.done():
            run.entry.set_result(None)
        self.lives.readied(life)

    def _deadline(self) -> float:
        return math.inf if self.closing is None else self.closing.deadline

    def _errand_over(self) -> None:
        self._finish_if_quiet()
        if self._groups:
            self._close_groups()

    def _rung(self, item: Run | Node | LoopCall) -> None:
        """A moment has come for which somebody had set an alarm."""
        self._inbox.drain()  # what has ended by now need not be stopped
        if item.over:
            return
        if isinstance(item, Node):
            self.lives.rung(item)
        elif isinstance(item, LoopCall):
            self.errands.rung(item)
        elif item.ladder is not None:
            self._feed(item, TimePassed())
        elif item.expires_at is None:
            return
        elif self.clock() < item.expires_at:
            if item.expires_at < math.inf:
                self._alarms.set(item.expires_at, item)
        elif item.life is None:
            self.stop(item, "timeout")
        else:
            self._look_after(item, item.life)

    def _look_after(self, run: Run, life: WorkerNode) -> None:
        """The time is over in which a run had to become ready, or to give a sign of life."""
        if not run.ready:
            reason = f"not ready within {life.ready_timeout:g} s"
        elif life.heartbeat is not None and self.clock() < run.beat_at + life.heartbeat:
            run.expires_at = run.beat_at + life.heartbeat
            self._alarms.set(run.expires_at, run)
            return
        else:
            reason = f"no heartbeat for {life.heartbeat:g} s"
        self.publisher.stuck(run, reason, run.kind.stack(run))
        self.stop(run, "stuck", reason)

    def callback_failed(self, run: Run, callback: str, error: BaseException) -> None:
        """Any thread."""
        self._inbox.post(partial(self.publisher.callback_failed, run, callback, error))

    # ------------------------------------------------------------------------------------ the machine

    def end_of(self, run: Run) -> asyncio.Future[None]:
        """Returns a future that is done once a run that is being stopped has concluded."""
        end = self.loop.create_future()
        if run.over or run.ladder is None:
            end.set_result(None)
        else:
            run.ladder.waiters.append(end)
        return end

    def _feed(self, run: Run, event: Event) -> None:
        """Feeds the machine, and carries out what it commands, with what an interrupt has left undone before."""
        ladder = run.ladder
        if ladder is None:
            _, commands = decide(run.state, event, self.clock(), NO_RULES)
            for command in commands:
                self._carry_out(run, command)
            return
        if isinstance(ladder.state, Queued | Starting):
            self._claim(run, ladder)
        with ladder.lock:
            state, commands = decide(ladder.state, event, self.clock(), ladder.rules)
            ladder.agenda.todo += commands  # no call stands between these two: an interrupt finds both done, or none
            ladder.state = state
        self._work_for(run, ladder)

    def _work_for(self, run: Run, ladder: Climb) -> None:
        ladder.agenda.work(self.loop.call_soon, self._carry_out_next, run)

    def _carry_out_next(self, run: Run, command: Command) -> None:
        try:
            self._carry_out(run, command)
        except Exception as error:  # no single failure may keep the ladder from going on
            self.loop.call_exception_handler(
                {"message": f"supervisor: {command} of {run!r} failed", "exception": error}
            )
        if self.errands.open:
            self.errands.fit(run)

    def _carry_out(self, run: Run, command: Command) -> None:
        match command:
            case Perform(step=step, again=again):
                self._perform(run, step, again)
            case WakeAt(at=at):
                self._alarms.set(at, run)
            case Abandon(inject=inject):
                self._abandon(run, inject)
            case Conclude(ended=ended, step=step_name):
                self._conclude(run, ended, step_name)
            case NoteLateEnd():
                self._note_late_end(run)
            case _:
                assert_never(command)

    def _perform(self, run: Run, step: Step, again: bool) -> None:
        ladder = run.ladder
        assert ladder is not None
        first = run.reason is None
        run.reason = ladder.reason
        if not isinstance(step, Ask):
            ladder.stack = ladder.stack or run.kind.stack(run)
        self._have_performed(run, step)
        if isinstance(step, Ask):
            self._wake_waiters()
        if not again:
            self.publisher.transition(run, "running" if first else "stopping", "stopping", step=step.name)
            if not first:
                self.publisher.blocked_callbacks(run)

    def _have_performed(self, run: Run, step: Step) -> None:
        """Has the run's kind perform a step; where it cannot, that is logged once."""
        missing = run.kind.perform(run, step)
        if missing is None:
            if isinstance(step, Inject) and run.ladder is not None:
                run.ladder.injected = step
        elif not self._told_no_injection:
            self._told_no_injection = True
            self.log.write(logging.WARNING, "supervisor.injection_missing", reason=missing)

    def _remind_abandoned(self) -> None:
        """Before Python 3.13 one exception that is delivered keeps the others from being noticed: set them anew."""
        for run in self.abandoned.values():
            if run.ladder is not None and run.ladder.injected is not None:
                self._have_performed(run, run.ladder.injected)

    def _wake_waiters(self) -> None:
        """Wakes the workers that wait for their stop Event, those of this turn of the loop together.

        While a shutdown still asks others, they sleep on: awake, they would fight with the loop for the interpreter.
        """
        if not self._chain_due and not self._asking:
            self.loop.call_soon(self._start_chain)
            self._chain_due = True

    def _start_chain(self) -> None:
        try:
            self._chain_due = False
            if self._chain.start():
                self.loop.call_later(CHAIN_SLACK, self._look_after_chain, len(self._chain))
        except (KeyboardInterrupt, SystemExit):
            self.loop.call_soon(self._start_chain)
            raise

    def _look_after_chain(self, before: int) -> None:
        """Starts the chain again where it has come to a halt."""
        left = len(self._chain)
        try:
            if left >= before:
                self._chain.start()
            if left:
                self.loop.call_later(CHAIN_SLACK, self._look_after_chain, len(self._chain))
        except (KeyboardInterrupt, SystemExit):
            self.loop.call_soon(self._look_after_chain, left)
            raise

    def _abandon(self, run: Run, inject: bool) -> None:
        self._inbox.drain()
        ladder = run.ladder
        assert ladder is not None
        if isinstance(ladder.state, EndedState):
            return  # it has ended meanwhile, and is about to be concluded
        ladder.stack = ladder.stack or run.kind.stack(run)
        self.publisher.blocked_callbacks(run)
        if inject and isinstance(ladder.state, Stopping):
            self._have_performed(run, ladder.state.step)
        if run.kind.abandon(run):
            self.abandoned[run.number] = run
            self._feed(run, Abandoned())

    def _note_late_end(self, run: Run) -> None:
        if self.abandoned.pop(run.number, None) is None:
            return
        run.kind.came_back(run)
        run.let_go()
        self.publisher.late_return(run)
        self._inbox_may_close()

    # ------------------------------------------------------------------------------------ the end of a run

    def _conclude(self, run: Run, ended: Ended, step: StepName | None) -> None:
        """Tells everybody who waits. Each part bears to be done twice."""
        if run.given_name is None:
            run.given_name = run.name  # it outlives the function
        outcome = self._outcome(run, ended, step)
        self._deliver(run, outcome)
        self._forget(run)
        if run.life is not None:
            self.lives.run_ended(run.life, run, outcome)
        else:
            self._conclude_call(run, outcome)
        if run.entry is not None and not run.entry.done():
            run.entry.set_result(None)
        if run.ladder is not None:
            for waiter in run.ladder.waiters:
                if not waiter.done():
                    waiter.set_result(None)
        run.let_go()
        if ended == "injected":
            self._remind_abandoned()
        self._finish_if_quiet()

    def _conclude_call(self, run: Run, outcome: Outcome) -> None:
        if run.worker is not None:
            run.worker.conclude(outcome)
        if self.closing is not None:
            self.closing.note(run.number, outcome, own=False)
        self.publisher.ended(run, outcome)
        if run.group is not None:
            self._note_for_groups(run, run.group, outcome)

    def _note_for_groups(self, run: Run, group: GroupNode, outcome: Outcome) -> None:
        for around in group.around:
            if around.closed is not None or self.closing is not None:
                if outcome.ended == "cancelled":
                    around.withdrawn.add(run.number)
                else:
                    around.outcomes[run.number] = outcome
        self._close_groups()

    def _outcome(self, run: Run, ended: Ended, step: StepName | None) -> Outcome:
        ladder = run.ladder
        finished = ended not in ("abandoned", "cancelled")
        ended_at = run.ended_at if finished else time.monotonic()
        return Outcome(
            run.name,
            run.kind.name,
            run.attempt,
            ended,
            step,
            value=run.value if finished else None,
            error=run.error if finished and not isinstance(run.error, StopRequested) else None,
            exit_code=run.exit_code,
            seconds=ended_at - run.started_at if run.started_at else 0.0,
            stop_seconds=0.0 if ladder is None else self.clock() - ladder.began_at,
            stack=None if ladder is None else ladder.stack,
        )

    def _deliver(self, run: Run, outcome: Outcome) -> None:
        """Resolves a call: by what it made of itself, or by what stopped it."""
        future = run.future
        if future is None or (run.settle is not None and run.ladder is None):
            return  # nobody waits for it, or its own thread is about to tell
        cause = None if run.ladder is None else run.ladder.cause
        if cause is None:
            error = WorkerDied(outcome) if outcome.ended == "died" else run.error
        elif cause == "timeout":
            error = WorkerTimeout(outcome)
        elif outcome.ended not in ("abandoned", "cancelled") and run.returned:
            error = None  # work in flight may finish in its grace
        else:
            error = WorkerStopped(outcome)
        if error is not None and cause is not None:
            error.__cause__ = outcome.error
        self._resolve(run, future, run.value, error)

    def _forget(self, run: Run) -> None:
        """Lets go of a run: alarms may still hold it, so it lets go of what it held."""
        run.over = True
        run.kind.calls.pop(run.number, None)
        if run.given_name is not None and self.names.get(run.given_name) is run:
            del self.names[run.given_name]
        if run.expires_at is not None or run.ladder is not None:
            self._alarms.forget()
        if self.errands.open:
            self.errands.end(run)

    # ------------------------------------------------------------------------------------ shutdown

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
        for kind in self.kinds:
            kind.retire()
        self.errands.hasten()
        self.lives.root.reason = reason
        self.lives.close()
        lives = list(self.lives.all.values())
        calls = self.calls()
        self._inbox.drain()  # what other threads have submitted up to now is told first
        calls = [run for run in calls if not run.over]
        for run in calls:  # first all of this, or threads that become free would take calls that are queued
            if run.ladder is None and not self._give_ladder(run, "shutdown", reason):
                self._forget_unseen(run)
        calls = [run for run in calls if run.ladder is not None]
        if first:
            queued = sum(run.handle is None for run in calls)
            self.log.stopping(closing.reason, closing.deadline - now, len(lives) + len(calls) - queued, queued)
        if any(life.after or life.group.after or life.group is not self.lives.root for life in lives):
            self._reserve(lives, now, closing.deadline)
        for run in calls:
            self._feed(run, StopAsked("shutdown", closing.deadline))
        if self._signals is not None:
            self._signals.give_up()
        self._asking = deque(lives)
        self._ask_lives(closing)

    def _ask_lives(self, closing: Shutdown) -> None:
        """Asks the workers of `start()` to stop, as many as fit into a turn of the loop: it must not be held up."""
        if not self._asking:
            try:
                self._wake_waiters()
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
                self.lives.stop(life, "shutdown", closing.reason)
            if self._asking and self._asking[0] is life:
                self._asking.popleft()

    def _reserve(self, lives: list[WorkerNode], now: float, deadline: float) -> None:
        """Keeps the time that workers need which others come after; what is kept already is only brought nearer."""
        budgets: dict[Node, float] = {life: self._budget(life) for life in lives}
        for life, at in stop_deadlines(budgets, now, deadline).items():
            self._deadlines[life] = min(at, self._deadlines.get(life, at))

    def _budget(self, life: WorkerNode) -> float:
        """How long the ladder of a worker takes."""
        return math.fsum(step.grace for step in self._rules(life.run).steps)

    def _finish_if_quiet(self) -> None:
        """Once no worker is left, waits for the pool's idle threads, for a moment at most."""
        closing = self.closing
        if closing is None or closing.quiet or self.lives.all or any(kind.calls for kind in self.kinds):
            return
        if self.errands.open:
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
            kind.join(JOIN_SLACK, {run.ident for run in self.abandoned.values()})
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
        if self.report is not None and not self.abandoned:
            self._inbox.close()


def _role(member: Node) -> str:
    return "group" if isinstance(member, GroupNode) else "worker"


def _full_name(group: GroupNode, name: str) -> str:
    return f"{group.name}/{name}" if group.name else name


def _policy_of(group: GroupNode | None) -> EscalationPolicy | None:
    """Returns the ladder that a group, or the nearest around it, has for its workers."""
    policies = () if group is None else (around.policy for around in group.around)
    return next((policy for policy in policies if policy is not None), None)


NO_RULES = Rules((), (), 0.0)
"""For runs that nobody stops: the machine does not look at them."""
