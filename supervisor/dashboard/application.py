"""The ASGI application: which page there is for a path, and what each response has."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from .._api.ports import integration_of
from .actions import ACTIONS, Actions
from .guard import HEADERS, OF_A_FORM, Tokens, form_of, is_allowed, refuse_other_sites
from .looks import Aside, Busy, Looks
from .record import Record
from .texts import cut, cut_stack, duration, key, link, moment, tail
from .views import Query, named, overview, worker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .._api.integration import Integration
    from .._api.supervisor import Supervisor
    from .guard import Authorize

__all__ = ["app"]

STATIC = {
    path.name: (path.read_bytes(), media)
    for path in sorted(Path(__file__).with_name("static").iterdir())
    for media in [{".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}.get(path.suffix)]
    if media is not None
}

LONGEST_REPORT = 1 << 20


def app(sup: Supervisor, *, actions: bool = False, authorize: Authorize | None = None) -> ASGIApp:
    """Returns an ASGI application that shows a supervisor; mount it at any path of your own. Any thread.

    It may be made before the supervisor is first used, and answers until after its shutdown, whose report it shows. It
    answers each request at once and keeps no connection, so an open page never holds up the end of a server. One page
    looks about every two seconds; nothing is done while nobody looks, but for keeping the last 10,000 changes of
    workers. It is served by an asyncio event loop, the supervisor's or that of another thread.

    Without `authorize`, **whoever reaches it reads all names, stacks and errors**, and with `actions=True` may stop the
    service. See the page on security.

    Args:
        sup: The supervisor; no group, which its supervisor shows.
        actions: Whether workers can be stopped and restarted, and the supervisor shut down. Without it there are no
            buttons, and nothing that they could call.
        authorize: Is called with each request, a `starlette.requests.Request`, before anything is done for it; may be a
            coroutine function. False: 403. It may raise `starlette.exceptions.HTTPException` for another answer, such
            as 401 with `WWW-Authenticate`. It runs on the event loop, and must not block.

    Raises:
        TypeError: An argument is wrong.
        ValueError: It is a group.

    Example:
        >>> from starlette.applications import Starlette
        >>> from starlette.routing import Mount
        >>> from supervisor import Supervisor
        >>> from supervisor import dashboard
        >>> sup = Supervisor("web")
        >>> service = Starlette(routes=[Mount("/supervisor", dashboard.app(sup))])
    """
    integration = integration_of(sup, "app(sup={!r})", no_group="is a group, which its supervisor shows: give that one")
    if not isinstance(actions, bool):
        raise TypeError(f"app(actions={actions!r}): must be True or False")
    if authorize is not None and not callable(authorize):
        raise TypeError(f"app(authorize={authorize!r}): must be a function of a request, or None")
    return Dashboard(sup, integration, actions=actions, authorize=authorize)


class Dashboard:
    """The application."""

    def __init__(
        self, sup: Supervisor, integration: Integration, *, actions: bool, authorize: Authorize | None
    ) -> None:
        self._integration = integration
        self._authorize = authorize
        self._actions = Actions(sup, integration) if actions else None
        self._tokens = Tokens()
        self._aside = Aside()
        self._record = Record()
        self._looks = Looks(integration, self._record)
        self._templates = _environment()
        _subscribe(integration, self._record)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
        else:
            response = await self._answer(Request(scope, receive))
            await response(scope, receive, partial(_send_guarded, send))

    async def _answer(self, request: Request) -> Response:
        try:
            if not await is_allowed(self._authorize, request):
                raise HTTPException(403, "You may not see this.")
            return await self._page(request)
        except HTTPException as error:
            return PlainTextResponse(f"{error.detail}\n", error.status_code, headers=dict(error.headers or {}))
        except Busy:
            return PlainTextResponse("Too many pages are being made.\n", 503, headers={"retry-after": "2"})

    async def _page(self, request: Request) -> Response:
        path = path_within(request.scope)
        if path.strip("/") == "":
            if not external_path(request.scope).endswith("/"):
                return _to_folder(request)
            return await self._get(request, self._overview)
        folder, _, name = path.strip("/").partition("/")
        if folder == "static" and name in STATIC:
            _only(request, "GET", "HEAD")
            return Response(STATIC[name][0], media_type=STATIC[name][1])
        match path.strip("/"):
            case "worker":
                return await self._get(request, self._worker)
            case "report.txt":
                return await self._get(request, self._report)
            case "confirm" if self._actions is not None:
                return await self._get(request, self._confirm)
            case action if self._actions is not None and action in ACTIONS:
                _only(request, "POST")
                return await self._act(request, self._actions, action)
            case _:
                raise HTTPException(404, "There is no such page.")

    async def _get(self, request: Request, page: Any) -> Response:
        _only(request, "GET", "HEAD")
        if self._integration.lost:
            raise HTTPException(503, "This process is a copy of the one that uses the supervisor: ask that one.")
        response: Response = await self._aside.call(partial(page, request))
        return response

    # -------------------------------------------------------------------------------- pages, beside the loop

    def _overview(self, request: Request) -> Response:
        view = overview(self._looks.look(), Query.of(request.query_params))
        return self._rendered("overview.html", request, view)

    def _worker(self, request: Request) -> Response:
        look, params = self._looks.look(), request.query_params
        name = params.get("name") or named(look, params.get("key", ""))
        view = worker(look, name)
        if view is None:
            raise HTTPException(404, "There is no worker of this name, and nothing is known of an earlier one.")
        if "live" not in params:
            stack = self._integration.stack(name)
            view["stack"], view["left_out"] = cut_stack(stack or "")
        return self._rendered("one.html", request, view)

    def _report(self, request: Request) -> Response:
        report = self._integration.report
        if report is None:
            raise HTTPException(404, "There is no report yet.")
        text = str(report)
        if len(text) > LONGEST_REPORT:
            text = f"{text[:LONGEST_REPORT]}\n… {len(text) - LONGEST_REPORT:,} more characters are left out\n"
        return PlainTextResponse(text)

    def _confirm(self, request: Request) -> Response:
        assert self._actions is not None
        action, name = (request.query_params.get(of, "") for of in ("do", "name"))
        if action not in ACTIONS:
            raise HTTPException(404, "There is no such page.")
        if action != "shutdown":
            self._actions.worker(name)
        cookie = self._tokens.cookie(request)
        view = {"survey": self._looks.look().survey, "action": action, "name": name}
        response = self._rendered("confirm.html", request, {**view, "token": self._tokens.token(cookie)})
        response.headers.update(OF_A_FORM)
        response.headers["set-cookie"] = self._tokens.set_cookie(cookie, request)
        return response

    def _rendered(self, template: str, request: Request, view: Mapping[str, object]) -> Response:
        params = request.query_params
        text = self._templates.get_template(template).render(
            view, live="live" in params, done=params.get("done", ""), actions=self._actions is not None
        )
        return Response(text, media_type="text/html")

    # -------------------------------------------------------------------------------- actions

    async def _act(self, request: Request, actions: Actions, action: str) -> Response:
        refuse_other_sites(request)
        form = await form_of(request)
        self._tokens.check(request, form)
        name = form.get("name", "")
        actions.begin(action, name, form.get("reason", ""))
        back = "./?" if action == "shutdown" else f"{link(name)}&"
        return Response(status_code=303, headers={"location": f"{back}done={action}"})


# ------------------------------------------------------------------------------------------------ paths


def path_within(scope: Scope) -> str:
    """Returns the path below the one at which the page is mounted.

    Frameworks differ: `path` has the path of the mount before it, or not, and `root_path` may begin with that of a
    proxy, which `path` lacks.
    """
    path: str = scope["path"]
    parts = scope.get("root_path", "").strip("/").split("/")
    for first in range(len(parts)):
        prefix = "/" + "/".join(parts[first:])
        if prefix != "/" and (path == prefix or path.startswith(f"{prefix}/")):
            return path[len(prefix) :]
    return path


def external_path(scope: Scope) -> str:
    """Returns the path that a browser has asked for; a framework may have added a slash to `path`, or taken it away."""
    raw: bytes | None = scope.get("raw_path")
    return (raw.decode("latin-1").partition("?")[0] if raw else quote(scope["path"])) or "/"


def _to_folder(request: Request) -> Response:
    """All links of the page are relative to a path that ends with a slash."""
    last = external_path(request.scope).rpartition("/")[2]
    query = request.url.query
    return Response(status_code=307, headers={"location": f"./{last}/{query and f'?{query}'}"})


def _only(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise HTTPException(405, "This is not how to ask for this page.", headers={"allow": ", ".join(methods)})


# ------------------------------------------------------------------------------------------------ ASGI


async def _send_guarded(send: Send, message: Message) -> None:
    """Sends a message with the headers that each response has."""
    if message["type"] == "http.response.start":
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
    await send(message)


async def _live(receive: Receive, send: Send) -> None:
    """Begins and ends with a server, where the page is not mounted but all that is served."""
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


# ------------------------------------------------------------------------------------------------ parts


def _subscribe(integration: Integration, record: Record) -> None:
    """Has a record kept, until the shutdown has ended."""
    if integration.report is None:
        record.until_the_end(partial(integration.unsubscribe, record.receive))
        integration.subscribe(record.receive, watch=False)


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(__name__.rpartition(".")[0]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"cut": cut, "duration": duration, "moment": moment, "key": key, "link": link, "tail": tail}
    return made
