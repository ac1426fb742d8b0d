"""The link to a cluster: a thread that holds the connections, and renews the lease while the loop is blocked."""

from __future__ import annotations

import asyncio
import sys
import threading
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..._core.errors import described
from ..._core.leases import LOOK
from ..._loop import aside
from ..._loop.clock import monotonic
from .dask import security_for
from .intake import Intake
from .node import RemoteNode
from .plugin import OPERATION
from .proofs import same_machine
from .questions import Questions
from .scheduler import NoNode, connected, follow, have_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.leases import Lease
    from .channel import Comm
    from .node import RemoteRun

__all__ = ["VERSION", "Link"]

VERSION = "1 on Python " + ".".join(map(str, sys.version_info[:2]))
"""Of what owners and nodes say to each other: lambdas and closures travel as bytecode, which crashes another Python."""

PATIENCE = 3.0
"""Seconds at most for which a node, or the scheduler, may not answer before it is tried again."""

AGAIN = (0.05, 0.5)
"""Seconds between two tries: at first, and at most; they double."""

SELDOM = 30.0
"""Seconds at most between two tries with what cannot be a node: it logs each."""

STOOD_STILL = 0.5
"""Seconds late from which on this process has stood still: what has come meanwhile is read first."""

SILENT = 0.5
"""Of a lease: a node that was not heard of for longer is out of reach. It says something in each fifth."""

WITNESS = 1.0
"""Seconds between two questions to other nodes, whether a node on their machine is dead."""

FAREWELL = 0.5
"""Seconds at most for which nodes are told that their owner ends."""


class Link:
    """Holds the connections to the nodes of one cluster, for one supervisor.

    Args:
        supervisor: Its name.
        scheduler: The scheduler's address.
        security: Dask's, for TLS; None: none.
        lease: What is agreed on with the nodes.
        heard: Is given, on a thread for that alone, what a node says of runs.
        changed: Is called, on that thread, once a node is gone, after all that it had said; and without one, on this
            thread, when there may be room for runs that there was none for.
        failed: Is called, on this thread, with what has failed here, that should not.
        lost: Is called, on this thread, again and again, once no node could be reached for the lease; is given why.
        orphaned: Whether nobody is left who could hear of runs. Any thread.

    Attributes:
        looked: Is called again and again, on this thread, with this link.
        nodes: All nodes that are known, gone ones left out. Replaced as a whole; any thread.
        problem: Why the cluster cannot be used, for people; empty where it can. Any thread.
        reached: A node has been connected to, once. Any thread.
        closed: It has ended, or is about to. On the owner's loop's thread.
    """

    def __init__(
        self,
        supervisor: str,
        scheduler: str,
        security: Any,
        lease: Lease,
        heard: Callable[[RemoteNode, list[tuple[Any, ...]]], object],
        changed: Callable[[RemoteNode | None], object],
        failed: Callable[[BaseException], object],
        lost: Callable[[str], object],
        orphaned: Callable[[], bool],
    ) -> None:
        self._supervisor = supervisor
        self._scheduler = scheduler
        self._security = security_for(scheduler, security)
        self._lease = lease
        self._patience = min(PATIENCE, lease.seconds / 3)
        self._heard = heard
        self._changed = changed
        self._failed = failed
        self._lost = lost
        self._orphaned = orphaned
        self._usable_at = monotonic()
        self._owner = uuid.uuid4().hex
        self._args: dict[str, Any] = {}
        self.nodes: tuple[RemoteNode, ...] = ()
        self.problem = f"the scheduler at {scheduler} has not answered yet"
        self.reached = self.closed = False
        self._talks: dict[str, asyncio.Task[None]] = {}
        self._questions = Questions(self.send, self._may_answer)
        self._closing = asyncio.Event()
        self._closed = threading.Event()
        self.looked: Callable[[Link], object] = _nobody
        self._loop = asyncio.new_event_loop()
        self._intake = Intake(f"{supervisor}-cluster-intake", failed)
        self._thread = threading.Thread(target=self._run, name=f"{supervisor}-cluster", daemon=True)
        aside.start(self._thread)

    # ------------------------------------------------------------------------------------ any thread

    def send(self, node: RemoteNode, *item: Any) -> None:
        """Has something be said to a node."""
        self._call(node.channel.send, *item)

    def begin(self, there: RemoteRun, number: int, about: dict[str, Any], parcel: bytes) -> None:
        """Has a node begin a run, once, however often this is called."""
        self._call(self._begin, there, number, about, parcel)

    def _begin(self, there: RemoteRun, number: int, about: dict[str, Any], parcel: bytes) -> None:
        if not there.begun:
            there.begun = True
            there.at.channel.send("begin", number, about, parcel)

    def stacks(self, runs: dict[RemoteNode, list[int]], seconds: float) -> dict[RemoteNode, list[str | None]]:
        """Asks nodes where runs stand: see `Questions.stacks`."""
        return self._questions.stacks(runs, seconds)

    def _may_answer(self, node: RemoteNode) -> bool:
        return node.is_reached and threading.current_thread() is not self._thread

    def close(self, seconds: float) -> None:
        """Says good-bye to the nodes, and ends; waits for that, so long at most."""
        self.closed = True
        self._closed.set()
        self._call(self._closing.set)
        until = monotonic() + seconds
        self._thread.join(seconds)
        self._intake.join(max(0.0, until - monotonic()))

    def _call(self, fn: Callable[..., object], *args: Any) -> None:
        with suppress(RuntimeError):  # it has ended
            aside.call_soon_threadsafe(self._loop, fn, *args)

    # ------------------------------------------------------------------------------------ its thread

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except BaseException as error:
            self._failed(error)
            self._wait_for_ends()
        finally:
            self._intake.end()

    async def _main(self) -> None:
        tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(self._follow()), asyncio.ensure_future(self._look())]
        closing: asyncio.Task[Any] = asyncio.ensure_future(self._closing.wait())
        try:
            done, _ = await asyncio.wait([*tasks, closing], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._say_goodbye()
        finally:
            tasks += [closing, *self._talks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _say_goodbye(self) -> None:
        until = monotonic() + FAREWELL
        for node in self.nodes:
            node.channel.send("bye")
        for node in self.nodes:
            if node.connected:
                await node.channel.flushed(until - monotonic())

    def _wait_for_ends(self) -> None:
        """Nobody talks to the nodes any more: waits until each has ended by its lease what it has."""
        for node in self.nodes:
            node.connected = False
            node.problem = "its owner has lost the link to it"
        self.problem = "the link to its nodes has failed"
        while not self._closed.wait(LOOK) and not self._orphaned():
            self._lost(self.problem)
            for node in self.nodes:
                if self._must_be_over(node, monotonic()):
                    self.nodes = tuple(other for other in self.nodes if other is not node)
                    node.gone = True
                    self._intake.put(self._changed, node)

    async def _follow(self) -> None:
        """Follows which nodes there are; begins anew where the scheduler is lost."""
        delay = AGAIN[0]

        def found(workers: set[str], running: set[str]) -> None:
            nonlocal delay
            delay = AGAIN[0]
            self._update(workers, running)

        while True:
            try:
                self._args = self._security.get_connection_args("client")
                await follow(self._scheduler, self._patience, self._args, found)
            except (OSError, TimeoutError) as error:
                self.problem = f"the scheduler at {self._scheduler} cannot be reached: {described(error)}"
            except Exception as error:
                self.problem = f"the cluster at {self._scheduler} cannot be used: {described(error)}"
            self._changed(None)
            await asyncio.sleep(delay)
            delay = min(2 * delay, AGAIN[1])

    def _update(self, workers: set[str], running: set[str]) -> None:
        known = {node.address for node in self.nodes}
        for address in sorted(workers - known):
            patience = self._lease.seconds * SILENT
            node = RemoteNode(address, patience, self._received, lambda: self._changed(None), self._failed)
            self.nodes = (*self.nodes, node)
            self._talks[address] = asyncio.ensure_future(self._talk(node))
        self._usable_at = monotonic()  # the scheduler has answered: nodes may come
        took = {node for node in self.nodes if node.takes_runs}
        for node in self.nodes:
            node.open = node.address in running
            if node.address not in workers and not node.connected and not node.at:
                self._is_gone(node, "it has left the cluster")
        takes = {node for node in self.nodes if node.takes_runs}
        self.problem = "" if takes else self._why_none()
        if takes - took:
            self._changed(None)

    def _why_none(self) -> str:
        silent = [node for node in self.nodes if node.problem or (node.connected and not node.is_reached)]
        problems = [f"node {node.name}: {node.why_out_of_reach}" for node in silent[:3]]
        if problems:
            return f"no node takes runs: {'; '.join(problems)}"
        return f"the cluster at {self._scheduler} has no node that takes runs yet"

    async def _talk(self, node: RemoteNode) -> None:
        """Talks to a node, over one connection after another, until it is gone."""
        delay = AGAIN[0]
        while not node.gone:
            most = AGAIN[1]
            try:
                if await self._converse(node):
                    delay = AGAIN[0]
            except (OSError, TimeoutError) as error:
                node.problem = f"cannot be reached from here: {described(error)}"
            except NoNode as error:
                node.problem, most = str(error), SELDOM
            except Exception as error:
                node.problem = described(error)
            node.connected = False
            if node.gone:
                return
            if node.is_dead:
                self._is_gone(node, "its node died")
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, most)

    async def _converse(self, node: RemoteNode) -> bool:
        """Talks to a node over one connection; returns whether that has stood.

        Raises:
            OSError: There was none.
            ValueError: The node does not want it.
        """
        comm = await connected(node.address, self._patience, self._args)
        try:
            await have_node(comm, self._patience)
            async with asyncio.timeout(self._patience):
                hello = await self._introduce(node, comm)
            if hello.get("over"):
                if hello["agent"] != node.agent and not hello["dead"]:
                    raise ValueError("another node has its address")  # which says nothing of what goes on elsewhere
                self._is_gone(node, "its lease had run out" if hello["agent"] == node.agent else "its node died")
                return True
            node.met(hello)
            node.connected = self.reached = True
            self.problem = "" if node.takes_runs else self.problem
            self._changed(None)
            try:
                await node.channel.serve(comm, hello["heard"])
            except OSError as error:
                node.problem = f"the connection broke: {described(error)}"
            return True
        finally:
            comm.abort()

    async def _introduce(self, node: RemoteNode, comm: Comm) -> dict[str, Any]:
        """Tells a node who its owner is, and returns its answer."""
        await comm.write(
            {
                "op": OPERATION,
                "owner": self._owner,
                "supervisor": self._supervisor,
                "version": VERSION,
                "lease": self._lease.seconds,
                "shutdown_timeout": self._lease.patience,
                "resume": node.incarnation,
                "process": node.process,
                "heard": node.channel.heard_number,
            }
        )
        hello: dict[str, Any] = await comm.read()
        if "incarnation" not in hello and "over" not in hello:
            raise ValueError(str(hello.get("problem") or hello))
        return hello

    async def _look(self) -> None:
        """Looks which of the silent nodes are gone by now."""
        looked_at = monotonic()
        while True:
            await asyncio.sleep(LOOK)
            self.looked(self)
            now, before = monotonic(), looked_at
            looked_at = now
            if self._orphaned():
                self._closing.set()
            if now - before > LOOK + STOOD_STILL:
                continue
            for node in self.nodes:
                self._look_at(node, now)
            if any(node.takes_runs for node in self.nodes):
                self._usable_at = now
            elif now - self._usable_at > self._lease.seconds:
                self._lost(f"no node could be reached for {now - self._usable_at:.1f} s: {self.problem}")

    def _look_at(self, node: RemoteNode, now: float) -> None:
        if node.connected:
            if now - node.heard_at > self._lease.silence:
                node.channel.drop()
        elif node.is_dead:
            self._is_gone(node, "its node died")
            return
        elif node.at and now - node.asked_at > WITNESS:
            node.asked_at = now
            self._ask_others(node)
        if self._must_be_over(node, now):
            self._is_gone(node, f"its node was silent for {now - node.heard_at:.1f} s, and its lease has run out")

    def _must_be_over(self, node: RemoteNode, now: float) -> bool:
        """Whether a node must have ended what it has, by what was agreed on."""
        return bool(node.at) and now - node.heard_at > self._lease.over(node.ladder)

    def _ask_others(self, node: RemoteNode) -> None:
        """Asks another node on the machine of this one whether it is dead, which cannot be seen from here."""
        for other in self.nodes:
            if other.connected and same_machine(other.process, node.process):
                other.channel.send("is_dead", node.address, node.process)
                return

    def _is_gone(self, node: RemoteNode, why: str) -> None:
        node.gone, node.connected = True, False
        node.problem = why
        self.nodes = tuple(other for other in self.nodes if other is not node)
        talk = self._talks.pop(node.address, None)
        if talk is not None and talk is not asyncio.current_task():
            talk.cancel()
        self._intake.put(self._changed, node)

    def _received(self, node: RemoteNode, items: list[tuple[Any, ...]]) -> None:
        node.is_heard()
        rest: list[tuple[Any, ...]] = []
        over = ""
        for item in items:
            match item:
                case ("stacks", question, stacks):
                    self._questions.answered(node, question, stacks)
                case ("is_dead", address, dead):
                    self._testified(address, dead)
                case ("over", reason):
                    over = reason
                case _:
                    rest.append(item)
        if rest:
            self._intake.put(self._heard, node, rest)
        if over and not self._closing.is_set():
            self._is_gone(node, over)

    def _testified(self, address: str, dead: bool) -> None:
        for node in self.nodes:
            if dead and node.address == address and not node.connected:
                self._is_gone(node, "its node died")


def _nobody(_: Link) -> None:
    """Looks where nobody else does."""
