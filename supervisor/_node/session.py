"""What a node has of one owner: its runs, under a supervisor of their own, for as long as it is heard of."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextvars import Context
from dataclasses import replace
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from pickle import dumps, loads
from typing import TYPE_CHECKING, Any, Protocol

from .._api.supervisor import Supervisor
from .._core.ladder import Stopping
from .._core.leases import LOOK, SLACK
from .._core.outcome import Outcome
from .._core.policy import EscalationPolicy
from .._core.verdict import raised_in
from .._kinds.cluster.channel import Channel
from .._kinds.cluster.proofs import is_dead
from .._kinds.processes.kind import Processes
from .._loop import aside
from .._loop.errors import report_error
from .._run.frames import PASSING_ON
from .._run.limited import Limited
from .._run.run import Run
from .._worker.parcel import CarryOut
from .._worker.remote_errors import provable
from .loop_calls import LoopCalls
from .relay import Relay
from .watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.ladder import Cause
    from .._core.leases import Lease
    from .._core.policy import Kind
    from .._kinds.cluster.channel import Comm

__all__ = ["Session"]

PASSING_ON.add(CarryOut.__call__.__code__)

FOLDER = str(Path(__file__).parent.parent) + os.sep
"""Ours: an error's traceback begins after it."""

_number = count(1).__next__


class Host(Protocol):
    """The node, as its sessions see it."""

    @property
    def threads(self) -> int:
        """How many calls it takes at once."""
        ...

    def take(self, session: Session, number: int, resources: dict[str, float]) -> bool:
        """Takes what a run needs; False where that is not there now."""
        ...

    def give_back(self, session: Session, number: int) -> None:
        """A run has ended: others may have waited for what it had."""
        ...


class Session:
    """The runs of one owner. It owns them here, as far as their supervisor is concerned. On the worker's loop.

    Args:
        agent: The node.
        owner: By what the owner is known.
        name: The name of its supervisor.
        lease: What is agreed on with it.
        forget: Is called when it has ended.

    Attributes:
        number: Tells it from an earlier one of the same owner.
        channel: To the owner.
        claims: What of the node's resources its runs have taken, by their numbers; without those that have taken none.
        over: It has ended.
    """

    def __init__(self, agent: Host, owner: str, name: str, lease: Lease, forget: Callable[[Session], object]) -> None:
        self._agent = agent
        self.owner = owner
        self._forget = forget
        self.number = _number()
        self._lease = lease
        self.channel = Channel(self._heard, self._news, self._failed)
        self._watch = Watch(lease, lambda moment: self.channel.tell(stamp=moment))
        self._loop = loop = asyncio.get_running_loop()
        self._relay = Relay(self.channel, partial(aside.call_soon_threadsafe, loop), self._stepped)
        self._supervisor = Supervisor(
            name,
            shutdown_timeout=lease.patience,
            max_threads=agent.threads,
            max_processes=agent.threads,
            logger=self._relay,
        )
        self._runtime = self._supervisor._binding.bind()
        self._loop_calls = LoopCalls(self.channel, lambda run: self._numbers.get(run.number))
        self._runtime.portal.relay = self._loop_calls.relay
        self._waiting: deque[tuple[int, dict[str, Any], bytes]] = deque()
        self._runs: dict[int, Run] = {}
        self._numbers: dict[int, int] = {}  # the owner's, by those here
        self._names: dict[str, int] = {}
        self._pools: dict[str, tuple[Kind, bytes]] = {}  # what is set for those of the owner
        self._set_up: dict[str, tuple[bool, Exception | None, float]] = {}  # what was said of how these come up
        self.claims: dict[int, dict[str, float]] = {}
        self._ladders: dict[int, float] = {}
        self._beats: dict[int, float] = {}
        self._ends: dict[int, float] = {}
        self.over = False
        self._ending: asyncio.Task[None] | None = None
        self._watching = asyncio.ensure_future(self._keep_watch())

    async def serve(self, comm: Comm, other_heard: int) -> None:
        """Talks to the owner over a connection, until that is broken."""
        self._watch.say()
        await self.channel.serve(comm, other_heard)

    # ------------------------------------------------------------------------------------ the lease

    def _news(self, news: dict[str, Any]) -> None:
        if "echo" in news:
            self._watch.renew(news["echo"])
            self._let_processes_go_on()
            self.begin_waiting()

    def _let_processes_go_on(self) -> None:
        """They end by themselves where this process stands still for longer than its lease, and cannot end them."""
        until = self._watch.alone_until(max(self._ladders.values(), default=0.0))
        for kind in self._runtime.kinds:
            if isinstance(kind, Processes):
                kind.let_go_on(until)

    async def _keep_watch(self) -> None:
        """Asks the owner whether it is there, and ends all of its runs where it is not."""
        while not self.over:
            await asyncio.sleep(LOOK)
            try:
                self._say_what_changed()
            except Exception as error:
                self._failed(error)
            if self._watch.ran_out():
                self.end("its owner has not been heard of, and its lease has run out")

    def end(self, reason: str, *, orphaned: bool = True) -> asyncio.Task[None]:
        """Ends all runs by their ladders, and then itself; returns what does it. The first reason counts.

        Args:
            reason: Why.
            orphaned: There is no owner any more, or none that wants anything of it.
        """
        if orphaned:
            self._loop_calls.refuse(reason)
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end(reason))
        return self._ending

    async def _end(self, reason: str) -> None:
        self._waiting.clear()
        ladder = max(self._ladders.values(), default=0.0)
        try:
            await self._supervisor.shutdown(self._lease.end(ladder), reason=reason)
            self._relay.say_what_was_dropped()
            self.channel.send("over", reason)
            await self.channel.flushed(SLACK)
        except Exception as error:
            self._failed(error)
        finally:
            self.over = True
            self._forget(self)
            self.channel.drop()

    async def leave(self) -> None:
        """The node ends: so do all runs, and the owner hears of it."""
        self.channel.tell(leaving=True)
        await asyncio.shield(self.end("its node ends", orphaned=False))

    def _failed(self, error: Exception) -> None:
        report_error(self._loop, f"supervisor: what owner {self._supervisor.name!r} has said has failed here", error)

    # ------------------------------------------------------------------------------------ what the owner says

    def _heard(self, items: list[tuple[Any, ...]]) -> None:
        for item in items:
            try:
                self._take_in(item)
            except Exception as error:
                self._failed(error)

    def _take_in(self, item: tuple[Any, ...]) -> None:
        match item:
            case ("pool", name, kind, settings, warm):
                self._pools[name] = kind, settings
                if warm:
                    self._warm_up(name, kind)
            case ("begin", number, about, parcel):
                if self._ending is None:
                    self._waiting.append((number, about, parcel))
                    self.begin_waiting()
            case ("stop", number, cause, reason, within):
                self._stop(number, cause, reason, within)
            case ("answered", *said):
                self._loop_calls.answered(*said)
            case ("stacks", question, numbers):
                self.channel.send("stacks", question, [self._stack(number) for number in numbers])
            case ("is_dead", address, process):
                self.channel.send("is_dead", address, is_dead(process))
            case ("bye",):
                self.end("its owner has ended")
            case _:
                raise ValueError(f"an owner said {item[0]!r}")

    def _stack(self, number: int) -> str | None:
        run = self._runs.get(number)
        return None if run is None else run.kind.stack(run)

    def begin_waiting(self) -> None:
        """Begins the runs for which there are the resources by now.

        Where this process has stood still, what has come meanwhile is read before it is noticed that the lease has run
        out: the owner may have given it up, and started it elsewhere. So it begins only once the owner was heard of.
        """
        for _ in range(len(self._waiting)):
            if not self._waiting or not self._watch.holds:  # the end of one has begun others
                return
            waiting = number, about, _ = self._waiting.popleft()
            if not self._agent.take(self, number, about["resources"]):
                self._waiting.append(waiting)
                continue
            try:
                self._begin(*waiting)
            except Exception as error:
                self._refuse(number, about, error)
                self._agent.give_back(self, number)

    def _begin(self, number: int, about: dict[str, Any], parcel: bytes) -> None:
        runtime = self._runtime
        policy, limits = loads(about["options"]) if about["options"] else (None, None)
        kind = runtime.kinds.get(about["kind"] if about["pool"] is None else self._made(about["pool"], about["kind"]))
        here = runtime._next_number()
        run = Run(
            self,
            kind,
            runtime.root,
            here,
            CarryOut(about["fn"]),
            (parcel,),
            Context(),
            runtime.clock(),
            None,
            about["name"],
            policy,
        )
        run.attempt, run.own, run.watched = about["attempt"], about["own"], True
        self._ladders[number] = (policy or EscalationPolicy()).budget(kind.name)
        runtime.names.name_call(run)
        if limits is not None:
            run.limited = Limited(limits, runtime.escalation.budget(run, "limit"))
        kind.prepare(run)
        self._numbers[here] = number
        self._runs[number] = run
        self._names[run.name] = number
        kind.calls[here] = run
        if isinstance(kind, Processes) and kind.goes_on_until is None:
            self._let_processes_go_on()
        (kind.launch if run.own else kind.submit)(run)

    def _made(self, pool: str, kind: Kind) -> str:
        """Returns the name of the pool that takes calls of one of the owner's; makes it as the owner has it."""
        if pool not in self._pools:
            return kind  # nothing is set for it
        if pool not in self._runtime.settings.pools:
            settings = loads(self._pools[pool][1])
            size = max(self._agent.threads, settings.get("warm", 0))
            self._supervisor.pool(pool, kind=kind, size=size, **settings)
        return pool

    def _warm_up(self, pool: str, kind: Kind) -> None:
        """Starts those of a pool that are kept warm, before there is any call."""
        try:
            self._runtime.kinds.get(self._made(pool, kind))
        except Exception as error:
            self._say_of_pool(pool, False, error, 0.0)

    def _say_of_pool(self, pool: str, up: bool, fault: Exception | None, seconds: float) -> None:
        """Says how a pool comes up, where that is otherwise than was said last."""
        if self._set_up.get(pool) != (up, fault, seconds):
            self._set_up[pool] = up, fault, seconds
            error, trace = (None, "") if fault is None else provable(fault, FOLDER)
            self.channel.send("pool", pool, up, None if error is None else dumps(error), trace, seconds)

    def _refuse(self, number: int, about: dict[str, Any], error: Exception) -> None:
        outcome = Outcome(about["name"], about["kind"], about["attempt"], "failed", error=error)
        self.channel.send("ended", number, False, *_sent(outcome), None)

    def _stop(self, number: int, cause: Cause, reason: str, within: float) -> None:
        run = self._runs.get(number)
        if run is None:
            self._withdraw(number)
            return
        run.ends_by = min(run.ends_by, self._runtime.clock() + within)
        if run.climb is None:
            self._runtime.escalation.stop(run, cause, reason)
        else:
            self._runtime.escalation.ask_to_stop(run, cause)  # sooner

    def _withdraw(self, number: int) -> None:
        """Does not begin a run that waits for resources."""
        for waiting in list(self._waiting):
            if waiting[0] == number:
                self._waiting.remove(waiting)
                about = waiting[1]
                outcome = Outcome(about["name"], about["kind"], about["attempt"], "cancelled")
                self.channel.send("ended", number, False, *_sent(outcome), None)

    # ------------------------------------------------------------------------------------ the owner of their runs

    def stop(self, run: Run, cause: Cause, reason: str = "") -> None:
        """Begins to stop a run."""
        self._runtime.escalation.stop(run, cause, reason)

    def entered(self, run: Run) -> None:
        """The function is about to be entered."""
        self._say("entered", run, run.ident, run.pid)

    def readied(self, run: Run) -> None:
        """The function has called `ctx.ready()`."""
        run.ready = True
        self._say("readied", run)

    def expired(self, run: Run) -> None:
        """The owner looks at its time."""

    def deadline(self, run: Run) -> float:
        """Returns by when it must have ended, on the loop's clock."""
        return min(run.ends_by, self._runtime.deadlines.of_call(run))

    def concluded(self, run: Run, outcome: Outcome) -> None:
        """It has ended, or was given up: its owner hears of it."""
        number = self._numbers.pop(run.number, None)
        if number is None:
            return  # all of it was done before an interrupt
        self._relay.catch_up()  # what the run has logged, in whichever thread, comes before its end
        self._runtime.calls.forget(run)
        del self._runs[number]
        self._names.pop(outcome.worker, None)
        for known in (self._ladders, self._beats, self._ends):
            known.pop(number, None)
        value = run.value if run.returned else None
        self.channel.send("ended", number, run.returned, *_sent(outcome), value)
        self._agent.give_back(self, number)

    def _say(self, what: str, run: Run, *details: Any) -> None:
        number = self._numbers.get(run.number)
        if number is not None:
            self.channel.send(what, number, *details)

    def _stepped(self, event: dict[str, Any]) -> None:
        number = self._names.get(event["worker"])
        if number is not None:
            self.channel.send("step", number, event["step"], event.get("stack"))

    def _say_what_changed(self) -> None:
        """Says of which runs there was a heartbeat, which were given more time, and how many events were dropped."""
        self._relay.say_what_was_dropped()
        now = self._runtime.clock()
        for pool in self._pools:
            if pool in self._runtime.settings.pools:
                readiness = self._runtime.kinds.get(pool).readiness
                self._say_of_pool(pool, readiness.up, readiness.fault, readiness.warming(now))
        for number, run in self._runs.items():
            if run.beat_at and run.beat_at != self._beats.get(number):
                self._beats[number] = run.beat_at
                self.channel.send("beat", number)
            state = None if run.climb is None else run.climb.state
            if isinstance(state, Stopping) and state.ends_at < inf:
                ends = state.ends_at + sum(step.grace for step in state.later)
                if ends > self._ends.get(number, 0.0) + LOOK:
                    self._ends[number] = ends
                    self.channel.send("needs", number, ends - now)


def _sent(outcome: Outcome) -> tuple[bytes, bytes | None, str]:
    """Returns an outcome as it is sent: without its value, with its error, and with the traceback of that."""
    plain = dumps(replace(outcome, value=None, error=None))
    if outcome.error is None:
        return plain, None, ""
    error, trace = provable(raised_in(outcome.error), FOLDER)
    return plain, dumps(error), trace
