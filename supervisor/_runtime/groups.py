"""What only groups do: their members restart together, end together, and are started again together.

Who comes down with whom, and in which order all go up again, is decided in `strategy`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, assert_never

from .._core.lifecycle import Held, Past, RestartAsked, RunEnded
from .._core.strategy import (
    Anew,
    Begun,
    Emptied,
    End,
    EndAsked,
    Restarting,
    Sibling,
    Start,
    Steady,
    decide_group,
)
from .._loop.errors import insist
from .nodes import GroupNode, WorkerNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._core.ladder import Cause
    from .._core.lifecycle import LifeEvent
    from .._core.outcome import Ended
    from .._core.strategy import GroupCommand, GroupEvent
    from .._loop.backlog import Backlog
    from .nodes import Node

__all__ = ["Groups", "Members", "siblings"]

FEW = 16
"""Commands of a group that are carried out at once."""


class Members(Protocol):
    """What a group asks of the tree for its members."""

    def add(self, node: Node) -> None:
        """Gives a node its place."""
        ...

    def feed(self, node: Node, event: LifeEvent) -> None:
        """Something has happened to a node."""
        ...

    def stop(self, node: Node, cause: Cause, reason: str = "", *, kept: bool = False) -> None:
        """Ends a node for good; or, where it is `kept`, until its group is started again."""
        ...

    def give_turn(self, node: Node) -> None:
        """Begins the next run of a node, once all that it comes after are ready."""
        ...

    def readied(self, node: Node) -> None:
        """The present run of a node has become ready."""
        ...


class Groups:
    """Carries out what the strategies of groups command. On the loop's thread.

    Args:
        members: The tree.
        call_soon: The loop's.
        backlog: For what are many.
        chance: Returns a random number from 0 to 1.
        enlist: Gives a worker its number, its name and its handle; raises ValueError where a call has its name.
        replaced: Is called with the name of a worker in whose place another one has come.
        next_number: Returns the number of a group that is started again.
        shut_down: Is called where a member of the root was given up, and all others are to go with it.
        report: Says what has failed, of which group.
    """

    def __init__(
        self,
        members: Members,
        call_soon: Callable[..., object],
        backlog: Backlog,
        chance: Callable[[], float],
        *,
        enlist: Callable[[WorkerNode], object],
        replaced: Callable[[str], object],
        next_number: Callable[[], int],
        shut_down: Callable[[Node, BaseException], object],
        report: Callable[[str, str, Exception], object],
    ) -> None:
        self._report = report
        self._members = members
        self._call_soon = call_soon
        self._backlog = backlog
        self._slow: set[GroupNode] = set()  # whose commands are in the backlog
        self._chance = chance
        self._enlist = enlist
        self._replaced = replaced
        self._next_number = next_number
        self._shut_down = shut_down

    # ------------------------------------------------------------------------------------ the strategy machine

    def feed(self, group: GroupNode, event: GroupEvent) -> None:
        """Feeds the machine, and carries out what it commands, with what an interrupt has left undone before."""
        before = group.phase
        phase, commands = decide_group(before, event, group.strategy)
        group.phase_agenda.todo += commands  # no call stands between these two: an interrupt finds both done, or none
        group.phase = phase
        for command in commands:
            if not isinstance(command, Start):
                group.standing.pop(command.number, None)  # the next failure need not bring it down once more
        self._work_for(group)
        goes_up = isinstance(before, Restarting) or isinstance(event, Begun)
        if goes_up and isinstance(group.phase, Steady) and group.group is not None:
            self._members.readied(group)

    def _work_for(self, group: GroupNode) -> None:
        """Carries out a few commands at once; many, and all that come until these are done, in short turns."""
        todo = group.phase_agenda.todo
        if len(todo) <= FEW and group not in self._slow:
            group.phase_agenda.work(self._call_soon, self._carry_out_next, group)
        elif group not in self._slow:
            self._backlog.add(todo, partial(self._carry_out_next, group), partial(self._slow.discard, group))
            self._slow.add(group)

    def _carry_out_next(self, group: GroupNode, command: GroupCommand) -> None:
        insist(partial(self._report, type(command).__name__, group.name), self._carry_out, group, command)

    def _carry_out(self, group: GroupNode, command: GroupCommand) -> None:
        member = group.members.get(command.number)
        if member is None or halted(group):
            return
        match command:
            case Anew():
                member.cause, member.reason = "stop", "restart of the group"
                self._members.feed(member, RestartAsked())
            case End():
                self._members.stop(member, "stop", "restart of the group", kept=True)
            case Start():
                self._members.give_turn(member)
            case _:
                assert_never(command)

    # ------------------------------------------------------------------------------------ the end of a group

    def stop_members(self, group: GroupNode) -> None:
        """Ends all members of a group, in their order."""
        self.feed(group, EndAsked())
        for member in tuple(group.members.values()):
            if not member.over and (not member.dependents or member.between_runs):
                self._members.stop(member, group.cause, group.reason)
        if not group.members:
            self.emptied(group)

    def emptied(self, group: GroupNode) -> None:
        """All members of a group that was to end have ended. Idempotent."""
        ended: Ended = "abandoned" if group.lost else "stopped" if group.failure is None else "failed"
        self._members.feed(group, RunEnded(ended, stuck=group.lost, chance=self._chance()))
        self.feed(group, Emptied())  # last: until then, an interrupt has all of it done again

    def fail(self, group: GroupNode, member: Node, error: BaseException) -> None:
        """A member is given up, and all others go with it."""
        if group.group is None:
            self._shut_down(member, error)
            return
        if group.failure is None:
            group.failure = error
            group.cause, group.reason = "stop", f"{member.name!r} is given up"
        self.stop_members(group)

    # ------------------------------------------------------------------------------------ starting it again

    def begin(self, group: GroupNode) -> None:
        """Begins all that a group consists of, one after the other."""
        group.stood_down.clear()
        group.failure = None
        group.lost = False
        group.shutdown.forget()
        latest = {old.name: old for old in group.originals}  # one that had ended may have been replaced by hand
        for old in tuple(group.originals):
            if group.members.get(old.number) is old:
                continue  # it was begun before an interrupt
            if latest[old.name] is old:
                new = self._renewed(old)
                new.after = tuple(_successor_of(other) for other in new.after)
                self._members.add(new)
            if group.members.get(old.number) is not old:
                old.let_go()
                del group.originals[old]
        self.feed(group, Begun(frozenset(group.members)))

    def _renewed(self, old: Node) -> Node:
        """Returns what comes in the place of a member: another worker, with a handle of its own; or the same group."""
        if isinstance(old, GroupNode):
            old.state = Held(Past(old.attempt, started=True))
            old.number = self._next_number()
            return old
        assert isinstance(old, WorkerNode)
        new = old.successor = old.successor or old.once_more()
        if not new.is_enlisted:  # else it was before an interrupt
            try:
                self._enlist(new)
            except ValueError:  # a call has its name at present: better another name than no worker
                new.given_name = None
                self._enlist(new)
        self._replaced(old.name)
        return new


def _successor_of(node: Node) -> Node:
    return (isinstance(node, WorkerNode) and node.successor) or node


def halted(group: GroupNode) -> bool:
    """Whether a group is going down, so that nobody in it is started any more."""
    return group.ending or group.root.shutdown.begun


def _standing_from(group: GroupNode, node: Node) -> Iterator[Node]:
    """Those that still stand; where the order counts, without most of those that come before."""
    if group.strategy != "rest_for_one":
        yield from group.standing.values()
        return
    for other in reversed(group.standing.values()):
        if other.number < node.number:
            return
        yield other


def siblings(node: Node) -> tuple[Sibling, ...]:
    """Returns those that a failure of a node may take down."""
    group = node.group
    if group is None or group.strategy == "one_for_one":
        return ()
    return tuple(
        Sibling(other.number, other.restart.when != "never", not other.between_runs)
        for other in _standing_from(group, node)
        if other is not node
    )
