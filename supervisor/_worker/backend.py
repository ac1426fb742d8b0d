"""What a kind does for the context of one run: the port between a `WorkerContext` and the code that runs it.

For type checkers alone: worker processes import none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .._core.policy import Kind

__all__ = ["Answer", "ContextBackend", "How", "StopToken"]

How: TypeAlias = Literal["value", "error", "stopped"]
Answer: TypeAlias = tuple[How, Any]


class StopToken(Protocol):
    """What says whether a worker was asked to stop. Each check of the worker looks here, at a plain attribute."""

    @property
    def asked(self) -> object:
        """Not None once it was asked."""
        ...


class ContextBackend(Protocol):
    """What a kind does for the context of one run."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def attempt(self) -> int: ...
    @property
    def reason(self) -> str | None: ...

    def shield(self) -> AbstractContextManager[None]: ...
    def own_shield(self) -> AbstractContextManager[None]:
        """A shield where the calling thread is the worker's own, and nothing where it is not."""
        ...

    def ready(self) -> None: ...
    def heartbeat(self) -> None: ...
    def extend(self, seconds: float) -> float: ...
    def remaining(self) -> float: ...
    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], cleanup: bool) -> Answer:
        """Has the event loop call a function; returns what came of it."""
        ...

    def callback_failed(self, callback: Callable[[], object], error: BaseException) -> None: ...
