"""An aiohttp service: the supervisor lives as long as the app, in a cleanup context.

    python examples/aiohttp_app.py       # on PORT=8000
    curl localhost:8000/nap/1            # a blocking call, on a thread of the pool
    curl localhost:8000/workers          # which workers are running
    curl localhost:8000/ready            # whether it accepts requests; and /live, whether it should keep running

Stop it with Ctrl-C or SIGTERM: aiohttp waits for the requests in flight, then cleans up. A second later the
report shows the poller as stopped, the spinner as injected and the sleeper as abandoned, and the process ends.
"""

import os
import time
from collections.abc import AsyncIterator
from queue import SimpleQueue

from aiohttp import web

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerContext


def poll(ctx: WorkerContext) -> None:
    while not ctx.stop.wait(1):
        pass  # do the work of one round here


def spin(_ctx: WorkerContext) -> None:
    while True:
        pass


def sleep(_ctx: WorkerContext) -> None:
    SimpleQueue().get()  # a C call that never returns, as in a library that hangs


SUP = web.AppKey("SUP", Supervisor)


async def supervised(app: web.Application) -> AsyncIterator[None]:
    async with Supervisor("aiohttp", policy=EscalationPolicy(Ask(0.5), Inject(0.5))) as sup:
        await sup.start(poll, name="poller")
        await sup.start(spin, name="spinner")
        await sup.start(sleep, name="sleeper")
        app[SUP] = sup
        yield
    print(sup.report)


async def nap(request: web.Request) -> web.Response:
    await request.app[SUP].run(time.sleep, float(request.match_info["seconds"]), timeout=60)
    return web.json_response()


async def workers(request: web.Request) -> web.Response:
    return web.json_response({worker.name: worker.state for worker in request.app[SUP].workers()})


async def ready(request: web.Request) -> web.Response:
    health = request.app[SUP].health()
    return web.json_response(health.to_dict(), status=200 if health.ready else 503)


async def live(request: web.Request) -> web.Response:
    health = request.app[SUP].health()
    return web.json_response(health.to_dict(), status=200 if health.live else 503)


app = web.Application()
app.cleanup_ctx.append(supervised)
app.add_routes([web.get("/nap/{seconds}", nap), web.get("/workers", workers)])
app.add_routes([web.get("/ready", ready), web.get("/live", live)])

if __name__ == "__main__":
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(os.environ.get("PORT", "8000")),
        shutdown_timeout=1.5,  # seconds; a request that is still in flight after twice that time is cancelled
    )
