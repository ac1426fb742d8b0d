"""A FastAPI service with the page of its supervisor, which asks for a password and has buttons.

    PASSWORD=secret python examples/dashboard_app.py    # on PORT=8000; without a PASSWORD it makes one, and prints it

Open http://localhost:8000/supervisor/ in a browser, as the user "admin": there are workers that obey, fail or hang,
and calls that come and go. Stop some of them, or shut down and see the ladders being climbed. Ctrl-C ends the service.
"""

import asyncio
import os
import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from queue import SimpleQueue

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.security import HTTPBasic

from supervisor import Ask, EscalationPolicy, Inject, Restart, Supervisor, SupervisorError, WorkerContext, dashboard

PASSWORD = os.environ.get("PASSWORD") or secrets.token_urlsafe()

sup = Supervisor("shop", policy=EscalationPolicy(Ask(3), Inject(3)), slow_after=5)
credentials = HTTPBasic()


async def is_admin(request: Request) -> bool:
    given = await credentials(request)  # raises HTTPException, with which a browser asks for the password
    if given is None or not secrets.compare_digest(given.password.encode(), PASSWORD.encode()):
        raise HTTPException(401, "Wrong password.", {"WWW-Authenticate": "Basic"})
    return given.username == "admin"


def poll(ctx: WorkerContext) -> None:
    while not ctx.stop.wait(1):
        pass  # do the work of one round here


def fail_now_and_then(ctx: WorkerContext) -> None:
    ctx.sleep(random.uniform(5, 30))
    raise ConnectionError("the database is not there")


def spin(_ctx: WorkerContext) -> None:
    while True:
        time.sleep(0.01)  # never looks whether it should stop


def hang(_ctx: WorkerContext) -> None:
    SimpleQueue().get()  # a C call that never returns, as in a library that hangs


async def make_calls() -> None:
    with suppress(SupervisorError):  # it shuts down
        while True:
            await sup.run(time.sleep, random.uniform(0.1, 3), name="order")
            await asyncio.sleep(0.5)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with sup:
        feeds = sup.group("feeds", strategy="one_for_all")
        for number in range(3):
            await feeds.start(poll, name=f"reader-{number}")
        await sup.start(fail_now_and_then, name="importer", restart=Restart("failure", max_restarts=100))
        await sup.start(spin, name="spinner")
        await sup.start(hang, name="sleeper")
        calls = asyncio.create_task(make_calls())
        yield
        calls.cancel()
    print(sup.report, flush=True)


app = FastAPI(lifespan=lifespan)
app.mount("/supervisor", dashboard.app(sup, actions=True, authorize=is_admin))


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    if "PASSWORD" not in os.environ:
        print(f"http://admin:{PASSWORD}@localhost:{port}/supervisor/", flush=True)
    uvicorn.run(app, port=port, timeout_graceful_shutdown=3)
