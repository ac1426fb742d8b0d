"""A Quart service under Hypercorn: the supervisor lives as long as the app serves.

    python examples/quart_app.py         # on PORT=8000
    curl localhost:8000/nap/1            # a blocking call, on a thread of the pool
    curl localhost:8000/workers          # which workers are running

Stop it with Ctrl-C or SIGTERM: the supervisor receives the signal, Hypercorn waits for the requests in flight, then the
app stops serving. A second later the report shows the poller as stopped, the spinner as injected and the sleeper as
abandoned, and the process ends. From Python 3.12 on, Hypercorn waits for requests without limit, whatever its
`graceful_timeout` says. So the supervisor shuts down by itself three seconds after the signal, which ends their calls.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from queue import SimpleQueue

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerContext


def poll(ctx: WorkerContext) -> None:
    while not ctx.stop.wait(1):
        pass  # do the work of one round here


def spin(_ctx: WorkerContext) -> None:
    while True:
        pass


def sleep(_ctx: WorkerContext) -> None:
    SimpleQueue().get()  # a C call that never returns, as in a library that hangs


app = Quart(__name__)
sup = Supervisor("quart", policy=EscalationPolicy(Ask(0.5), Inject(0.5)))


@app.while_serving
async def supervised() -> AsyncGenerator[None, None]:
    async with sup:
        await sup.start(poll, name="poller")
        await sup.start(spin, name="spinner")
        await sup.start(sleep, name="sleeper")
        yield
    print(sup.report)


@app.get("/nap/<seconds>")
async def nap(seconds: str) -> dict[str, str]:
    await sup.run(time.sleep, float(seconds), timeout=60)
    return {}


@app.get("/workers")
async def workers() -> dict[str, str]:
    return {worker.name: worker.state for worker in sup.workers()}


async def signalled() -> None:
    """Returns when the service should end; from then on, the requests in flight have three seconds."""
    await sup.wait_for_signal()
    asyncio.get_running_loop().call_later(3, sup.request_shutdown)


async def main() -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{os.environ.get('PORT', '8000')}"]
    await serve(app, config, shutdown_trigger=signalled)


if __name__ == "__main__":
    asyncio.run(main())
