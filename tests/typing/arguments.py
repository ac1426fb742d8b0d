# pyright: reportUnnecessaryTypeIgnoreComment=true
"""Which functions and arguments type checkers let through, and which they refuse: never run.

Both refuse each line that has a comment to ignore that: an ignore that is not needed is an error.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar, assert_type

from supervisor import Supervisor, WorkerContext

T = TypeVar("T")


def measure(size: int, unit: str = "m", *, digits: int = 0) -> float:
    return round(size + len(unit), digits)


def total(*rows: int) -> int:
    return sum(rows)


def poll(ctx: WorkerContext, source: str, every: float = 1.0) -> None:
    ctx.stop.wait(every + len(source))


def poll_all(ctx: WorkerContext, *sources: str) -> None:
    ctx.stop.wait(len(sources))


def same(value: T) -> T:
    return value


def anything(*args: Any, **kwargs: Any) -> int:
    return len(args) + len(kwargs)


async def fetch(source: str, tries: int = 1) -> bytes:
    return source.encode() * tries


class Store:
    def __init__(self, path: str, size: int = 0) -> None:
        self.path, self.size = path, size

    def __call__(self, row: int) -> str:
        return f"{self.path} {row}"

    def load(self, row: int, default: int = 0) -> int:
        return row or default

    def serve(self, ctx: WorkerContext, port: int) -> None:
        ctx.stop.wait(port)


async def of_run(sup: Supervisor, store: Store, loader: Callable[..., int]) -> None:
    assert_type(await sup.run(measure, 1), float)
    assert_type(await sup.run(measure, 1, "x", timeout=1, within=2, kind="process", name="m"), float)
    assert_type(await sup.run(partial(measure, digits=2), 1), float)
    assert_type(await sup.run(total), int)
    assert_type(await sup.run(total, 1, 2, 3), int)
    assert_type(await sup.run(store.load, 1), int)
    assert_type(await sup.run(store, 1), str)
    assert_type(await sup.run(Store, "path"), Store)
    assert_type(await sup.run(same, 5), int)
    assert_type(await sup.run(int, "5"), int)
    assert_type(await sup.run(loader, 1, "x"), int)
    assert_type(await sup.run(anything, 1, "x"), int)
    assert_type(await sup.run(lambda: 5), int)
    assert_type(await sup.run(divmod, 17, 5), tuple[int, int])
    await sup.run(time.sleep, 1)
    await sup.run(sum, [1, 2])
    await sup.run(print, "a", 1)
    await sup.group("group").run(measure, 1)

    await sup.run(measure)  # type: ignore[arg-type]
    await sup.run(measure, "1")  # type: ignore[arg-type]
    await sup.run(measure, 1, 2)  # type: ignore[arg-type]
    await sup.run(measure, 1, "x", 3)  # type: ignore[arg-type]
    await sup.run(measure, 1, digits=2)  # type: ignore[arg-type]
    await sup.run(total, "1")  # type: ignore[arg-type]
    await sup.run(store.load)  # type: ignore[arg-type]
    await sup.run(store)  # type: ignore[arg-type]
    await sup.run(Store)  # type: ignore[arg-type]
    await sup.run(time.sleep, "1")  # type: ignore[arg-type]
    await sup.run(poll, "rows")  # type: ignore[arg-type]
    await sup.run(5)  # type: ignore[arg-type]
    await sup.run(measure, 1, within="1")  # type: ignore[arg-type]
    await sup.group("group").run(measure, "1")  # type: ignore[arg-type]


async def of_start(sup: Supervisor, store: Store, loader: Callable[..., object]) -> None:
    await sup.start(poll, "rows")
    await sup.start(poll, "rows", 0.5, name="poller", ready_timeout=1)
    await sup.start(poll_all)
    await sup.start(poll_all, "a", "b")
    await sup.start(partial(poll, every=0.1), "rows")
    await sup.start(partial(poll, source="rows"))
    await sup.start(store.serve, 80)
    await sup.start(loader, 1, "x")
    await sup.start(anything, 1, "x")
    await sup.start(lambda ctx: ctx.stop.wait())
    await sup.start(lambda ctx, port: ctx.stop.wait(port), 80)
    await sup.group("group").start(poll, "rows")

    await sup.start(poll)  # type: ignore[arg-type]
    await sup.start(poll, 1)  # type: ignore[arg-type]
    await sup.start(poll, "rows", "1")  # type: ignore[arg-type]
    await sup.start(poll, "rows", 1.0, 2)  # type: ignore[arg-type]
    await sup.start(poll, "rows", every=0.1)  # type: ignore[arg-type]
    await sup.start(poll_all, 1)  # type: ignore[arg-type]
    await sup.start(measure, 1)  # type: ignore[arg-type]
    await sup.start(store.load, 1)  # type: ignore[arg-type]
    await sup.start(store.serve)  # type: ignore[arg-type]
    await sup.group("group").start(poll, 1)  # type: ignore[arg-type]


async def of_executors(sup: Supervisor) -> None:
    executor, loop = sup.executor(), asyncio.get_running_loop()
    assert_type(executor.submit(measure, 1, "x", digits=2), Future[float])
    assert_type(list(executor.map(measure, [1, 2])), list[float])
    assert_type(await loop.run_in_executor(executor, measure, 1, "x"), float)

    executor.submit(measure, "1")  # type: ignore[arg-type]
    executor.submit(measure)  # type: ignore[call-arg]
    executor.submit(measure, 1, tries=2)  # type: ignore[call-arg]
    executor.submit(5)  # type: ignore[arg-type]
    await loop.run_in_executor(executor, measure, "1")  # type: ignore[arg-type]


def of_calls_to_the_loop(ctx: WorkerContext) -> None:
    assert_type(ctx.call(fetch, "source"), bytes)
    assert_type(ctx.call(fetch, "source", 2, cleanup=True), bytes)
    assert_type(ctx.call(partial(fetch, tries=2), "source"), bytes)
    assert_type(ctx.call(measure, 1), float)

    ctx.call(fetch)  # type: ignore[call-arg, arg-type]
    ctx.call(fetch, 1)  # type: ignore[arg-type]
    ctx.call(fetch, "source", "2")  # type: ignore[call-arg, arg-type]
    ctx.call(measure, "1")  # type: ignore[arg-type]


def rows(path: str, skip: int = 0) -> list[str]:
    return path.split(",")[skip:]


async def iterate(sup: Supervisor) -> None:
    sup.iterate(rows, "data.csv")
    sup.iterate(rows)  # type: ignore[arg-type]
    sup.iterate(rows, 5)  # type: ignore[arg-type]
    sup.iterate(measure, 5)  # type: ignore[arg-type]
    sup.iterate(rows, "data.csv", buffer="many")  # type: ignore[arg-type]
    sup.map(rows, ["data.csv"])
    sup.map(rows, [5])  # type: ignore[arg-type]
    sup.map(rows, 5)  # type: ignore[arg-type]
