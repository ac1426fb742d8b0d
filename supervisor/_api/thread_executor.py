"""A pool of threads as a `concurrent.futures.ThreadPoolExecutor`, for libraries that ask what they were given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from .._run.names import runs_in_context
from . import dask_seam
from .executors import PoolExecutor

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._runtime.nodes import GroupNode
    from .._runtime.runtime import Runtime
    from .._runtime.scopes import PoolScope

__all__ = ["SupervisedThreadPoolExecutor"]


class SupervisedThreadPoolExecutor(PoolExecutor, ThreadPoolExecutor):
    """A ThreadPoolExecutor by its type and by its name, and a PoolExecutor in all that it does.

    A library that takes any Executor must know whether its calls share its memory: whether they get locks and
    callbacks, or what can be pickled. Temporal and asyncio ask for the type, Dask for the type's name.

    What it inherits never starts a thread; so `concurrent.futures`, which joins the threads of all such executors when
    the interpreter exits, has none of it to wait for.
    """

    def __init__(
        self,
        supervisor: str,
        pool: PoolScope | None,
        runtime: Callable[[], Runtime],
        max_workers: int,
        scope: GroupNode | None = None,
    ) -> None:
        ThreadPoolExecutor.__init__(self, max_workers, supervisor)
        PoolExecutor.__init__(self, supervisor, pool, runtime, max_workers, scope)

    def _adapted(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """As that of PoolExecutor; a call goes by the name of the function that runs in a context of contextvars."""
        if runs_in_context(fn):
            return super()._adapted(partial(fn, *args), ())
        if getattr(fn, "__module__", None) == dask_seam.SUBMITTER:
            return super()._adapted(dask_seam.Task(fn), args)
        return super()._adapted(fn, args)
