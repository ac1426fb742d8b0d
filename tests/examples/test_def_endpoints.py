"""The recipe for `def` endpoints in docs/howto/fastapi.md, in real FastAPI applications under uvicorn."""

from __future__ import annotations  # so that FastAPI has to resolve the annotations of what the recipe has wrapped

import asyncio
import json
import re
import threading
import types
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGINT, SIGTERM
from subprocess import TimeoutExpired
from typing import Annotated
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import uvicorn
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, HTTPException, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from supervisor import Supervisor, SupervisorError, WorkerTimeout, current_context
from tests.examples.servers import LIMIT, started

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "fastapi.md"
(RECIPE,) = (
    block
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    if "APIRoute" in block
)

recipe = types.ModuleType("recipe")
exec(RECIPE, recipe.__dict__)
supervised, SupervisedRoute = recipe.supervised, recipe.SupervisedRoute


@asynccontextmanager
async def lifespan(_app):
    async with Supervisor("web", shutdown_timeout=2) as sup:
        yield {"sup": sup}


def application(route_class=SupervisedRoute):
    app = FastAPI(lifespan=lifespan)
    if route_class is not None:
        app.router.route_class = route_class
    return app


@asynccontextmanager
async def serving(app, loop="asyncio"):
    """Serves the application by a real server; gives a function that asks it, and returns status and body."""
    config = uvicorn.Config(app, port=0, loop=loop, log_level="critical", timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.001)
    port = server.servers[0].sockets[0].getsockname()[1]

    def ask(path, **options):
        try:
            with urlopen(Request(f"http://127.0.0.1:{port}{path}", **options), timeout=LIMIT) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    async with Supervisor("client") as client:
        yield lambda path, **options: client.run(lambda: ask(path, **options))
    server.should_exit = True
    await task


def where():
    """Who runs this code: a worker by its name, or a thread by its own."""
    try:
        return current_context().name
    except LookupError:
        return threading.current_thread().name


async def test_a_def_endpoint_is_a_worker_by_its_own_name():
    app = application()

    @app.get("/")
    def endpoint():
        return where()

    async with serving(app) as ask:
        assert await ask("/") == (200, "test_a_def_endpoint_is_a_worker_by_its_own_name.<locals>.endpoint-1")


async def test_without_the_recipe_it_is_not():
    app = application(None)

    @app.get("/")
    def endpoint():
        return where()

    async with serving(app) as ask:
        assert await ask("/") == (200, "AnyIO worker thread")


class Order(BaseModel):
    item: str
    count: int = 1


def agent(user_agent: Annotated[str, Header()]):
    return user_agent


def add_endpoints(app):
    @app.post("/order/{shop}", response_model=Order, tags=["orders"], status_code=201)
    def order(shop: int, order: Order, user: Annotated[str, Depends(agent)], note: str = "none") -> Order:
        """Takes an order."""
        return Order(item=f"{order.item} {shop} {user} {note}", count=order.count)


async def test_path_query_body_headers_and_dependencies_reach_it_and_are_validated():
    app = application()
    add_endpoints(app)
    json_body = {
        "data": b'{"item": "tea", "count": 2}',
        "headers": {"Content-Type": "application/json", "User-Agent": "me"},
    }
    async with serving(app) as ask:
        assert await ask("/order/3?note=hot", **json_body) == (201, {"item": "tea 3 me hot", "count": 2})
        status, body = await ask("/order/x", **json_body)
        assert (status, body["detail"][0]["loc"]) == (422, ["path", "shop"])


def test_the_schema_is_as_it_was():
    apps = application(), application(None)
    for app in apps:
        add_endpoints(app)
    assert apps[0].openapi() == apps[1].openapi()


async def test_what_it_raises_is_handled_as_ever_and_its_timeout_stops_it(monkeypatch):
    app = application()
    ended = threading.Event()

    @app.get("/missing")
    def missing():
        raise HTTPException(404, "no such thing")

    @app.get("/slow")
    def slow():
        try:
            current_context().sleep(LIMIT)
        finally:
            ended.set()

    @app.exception_handler(SupervisorError)
    async def unavailable(_request, error):
        return JSONResponse(type(error).__name__, 504 if isinstance(error, WorkerTimeout) else 503)

    async with serving(app) as ask:
        assert await ask("/missing") == (404, {"detail": "no such thing"})
        monkeypatch.setattr(recipe, "TIMEOUT", 1)  # its thread is there
        assert await ask("/slow") == (504, "WorkerTimeout")
        assert ended.is_set()


async def test_a_router_has_it_for_its_part_alone():
    app, router = application(None), APIRouter(route_class=SupervisedRoute, prefix="/part")

    @router.get("/")
    def inside():
        return where()

    @app.get("/")
    def outside():
        return where()

    app.include_router(router)
    async with serving(app) as ask:
        assert (await ask("/part/"))[1].endswith("inside-1")
        assert await ask("/") == (200, "AnyIO worker thread")


@supervised
def dependency(item: str = "tea"):
    return f"{item} by {where()}"


async def test_a_supervised_dependency_has_its_parameters_and_can_be_overridden():
    app = application()

    @app.get("/")
    def endpoint(got: Annotated[str, Depends(dependency)]):
        return got

    async with serving(app) as ask:
        assert await ask("/?item=milk") == (200, "milk by dependency-1")
        app.dependency_overrides[dependency] = lambda: "other"
        assert await ask("/") == (200, "other")


async def test_a_supervised_dependency_serves_a_websocket_too():
    app, sent = application(), []

    @app.websocket("/")
    async def endpoint(socket: WebSocket, got: Annotated[str, Depends(dependency)]):
        await socket.accept()
        await socket.send_text(got)
        await socket.close()

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    async with Supervisor() as sup:
        scope = {"type": "websocket", "path": "/", "query_string": b"item=milk", "headers": [], "state": {"sup": sup}}
        await app(scope, receive, send)
    assert [message["text"] for message in sent if "text" in message] == ["milk by dependency-1"]


class Callable:
    def __call__(self):
        return where()

    def method(self):
        return where()


def opened():
    yield where()


async def test_all_else_works_as_ever():
    app = application()

    @app.get("/async")
    async def asynchronous(got: Annotated[str, Depends(opened)]):
        return [where(), got]

    app.get("/object")(Callable())
    app.get("/method")(Callable().method)
    async with serving(app) as ask:
        assert await ask("/async") == (200, ["MainThread", "AnyIO worker thread"])
        assert await ask("/object") == (200, "AnyIO worker thread")
        assert await ask("/method") == (200, "Callable.method-1")


async def test_a_background_task_goes_through_run():
    app, done = application(), []

    @app.get("/")
    async def endpoint(tasks: BackgroundTasks, request: HTTPConnection):
        tasks.add_task(request.state.sup.run, lambda: done.append(where()), timeout=LIMIT)
        return "accepted"

    async with serving(app) as ask:
        assert await ask("/") == (200, "accepted")
        while not done:
            await asyncio.sleep(0.001)
    assert done[0].endswith("<lambda>-1")


STUCK = """
import os, socket
from supervisor import Ask, EscalationPolicy

silent, _ = socket.socketpair()

@app.get("/stuck")
def stuck():
    print("stuck", flush=True)
    silent.recv(1)  # in C, for ever

@asynccontextmanager
async def lifespan(_app):
    async with Supervisor("web", policy=EscalationPolicy(Ask(0.3)), shutdown_timeout=2) as sup:
        yield {"sup": sup}
    print("stopped:", sup.report, flush=True)

app.router.lifespan_context = lifespan
uvicorn.run(
    app,
    port=int(os.environ["PORT"]),
    loop=os.environ["LOOP"],
    log_level="critical",
    timeout_graceful_shutdown=1,
)
"""

AS_FASTAPI_DOES = RECIPE.replace("app.router.route_class = ", "_ = ")


def served(recipe):
    code = recipe.replace('if __name__ == "__main__":', "if False:") + STUCK
    return "-c", code


@pytest.mark.parametrize(("loop", "number", "status"), [("asyncio", SIGTERM, -SIGTERM), ("uvloop", SIGINT, 0)])
def test_a_stuck_def_endpoint_does_not_keep_the_server_from_ending(loop, number, status):
    with started(*served(RECIPE), loop=loop) as server:
        stick(server)
        server.send(number)
        assert server.end() == status
        assert server.has_line("^stopped: .* 1 abandoned$"), server.output


def test_without_the_recipe_it_does():
    """After SIGTERM uvicorn raises that signal again, which kills the process; so here it is Ctrl-C."""
    with started(*served(AS_FASTAPI_DOES), loop="uvloop") as server:
        stick(server)
        server.send(SIGINT)
        server.until_written("^stopped: ")
        with pytest.raises(TimeoutExpired):
            server.process.wait(1)


def stick(server):
    """Has a request get stuck."""

    def asked():
        try:
            requests.append(server.request("/stuck"))
        except ConnectionRefusedError:
            return False
        return True

    requests = []
    server.until(asked)
    server.until_written("^stuck$")
    requests[0].close()
