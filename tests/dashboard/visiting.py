"""A browser without its screen: what a page has sent, and a visitor that sends its forms back."""

import asyncio
import re
from html import unescape
from urllib.parse import urlencode

import httpx

PLACE = "http://service.test/at/this/path/"


def visitor(app, place=PLACE, **options):
    """A client of an ASGI application, whose addresses are relative to the place where the page is."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, **options), base_url=place)


class At:
    """Mounts a page at a path, as each framework may: the path in `root_path`, and in `path` or not."""

    def __init__(self, app, root="/at/this/path", *, stripped=False):
        self._app = app
        self._root = root
        self._stripped = stripped

    async def __call__(self, scope, receive, send):
        path = scope["path"].removeprefix(self._root) if self._stripped else scope["path"]
        await self._app({**scope, "root_path": self._root, "path": path or "/"}, receive, send)


def fields(page):
    """The hidden fields of the form on a page."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text)
    return {name: unescape(value) for name, value in found}


async def confirmed(client, action, name="", *, reason="", headers=(), **changed):
    """Does what somebody does who chooses an action, and confirms it."""
    page = await client.get(f"confirm?{urlencode({'do': action, 'name': name})}")
    assert page.status_code == 200, page.text
    form = {**fields(page), "reason": reason, **changed}
    own = {"sec-fetch-site": "same-origin", "origin": "http://service.test"}
    return await client.post(action, data=form, headers={**own, **dict(headers)})


async def until(condition, limit=20):
    """Waits for what a page shows, by looking again."""
    async with asyncio.timeout(limit):
        while not (found := await condition()):
            await asyncio.sleep(0.05)
        return found
