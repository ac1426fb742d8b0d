"""The workers of `start()`: their start, their runs, readiness and heartbeat."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .._core.errors import SupervisorClosed
from .._run.limited import Limited
from .._run.run import Run
from .names import full_name
from .nodes import Node, WorkerNode, scope_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._core.ladder import Cause
    from .._core.outcome import Outcome
    from .._loop.alarms import Alarms
    from .._observe.publisher import Publisher
    from .._run.run import Handle
    from ..config import Config
    from .escalation import Escalation
    from .names import Names
    from .nodes import GroupNode
    from .tree import Tree

__all__ = ["Workers"]


class Workers:
    """The workers of one supervisor, and the owner of their runs. On the loop's thread.

    It carries out what the tree commands.

    Args:
        next_number: Returns the number of a new run.
        new_handle: Makes what users hold of a worker.
        run_ended: Takes note that a run has ended.
        forget: Lets go of a run that has ended.
        refuse: Raises where a group, or the supervisor, takes no new work.
        deadline: Returns by when a shutdown must have ended a worker, on the loop's clock.
        deadline_of_group: The same for a group.
        note_end: Is called when a worker has ended for good, before that is published.
        worker_ended: Is called after that: a shutdown may wait for it.
        report_limits: Is called when a worker is about to be started: its ladder may not do what its Restart needs.
        expect: Has a run logged that still runs after so many seconds.
        group_added: Is called when a group has its place: from here on, its end is awaited.

    Attributes:
        tree: Where they have their places; set by who makes it, as that one needs this.
    """

    tree: Tree

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        alarms: Alarms[Run | Node],
        publisher: Publisher,
        config: Config | None,
        names: Names,
        escalation: Escalation,
        *,
        next_number: Callable[[], int],
        new_handle: Callable[[WorkerNode], Handle],
        run_ended: Callable[[Run], object],
        forget: Callable[[Run], object],
        refuse: Callable[[GroupNode], None],
        deadline: Callable[[WorkerNode], float],
        deadline_of_group: Callable[[GroupNode], float],
        note_end: Callable[[WorkerNode], object],
        worker_ended: Callable[[], object],
        report_limits: Callable[[WorkerNode], object],
        expect: Callable[[Run, float], object],
        group_added: Callable[[GroupNode], object],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._alarms = alarms
        self._publisher = publisher
        self._config = config
        self._names = names
        self._escalation = escalation
        self._next_number = next_number
        self._new_handle = new_handle
        self._run_ended = run_ended
        self._forget = forget
        self._refuse = refuse
        self._deadline = deadline
        self._deadline_of_group = deadline_of_group
        self._note_end = note_end
        self._worker_ended = worker_ended
        self._report_limits = report_limits
        self._expect = expect
        self._group_added = group_added

    # ------------------------------------------------------------------------------------ starting

    def start(self, node: WorkerNode, check: Callable[[], object]) -> None:
        """Starts a worker. Its first run's `entry` is done once that is ready or has ended.

        `check` is called before anything starts, and may refuse it; what cannot be sent to a process is refused first.
        """
        self._refuse(node.group)
        self.enlist(node)
        try:
            node.run = self._make_run(node, node.number)
            self._prepare(node.run, check=check)
        except BaseException:
            self._names.release(node.name, node)
            raise
        self.tree.add(node)
        self._report_limits(node)
        self._launch(node.run, node)

    def add_group(self, group: GroupNode, name: str) -> None:
        """Takes in a group; its name is taken for as long as it has not ended."""
        assert group.group is not None
        self._refuse(group.group)
        group.number = self._next_number()
        group.name = full_name(group.group, name)
        self._names.take(group.name, group)
        self.tree.add(group)
        self._group_added(group)

    async def until_ready(self, others: list[Node], node: WorkerNode) -> None:
        """Waits until all of what a new worker comes after are ready; raises where that can no longer come."""
        while True:
            self._refuse(node.group)
            for other in others:
                if other.over and other not in node.after:
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

    async def change_of(self, node: Node) -> None:
        """Waits until something has happened to a worker or a group."""
        change = self._loop.create_future()
        node.waiters[change] = None
        try:
            await change
        finally:
            node.waiters.pop(change, None)  # it is still there where this was cancelled

    def _make_run(self, node: WorkerNode, number: int) -> Run:
        run = Run(
            self,
            node.kind,
            node.group,
            number,
            node.fn,
            node.args,
            node.context.copy(),
            self._clock(),
            None,
            node.name,
            node.policy,
        )
        run.node = node
        run.own = run.watched = True
        run.attempt = node.attempt
        run.worker = node.worker
        run.origin = node.submitted_from
        if node.placement is not None:
            run.placement = node.placement
        run.entry = self._loop.create_future()
        if node.limits is not None:
            run.limited = Limited(node.limits, self._escalation.budget(run, "limit"))
        return run

    def _prepare(self, run: Run, before: Run | None = None, check: Callable[[], object] | None = None) -> None:
        self._publisher.submitted(run, before)
        try:
            run.kind.prepare(run)
            if check is not None:
                check()
        except BaseException as error:
            self._publisher.refused(run, error)
            raise

    def _launch(self, run: Run, node: WorkerNode) -> None:
        if node.ready_timeout is not None:
            run.expires_at = run.submitted_at + node.ready_timeout
            self._alarms.set(run.expires_at, run)
        if node.slow_after is not None:
            self._expect(run, node.slow_after)
        run.kind.launch(run)

    # ------------------------------------------------------------------------------------ the owner of their runs

    def stop(self, run: Run, cause: Cause, reason: str = "") -> None:
        """Begins to stop a run."""
        self._escalation.stop(run, cause, reason)

    def entered(self, run: Run) -> None:
        """The function is about to be entered."""
        if run.over:
            return
        if run.asked is None:
            self._publisher.transition(run, "starting", "running")
        if _node_of(run).ready_timeout is None:
            self.readied(run)

    def readied(self, run: Run) -> None:
        """A run has become ready."""
        if run.over or run.climb is not None:
            return  # for one that is being stopped it is too late
        node = _node_of(run)
        if run.ready and node.readied == node.attempt:
            return
        run.ready = True
        if run.expires_at is not None:  # it is ready in time
            run.expires_at = math.inf
        if node.heartbeat is not None:
            run.beat_at = self._clock()
            self._await_heartbeat(run, node.heartbeat)
        _enter(run)
        self.tree.readied(node)

    def expired(self, run: Run) -> None:
        """The time is over in which a run had to become ready, or to give a sign of life."""
        node = _node_of(run)
        if not run.ready:
            reason = f"not ready within {node.ready_timeout:g} s"
        elif node.heartbeat is not None and self._clock() < run.beat_at + node.heartbeat:
            self._await_heartbeat(run, node.heartbeat)
            return
        else:
            reason = f"no heartbeat for {node.heartbeat:g} s"
        self._publisher.stuck(run, reason, run.kind.stack(run))
        self._escalation.stop(run, "stuck", reason)

    def _await_heartbeat(self, run: Run, heartbeat: float) -> None:
        run.expires_at = run.beat_at + heartbeat
        self._alarms.set(run.expires_at, run)

    def deadline(self, run: Run) -> float:
        """Returns by when a shutdown must have ended it, on the loop's clock."""
        if run.node is None:  # it has ended, but what it has called in the loop has not
            return self._deadline_of_group(scope_of(run))
        return self._deadline(_node_of(run))

    def concluded(self, run: Run, outcome: Outcome) -> None:
        """A run has ended: the tree decides what follows. Idempotent in each part."""
        if run.node is None:
            return  # all of it was done before an interrupt
        self._forget(run)
        self.tree.run_ended(_node_of(run), run, outcome)
        _enter(run)

    # ------------------------------------------------------------------------------------ what the tree commands

    def enlist(self, node: WorkerNode) -> None:
        """Gives a worker its number, its name and its handle; and its Restart, where only its name says which."""
        self._names.name_worker(node)
        if node.given_restart is None and self._config is not None:
            node.restart = self._config.restart_for(node.name) or node.restart
        node.worker = self._new_handle(node)

    def begin_run(self, node: WorkerNode) -> None:
        """Begins a further run of a worker. Idempotent: of two launches, the second one finds the run claimed."""
        if node.run.node is not node or node.run.attempt != node.attempt:  # else it was made before an interrupt
            run = self._make_run(node, self._next_number())
            try:
                self._prepare(run, node.run)
            except TypeError as error:  # what it was given has changed, and cannot be sent to a process any more
                run.claim()
                run.error = error
            node.run = run
        if node.run.handle is None and node.run.error is not None:
            self._run_ended(node.run)
        else:
            self._launch(node.run, node)

    def ended(self, node: WorkerNode) -> None:
        """A worker has ended for good."""
        final = node.final
        assert final is not None
        self._names.release(node.name, node)
        self._alarms.forget()
        node.worker.conclude(final)
        self._note_end(node)
        if final is node.last_outcome or final.error is not None:
            self._publisher.ended(node.run, final, ran=node.last_outcome)
        else:
            self._publisher.ended(node.run, final, asked=node.reason)
        self._worker_ended()


def _node_of(run: Run) -> WorkerNode:
    assert isinstance(run.node, WorkerNode)
    return run.node


def _enter(run: Run) -> None:
    """Whoever waits for a run to become ready, or to end, need wait no more."""
    if run.entry is not None and not run.entry.done():
        run.entry.set_result(None)
