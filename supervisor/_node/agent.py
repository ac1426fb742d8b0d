"""A node: what owners connect to, and what it has of each."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

from distributed.core import Status

from .._kinds.cluster.link import VERSION
from .._kinds.cluster.proofs import this_process
from .session import Session

if TYPE_CHECKING:
    from .._kinds.cluster.channel import Comm

__all__ = ["Agent"]


class Agent:
    """Takes runs on a Dask worker, and climbs their ladders there. On the worker's loop.

    Args:
        worker: The Dask worker.
    """

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._incarnation = uuid.uuid4().hex
        self._sessions: dict[str, Session] = {}
        self._closing = False
        worker.handlers["supervisor"] = self._attach

    @property
    def threads(self) -> int:
        """How many calls it takes at once."""
        return int(self._worker.state.nthreads)

    @property
    def name(self) -> str:
        return str(self._worker.name)

    @property
    def resources(self) -> dict[str, float]:
        """What it has in all."""
        return dict(self._worker.state.total_resources)

    def take(self, session: Session, resources: dict[str, float]) -> bool:
        """Takes what a run needs; False where that is not there now."""
        if any(self._free(name) < amount for name, amount in resources.items()):
            return False
        session.taken.update(resources)
        self._say_what_is_taken(session, resources)
        return True

    def _free(self, name: str) -> float:
        taken = sum(session.taken[name] for session in self._sessions.values())
        return self.resources.get(name, 0.0) - taken

    def give_back(self, session: Session, resources: dict[str, float]) -> None:
        """A run has ended: others may have waited for what it had."""
        session.taken.subtract(resources)
        self._say_what_is_taken(session, resources)
        if resources:
            for other in list(self._sessions.values()):
                other.begin_waiting()

    def _say_what_is_taken(self, by: Session, resources: dict[str, float]) -> None:
        """Has the other owners know."""
        if resources:
            for session in self._sessions.values():
                if session is not by:
                    session.channel.tell(others=self.taken_by_others(session))

    def taken_by_others(self, session: Session) -> dict[str, float]:
        """Returns what the runs of other owners have taken."""
        others = [other.taken for other in self._sessions.values() if other is not session]
        return dict(sum(others, Counter[str]()))

    async def _attach(self, comm: Comm, *, owner: str, version: int, **about: Any) -> Any:
        """An owner connects, for the first time or again. Lasts as long as the connection."""
        if version != VERSION or self._closing:
            problem = "it is about to end" if self._closing else f"it speaks version {VERSION}, and its owner {version}"
            return {"problem": f"node {self.name!r} takes nothing: {problem}"}
        session = self._sessions.get(owner)
        if session is None or session.over:
            session = self._sessions[owner] = Session(self, owner, about, self._forget)
        await comm.write(
            {
                "incarnation": f"{self._incarnation}-{session.number}",
                "name": self.name,
                "threads": self.threads,
                "resources": self.resources,
                "others": self.taken_by_others(session),
                "process": this_process(),
                "heard": session.channel.heard_number,
            }
        )
        await session.serve(comm, about["heard"])
        return Status.dont_reply

    def _forget(self, session: Session) -> None:
        if self._sessions.get(session.owner) is session:
            del self._sessions[session.owner]

    async def close(self) -> None:
        """Ends all that it has, by its ladder, and tells the owners that it leaves."""
        self._closing = True
        await asyncio.gather(*(session.leave() for session in list(self._sessions.values())))
