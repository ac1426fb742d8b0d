"""What a function returns that has run nothing yet: a coroutine, or a generator."""

from __future__ import annotations

import warnings
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

__all__ = ["UNRUN", "refused", "report"]

UNRUN: dict[type, str] = {
    CoroutineType: "a coroutine",
    GeneratorType: "a generator",
    AsyncGeneratorType: "an async generator",
}
"""The types of what has run nothing of its body, and will not unless somebody iterates over it, or awaits it."""


def refused(worker: str, value: Any) -> TypeError:
    """Returns the error of a worker that returned such a value, which nobody can use."""
    what = UNRUN[type(value)]
    if type(value) is CoroutineType:
        value.close()  # or the interpreter would say that nobody has awaited it
        todo = "await the coroutine function itself, and give the blocking function that it calls"
    else:
        todo = "give a function that iterates over it"
    return TypeError(f"worker {worker!r} returned {what} instead of running its body, which nobody runs now: {todo}")


def report(worker: str, value: Any) -> None:
    """Refuses a coroutine that a call returned; warns of a generator, which its caller may still iterate over."""
    if type(value) is CoroutineType:
        raise refused(worker, value)
    warnings.warn(
        f"worker {worker!r} returned {UNRUN[type(value)]}: its body has not run, and will run where you iterate over "
        "it, in the event loop's thread; have the function iterate over it, and return a list, or give it to iterate()",
        RuntimeWarning,
        stacklevel=3,
    )
