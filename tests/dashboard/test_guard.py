"""Who may see the page, what can be done from it and by whom, and what no text of others can do to it."""

import asyncio
import threading

import httpx
import pytest
from starlette.exceptions import HTTPException

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, dashboard

from ..inside_shown import Integration
from .visiting import At, confirmed, fields, until, visitor

QUICK = EscalationPolicy(Ask(0.2), Inject(20))
PATIENT = EscalationPolicy(Ask(20))
EVERYTHING = ("", "worker?name=poller", "report.txt", "static/dashboard.js", "nothing", "stop")


def wait(ctx):
    ctx.stop.wait()


@pytest.fixture
async def sup():
    async with Supervisor("web", policy=PATIENT) as supervisor:
        await supervisor.start(wait, name="poller")
        yield supervisor


# ------------------------------------------------------------------------------------------------ headers


async def test_each_response_has_the_headers_that_confine_the_page(sup):
    async with visitor(At(dashboard.app(sup, actions=True))) as client:
        for path in EVERYTHING:
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            for part in ("frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'", "connect-src 'self'"):
                assert part in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["cache-control"] == "no-store"
            assert headers["referrer-policy"] == "no-referrer"


async def test_nothing_of_the_page_needs_what_the_policy_forbids(sup):
    async with visitor(At(dashboard.app(sup, actions=True))) as client:
        pages = [(await client.get(path)).text for path in ("", "worker?name=poller", "confirm?do=stop&name=poller")]
    for page in pages:
        assert "style=" not in page
        assert " on" not in page.replace(" on step", "").lower().split("<main")[0]
        assert page.count("<script") == page.count('<script src="static/dashboard.js" defer></script>') == 1


# ------------------------------------------------------------------------------------------------ who may see it


@pytest.mark.parametrize("answer", [False, True])
@pytest.mark.parametrize("waits", [False, True])
async def test_authorize_is_asked_about_each_request(sup, answer, waits):
    asked = []

    def authorize(request):
        asked.append(request.headers["x-user"])
        return answer

    async def authorize_later(request):
        await asyncio.sleep(0)
        return authorize(request)

    app = dashboard.app(sup, actions=True, authorize=authorize_later if waits else authorize)
    async with visitor(At(app)) as client:
        codes = {(await client.get(path, headers={"x-user": "ann"})).status_code for path in EVERYTHING}
        codes.add((await client.post("stop", headers={"x-user": "ann"})).status_code)
        assert (await client.get("http://service.test/at/this/path", headers={"x-user": "ann"})).status_code == (
            307 if answer else 403
        )
    assert asked == ["ann"] * (len(EVERYTHING) + 2)
    assert codes == ({200, 404, 405, 415} if answer else {403})


async def test_authorize_can_answer_otherwise(sup):
    def authorize(request):
        raise HTTPException(401, "who?", headers={"www-authenticate": "Basic"})

    async with visitor(At(dashboard.app(sup, authorize=authorize))) as client:
        answer = await client.get("")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Basic")
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("answer", [None, "ann", 1])
async def test_an_answer_that_is_no_bool_lets_nobody_in(sup, answer):
    async with visitor(At(dashboard.app(sup, authorize=lambda request: answer)), raise_app_exceptions=False) as client:
        assert (await client.get("")).status_code == 500
    async with visitor(At(dashboard.app(sup, authorize=lambda request: answer))) as client:
        with pytest.raises(TypeError, match="it must return True or False"):
            await client.get("")


# ------------------------------------------------------------------------------------------------ actions


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", ["stop", "restart", "shutdown", "confirm?do=stop&name=poller"])
async def test_without_actions_there_are_none(sup, method, path):
    async with visitor(At(dashboard.app(sup))) as client:
        form = {"name": "poller"}
        answer = await client.request(method, path, data=form, headers={"sec-fetch-site": "same-origin"})
        assert answer.status_code == 404
        pages = [(await client.get(where)).text for where in ("", "worker?name=poller")]
    assert not any("confirm" in page or 'method="post"' in page for page in pages)
    assert [worker.state for worker in sup.workers()] == ["running"]


async def test_a_worker_is_stopped_once_that_is_confirmed(sup):
    worker = sup.workers()[0]
    async with visitor(At(dashboard.app(sup, actions=True))) as client:
        assert "confirm?do=stop" in (await client.get("worker?name=poller")).text
        answer = await confirmed(client, "stop", "poller", reason="too  old\n\x1b[31m")
        assert answer.status_code == 303
        assert answer.headers["location"] == "worker?name=poller&done=stop"
        outcome = await worker.wait()
        page = (await client.get(answer.headers["location"])).text
    assert outcome.ended == "stopped"
    assert "dashboard: too old \\x1b[31m" in page


async def test_a_worker_is_restarted(sup):
    worker = sup.workers()[0]
    async with visitor(At(dashboard.app(sup, actions=True))) as client:
        assert (await confirmed(client, "restart", "poller")).status_code == 303

        async def restarted():
            return worker.restarts == 1

        await until(restarted)


async def test_a_call_is_stopped_and_cannot_be_restarted(sup):
    release = threading.Event()
    call = asyncio.ensure_future(sup.run(release.wait, name="call", policy=QUICK))
    await asyncio.sleep(0)
    async with visitor(At(dashboard.app(sup, actions=True))) as client:
        assert "do=restart" not in (await client.get("worker?name=call")).text
        assert (await confirmed(client, "restart", "call")).status_code == 409
        assert (await confirmed(client, "stop", "call")).status_code == 303
        assert isinstance((await asyncio.gather(call, return_exceptions=True))[0], Exception)


async def test_the_supervisor_is_shut_down(sup):
    async with visitor(At(dashboard.app(sup, actions=True))) as client:
        assert (await confirmed(client, "shutdown", reason="enough")).status_code == 303
        report = await sup.wait_closed()
        assert "Shut down, all of it clean" in (await client.get("")).text
    assert report.reason == "dashboard: enough"


async def test_what_is_not_there_cannot_be_stopped(sup):
    async with visitor(At(dashboard.app(sup, actions=True))) as client:
        assert (await client.get("confirm?do=stop&name=nobody")).status_code == 404
        assert (await client.get("confirm?do=explode&name=poller")).status_code == 404
        form = fields(await client.get("confirm?do=stop&name=poller"))
        answer = await client.post("stop", data={**form, "name": "nobody"}, headers={"sec-fetch-site": "same-origin"})
        assert answer.status_code == 404


async def test_actions_are_begun_on_the_supervisors_loop_from_another_one(sup):
    """The page may be served by a thread of its own, so that it answers while the loop is blocked."""
    app = At(dashboard.app(sup, actions=True))
    worker = sup.workers()[0]

    async def visit():
        async with visitor(app) as client:
            return await confirmed(client, "stop", "poller")

    answer = await asyncio.to_thread(asyncio.run, visit())
    assert answer.status_code == 303
    assert (await worker.wait()).ended == "stopped"


# ------------------------------------------------------------------------------------------------ other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "", "origin": "http://service.test"},
        {"origin": "http://evil.test"},
        {"origin": "null"},
        {"origin": "http://service.test:81"},
    ],
)
async def test_the_page_of_another_site_can_do_nothing(sup, headers):
    async with visitor(At(dashboard.app(sup, actions=True))) as client:
        form = fields(await client.get("confirm?do=stop&name=poller"))
        answer = await client.post("stop", data=form, headers=headers)
    assert answer.status_code == 403
    assert [worker.state for worker in sup.workers()] == ["running"]


@pytest.mark.parametrize("headers", [{}, {"origin": "http://service.test"}, {"origin": "https://service.test"}])
async def test_a_form_of_its_own_is_taken_where_a_browser_says_less(sup, headers):
    async with visitor(At(dashboard.app(sup, actions=True))) as client:
        form = fields(await client.get("confirm?do=stop&name=poller"))
        assert (await client.post("stop", data=form, headers=headers)).status_code == 303


async def test_without_the_token_of_its_cookie_a_form_is_refused(sup):
    own = {"sec-fetch-site": "same-origin"}
    page_of_it = At(dashboard.app(sup, actions=True))
    async with visitor(page_of_it) as client, visitor(page_of_it) as other:
        page = await client.get("confirm?do=stop&name=poller")
        cookie = page.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        form = fields(page)
        for token in ("", "0" * 64, "é", form["token"][:-1]):
            assert (await client.post("stop", data={**form, "token": token}, headers=own)).status_code == 403
        assert (await other.post("stop", data=form, headers=own)).status_code == 403  # it has no cookie
        theirs = fields(await other.get("confirm?do=stop&name=poller"))
        assert theirs["token"] != form["token"]
        assert (await other.post("stop", data=form, headers=own)).status_code == 403  # nor this token
    assert [worker.state for worker in sup.workers()] == ["running"]


async def test_a_form_that_is_none_or_is_too_long_is_refused(sup):
    own = {"sec-fetch-site": "same-origin"}
    async with visitor(At(dashboard.app(sup, actions=True))) as client:
        form = fields(await client.get("confirm?do=stop&name=poller"))
        assert (await client.post("stop", json=form, headers=own)).status_code == 415
        plain = {**own, "content-type": "text/plain"}
        assert (await client.post("stop", content="x", headers=plain)).status_code == 415
        assert (await client.post("stop", data={**form, "reason": "x" * 20_000}, headers=own)).status_code == 413
        of_a_form = {**own, "content-type": "application/x-www-form-urlencoded"}
        assert (await client.post("stop", content=b"name=\xff", headers=of_a_form)).status_code == 400
        assert (await client.post("stop", content=b"&".join([b"a=b"] * 50), headers=of_a_form)).status_code == 400
        assert (await client.get("stop")).status_code == 405


# ------------------------------------------------------------------------------------------------ texts of others

HOSTILE = [
    "<script>alert(1)<script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*191 }}",
    "a&b'c\"d",
    "ש" * 300,
    "%3Cb%3E?#&",
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_name_is_text_wherever_it_is(name):
    async with Supervisor("<b>", policy=PATIENT) as sup, visitor(At(dashboard.app(sup, actions=True))) as client:
        worker = await sup.start(wait, name=name)
        found = [
            await client.get(""),
            await client.get("worker", params={"name": name}),
            await client.get("confirm", params={"do": "stop", "name": name}),
            await client.get("", params={"q": name}),
        ]
        for page in found:
            assert page.status_code == 200
            for tag in ("<script>", "<img", "<b>&lt;", "<b>alert"):
                assert tag not in page.text
            assert "1337" not in page.text
        assert (await confirmed(client, "stop", name)).status_code == 303
        await worker.wait()


async def test_what_a_worker_raises_and_why_it_is_stopped_are_text():
    def fail(ctx):
        raise ValueError("</td><script>alert(1)</script>\n\u202egnp")

    async with Supervisor(policy=PATIENT) as sup, visitor(At(dashboard.app(sup))) as client:
        await (await sup.start(fail, name="failing")).wait()
        await (await sup.start(wait, name="stopped")).stop("</small><script>alert(2)</script>")
        pages = [(await client.get(path)).text for path in ("", "worker?name=failing", "worker?name=stopped")]
    for page in pages:
        assert page.count("<script") == 1
        assert "\u202e" not in page
    assert "&lt;script&gt;alert(2)" in pages[2]


async def test_a_stack_that_is_too_long_is_cut_and_says_so(sup, monkeypatch):
    monkeypatch.setattr(Integration, "stack", lambda self, name: "<first>" + "x" * 10_000_000 + "<last>")
    async with visitor(At(dashboard.app(sup))) as client:
        page = await client.get("worker?name=poller")
    assert len(page.content) < 100_000
    assert "characters in its middle are left out" in page.text
    assert "&lt;first&gt;" in page.text
    assert "&lt;last&gt;" in page.text


async def test_a_websocket_is_closed(sup):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    await dashboard.app(sup)({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_so_many_pages_at_once_are_refused(sup):
    async with visitor(At(dashboard.app(sup))) as client:
        answers = await asyncio.gather(*(client.get("?live=1") for _ in range(60)))
    codes = [answer.status_code for answer in answers]
    assert set(codes) <= {200, 503}
    assert codes.count(200) >= 16
    assert isinstance(answers[0], httpx.Response)
