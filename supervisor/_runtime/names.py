"""The names of workers, groups and calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._run.names import qualname
from .nodes import GroupNode, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from .._run.run import Run
    from ..config.unmatched import Unmatched
    from .kinds import Kinds
    from .losses import Losses
    from .nodes import WorkerNode

__all__ = ["Names", "full_name"]


class Names:
    """Who has which name in one supervisor. On the loop's thread, but for calls: those of executors come from any.

    Args:
        supervisor: Its name, for messages.
        next_number: Returns another number for a worker or a call.
        nodes: Returns its workers, by the numbers from which their names may have been generated.
        kinds: Its calls, the same.
        losses: What was lost, until others have its name.
        unmatched: The patterns of the configuration that have matched no name yet; None where there is none.

    Attributes:
        taken: Who was given a name and has not ended, by that name.
        looked_at: Not empty while the name of each call must be looked at: somebody may have it, or a pattern may be
            the first time right.
    """

    def __init__(
        self,
        supervisor: str,
        next_number: Callable[[], int],
        nodes: Callable[[], Mapping[int, WorkerNode]],
        kinds: Kinds,
        losses: Losses,
        unmatched: Unmatched | None,
    ) -> None:
        self._supervisor = supervisor
        self._next_number = next_number
        self._nodes = nodes
        self._kinds = kinds
        self._losses = losses
        self._unmatched = unmatched
        self.taken: dict[str, Run | Node] = {}
        self.looked_at: Collection[object] = (unmatched,) if unmatched else self.taken

    # ------------------------------------------------------------------------------------ taking a name

    def name_call(self, run: Run) -> None:
        """Refuses a name that a live worker has; a generated one gives way, and takes the next number."""
        if run.given_name is not None:
            self.take(run.given_name, run)
        else:
            while run.name in self.taken:
                run.number = self._next_number()
        if self.looked_at is not self.taken:
            self._show(run.name, generated=run.given_name is None)

    def name_worker(self, node: WorkerNode) -> None:
        """Gives a worker its number and its name; refuses a name that a live worker has."""
        node.number = self._next_number()
        if node.given_name is not None:
            node.name = full_name(node.group, node.given_name)
            self.take(node.name, node)
        else:
            stem = full_name(node.group, qualname(node.fn))
            node.name = f"{stem}-{node.number}"
            while node.name in self.taken:
                node.number = self._next_number()
                node.name = f"{stem}-{node.number}"
        if self.looked_at is not self.taken:
            self._show(node.name, generated=node.given_name is None)

    def _show(self, name: str, *, generated: bool) -> None:
        """A pattern may match this name that has matched none before. Any thread."""
        if self._unmatched and generated:
            self._unmatched.see_numbered(name.rpartition("-")[0])
        elif self._unmatched:
            self._unmatched.see(name)
        if not self._unmatched:
            self.looked_at = self.taken

    def take(self, name: str, owner: Run | Node) -> None:
        """Gives a name to its owner. Idempotent.

        Raises:
            ValueError: Another live worker, group or call has it.
        """
        if self.taken.get(name) is not owner:
            self._refuse_taken(name)
        self.taken[name] = owner
        if isinstance(owner, Node):
            self._losses.replaced(name)

    def refuse_taken(self, node: WorkerNode) -> None:
        """Refuses the name of a worker that is to start later; it is taken only then."""
        if node.given_name is not None:
            self._refuse_taken(full_name(node.group, node.given_name))

    def _refuse_taken(self, name: str) -> None:
        if name in self.taken or self._is_generated(name):
            raise ValueError(
                f"name={name!r}: a live worker or group of supervisor {self._supervisor!r} has this name; "
                "it is free again when that one has ended"
            )

    def _is_generated(self, name: str) -> bool:
        """Whether the name of a live worker or call was generated, and is this one."""
        number = _number_in(name)
        if number is None:
            return False
        known = (self._nodes().get(number), self._kinds.call_numbered(number))
        return any(owner is not None and owner.name == name for owner in known)

    # ------------------------------------------------------------------------------------ letting go of it

    def release(self, name: str, owner: Run | Node) -> None:
        """Frees a name, unless somebody else has it. Idempotent. Any thread."""
        if self.taken.get(name) is owner:
            del self.taken[name]

    def release_group(self, group: GroupNode) -> None:
        """Frees the name of a group that has ended for good. Nobody misses those any more that were given up in it."""
        if self.taken.get(group.name) is group:
            del self.taken[group.name]
            self._losses.closed(group)

    # ------------------------------------------------------------------------------------ looking one up

    def node(self, group: GroupNode, name: str) -> Node | None:
        """Returns the live worker or group of a group that has this name."""
        name = full_name(group, name)
        owner = self.taken.get(name)
        if owner is not None:
            return owner if isinstance(owner, Node) else None
        number = _number_in(name)
        node = None if number is None else self._nodes().get(number)
        return node if node is not None and node.name == name else None

    def find(self, name: str) -> Run | WorkerNode | None:
        """Returns the live worker or call that has this name, with those of its groups before it. Any thread."""
        owner = self.taken.get(name)
        if isinstance(owner, Node):  # a worker that is about to be started has its name already, and no run
            node = self._nodes().get(owner.number)
            return node if node is owner else None
        if owner is not None:
            return owner
        number = _number_in(name)
        if number is None:
            return None
        known = (self._nodes().get(number), self._kinds.call_numbered(number))
        return next((of for of in known if of is not None and of.name == name), None)


def _number_in(name: str) -> int | None:
    """Returns the number from which a name may have been generated."""
    stem, _, number = name.rpartition("-")
    return int(number) if stem and number.isdecimal() and len(number) < 19 else None


def full_name(group: GroupNode, name: str) -> str:
    """Returns a name with those of the groups before it: "feeds/reader"."""
    return f"{group.name}/{name}" if group.name else name
