"""A node: what owners connect to, and what it has of each."""

from __future__ import annotations

import asyncio
import uuid
from math import inf
from typing import TYPE_CHECKING, Any

from distributed.core import Status

from .._core.leases import Lease
from .._core.placement import suffices, total
from .._kinds.cluster.link import VERSION
from .._kinds.cluster.plugin import OPERATION
from .._kinds.cluster.proofs import is_dead, this_process
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
        worker.handlers[OPERATION] = self._attach

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

    def take(self, session: Session, number: int, resources: dict[str, float]) -> bool:
        """Takes what a run needs; False where that is not there now."""
        if not resources:
            return True
        taken = total(claim for other in self._sessions.values() for claim in other.claims.values())
        free = {name: amount - taken.get(name, 0.0) for name, amount in self.resources.items()}
        if not suffices(free, resources):
            return False
        session.claims[number] = resources
        self._say_what_is_taken(session)
        return True

    def give_back(self, session: Session, number: int) -> None:
        """A run has ended: others may have waited for what it had."""
        if session.claims.pop(number, None):
            self._say_what_is_taken(session)
            for other in list(self._sessions.values()):
                other.begin_waiting()

    def _say_what_is_taken(self, by: Session) -> None:
        """Has the other owners know."""
        for session in self._sessions.values():
            if session is not by:
                session.channel.tell(others=self.taken_by_others(session))

    def taken_by_others(self, session: Session) -> dict[str, float]:
        """Returns what the runs of other owners have taken."""
        others = [other for other in self._sessions.values() if other is not session]
        return total(claim for other in others for claim in other.claims.values())

    async def _attach(
        self, comm: Comm, *, owner: str = "", version: Any = None, resume: str | None = None, **about: Any
    ) -> Any:
        """An owner connects, for the first time or again. Lasts as long as the connection."""
        if version != VERSION:
            return self._refused(f"it speaks version {VERSION}, and its owner version {version}: have the same at both")
        try:
            heard, lease = _checked(about)
            session = self._found(owner, resume) or self._begun(owner, str(about.get("supervisor", "")), lease, resume)
        except (ValueError, TypeError) as error:
            return self._refused(str(error))
        if session is None:
            return {"over": True, "agent": self._incarnation, "dead": is_dead(about.get("process") or {})}
        try:
            await comm.write(
                {
                    "incarnation": f"{self._incarnation}-{session.number}",
                    "agent": self._incarnation,
                    "name": self.name,
                    "threads": self.threads,
                    "resources": self.resources,
                    "others": self.taken_by_others(session),
                    "process": this_process(),
                    "heard": session.channel.heard_number,
                    "leaving": self._closing,
                }
            )
            await session.serve(comm, heard)
        except OSError:
            pass  # connections break; the owner comes again
        return Status.dont_reply

    def _found(self, owner: str, resume: str | None) -> Session | None:
        """Returns what there is of an owner that goes on with it."""
        session = self._sessions.get(owner)
        if session is None or resume is None or f"{self._incarnation}-{session.number}" != resume:
            return None
        return session

    def _begun(self, owner: str, name: str, lease: Lease, resume: str | None) -> Session | None:
        """Begins with an owner that begins; None where it goes on with something that has ended.

        Raises:
            ValueError: It cannot be begun now.
        """
        if resume is not None:
            return None
        if self._closing:
            raise ValueError("it is about to end")
        earlier = self._sessions.get(owner)
        if earlier is not None:  # which the owner has given up: nothing begins beside what may go on
            earlier.end("its owner has given it up")
            raise ValueError("it ends what it had of its owner")
        session = self._sessions[owner] = Session(self, owner, name, lease, self._forget)
        return session

    def _refused(self, problem: str) -> dict[str, str]:
        return {"problem": f"node {self.name!r} takes nothing: {problem}"}

    def _forget(self, session: Session) -> None:
        if self._sessions.get(session.owner) is session:
            del self._sessions[session.owner]

    async def close(self) -> None:
        """Ends all that it has, by its ladder, and tells the owners that it leaves."""
        self._closing = True
        await asyncio.gather(*(session.leave() for session in list(self._sessions.values())), return_exceptions=True)


def _checked(about: dict[str, Any]) -> tuple[int, Lease]:
    """Returns what has come last at an owner, and what it wants to agree on.

    Raises:
        ValueError: That is nothing which an owner says.
    """
    heard, lease, patience = (about.get(name) for name in ("heard", "lease", "shutdown_timeout"))
    if isinstance(heard, int) and isinstance(lease, int | float) and isinstance(patience, int | float):  # noqa: SIM102
        if heard >= 0 and 0 < lease < inf and patience >= 0:
            return heard, Lease(float(lease), float(patience))
    raise ValueError("what has come is not from an owner")
