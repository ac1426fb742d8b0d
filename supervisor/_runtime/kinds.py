"""The kinds of one supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._worker.locks import ScopedLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._core.policy import Kind
    from .._run.run import Run, WorkerKind
    from .nodes import GroupNode

__all__ = ["Kinds"]


class Kinds:
    """The kinds of one supervisor. Any thread.

    Args:
        make: Makes a kind, when it is first asked for.

    Attributes:
        threads: The kind "thread".
    """

    threads: WorkerKind

    def __init__(self, make: Callable[[Kind], WorkerKind]) -> None:
        self._make = make
        self._all: list[WorkerKind] = []
        self._making = ScopedLock()  # a signal handler may come in between

    def __iter__(self) -> Iterator[WorkerKind]:
        return iter(tuple(self._all))

    def add(self, made: list[WorkerKind]) -> None:
        """Takes in the kinds that are there from the beginning, that of threads first."""
        self.threads = made[0]
        self._all = made

    def get(self, name: Kind) -> WorkerKind:
        """Returns a kind by its name."""
        with self._making:
            for kind in self._all:
                if kind.name == name:
                    return kind
            kind = self._make(name)
            self._all.append(kind)
            return kind

    def calls(self) -> list[Run]:
        """Returns the calls that have not concluded."""
        return [run for kind in self for run in list(kind.calls.values())]

    def calls_in(self, scope: GroupNode) -> list[Run]:
        """Returns those in a scope, and in the groups in it."""
        return self.calls() if scope.group is None else list(scope.calls.values())

    def have_calls(self) -> bool:
        """Whether any call has not concluded."""
        return any(kind.calls for kind in self)

    def call_numbered(self, number: int) -> Run | None:
        """Returns the call of this number, unless it has concluded."""
        return next((run for kind in self if (run := kind.calls.get(number)) is not None), None)
