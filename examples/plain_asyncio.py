"""A service on plain asyncio: it runs until a signal, and the supervisor with it.

    python examples/plain_asyncio.py

Stop it with Ctrl-C or SIGTERM. A second later the report shows the poller as stopped, the spinner as injected and the
sleeper as abandoned, and the process ends.
"""

import asyncio
from queue import SimpleQueue

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerContext


def poll(ctx: WorkerContext) -> None:
    while not ctx.stop.wait(1):
        pass  # do the work of one round here


def spin(_ctx: WorkerContext) -> None:
    while True:
        pass


def sleep(_ctx: WorkerContext) -> None:
    SimpleQueue().get()  # a C call that never returns, as in a library that hangs


async def main() -> None:
    async with Supervisor("plain", policy=EscalationPolicy(Ask(0.5), Inject(0.5))) as sup:
        await sup.start(poll, name="poller")
        await sup.start(spin, name="spinner")
        await sup.start(sleep, name="sleeper")
        print("running; stop it with Ctrl-C", flush=True)
        await sup.wait_for_signal()
    print(sup.report)


if __name__ == "__main__":
    asyncio.run(main())
