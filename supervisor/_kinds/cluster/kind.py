"""A pool on a cluster: which node takes a run, and what follows from what nodes say."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from ..._core.errors import StopRequested, described
from ..._core.ladder import Stopping
from ..._core.leases import MARGIN
from ..._core.pools import ANY_SIZE
from ..._core.values import printable
from ..._core.verdict import converted_from_elsewhere
from ..._loop.clock import monotonic
from ..._run.names import qualname
from ..._worker.parcel import packed
from .loop_calls import LoopCalls
from .node import RemoteRun
from .placing import Placing, present
from .readiness import NodesReady

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..._core.outcome import Outcome
    from ..._core.policy import Kind, Step
    from ..._core.pools import PoolSettings
    from ..._core.report import NodeStatistics
    from ..._core.usage import Usage
    from ..._run.ports import Services
    from ..._run.run import Run
    from ..._worker.context import WorkerContext
    from .cluster import Cluster
    from .node import RemoteNode

__all__ = ["Remote"]

SHARE = 0.25
"""How much of the time that there is the margin takes at most, where there is little."""

LEAST = 0.1
"""Seconds that a node has at least for a ladder."""

STACK_WAIT = 1.0
"""Seconds at most that whoever asks where a run stands waits for its node."""


class Remote:
    """A pool on a cluster. A run's handle is its `RemoteRun`; as a `WorkerKind` it says which thread calls what.

    Args:
        cluster: The nodes.
        settings: What is set for the pool.
        services: What it may ask of the runtime.

    Attributes:
        settings: What is set for the pool.
        calls: The calls of the pool that have not concluded, by their number.
        own_calls: There are none.
        closing, held: It is shut down alone: it takes no calls, and begins none.
        readiness: Why the pool is not ready.
    """

    own_threads = False

    def __init__(self, cluster: Cluster, settings: PoolSettings, services: Services) -> None:
        self.name: Kind = settings.kind
        self.settings = settings
        self._cluster = cluster
        self._services = services
        self.calls: dict[int, Run] = {}
        self.own_calls: dict[int, Run] = {}
        self.closing = self.held = False
        # What an initializer takes, and that it has failed, the nodes see to.
        self.readiness = NodesReady(lambda: cluster.link, replace(settings, initializer=None), services.forward)
        self._placing = Placing(settings, cluster, services)
        cluster.join(self)
        self._loop_calls = LoopCalls(services, cluster.link.send)
        if settings.warm:
            services.post(self.place_waiting)  # the nodes may be there already

    @property
    def capacity(self) -> int:
        """How many calls can run at once: as many as its nodes have threads, and `size` at most.

        Until the first node has been reached it is `size`, where that was said.
        """
        link = self._cluster.link
        if not link.reached:
            return self.settings.size if self.settings.size < ANY_SIZE else 0
        return min(self.settings.size, sum(node.threads for node in link.nodes if node.takes_runs))

    @property
    def alive(self) -> int:
        """How many threads or processes there are, on nodes, that have a run."""
        return self._placing.placed

    @property
    def living(self) -> Iterable[int]:
        """There are no threads, and no processes, here."""
        return ()

    @property
    def nodes(self) -> tuple[NodeStatistics, ...]:
        return tuple(node.statistics() for node in self._cluster.link.nodes)

    def resize(self, size: int) -> None:
        """Has so many calls run at once from now on; those that there are too many of go on."""
        self.settings = replace(self.settings, size=size)
        self._placing.size = size
        self.place_waiting()

    # -------------------------------------------------------------------------------- starting a run

    def prepare(self, run: Run) -> None:
        """Packs a run, and lets go of what it was given.

        Raises:
            TypeError: It cannot be sent to a node.
        """
        try:
            run.prepared = packed((run.fn, run.args, run.before_call))
        except Exception as error:
            raise TypeError(f"fn={qualname(run.fn)}: cannot be sent to a node: {described(error)}") from error
        run.args = ()

    def submit(self, run: Run) -> None:
        """Sends a call to a node as soon as one has room."""
        self._placing.add(run)
        self.place_waiting()

    def launch(self, run: Run) -> None:
        """Sends a worker to a node, whatever calls that has."""
        self._placing.add(run)
        self.place_waiting()

    def place_waiting(self) -> None:
        """Sends what waits to nodes that have room; nodes that are new start those that are kept warm."""
        nodes = [node for node in self._cluster.link.nodes if node.takes_runs]
        if self.settings.warm:
            for node in nodes:
                self._placing.tell_of_pool(node)
            self.readiness.look()
        self._placing.place(nodes)

    def refuse_waiting(self, problem: str) -> None:
        """No node can be reached, and it is not known whether any will be: what waits fails."""
        if not any(node.takes_runs for node in self._cluster.link.nodes):  # none has come since that was said
            self._placing.refuse(problem)

    def context_of(self, run: Run) -> WorkerContext:
        """Never called: the run is on a node, and so is its context."""
        raise NotImplementedError

    # -------------------------------------------------------------------------------- stopping it

    def catch_up(self, run: Run) -> None:
        """Nothing is on its way: what nodes say is in the inbox at once."""

    def perform(self, run: Run, step: Step) -> str | None:
        """Has the node climb the ladder, by when it must have ended here, less a margin."""
        climb = run.climb
        there = run.handle
        if climb is None or not isinstance(there, RemoteRun):
            return None
        if run.prepared is not None and not there.over:
            self._placing.put(run, there)  # an interrupt has struck before it was sent
        deadline = climb.state.deadline if isinstance(climb.state, Stopping) else 0.0
        left = max(0.0, deadline - self._services.clock())
        within = max(LEAST, left - min(MARGIN, left * SHARE))
        self._cluster.link.send(there.at, "stop", run.number, climb.cause, climb.reason, within)
        return None

    def stack(self, run: Run) -> str | None:
        return self.stacks([run])[0]

    def stacks(self, runs: list[Run]) -> list[str | None]:
        """Returns where they stand, as their nodes say it; where one does not answer in a second, as it said last.

        Nor is one waited for that should have said the end of the run by now: a shutdown is to be over in its time.
        """
        wanted: dict[RemoteNode, list[int]] = {}
        for run in runs:
            if (there := present(run)) is not None and not _given_up(run):
                wanted.setdefault(there.at, []).append(run.number)
        answers = self._cluster.link.stacks(wanted, STACK_WAIT)
        said = {
            number: stack
            for node, stacks in answers.items()
            for number, stack in zip(wanted[node], stacks, strict=True)
        }
        return [self._stack(run, said) for run in runs]

    def _stack(self, run: Run, said: dict[int, str | None]) -> str | None:
        there = present(run)
        if there is None:
            return None
        if run.number not in said:
            return there.stack or f"  in {qualname(run.fn)}(), on node {there.node}, which does not answer\n"
        stack = said[run.number]
        there.stack = None if stack is None else printable(stack, lines=True)
        return there.stack

    def usages(self, runs: list[Run]) -> list[Usage | None]:
        """What a run uses is measured where it runs."""
        return [None for _ in runs]

    def abandon(self, run: Run) -> bool:
        there = run.handle
        if not isinstance(there, RemoteRun) or (there.over and not there.given_up):
            return False
        there.given_up = True
        self._placing.make_room(run, there)
        return True

    def came_back(self, run: Run) -> None:
        """It has ended after all."""

    # -------------------------------------------------------------------------------- the end

    def retire(self) -> None:
        """Has nodes know that those which are being stopped have less time."""
        self._services.post(self._say_when_it_ends)

    def _say_when_it_ends(self) -> None:
        for node in self._cluster.link.nodes:
            for run in list(node.at.values()):
                kind: object = run.kind
                if kind is self and run.climb is not None and isinstance(run.climb.state, Stopping):
                    self.perform(run, run.climb.state.step)

    def when_gone(self, gone: Callable[[], object]) -> None:
        gone()

    def join(self, seconds: float, but: set[int | None]) -> None:
        """Parts from the nodes."""
        self._cluster.leave(self, seconds)

    # -------------------------------------------------------------------------------- what nodes say

    def heard(self, run: Run, what: str, details: list[Any]) -> None:
        """A node has said something of a run."""
        there = run.handle
        assert isinstance(there, RemoteRun)
        match what, details:
            case "entered", [ident, pid]:
                self._entered(run, ident, pid)
            case "readied", []:
                run.owner.readied(run)
            case "beat", []:
                run.beat_at = self._services.clock()
            case "needs", [seconds]:
                self._extend(run, seconds)
            case "step", [step, stack]:
                self._services.stepped(run, step, stack)
            case "call", [question, cleanup, fn, args]:
                self._loop_calls.begin(run, there, question, cleanup, fn, args)
            case "cut" | "leave", [question]:
                self._loop_calls.end(there, question, waits=what == "cut")
            case "ended", [returned, outcome, value, error]:
                self._ended(run, returned, outcome, value, error)
            case _:
                raise AssertionError(f"a node said {what!r}")

    def _entered(self, run: Run, ident: int | None, pid: int | None) -> None:
        there = run.handle
        assert isinstance(there, RemoteRun)
        there.ident, there.pid = ident, pid
        run.started_at = monotonic()
        run.owner.entered(run)

    def _extend(self, run: Run, seconds: float) -> None:
        """The ladder takes longer on the node than it has here: the worker was given more time."""
        lacking = seconds + MARGIN - self._services.remaining(run)
        if lacking > 0:
            self._services.extend(run, lacking)

    def _ended(
        self, run: Run, returned: bool, outcome: Outcome | None, value: Any, error: BaseException | None
    ) -> None:
        there = run.handle
        assert isinstance(there, RemoteRun)
        there.outcome = outcome
        if outcome is not None:
            run.exit_code, run.oom_killed = outcome.exit_code, outcome.oom_killed
            run.died = outcome.ended == "died" or (run.climb is None and outcome.step is not None)
        if error is None and not returned and not run.died:
            error = StopRequested()
        run.value = value
        if error is not None:
            run.error = converted_from_elsewhere(run, error, stopping=run.climb is not None)
        self._over(run, there)

    def lost(self, run: Run) -> None:
        """The node of a run is gone, and the run with it."""
        there = run.handle
        assert isinstance(there, RemoteRun)
        run.died = True
        self._over(run, there)

    def _over(self, run: Run, there: RemoteRun) -> None:
        run.ended_at = monotonic()
        self._services.ended(run)  # before it is forgotten: an interrupt in between has all of this done again
        there.at.ladders.pop(run.number, None)
        there.at.claims.pop(run.number, None)
        self._placing.make_room(run, there)
        there.at.at.pop(run.number, None)


def _given_up(run: Run) -> bool:
    """Whether its ladder's time is over, with the margin, and its node has not said its end."""
    return run.climb is not None and isinstance(run.climb.state, Stopping) and run.climb.state.ends_at == inf
