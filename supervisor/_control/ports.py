"""What the control server asks of a supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .deeds import Deed

__all__ = ["Port"]


class Port(Protocol):
    """One supervisor, as the control server sees it. Of the server's thread, but for what it says otherwise."""

    write: bool
    """Whether what changes something is done."""

    @property
    def gone(self) -> str:
        """Why the supervisor cannot be used any more: its loop is closed, or nobody holds it; empty where it can."""
        ...

    def hello(self) -> dict[str, Any]:
        """Returns who it is."""
        ...

    def survey(self, *, matching: str, states: tuple[str, ...], first: int, limit: int) -> dict[str, Any]:
        """Returns what it has, as JSON-ready data."""
        ...

    def stacks(self, names: list[str]) -> dict[str, str]:
        """Returns where the workers of these names stand, as far as there are any."""
        ...

    def running(self, matching: str) -> Iterator[str]:
        """Gives the names of those that run."""
        ...

    def incidents(self) -> list[dict[str, Any]]:
        """Returns the last failures and stops, the newest last."""
        ...

    def report(self) -> dict[str, Any] | None:
        """Returns what the shutdown met; None where it has not ended."""
        ...

    def watch(self, hear: Callable[[Any], object], *, matching: str, calls: bool) -> Callable[[], object]:
        """Calls `hear` with all that happens, on the loop's thread; returns what ends that."""
        ...

    def event_of(self, heard: Any) -> dict[str, Any] | None:
        """Returns what was heard as JSON-ready data; None where it is of no interest."""
        ...

    def begin(self, deed: Deed) -> None:
        """Hands something to the loop, which concludes it.

        Raises:
            ControlError: It cannot be done.
        """
        ...

    def blocked_for(self) -> float | None:
        """Returns for how long the loop has not come to a turn; None where nobody knows."""
        ...

    def failed(self, error: BaseException) -> None:
        """Has the server's own end reported, which nobody wanted."""
        ...

    def closed(self) -> None:
        """Hears that the server has ended."""
        ...
