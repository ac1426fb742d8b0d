"""The end of a group, shut down alone or not, and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._observe.notices import GroupEnded, ShutdownEnded
from .last_resort import groups_in

if TYPE_CHECKING:
    from .._observe.log import Log
    from .._observe.publisher import Publisher
    from .draining import Draining
    from .last_resort import LastResort
    from .names import Names
    from .nodes import GroupNode
    from .reports import Reports

__all__ = ["GroupEnds"]


class GroupEnds:
    """Makes the report of each group, once nothing is left of it. On the loop's thread.

    Args:
        under_way: The groups that have no report yet, each with those in it.
    """

    def __init__(
        self,
        log: Log,
        publisher: Publisher,
        names: Names,
        root: GroupNode,
        reports: Reports,
        draining: Draining,
        last_resort: LastResort,
        under_way: dict[GroupNode, dict[GroupNode, None]],
    ) -> None:
        self._log = log
        self._publisher = publisher
        self._names = names
        self._root = root
        self._reports = reports
        self._draining = draining
        self._last_resort = last_resort
        self._under_way = under_way

    def add(self, group: GroupNode) -> None:
        """From here on, its end is awaited."""
        self._under_way[group] = {}
        if group.group in self._under_way:
            self._under_way[group.group][group] = None

    def close(self, scope: GroupNode) -> None:
        """Something has ended in a scope: makes the reports of it, and of those around it, of which nothing is left."""
        for group in scope.groups_around:
            self._close(group)

    def close_all(self) -> None:
        """The same, for all groups."""
        for group in tuple(self._under_way):
            self._close(group)

    def end(self, scope: GroupNode) -> None:
        """Makes the report of a group of which nothing is left that anybody could wait for, and of those in it."""
        for group in reversed(groups_in(scope)):
            if group.shutdown.report is None:
                self._end(group)

    def _close(self, group: GroupNode) -> None:
        if group.shutdown.draining and not group.calls:
            self._draining.end(group)
        if group in self._under_way and self._has_ended(group):
            self._end(group)

    def _has_ended(self, group: GroupNode) -> bool:
        root = self._root.shutdown
        if root.report is not None:
            return True
        if not (group.gone or (root.begun and group.empty)):
            return False
        return not (group.calls or group.calling)

    def _end(self, group: GroupNode) -> None:
        shutdown = group.shutdown
        report = shutdown.report = self._reports.of(group)
        if group.gone:
            self._names.release_group(group)  # only now: its end is reported by its name
        if shutdown.begun:
            self._log.group_stopped(group.name, report)
            self._publisher.publish(ShutdownEnded(report, group.name))
            self._last_resort.call_off(group)
            if not shutdown.closed.done():
                shutdown.closed.set_result(None)
        self._publisher.publish(GroupEnded(group.name))
        group.changed()
        if group.gone:  # and with it those that it would have brought back
            for inner in tuple(self._under_way[group]):
                self._close(inner)
        if group.group in self._under_way:
            self._under_way[group.group].pop(group, None)
        self._under_way.pop(group, None)  # last: until then, an interrupt has all of it done again
