"""A Litestar service under uvicorn: the supervisor lives as long as the app, in its lifespan.

    python examples/litestar_app.py      # on PORT=8000
    curl localhost:8000/nap/1            # a blocking call, on a thread of the pool
    curl localhost:8000/workers          # which workers are running

Stop it with Ctrl-C or SIGTERM: uvicorn waits for the requests in flight, then ends the lifespan. A second later the
report shows the poller as stopped, the spinner as injected and the sleeper as abandoned, and the process ends.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from queue import SimpleQueue

import uvicorn
from litestar import Litestar, get
from litestar.datastructures import State

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerContext


def poll(ctx: WorkerContext) -> None:
    while not ctx.stop.wait(1):
        pass  # do the work of one round here


def spin(_ctx: WorkerContext) -> None:
    while True:
        pass


def sleep(_ctx: WorkerContext) -> None:
    SimpleQueue().get()  # a C call that never returns, as in a library that hangs


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    async with Supervisor("litestar", policy=EscalationPolicy(Ask(0.5), Inject(0.5))) as sup:
        await sup.start(poll, name="poller")
        await sup.start(spin, name="spinner")
        await sup.start(sleep, name="sleeper")
        app.state.sup = sup
        yield
    print(sup.report, flush=True)  # uvicorn ends by raising SIGTERM again, which does not flush stdout


@get("/nap/{seconds:float}")
async def nap(state: State, seconds: float) -> None:
    sup: Supervisor = state.sup
    await sup.run(time.sleep, seconds, timeout=60)


@get("/workers")
async def workers(state: State) -> dict[str, str]:
    sup: Supervisor = state.sup
    return {worker.name: worker.state for worker in sup.workers()}


app = Litestar([nap, workers], lifespan=[lifespan])

if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(os.environ.get("PORT", "8000")),
        loop=os.environ.get("LOOP", "auto"),
        timeout_graceful_shutdown=3,  # seconds; otherwise it waits for every request, and the workers keep running
    )
