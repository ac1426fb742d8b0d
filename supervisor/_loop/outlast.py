"""A wait that outlasts cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

from anyio import CancelScope

__all__ = ["outlast"]


async def outlast(future: asyncio.Future[Any], *, cancelled: bool = False) -> asyncio.CancelledError | None:
    """Waits until `future` is done, whatever cancels the waiting task; returns the first cancellation.

    Under anyio a cancellation is delivered anew on each turn of the loop to whoever waits, which would burn a CPU. So
    the first one is let in, and then the waiting goes on in a shielded scope. A native `Task.cancel` gets through
    even there; the scope is entered again.

    Args:
        future: What to wait for.
        cancelled: The first cancellation has come in already, and the caller will raise it.
    """
    first = None
    while not future.done():
        try:
            if first is None and not cancelled:
                await asyncio.wait((future,))
            else:
                with CancelScope(shield=True):
                    await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            first = first or error
    return first
