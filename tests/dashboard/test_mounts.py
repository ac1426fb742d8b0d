"""The page in each framework that can mount it, at a path of its own."""

import re

import pytest
from fastapi import FastAPI
from hypercorn.middleware import DispatcherMiddleware
from litestar import Litestar, asgi
from litestar import get as litestar_get
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from supervisor import Ask, EscalationPolicy, Supervisor, dashboard

from .visiting import confirmed, visitor

HERE = "http://service.test/ops/page/"


def in_starlette(page):
    return Starlette(routes=[Mount("/ops/page", page), Route("/other", lambda request: PlainTextResponse("other"))])


def in_fastapi(page):
    app = FastAPI()
    app.mount("/ops/page", page)
    app.get("/other")(lambda: "other")
    return app


def in_fastapi_behind_a_proxy(page):
    """A proxy takes "/proxy" away from the path, and the server, which knows of it, puts it before it again."""
    app = in_fastapi(page)

    async def serve(scope, receive, send):
        path = scope["path"].removeprefix("/proxy")
        await app({**scope, "root_path": "/proxy", "path": f"/proxy{path}"}, receive, send)

    return serve


def in_litestar(page):
    @litestar_get("/other", sync_to_thread=False)
    def other() -> str:
        return "other"

    return Litestar(
        [asgi("/ops/page", is_mount=True, copy_scope=True)(page), other], openapi_config=None, logging_config=None
    )


def in_quart(page):
    app = Quart(__name__)
    app.get("/other")(lambda: "other")
    return DispatcherMiddleware({"/ops/page": page, "": app})


FRAMEWORKS = [in_starlette, in_fastapi, in_fastapi_behind_a_proxy, in_litestar, in_quart]


@pytest.mark.parametrize("mounted", FRAMEWORKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_all_of_it_works_where_it_is_mounted(mounted):
    async with Supervisor("web", policy=EscalationPolicy(Ask(20))) as sup:
        worker = await sup.start(lambda ctx: ctx.stop.wait(), name="a poller & more")
        async with visitor(mounted(dashboard.app(sup, actions=True)), HERE) as client:
            page = await client.get("")
            assert page.status_code == 200
            links = set(re.findall(r'(?:href|src)="([^"]*)"', page.text))
            links = {link.replace("&amp;", "&") for link in links if not link.startswith("#")}
            assert "worker?name=a%20poller%20%26%20more" in links
            for link in links:
                assert (await client.get(link)).status_code == 200, link
            assert (await client.get("worker?name=nobody")).status_code == 404
            assert (await client.get("nothing")).status_code == 404
            assert (await client.get("http://service.test/other")).status_code == 200
            assert (await confirmed(client, "stop", "a poller & more")).status_code == 303
            assert (await worker.wait()).ended == "stopped"


@pytest.mark.parametrize("mounted", FRAMEWORKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_without_the_slash_it_leads_to_the_page_with_one(mounted):
    async with visitor(mounted(dashboard.app(Supervisor())), HERE) as client:
        moved = await client.get("http://service.test/ops/page", follow_redirects=True)
    assert moved.status_code == 200
    assert str(moved.url).endswith("/ops/page/")


@pytest.mark.parametrize("mounted", FRAMEWORKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_who_may_not_see_it_sees_nothing_of_it_anywhere(mounted):
    async with visitor(mounted(dashboard.app(Supervisor(), authorize=lambda request: False)), HERE) as client:
        for path in ("", "static/dashboard.css", "worker?name=x", "nothing"):
            assert (await client.get(path)).status_code == 403
        assert (await client.get("http://service.test/other")).status_code == 200
