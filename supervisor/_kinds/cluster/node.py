"""A node, as the owner of runs knows it, and what the owner keeps of a run there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..._core.report import NodeStatistics
from ..._core.values import printable
from ..._loop.clock import monotonic
from .channel import Channel
from .proofs import is_dead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..._core.outcome import Outcome
    from ..._core.policy import EscalationPolicy
    from ..._run.loop_call import LoopCall
    from ..._run.run import Run

__all__ = ["RemoteNode", "RemoteRun"]


class RemoteNode:
    """A node. What it says is taken in on the link's thread; what it has been given is counted on the loop's.

    Args:
        address: Of the Dask worker.
        patience: Seconds of silence after which it is out of reach.
        heard: Is given what it says of runs.
        freed: Is called when there may be room for runs that there was none for.
        failed: Is given what one of these has raised.

    Attributes:
        address: Of the Dask worker.
        name: Of the same.
        threads: How many calls it takes at once.
        resources: What it has in all.
        others: What of that runs of other owners have taken, as it has said last.
        claims: What of that each run of this owner has taken, by their numbers.
        incarnation: By what it knows what it has of this owner.
        agent: Tells it from another node that comes at its address.
        process: By what its process is known on its machine.
        open: It takes runs, as Dask has it.
        connected: A connection to it stands.
        left: It has said that it ends.
        gone: Nothing of what this owner has given it goes on there.
        problem: Why it cannot be talked to, for people.
        heard_at: When it was heard of last, on the monotonic clock.
        asked_at: When another node was asked last whether it is dead.
        ladders: The seconds that the ladder of each of its runs takes.
        calls_at: The calls of this owner that it has, by their numbers.
        at: Its runs by their numbers.
        pools: Those of which it knows what is set for them.
        logs_posted, logs_dropped: How many events of its log were handed to the loop, and how many were not. By the
            intake.
        logs_written, logs_dropped_said: How many of these were written, and how many of those said. On the loop's.
        unanswered: The question that it did not answer in time, and has not answered since; None: there is none.
    """

    def __init__(
        self,
        address: str,
        patience: float,
        heard: Callable[[RemoteNode, list[tuple[Any, ...]]], object],
        freed: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._patience = patience
        self._freed = freed
        self.address = address
        self.name = address  # until it has said it
        self.channel = Channel(lambda items: heard(self, items), self._news, failed)
        self.threads = 1
        self.resources: Mapping[str, float] = {}
        self.others: Mapping[str, float] = {}
        self.claims: dict[int, Mapping[str, float]] = {}
        self.incarnation: str | None = None
        self.agent = ""
        self.process: dict[str, Any] = {}
        self.open = True
        self.connected = self.left = self.gone = False
        self.problem = ""
        self.heard_at = monotonic()
        self.asked_at = 0.0
        self.ladders: dict[int, float] = {}
        self.calls_at: set[int] = set()
        self.at: dict[int, Run] = {}
        self.pools: set[str] = set()
        self.unanswered: int | None = None
        self.logs_posted = self.logs_dropped = 0
        self.logs_written = self.logs_dropped_said = 0

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, self.address)

    @property
    def calls(self) -> int:
        return len(self.calls_at)

    @property
    def runs(self) -> int:
        return len(self.at)

    @property
    def free(self) -> Mapping[str, float]:
        """What nobody has taken, as far as is known here."""
        claims = list(self.claims.values())
        return {
            name: amount - self.others.get(name, 0.0) - sum(claim.get(name, 0.0) for claim in claims)
            for name, amount in self.resources.items()
        }

    @property
    def is_reached(self) -> bool:
        """Whether a connection stands, and it was heard of lately. Any thread."""
        return self.connected and monotonic() - self.heard_at <= self._patience

    @property
    def takes_runs(self) -> bool:
        """Whether it can be given something now. Any thread."""
        return self.is_reached and self.open and not (self.left or self.gone)

    @property
    def ladder(self) -> float:
        """The seconds that the longest ladder takes of the runs that it has. Any thread."""
        return max(list(self.ladders.values()), default=0.0)

    def statistics(self) -> NodeStatistics:
        """What is known of it now. Any thread."""
        reached = self.is_reached
        return NodeStatistics(
            self.name,
            self.address,
            state="unreachable" if not reached else "up" if self.takes_runs else "closing",
            threads=self.threads,
            calls=self.calls,
            workers=len(self.at) - self.calls,
            reason="" if reached else self.why_out_of_reach,
        )

    @property
    def why_out_of_reach(self) -> str:
        """Why it is, for people. Any thread."""
        if self.connected:
            return f"it has been silent for {monotonic() - self.heard_at:.1f} s"
        return printable(self.problem) or "the connection is broken"

    @property
    def is_dead(self) -> bool:
        """Whether it is certain that its process has ended."""
        return is_dead(self.process)

    def met(self, hello: dict[str, Any]) -> None:
        """Takes in how it has introduced itself."""
        self.incarnation, self.agent = hello["incarnation"], hello["agent"]
        self.name = str(hello["name"])
        self.threads = int(hello["threads"])
        self.resources = hello["resources"]
        self.others = hello["others"]
        self.process = hello["process"]
        self.left = hello["leaving"]
        self.problem = ""
        self.heard_at = monotonic()

    def is_heard(self) -> None:
        """It has said something. One that was out of reach takes runs again."""
        returns = self.connected and not self.is_reached
        self.heard_at = monotonic()
        if returns:
            self._freed()

    def _news(self, news: dict[str, Any]) -> None:
        self.is_heard()
        if "stamp" in news:
            self.channel.tell(echo=news["stamp"])
        if "leaving" in news:
            self.left = True
        if "others" in news:
            self.others = news["others"]
            self._freed()

    def __repr__(self) -> str:
        return f"<RemoteNode {self.name!r} at {self.address}>"


class RemoteRun:
    """What an owner keeps of a run on a node. On the loop's thread.

    Attributes:
        at: The node.
        policy: The ladder that was named for it, if any.
        begun: It has been sent. On the link's thread.
        outcome: How it has ended, as the node says it; None where the node has not, or could not.
        stack: Where it stood when that was asked last.
        over: Its end has been said, or it was given up.
        given_up: It was given up.
        ident, pid: The thread, or the process, that carries it out there.
        loop_calls: What it has the loop call, by the number of the question, until it is answered.
    """

    __slots__ = (
        "at",
        "begun",
        "given_up",
        "ident",
        "loop_calls",
        "outcome",
        "over",
        "pid",
        "policy",
        "stack",
    )

    def __init__(self, at: RemoteNode, policy: EscalationPolicy | None) -> None:
        self.at = at
        self.policy = policy
        self.begun = False
        self.outcome: Outcome | None = None
        self.stack: str | None = None
        self.over = self.given_up = False
        self.ident: int | None = None
        self.pid: int | None = None
        self.loop_calls: dict[int, LoopCall] = {}

    @property
    def node(self) -> str:
        return self.at.name

    def amend(self, run: Run, outcome: Outcome) -> Outcome:
        """Returns how a run has ended, by what its node has said of it."""
        said = self.outcome
        if said is None or outcome.ended == "abandoned":
            return replace(outcome, node=self.node)
        if run.climb is None and said.limit is None and said.step is not None:  # nobody here has stopped it
            return replace(outcome, ended="died", node=self.node, stack=said.stack)
        if run.climb is not None and said.step is None and said.ended != "cancelled":
            return replace(outcome, node=self.node)  # it had ended before it heard of the stop
        return replace(
            said,
            worker=outcome.worker,
            attempt=outcome.attempt,
            value=outcome.value,
            error=outcome.error,
            stop_seconds=outcome.stop_seconds,
            node=self.node,
        )
