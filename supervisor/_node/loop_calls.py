"""What workers on a node have the event loop of their owner call."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

from .._core.errors import SupervisorClosed, SupervisorMisused
from .._worker.home import Sealed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._kinds.cluster.channel import Channel
    from .._run.loop_call import LoopCall
    from .._run.run import Run
    from .._worker.backend import How

    Packed: TypeAlias = tuple[How, bytes, str | None]

__all__ = ["LoopCalls"]


class LoopCalls:
    """Relays them, and hands back what the owner answers. On the node's loop.

    To the portal here each is a task that waits for the owner. So it is bounded by the ladder that is climbed here,
    whether or not anything is heard of the owner.

    Args:
        channel: To the owner.
        number_of: Returns the number by which the owner knows a run; None where it knows it no more.
    """

    def __init__(self, channel: Channel, number_of: Callable[[Run], int | None]) -> None:
        self._channel = channel
        self._number_of = number_of
        self._question = count(1).__next__
        self._open: dict[int, asyncio.Future[Packed | None]] = {}
        self._refusal = ""

    async def relay(self, call: LoopCall) -> Packed | None:
        """Has the owner's loop carry out a call; returns how it went, what came of it, packed, and a traceback.

        Raises:
            SupervisorClosed: The owner is gone.
            RuntimeError: Who calls is no worker of the owner's: an initializer, say.
        """
        number = self._number_of(call.run)
        if number is None or not isinstance(call.fn, Sealed):
            raise SupervisorMisused(
                f"call(fn={call.name}): on a node of a cluster, only calls and workers can call the event loop"
            )
        if self._refusal:
            raise self._closed(call)
        question, answer = self._question(), asyncio.get_running_loop().create_future()
        self._open[question] = answer
        try:
            self._channel.send("call", number, question, call.name, call.cleanup, call.fn.data)
            await self._until_answered(call, (number, question), answer)
        finally:
            del self._open[question]
        said: Packed | None = answer.result()
        if said is None:
            raise self._closed(call)
        if said[0] == "stopped":
            call.answer("stopped")  # the stop may not have come so far here
        return said

    async def _until_answered(self, call: LoopCall, known: tuple[int, int], answer: asyncio.Future[Any]) -> None:
        """Waits for the answer; once it was cancelled, for as long as the worker does, too."""
        try:
            try:
                await asyncio.wait({answer})
            except asyncio.CancelledError:
                if call.phase != "cancelled":
                    raise
                self._channel.send("cut", *known)
                await asyncio.wait({answer})
        except asyncio.CancelledError:
            self._channel.send("leave", *known)
            raise

    def _closed(self, call: LoopCall) -> SupervisorClosed:
        return SupervisorClosed(f"worker {call.run.name!r} cannot call its event loop: {self._refusal}")

    def answered(self, question: int, *said: Any) -> None:
        """The owner has said what came of a call. It may come twice, or too late."""
        answer = self._open.get(question)
        if answer is not None and not answer.done():
            answer.set_result(said)

    def refuse(self, reason: str) -> None:
        """No owner will answer any more."""
        self._refusal = self._refusal or reason
        for answer in self._open.values():
            if not answer.done():
                answer.set_result(None)
