"""The link to a cluster: a thread that holds the connections, and renews the lease while the loop is blocked."""

from __future__ import annotations

import asyncio
import threading
import uuid
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from itertools import count
from typing import TYPE_CHECKING, Any

from ..._core.errors import described
from ..._loop.clock import monotonic
from .dask import client_of, connect, security_for
from .node import RemoteNode
from .plugin import NodePlugin

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["VERSION", "Link"]

VERSION = 1
"""Of what owners and nodes say to each other."""

POLL = 0.5
"""Seconds between two looks at which nodes there are."""

PATIENCE = 3.0
"""Seconds for which a node, or the scheduler, may not answer before it is tried again."""

AGAIN = (0.05, 1.0)
"""Seconds between two tries: at first, and at most; they double."""

DRIFT = 1.05
"""How much faster one machine's clock may go than another's."""

SILENT = 0.5
"""Of a lease: a node that was not heard of for longer is out of reach. It says something in each fifth."""

LOOK = 0.1
"""Seconds between two looks at whether a node that is silent is gone."""

FAREWELL = 0.5
"""Seconds at most for which nodes are told that their owner ends."""


class Link:
    """Holds the connections to the nodes of one cluster, for one supervisor.

    Args:
        supervisor: Its name.
        scheduler: The scheduler's address.
        security: Dask's, for TLS; None: none.
        lease: Seconds after which a node ends what it has of an owner that it does not hear of.
        shutdown_timeout: The owner's, in seconds.
        heard: Is given, on this thread, what a node says of runs.
        changed: Is called, on this thread, when there may be room for runs that there was none for, or a node is gone.

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
        lease: float,
        shutdown_timeout: float,
        heard: Callable[[RemoteNode, list[tuple[Any, ...]]], object],
        changed: Callable[[RemoteNode | None], object],
    ) -> None:
        self._supervisor = supervisor
        self._scheduler = scheduler
        self._security = security_for(scheduler, security)
        self._lease = lease
        self._shutdown_timeout = shutdown_timeout
        self._heard = heard
        self._changed = changed
        self._owner = uuid.uuid4().hex
        self.nodes: tuple[RemoteNode, ...] = ()
        self.problem = f"the scheduler at {scheduler} has not answered yet"
        self.reached = self.closed = False
        self._talks: dict[str, asyncio.Task[None]] = {}
        self._questions: dict[int, Future[list[str | None]]] = {}
        self._question = count(1)
        self._closing: asyncio.Event | None = None
        self.looked: Callable[[Link], object] = _nobody
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"{supervisor}-cluster", daemon=True)
        Context().run(self._thread.start)

    # ------------------------------------------------------------------------------------ any thread

    def send(self, node: RemoteNode, *item: Any) -> None:
        """Has something be said to a node."""
        self._call(node.channel.send, *item)

    def stacks(self, runs: dict[RemoteNode, list[int]], seconds: float) -> dict[RemoteNode, list[str | None]]:
        """Asks nodes, at once, where runs stand, by their numbers; waits for the answers, so long at most in all.

        A node that does not answer is left out, and not waited for again until it does.
        """
        until = monotonic() + seconds
        asked = {node: self._ask(node, numbers) for node, numbers in runs.items() if self._may_answer(node)}
        answers: dict[RemoteNode, list[str | None]] = {}
        for node, (question, answer) in asked.items():
            try:
                answers[node] = answer.result(max(0.0, until - monotonic()))
            except TimeoutError:
                node.unanswered = question
                if answer.done():  # just now
                    node.unanswered = None
            finally:
                self._questions.pop(question, None)
        return answers

    def reaches(self, node: RemoteNode) -> bool:
        """Whether a connection stands, and the node was heard of lately. Any thread."""
        return node.connected and monotonic() - node.heard_at <= self._lease * SILENT

    def _may_answer(self, node: RemoteNode) -> bool:
        here = threading.current_thread() is self._thread
        return self.reaches(node) and node.unanswered is None and not here

    def _ask(self, node: RemoteNode, numbers: list[int]) -> tuple[int, Future[list[str | None]]]:
        question, answer = next(self._question), Future[list[str | None]]()
        self._questions[question] = answer
        self.send(node, "stacks", question, numbers)
        return question, answer

    def close(self, seconds: float) -> None:
        """Says good-bye to the nodes, and ends; waits for that, so long at most."""
        self.closed = True
        self._call(self._begin_closing)
        self._thread.join(seconds)

    def _call(self, fn: Callable[..., object], *args: Any) -> None:
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(fn, *args)

    # ------------------------------------------------------------------------------------ its thread

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except BaseException as error:
            self.problem = f"the link to the cluster has failed: {described(error)}"
            raise
        finally:
            for node in self.nodes:
                node.connected = False
            self.problem = self.problem or "the link to the cluster has ended"

    def _begin_closing(self) -> None:
        if self._closing is not None:
            self._closing.set()

    async def _main(self) -> None:
        self._closing = asyncio.Event()
        tasks = [asyncio.ensure_future(self._for_ever(part)) for part in (self._follow, self._look)]
        await self._closing.wait()
        for node in self.nodes:
            node.channel.send("bye")
        until = monotonic() + FAREWELL
        for node in self.nodes:
            if node.connected:
                await node.channel.flushed(until - monotonic())
        tasks += self._talks.values()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _for_ever(self, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Has a part of this go on, whatever has failed in it: nobody else would see that a node is gone."""
        while True:
            try:
                await part()
            except Exception as error:
                self.problem = f"the link to the cluster has failed: {described(error)}"
            await asyncio.sleep(AGAIN[1])

    async def _follow(self) -> None:
        """Follows which nodes there are; begins anew where the scheduler is lost."""
        delay = AGAIN[0]
        while True:
            try:
                name = f"supervisor-{self._supervisor}"
                async with client_of(self._scheduler, self._security, name, PATIENCE) as client:
                    await client.register_plugin(NodePlugin())
                    delay = AGAIN[0]
                    while True:
                        found = await asyncio.wait_for(client.scheduler.identity(n_workers=-1), PATIENCE)
                        self._update(found["workers"], client.connection_args)
                        await asyncio.sleep(POLL)
            except (OSError, TimeoutError) as error:
                self.problem = f"the scheduler at {self._scheduler} cannot be reached: {described(error)}"
            except Exception as error:
                self.problem = f"the cluster at {self._scheduler} cannot be used: {described(error)}"
            self._changed(None)
            await asyncio.sleep(delay)
            delay = min(2 * delay, AGAIN[1])

    def _update(self, workers: dict[str, Any], connection_args: dict[str, Any]) -> None:
        known = {node.address for node in self.nodes}
        for address, found in workers.items():
            if address not in known:
                node = RemoteNode(address, str(found.get("name", address)), self._received, lambda: self._changed(None))
                self.nodes = (*self.nodes, node)
                self._talks[address] = asyncio.ensure_future(self._talk(node, connection_args))
        took = {node for node in self.nodes if node.takes_runs}
        for node in self.nodes:
            node.open = workers.get(node.address, {}).get("status") == "running"
            if node.address not in workers and not node.connected and not node.at:
                self._forget(node)
        takes = {node for node in self.nodes if node.takes_runs}
        self.problem = "" if takes else self._why_none()
        if takes - took:
            self._changed(None)

    def _why_none(self) -> str:
        problems = [f"{node.name}: {node.problem}" for node in self.nodes if node.problem]
        if problems:
            return f"no node takes runs: {'; '.join(problems[:3])}"
        return f"the cluster at {self._scheduler} has no node that takes runs yet"

    async def _talk(self, node: RemoteNode, connection_args: dict[str, Any]) -> None:
        """Talks to a node, over one connection after another, until it is gone."""
        delay = AGAIN[0]
        while not node.gone:
            try:
                comm = await connect(node.address, timeout=PATIENCE, **connection_args)
                hello = await asyncio.wait_for(self._introduce(node, comm), PATIENCE)
                if node.incarnation not in (None, hello["incarnation"]):
                    comm.abort()
                    node.left = True  # another one is at its address
                    self._is_gone(node, "another node has taken its address")
                    return
                node.met(hello)
                node.connected = self.reached = True
                delay = AGAIN[0]
                self.problem = "" if node.takes_runs else self.problem
                self._changed(None)
                await node.channel.serve(comm, hello["heard"])
            except (OSError, TimeoutError) as error:
                node.problem = f"cannot be reached from here at {node.address}: {described(error)}"
            except Exception as error:
                node.problem = described(error)
            node.connected = False
            if node.left or node.is_dead:
                self._is_gone(node, "its node has left" if node.left else "its node died")
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, AGAIN[1])

    async def _introduce(self, node: RemoteNode, comm: Any) -> dict[str, Any]:
        """Tells a node who its owner is, and returns its answer."""
        await comm.write(
            {
                "op": "supervisor",
                "owner": self._owner,
                "supervisor": self._supervisor,
                "version": VERSION,
                "lease": self._lease,
                "shutdown_timeout": self._shutdown_timeout,
                "heard": node.channel.heard_number,
            }
        )
        hello: dict[str, Any] = await comm.read()
        if "incarnation" not in hello:
            raise ValueError(hello.get("problem") or f"it has said {hello!r}")
        return hello

    async def _look(self) -> None:
        """Looks which of the silent nodes are gone by now."""
        while True:
            await asyncio.sleep(LOOK)
            self.looked(self)
            now = monotonic()
            for node in self.nodes:
                silent = now - node.heard_at
                if not node.connected and node.is_dead:
                    self._is_gone(node, "its node died")
                    continue
                if node.at and silent > self._lease * DRIFT + node.ladder:
                    self._is_gone(node, f"its node was silent for {silent:.1f} s, and its lease has run out")

    def _is_gone(self, node: RemoteNode, why: str) -> None:
        node.gone = True
        node.problem = node.problem or why
        self._forget(node)
        self._changed(node)

    def _forget(self, node: RemoteNode) -> None:
        self.nodes = tuple(other for other in self.nodes if other is not node)
        talk = self._talks.pop(node.address, None)
        if talk is not None and talk is not asyncio.current_task():
            talk.cancel()

    def _received(self, node: RemoteNode, items: list[tuple[Any, ...]]) -> None:
        node.heard_at = monotonic()
        rest: list[tuple[Any, ...]] = []
        for item in items:
            match item:
                case ("stacks", question, stacks):
                    if node.unanswered == question:
                        node.unanswered = None
                    answer = self._questions.get(question)
                    if answer is not None and not answer.done():
                        answer.set_result(stacks)
                case ("leaving",):
                    node.left = True
                case _:
                    rest.append(item)
        if rest:
            self._heard(node, rest)


def _nobody(_: Link) -> None:
    """Looks where nobody else does."""
