"""The public interface as a type checker sees it: checked by mypy and pyright, never run."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, Literal, assert_type

from supervisor import (
    Ask,
    EscalationPolicy,
    Health,
    Inject,
    Iteration,
    Limits,
    NodeStatistics,
    Outcome,
    Pool,
    PoolStatistics,
    Restart,
    RestartLimitExceeded,
    ShutdownReport,
    Statistics,
    Supervisor,
    Transition,
    Worker,
    WorkerContext,
    WorkerOverLimit,
    WorkerTimeout,
    current_context,
)
from supervisor.config import Config, PoolLayer, load
from supervisor.metrics import register
from supervisor.testing import QUICK_LADDER, FakeRun, FakeWorkers, LeakCheck, VirtualTime


async def fetch(source: str) -> bytes:
    return source.encode()


def poll(ctx: WorkerContext, source: str, *, every: float = 1.0) -> int:
    while not ctx.stop.wait(every):
        ctx.check()
        with ctx.shield():
            pass
        with ctx.on_stop(lambda: None):
            ctx.sleep(0.5)
    ctx.ready()
    ctx.heartbeat()
    assert_type(ctx.call(fetch, source), bytes)
    assert_type(ctx.call(partial(fetch, source), cleanup=True), bytes)
    assert_type(ctx.call(len, source), int)
    assert_type(list(ctx.iterate(blobs(), buffer=5)), list[bytes])
    with ctx.iterate(blobs()) as each:
        assert_type(next(each), bytes)
        assert_type(each.close(), None)
    assert_type(ctx.attempt, int)
    assert_type(ctx.extend(1), float)
    assert_type(ctx.remaining(), float)
    assert_type(ctx.reason, str | None)
    assert_type(ctx.kind, Literal["thread", "process"])
    return len(source)


def parse(blob: bytes) -> dict[str, int]:
    assert_type(current_context(), WorkerContext)
    return {"bytes": len(blob)}


def rows(path: str, skip: int = 0) -> Iterator[list[str]]:
    yield path.split(",")[skip:]


async def blobs() -> AsyncIterator[bytes]:
    yield b""


async def iterations(sup: Supervisor) -> None:
    assert_type(sup.iterate(rows, "data.csv"), Iteration[list[str]])
    assert_type(sup.iterate(range, 5, kind="process", buffer=10, timeout=5, name="numbers"), Iteration[int])
    assert_type(sup.pool("lane", kind="thread").iterate(rows, "data.csv", 1), Iteration[list[str]])
    async for row in sup.iterate(rows, "data.csv"):
        assert_type(row, list[str])
    async with sup.iterate(rows, "data.csv") as items:
        assert_type(items, Iteration[list[str]])
        assert_type(await anext(items), list[str])
        assert_type(await items.aclose(), None)
    assert_type(sup.map(parse, [b"x"], limit=3, ordered=False), Iteration[dict[str, int]])
    assert_type(sup.map(parse, blobs(), pool="lane"), Iteration[dict[str, int]])
    assert_type(sup.pool("lane", kind="thread").map(parse, [b"x"]), Iteration[dict[str, int]])
    assert_type([found async for found in sup.map(parse, [b"x"])], list[dict[str, int]])


async def main() -> None:
    policy = EscalationPolicy(Ask(10), Inject(2, every=0.5))
    config = load("policy.toml", platform={"kubernetes": 30})
    assert_type(config, Config)
    assert_type(config.policy_for("poller"), EscalationPolicy | None)
    assert_type(config.restart_for("poller"), Restart | None)
    async with Supervisor("app", policy=policy, max_threads=4, config=config) as sup:
        assert_type(sup, Supervisor)
        worker = await sup.start(poll, "rows", name="poller")
        assert_type(worker, Worker)
        await sup.start(partial(poll, every=0.1), "rows")
        again = Restart("failure", max_restarts=5, within=60, backoff=1, never_on=ValueError)
        assert_type(again.when, Literal["never", "failure", "always"])
        assert_type(again.never_on, tuple[type[BaseException], ...])
        assert_type(again.delay(0, chance=0.5), float)
        await sup.start(poll, "rows", restart=again, heartbeat=10, ready_timeout=5.0, after=("poller",))
        await sup.start(poll, "rows", kind="process", restart=None, heartbeat=None, after=["poller"])
        assert_type(worker.restarts, int)
        assert_type(worker.attempt, int)
        assert_type(worker.last_outcome, Outcome | None)
        try:
            await worker.restart()
            await worker.ready()
        except RestartLimitExceeded as error:
            assert_type(error.restarts, int)
            assert_type(error.within, float)
        assert_type(await sup.run(parse, b"x", timeout=10), dict[str, int])
        assert_type(await sup.run(lambda: 5), int)
        assert_type(await worker.stop("enough"), Outcome)
        try:
            await sup.run(parse, b"x", timeout=0.1)
        except WorkerTimeout as error:
            assert_type(error.outcome, Outcome)
        try:
            await sup.run(parse, b"x", kind="process", limits=Limits(rss=1 << 30, cpu_seconds=5))
        except WorkerOverLimit as error:
            assert_type(error.limit, Literal["rss", "cpu_seconds"] | None)
            assert_type(error.outcome.used, float | None)
        await sup.start(poll, "rows", kind="process", limits=Limits(cpu_seconds=0.5))
        executor = sup.executor()
        assert_type(executor, Executor)
        assert_type(sup.install_as_default_executor(), None)
        assert_type(sup.install_as_anyio_threads(), None)
        assert_type(executor.submit(parse, b"x"), Future[dict[str, int]])
        assert_type(await asyncio.get_running_loop().run_in_executor(executor, parse, b"x"), dict[str, int])
        async for transition in sup.transitions(buffer=10):
            assert_type(transition, Transition)
        assert_type(sup.statistics(), Statistics)
        lane = sup.pool(
            "lane", kind="process", size=2, max_queued=10, policy=policy, limits=Limits(rss=1 << 30), warm=1
        )
        assert_type(lane, Pool)
        assert_type(await lane.run(parse, b"x", timeout=10, name="one"), dict[str, int])
        assert_type(await sup.run(parse, b"x", pool=lane), dict[str, int])
        assert_type(await sup.run(parse, b"x", pool="lane", kind="process"), dict[str, int])
        assert_type(lane.executor(), Executor)
        assert_type(sup.executor(pool=lane), Executor)
        assert_type(lane.size, int)
        assert_type(lane.kind, Literal["thread", "process"])
        assert_type(await lane.ready(), None)
        assert_type(lane.resize(3), None)
        assert_type(lane.statistics(), PoolStatistics)
        assert_type(sup.statistics().pools, Mapping[str, PoolStatistics])
        assert_type(sup.statistics().nodes, tuple[NodeStatistics, ...])
        assert_type(config.pool("lane"), PoolLayer)
        assert_type(worker.pool, str | None)
        assert_type(sup.health(max_abandoned=2, max_exhausted=1), Health)
        assert_type(sup.group("feeds").health().to_dict(), dict[str, Any])
        assert_type(register(sup, buckets=[1, 2.5]), None)
        assert_type(await sup.wait_for_signal(signal.SIGTERM), signal.Signals | None)
        assert_type(sup.workers(), tuple[Worker, ...])
        assert_type(sup.stacks(), dict[str, str])
        assert_type(await sup.shutdown(timeout=5), ShutdownReport)
    assert_type(sup.report, ShutdownReport | None)


async def of_the_tests(sup: Supervisor) -> None:
    with VirtualTime(patience=0) as time, FakeWorkers() as fakes, LeakCheck(ignore=["grpc-*"]) as check:
        fakes.script(parse, obeys="terminate", after=1, returns={})
        fakes.script("poller", obeys=None, raises=OSError())
        await time.advance(5)
        assert_type(time.now, float)
        assert_type(await fakes.next_run(), FakeRun)
        assert_type(check.left(), list[str])
    assert_type(QUICK_LADDER, EscalationPolicy)
