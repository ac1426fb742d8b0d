"""What is shut down as one: the supervisor, a group of it, or a pool alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from .._core.errors import SupervisorClosed
from .nodes import GroupNode, scope_of
from .shutdown import Shutdown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._core.pools import PoolSettings
    from .._run.run import Run, WorkerKind
    from .nodes import Node, WorkerNode

__all__ = ["AnyScope", "PoolScope", "holds_run", "is_root", "label_of", "pool_closed", "supervisor_closed"]


class PoolScope:
    """One pool, as what is shut down alone: its calls, of whatever group they are. Changed on the loop's thread.

    Attributes:
        settings: What is set for it now.
        kind: What carries out its calls, once its shutdown has begun; None where nobody has used it.
        shutdown: Its shutdown, whether it has begun or not.
        idles: Its calls have ended, and its threads or processes are waited for.
    """

    __slots__ = ("idles", "kind", "settings", "shutdown")

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.kind: WorkerKind | None = None
        self.shutdown = Shutdown()
        self.idles = False

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def calls(self) -> Mapping[int, Run]:
        """The calls in it that have not concluded, those of its own included, by their numbers."""
        kind = self.kind
        if kind is None:
            return {}
        own = {number: run for number, run in kind.own_calls.copy().items() if not run.over}
        return {**own, **kind.calls.copy()} if own else kind.calls

    @property
    def crew(self) -> Mapping[int, WorkerNode]:
        """Workers of `start()`, of which it has none."""
        return {}

    @property
    def members(self) -> Mapping[int, Node]:
        """The same of groups."""
        return {}

    def __repr__(self) -> str:
        return f"<PoolScope {self.name!r}: {self.shutdown!r}>"


AnyScope: TypeAlias = GroupNode | PoolScope


def is_root(scope: AnyScope) -> bool:
    """Whether it is the supervisor itself."""
    return isinstance(scope, GroupNode) and scope.group is None


def holds_run(scope: AnyScope, run: Run) -> bool:
    """Whether a run stands in a scope."""
    return run.kind is scope.kind if isinstance(scope, PoolScope) else scope.holds(scope_of(run))


def supervisor_closed(supervisor: str, shutdown: Shutdown) -> SupervisorClosed:
    """Returns the error of whoever comes to a supervisor that is shut down."""
    how = "is shutting down" if shutdown.report is None else "has shut down"
    return SupervisorClosed(f"supervisor {supervisor!r} {how} and takes no new work")


def pool_closed(supervisor: str, pool: str) -> SupervisorClosed:
    """Returns the error of whoever comes to a pool that is shut down."""
    return SupervisorClosed(
        f"pool {pool!r} of supervisor {supervisor!r} is shutting down, or has shut down, and takes no new work"
    )


def label_of(scope: AnyScope) -> dict[str, str]:
    """Returns the field by which the log names a scope; none for the supervisor itself."""
    if isinstance(scope, PoolScope):
        return {"pool": scope.name}
    return {"group": scope.name} if scope.name else {}
