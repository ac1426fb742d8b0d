"""The health probes of the examples, over real servers."""

from __future__ import annotations

import json
from contextlib import contextmanager
from signal import SIGTERM
from typing import TYPE_CHECKING

import pytest

from tests.examples.servers import PATIENT, started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.examples.servers import Server

PREPARE = """
import asyncio, threading
from supervisor import Restart, Supervisor

LADDERS["sleeper"] = EscalationPolicy(Ask(6), Inject(0.1))  # meanwhile the supervisor shuts down

opened, tasks, sups = threading.Event(), [], []
enter = Supervisor.__aenter__

async def entering(sup):
    sups.append(sup)
    return await enter(sup)

Supervisor.__aenter__ = entering

def connect(ctx):
    opened.wait()
    ctx.ready()
    ctx.stop.wait()

def fail(ctx):
    raise ValueError("no")

async def connects():
    tasks.append(asyncio.create_task(sups[0].start(connect, name="db", ready_timeout=30)))

async def opens():
    opened.set()

async def fails():
    await sups[0].start(fail, name="reader", restart=Restart("failure", max_restarts=0))

async def closes():
    sups[0].request_shutdown("enough")

actions = {"connects": connects, "opens": opens, "fails": fails, "closes": closes}
"""
"""Things that happen to the supervisor of an example, each at a request."""

FASTAPI = """
import fastapi_app, uvicorn

@fastapi_app.app.get("/do/{action}")
async def do(action: str) -> None:
    await actions[action]()

uvicorn.run(fastapi_app.app, port=int(os.environ["PORT"]), timeout_graceful_shutdown=3)
"""

AIOHTTP = """
import aiohttp_app
from aiohttp import web

async def do(request):
    await actions[request.match_info["action"]]()
    return web.json_response()

aiohttp_app.app.add_routes([web.get("/do/{action}", do)])
web.run_app(aiohttp_app.app, host="127.0.0.1", port=int(os.environ["PORT"]), shutdown_timeout=1.5)
"""


@contextmanager
def serving(example: str) -> Iterator[Server]:
    with started("-c", PATIENT + PREPARE + example) as server:
        server.until(lambda: len(server.workers()) == 3)
        yield server


def health(server: Server, path: str) -> tuple[int, list[str]]:
    status, body = server.get(path)
    return status, json.loads(body)["reasons"]


@pytest.mark.parametrize("example", [FASTAPI, AIOHTTP], ids=["fastapi", "aiohttp"])
def test_probes_are_answered_as_the_supervisor_is(example: str) -> None:
    with serving(example) as server:
        assert health(server, "/ready") == health(server, "/live") == (200, [])

        server.get("/do/connects")
        server.until(lambda: health(server, "/ready") == (503, ["not ready: 'db'"]))
        assert health(server, "/live")[0] == 200
        server.get("/do/opens")
        server.until(lambda: health(server, "/ready") == (200, []))

        server.get("/do/fails")
        given_up = "more than max_exhausted=0 were given up: 'reader'"
        server.until(lambda: health(server, "/live") == (503, [given_up]))
        assert health(server, "/ready") == (503, [given_up])

        server.get("/do/closes")
        assert health(server, "/ready") == (503, [given_up, "is shutting down"])
        server.send(SIGTERM)
        server.end()


@pytest.mark.parametrize("example", [FASTAPI, AIOHTTP], ids=["fastapi", "aiohttp"])
def test_a_service_that_shuts_down_is_live_and_not_ready(example: str) -> None:
    with serving(example) as server:
        server.get("/do/closes")
        assert health(server, "/ready") == (503, ["is shutting down"])
        assert health(server, "/live")[0] == 200
        server.until(lambda: health(server, "/ready") == (503, ["has shut down"]))
        assert health(server, "/live")[0] == 200
        server.send(SIGTERM)
        server.end()
