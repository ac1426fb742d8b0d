"""What a kind does for the context of one run: the port between a `WorkerContext` and the code that runs it.

For type checkers alone: worker processes import none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from .._core.policy import Kind

__all__ = ["Answer", "ContextBackend", "How", "LoopIterator", "StopToken"]

T_co = TypeVar("T_co", covariant=True)

How: TypeAlias = Literal["value", "error", "stopped"]
Answer: TypeAlias = tuple[How, Any]


class StopToken(Protocol):
    """What says whether a worker was asked to stop. Each check of the worker looks here, at a plain attribute."""

    @property
    def asked(self) -> object:
        """Not None once it was asked."""
        ...


class LoopIterator(Protocol[T_co]):
    """An iterator over what an async one yields in the event loop; see `WorkerContext.iterate`."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> T_co: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def close(self) -> None:
        """Has the async iterator closed in the loop, and waits for that."""
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

    def iterate(self, items: AsyncIterable[Any], buffer: int) -> LoopIterator[Any]:
        """Has the event loop read an async iterator, so many items ahead."""
        ...

    def callback_failed(self, callback: Callable[[], object], error: BaseException) -> None: ...
