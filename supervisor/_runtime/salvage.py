"""What is done for a node where a command of its life has failed twice: only what matters, and each part by itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, assert_never

from .._core.ladder import EndedState
from .._core.lifecycle import AskTurn, Finish, NoteRestart, Over, RunEnded, StartRun, StopRun, WakeAt
from .._core.outcome import Outcome
from .._loop import aside
from .._loop.errors import insist
from .nodes import WorkerNode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .._core.lifecycle import LifeCommand, LifeEvent
    from .._observe.publisher import Publisher
    from .nodes import Node

__all__ = ["Lives", "Salvage"]


class Lives(Protocol):
    """What it asks of the tree."""

    workers: dict[int, WorkerNode]

    def feed(self, node: Node, event: LifeEvent) -> None:
        """Something has happened to a node."""
        ...

    def rung(self, node: Node) -> None:
        """A moment has come for which a node had set an alarm."""
        ...

    def let_go_on(self, node: Node) -> None:
        """Something has ended: what it came after may be stopped now, where it is to be."""
        ...


class Salvage:
    """Has the life of a node go on, or come to its end, whatever has failed in it. On the loop's thread.

    Args:
        lives: The tree.
        worker_ended: A worker has ended for good, as its `final` says.
    """

    def __init__(
        self,
        lives: Lives,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        publisher: Publisher,
        worker_ended: Callable[[WorkerNode], object],
    ) -> None:
        self._lives = lives
        self._loop = loop
        self._clock = clock
        self._publisher = publisher
        self._worker_ended = worker_ended

    def carry_out(self, node: Node, command: LifeCommand, error: Exception) -> None:
        """Carries out a command that has failed twice, with this error."""
        match command:
            case StartRun():
                if isinstance(node, WorkerNode):
                    name, kind, attempt = node.name, node.kind.name, node.attempt
                    node.last_outcome = node.final = Outcome(name, kind, attempt, "failed", error=error)
                self._lives.feed(node, RunEnded("failed", stuck=False, barred=False, chance=0.5))
            case WakeAt(at=at):
                aside.call_later(self._loop, max(0.0, at - self._clock()), self._lives.rung, node)
            case Finish():
                self._finish(node)
            case NoteRestart() | AskTurn() | StopRun():
                pass
            case _:
                assert_never(command)

    def strike_out(self, node: Node) -> None:
        """Ends a node of which a shutdown cannot wait for more: what its machine has commanded is left undone."""
        if node.over:
            return
        node.agenda.todo.clear()
        if isinstance(node, WorkerNode):
            node.final = node.final or node.last_outcome
        node.state = Over(node.state.past)
        self._finish(node)

    def _finish(self, node: Node) -> None:
        """Takes a node out: no part of it keeps the others from being done."""
        report = partial(self._publisher.fault, "Finish", node.name)
        if node.group is not None:
            insist(report, partial(node.group.remove, node, comes_back=False, stood_down=False))
        if isinstance(node, WorkerNode):
            self._lives.workers.pop(node.number, None)
            if node.final is None:
                state = node.run.state
                ended = state.ended if isinstance(state, EndedState) else "abandoned"
                node.final = Outcome(node.name, node.kind.name, node.attempt, ended)
            for around in node.groups:
                around.shutdown.note(node.number, node.final)
            insist(report, self._worker_ended, node)
        insist(report, self._lives.let_go_on, node)
        insist(report, node.changed)
