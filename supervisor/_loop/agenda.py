"""An agenda: commands in their order, where one may lead back here and an interrupt may strike at any line."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Agenda"]

T = TypeVar("T")


class Agenda(Generic[T]):
    """Commands that are carried out one after the other, each at least once. On the loop's thread.

    A state machine's next state and its commands belong together: either both are stored, or neither. Whoever feeds the
    machine therefore writes `agenda.todo += commands` and stores the state in the very next statement. The interpreter
    looks for signals after calls, and neither of the two is a call.

    Attributes:
        todo: What is still to be done. The first one may be under way.
    """

    __slots__ = ("_busy", "todo")

    def __init__(self) -> None:
        self.todo: deque[T] = deque()
        self._busy = False

    def work(self, call_soon: Callable[..., object], carry_out: Callable[..., object], *owner: Any) -> None:
        """Calls `carry_out(*owner, command)` for all that is to be done, with what an interrupt has left undone before.

        A command may lead here again. That call returns at once, and this one goes on with what it has added. A command
        is taken out only after it was carried out, so one that was interrupted is carried out again.

        Args:
            call_soon: The loop's. After a KeyboardInterrupt or SystemExit it is asked for the rest.
            carry_out: Carries out one command, and can do so twice.
            owner: Whose commands they are. It is passed on, rather than kept: the owner holds its agenda.

        Raises:
            BaseException: What a command raised. After an Exception the rest waits for the next call.
        """
        if self._busy:
            return  # the loop below, further down the stack, goes on with the rest
        try:
            self._busy = True
            while self.todo:
                carry_out(*owner, self.todo[0])
                self.todo.popleft()
        except (KeyboardInterrupt, SystemExit):
            call_soon(self.work, call_soon, carry_out, *owner)
            raise
        finally:
            self._busy = False

    def __repr__(self) -> str:
        return f"<Agenda: {list(self.todo)}{', at work' if self._busy else ''}>"
