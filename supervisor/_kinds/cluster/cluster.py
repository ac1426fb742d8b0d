"""The cluster of one supervisor: what its pools share."""

from __future__ import annotations

from collections import deque
from functools import partial
from pickle import loads
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..._core.errors import RemoteError, described
from ..._core.leases import Lease
from ..._loop.errors import insist, report_error
from ..._worker.remote_errors import set_cause
from .link import Link
from .loop_calls import opened
from .reports import Reports

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ..._core.cluster import ClusterSettings
    from ..._core.outcome import Outcome
    from ..._core.pools import PoolSettings
    from ..._run.ports import Write
    from ..._run.run import Run
    from .node import RemoteNode
    from .readiness import NodesReady

__all__ = ["Cluster"]

AT_ONCE = 50
"""Items after which the loop's other users may have a turn."""

MOST_LOGS = 1000
"""Events of a node's log that wait for the loop; what comes beyond them is counted, and dropped."""


class Pool(Protocol):
    """A pool on the cluster. On the loop's thread."""

    settings: PoolSettings
    readiness: NodesReady

    def heard(self, run: Run, what: str, details: list[Any]) -> None:
        """A node has said something of a run."""
        ...

    def lost(self, run: Run) -> None:
        """The node of a run is gone, and the run with it."""
        ...

    def place_waiting(self) -> None:
        """There may be room for those that wait."""
        ...

    def refuse_waiting(self, problem: str) -> None:
        """No node can be reached, and it is not known whether any will be: what waits fails."""
        ...


class Cluster:
    """Hands on to the pools what nodes say. On the loop's thread, but for what the link calls.

    Args:
        supervisor: Its name.
        settings: Where the cluster is, and for how long a node goes on without hearing of its owner.
        shutdown_timeout: The supervisor's, in seconds.
        loop: The event loop.
        post: Has the loop call a function. Any thread.
        log: Writes what a node has logged, by the name of a log method.
        write: Writes an event of its own.

    Attributes:
        link: The connections.
    """

    def __init__(
        self,
        supervisor: str,
        settings: ClusterSettings,
        shutdown_timeout: float,
        loop: asyncio.AbstractEventLoop,
        post: Callable[[Callable[[], object]], object],
        log: Callable[..., None],
        write: Write,
    ) -> None:
        self._loop = loop
        self._post = post
        self._log = log
        self._reports = Reports(post, write)
        self._pools: list[Pool] = []
        self._item: tuple[Any, ...] | None = None  # that is being taken in
        scheduler, security = settings.found()
        self._make_link = partial(
            Link,
            supervisor,
            scheduler,
            security,
            Lease(settings.lease, shutdown_timeout),
            self._received,
            self._changed,
            self._failed,
            self._lost,
            loop.is_closed,
        )
        self.link = self._linked()

    def _linked(self) -> Link:
        link = self._make_link()
        link.looked = self._reports.look
        return link

    def join(self, pool: Pool) -> None:
        """A pool is made that runs there."""
        if self.link.closed:  # all others were shut down alone
            self.link = self._linked()
        self._pools.append(pool)

    def leave(self, pool: Pool, seconds: float) -> None:
        """A pool has ended; with the last one the link does."""
        if self._pools == [pool]:
            self.link.close(seconds)  # first: after an interrupt it is done again
        if pool in self._pools:
            self._pools.remove(pool)

    # ------------------------------------------------------------------------------------ the link's threads

    def _received(self, node: RemoteNode, items: list[tuple[Any, ...]]) -> None:
        for first in range(0, len(items), AT_ONCE):
            taken = [item for item in items[first : first + AT_ONCE] if self._takes(node, item)]
            said = [_unpacked(item, node.name) for item in taken]
            self._post(partial(self._deliver, node, deque(said)))

    def _takes(self, node: RemoteNode, item: tuple[Any, ...]) -> bool:
        """Whether an item goes to the loop: an event of a log does not, where the loop is too far behind with these."""
        if item[0] != "log":
            return True
        if node.logs_posted - node.logs_written >= MOST_LOGS:
            node.logs_dropped += _lost_with(*item[1:])
            return False
        node.logs_posted += 1
        return True

    def _changed(self, gone: RemoteNode | None) -> None:
        self._post(partial(self._take_note, gone))

    def _failed(self, error: BaseException) -> None:
        self._post(partial(report_error, self._loop, "supervisor: the link to the cluster failed", error))

    def _lost(self, problem: str) -> None:
        for pool in list(self._pools):
            self._post(partial(pool.refuse_waiting, problem))

    # ------------------------------------------------------------------------------------ the loop's thread

    def _deliver(self, node: RemoteNode, said: deque[tuple[Any, ...]]) -> None:
        """Hands on what a node has said. Where an interrupt strikes, it is called again, and goes on where it was."""
        while said:
            item = said[0]
            if item is not self._item:  # else the inbox is drained within what this one leads to
                outer, self._item = self._item, item
                try:
                    insist(self._cannot_take, self._take_in, node, *item)
                finally:
                    self._item = outer
            if said and said[0] is item:
                said.popleft()
        self._say_what_was_dropped(node)
        self._take_note(None)

    def _take_in(self, node: RemoteNode, what: str, *details: Any) -> None:
        if what == "log":
            self._write(node, *details)
            node.logs_written += 1
        elif what == "pool":
            name, *said = details
            for pool in self._pools:
                if pool.settings.name == name:
                    pool.readiness.heard(node, *said)
        elif (run := node.at.get(details[0])) is not None:
            _pool_of(run).heard(run, what, list(details[1:]))

    def _cannot_take(self, error: Exception) -> None:
        report_error(self._loop, "supervisor: what a node has said cannot be taken in", error)

    def _say_what_was_dropped(self, node: RemoteNode) -> None:
        dropped = node.logs_dropped - node.logs_dropped_said
        if dropped and node.logs_posted == node.logs_written:
            node.logs_dropped_said += dropped
            self._write(node, "warning", {"event": "worker.logs_dropped", "dropped": dropped})

    def _write(self, node: RemoteNode, method: str, event: dict[str, Any]) -> None:
        self._log(method, {**event, "node": node.name})

    def _take_note(self, gone: RemoteNode | None) -> None:
        if gone is not None:
            self._reports.lost(gone)
            for run in list(gone.at.values()):
                _pool_of(run).lost(run)
        for pool in self._pools:
            pool.place_waiting()


def _pool_of(run: Run) -> Pool:
    return cast("Pool", run.kind)  # only such runs are given to nodes


def _unpacked(item: tuple[Any, ...], node: str) -> tuple[Any, ...]:
    """Returns an item with what is pickled in it as it is; user's code may run, so it is not done on the loop."""
    match item:
        case ("log", method, event):
            return ("log", method, _event(event))
        case ("pool", name, up, fault, trace, seconds):
            return ("pool", name, up, _unpacked_end(node, False, None, fault, trace, None)[3], seconds)
        case ("call", number, question, name, cleanup, data):
            return ("call", number, question, cleanup, *opened(name, data))
        case ("ended", number, returned, outcome, error, trace, value):
            return ("ended", number, *_unpacked_end(node, returned, _loaded(outcome, None), error, trace, value))
        case _:
            return item


def _event(data: bytes) -> dict[str, Any]:
    """Returns an event: of each value that cannot be made here, the text."""
    event, others = _loaded(data, ({"event": "worker.logs_dropped", "dropped": 1}, {}))
    for key, (value, text) in others.items():
        event[key] = made = _loaded(value, text)
        if isinstance(made, BaseException):
            set_cause(made, RemoteError(f"on a node:\n{text}"))
    return cast("dict[str, Any]", event)


def _lost_with(method: str, data: bytes) -> int:
    """Returns how many events are lost with one: that which says how many were lost counts for these."""
    event = _event(data) if method == "warning" else {}
    return int(event["dropped"]) if event.get("event") == "worker.logs_dropped" else 1


def _loaded(data: bytes, otherwise: Any) -> Any:
    try:
        return loads(data)
    except BaseException:  # what a value does there is its own affair
        return otherwise


def _unpacked_end(
    node: str, returned: bool, outcome: Outcome | None, error: bytes | None, trace: str, value: bytes | None
) -> tuple[bool, Outcome | None, Any, BaseException | None]:
    """Returns whether a run has returned, how it ended, and what came of it."""
    try:
        if error is None:
            return returned, outcome, None if value is None else loads(value), None
        raised: BaseException = loads(error)
    except BaseException as broken:
        what = "result" if error is None else "error"
        failed = RemoteError(f"its {what} cannot be unpickled: {described(broken)}")
        failed.__cause__ = broken
        return False, outcome, None, failed
    set_cause(raised, RemoteError(f"on node {node!r}:\n{trace}"))
    return returned, outcome, None, raised
