"""A Quart service under Hypercorn: the supervisor lives as long as the app serves.

    python examples/quart_app.py         # on PORT=8000
    curl localhost:8000/nap/1            # a blocking call, on a thread of the pool
    curl localhost:8000/workers          # who runs at present

Stop it with Ctrl-C or SIGTERM: the supervisor hears the signal, Hypercorn waits for the requests in flight, then the
app ends its serving. A second later the report names the poller as stopped, the spinner as injected and the sleeper as
abandoned, and the process ends. From Python 3.12 on Hypercorn waits for requests without end, whatever its
`graceful_timeout` says: so the supervisor shuts down by itself some seconds after the signal, which ends their calls.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerContext


def poll(ctx: WorkerContext) -> None:
    while not ctx.stop.wait(1):
        pass  # the work of one round


def spin(_ctx: WorkerContext) -> None:
    while True:
        pass


def sleep(_ctx: WorkerContext) -> None:
    time.sleep(3600)


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
    """Returns when the service is to end; the requests in flight have three seconds from then on."""
    await sup.wait_for_signal()
    asyncio.get_running_loop().call_later(3, sup.request_shutdown)


async def main() -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{os.environ.get('PORT', '8000')}"]
    await serve(app, config, shutdown_trigger=signalled)


if __name__ == "__main__":
    asyncio.run(main())
