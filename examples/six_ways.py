"""The six ways to end a thread in Python, each on the ladder: Ask -> Inject -> Terminate -> abandoned.

    python examples/six_ways.py

It prints one line for each and ends by itself after a second, although one thread is still blocked.

The exception ends waits, too (`Event`, `Queue`, `Future`), and from Python 3.15 on sleeps and reads; not every C call.
The sixth, `terminate()`, can end only a process. So that worker runs in a process, in C code that nothing weaker stops.
"""

import asyncio
import logging
import sys
from queue import SimpleQueue

import structlog

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, Terminate, WorkerContext


def flag(ctx: WorkerContext) -> None:
    while not ctx.stop.is_set():
        pass


def event(ctx: WorkerContext) -> None:
    ctx.stop.wait()


def daemon_thread(_ctx: WorkerContext) -> None:
    SimpleQueue().get()  # nothing interrupts it, but it does not delay the exit either


def sys_exit(_ctx: WorkerContext) -> None:
    sys.exit()  # ends only this worker


def exception_by_ctypes(_ctx: WorkerContext) -> None:
    while True:
        pass


def terminate(_ctx: WorkerContext) -> None:
    sum(range(10**13))  # holds the GIL of its process; in a thread it would block the whole program


async def main() -> None:
    ways = (flag, event, daemon_thread, sys_exit, exception_by_ctypes)
    async with Supervisor("six", policy=EscalationPolicy(Ask(0.5), Inject(0.5), Terminate(2))) as sup:
        workers = [await sup.start(way, name=way.__name__) for way in ways]
        workers.append(await sup.start(terminate, name="terminate", kind="process"))
        await workers[ways.index(sys_exit)].wait()  # the one that ends before the shutdown
    for worker in workers:
        outcome = await worker.wait()
        print(f"{outcome.worker:<20} {outcome.ended:<10} {f'after {outcome.step}' if outcome.step else 'by itself'}")


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # the lines are enough
    asyncio.run(main())
