"""One call of a worker to the event loop: the record that travels from the worker to the loop, and its coroutine."""

from __future__ import annotations

import inspect
import math
import types
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .names import qualname

if TYPE_CHECKING:
    import asyncio
    import contextvars
    from collections.abc import Callable, Generator

    from .._worker.backend import How
    from .run import Run

    Reply: TypeAlias = Callable[[How, Any], object]

__all__ = ["LoopCall", "called"]


class LoopCall:
    """One call of a worker to the loop.

    Attributes:
        run: Whose.
        fn, args, context: What is called, with what, and with which context variables.
        cleanup: A stop neither refuses nor ends it.
        phase: "running"; "cancelled": its task was cancelled, and somebody still waits; "left": nobody does.
        due_at: When it goes on to the next phase, or is given up in the last one; on the loop's clock.
        over: Its task has ended, or was given up.
    """

    __slots__ = ("args", "cleanup", "context", "due_at", "fn", "over", "phase", "reply", "run", "task")

    def __init__(
        self,
        run: Run,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        context: contextvars.Context,
        cleanup: bool,
        reply: Reply,
    ) -> None:
        self.run = run
        self.fn = fn
        self.args = args
        self.context = context
        self.cleanup = cleanup
        self.reply: Reply | None = reply
        self.task: asyncio.Task[Any] | None = None
        self.phase: Literal["running", "cancelled", "left"] = "running"
        self.due_at = math.inf
        self.over = False

    def answer(self, how: How, what: Any = None) -> None:
        """Answers the worker that waits; the first answer counts."""
        if self.reply is not None:
            self.reply(how, what)
            self.reply = None  # only now: an interrupt that struck before has it answered again

    def stopped(self) -> None:
        """Answers that its task was cancelled: by a stop of its worker, or by somebody else."""
        if self.run.asked is not None and self.phase != "running":
            self.answer("stopped")
        else:
            self.answer("error", CancelledError(f"worker {self.run.name!r}: its call of {self.name}() was cancelled"))

    @property
    def name(self) -> str:
        return qualname(self.fn)

    def __repr__(self) -> str:
        return f"<call of {self.run.name!r} to the loop: {self.name}, {'over' if self.over else self.phase}>"


async def called(fn: Callable[..., Any], args: tuple[Any, ...], later: bool) -> Any:
    """Calls the function, and awaits what it returns if that can be; `later`: in the loop's next turn."""
    if later:  # what is called may have its own run stopped, or the inbox read: the call must have its task by then
        await _next_turn()
    result = fn(*args)
    if inspect.isasyncgen(result):
        raise TypeError(f"call(fn={qualname(fn)}): is an async generator function; give call() what iterates over it")
    return await result if inspect.isawaitable(result) else result


@types.coroutine
def _next_turn() -> Generator[None, None, None]:
    """Gives way to the event loop once."""
    yield
