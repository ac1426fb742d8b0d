"""The place of a thread in a pool."""

from __future__ import annotations

import math
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..._run.run import Run

__all__ = ["Seat"]


class Seat:
    """The place of a thread in a pool, from before the thread is started until it takes no more calls.

    A thread that is to be replaced has an heir, which is set up meanwhile, and takes no call before its elder has left.
    Where the heir cannot be set up, its elder goes on.

    Attributes:
        run: The call that its thread has in its hands.
        ident: Its thread, once that is there.
        ready: Its thread takes calls, or is an heir that may.
        over: Its thread has ended, or could not be started: it only counts until the loop has heard of that.
        tasks: The calls that it has carried out.
        ends_at: When its lifetime is over, on the monotonic clock.
        idle_since: When it has last had work, or come up.
        stays: It has been idle for long enough, but is one of those that are kept warm.
        elder: Whose heir it is.
        heir: The seat of the thread that takes its place.
        tried: It has asked for an heir since its last call. Where that was in vain, it does so again for a call alone.
        turn: An heir waits here until it may take calls, or is to end; an elder that is used up, until its heir is set
            up, or cannot be. Whoever is woken looks by himself.
    """

    __slots__ = (
        "elder",
        "ends_at",
        "heir",
        "ident",
        "idle_since",
        "over",
        "ready",
        "run",
        "stays",
        "tasks",
        "tried",
        "turn",
    )

    def __init__(self, elder: Seat | None = None) -> None:
        self.run: Run | None = None
        self.ident: int | None = None
        self.ready = self.over = self.stays = self.tried = False
        self.tasks = 0
        self.ends_at = math.inf
        self.idle_since = 0.0
        self.elder = elder
        self.heir: Seat | None = None
        self.turn: SimpleQueue[None] = SimpleQueue()
