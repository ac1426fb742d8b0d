"""A FastAPI service under uvicorn: the supervisor lives as long as the app, in its lifespan.

    python examples/fastapi_app.py       # on LOOP=asyncio or LOOP=uvloop, and on PORT=8000
    curl localhost:8000/nap/1            # a blocking call, on a thread of the pool
    curl localhost:8000/wait/1           # the same in a `def` endpoint
    curl localhost:8000/workers          # which workers are running
    open localhost:8000/supervisor/      # in a browser: all of it, as it is now
    curl localhost:8000/ready            # whether it accepts requests; and /live, whether it should keep running

Stop it with Ctrl-C or SIGTERM: uvicorn waits for the requests in flight, then ends the lifespan. A second later the
report shows the poller as stopped, the spinner as injected and the sleeper as abandoned, and the process ends.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from queue import SimpleQueue

import uvicorn
from fastapi import FastAPI, Request, Response

from supervisor import Ask, EscalationPolicy, Health, Inject, Supervisor, WorkerContext, dashboard


def poll(ctx: WorkerContext) -> None:
    while not ctx.stop.wait(1):
        pass  # do the work of one round here


def spin(_ctx: WorkerContext) -> None:
    while True:
        pass


def sleep(_ctx: WorkerContext) -> None:
    SimpleQueue().get()  # a C call that never returns, as in a library that hangs


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Supervisor]]:
    async with Supervisor("fastapi", policy=EscalationPolicy(Ask(0.5), Inject(0.5))) as sup:
        sup.install_as_anyio_threads()  # so `def` endpoints, background tasks and files are supervised, too
        await sup.start(poll, name="poller")
        await sup.start(spin, name="spinner")
        await sup.start(sleep, name="sleeper")
        app.mount("/supervisor", dashboard.app(sup))  # whoever reaches it sees all: `authorize` says who may
        yield {"sup": sup}
    print(sup.report, flush=True)  # uvicorn ends by raising SIGTERM again, which does not flush stdout


app = FastAPI(lifespan=lifespan)


@app.get("/nap/{seconds}")
async def nap(request: Request, seconds: float) -> None:
    sup: Supervisor = request.state.sup
    await sup.run(time.sleep, seconds, within=60)


@app.get("/wait/{seconds}")
def wait(seconds: float) -> None:
    time.sleep(seconds)


@app.get("/workers")
async def workers(request: Request) -> dict[str, str]:
    sup: Supervisor = request.state.sup
    return {worker.name: worker.state for worker in sup.workers()}


@app.get("/ready")
async def ready(request: Request, response: Response) -> dict[str, object]:
    health: Health = request.state.sup.health()
    response.status_code = 200 if health.ready else 503
    return health.to_dict()


@app.get("/live")
async def live(request: Request, response: Response) -> dict[str, object]:
    health: Health = request.state.sup.health()
    response.status_code = 200 if health.live else 503
    return health.to_dict()


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(os.environ.get("PORT", "8000")),
        loop=os.environ.get("LOOP", "auto"),
        timeout_graceful_shutdown=3,  # seconds; otherwise it waits for every request, and the workers keep running
    )
