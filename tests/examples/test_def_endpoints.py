"""`def` endpoints of a real FastAPI application under uvicorn, with `install_as_anyio_threads()` and without it."""

import json
import re
import time
from contextlib import ExitStack, closing
from pathlib import Path
from signal import SIGINT, SIGTERM
from subprocess import TimeoutExpired

import pytest

from tests.examples.servers import started

APP = Path(__file__).with_name("def_endpoints.py")
BLOCKING = ("event", "sleep", "queue")
LADDER = 1.5
"""Seconds of the ladder in the app."""


@pytest.fixture(params=["asyncio", "uvloop"])
def server(request):
    with started(APP, "supervised", loop=request.param) as server:
        server.until(lambda: is_up(server))
        yield server


def is_up(server):
    try:
        return server.get("/workers")[0] == 200
    except ConnectionRefusedError:
        return False


def served(server, path):
    status, body = server.get(path)
    assert status == 200
    return json.loads(body)


def begin(server, stack, requests):
    """Has as many requests block in `def` endpoints as anyio's limiter lets through, and the others wait for that."""
    for number in range(requests):
        stack.enter_context(closing(server.request(f"/{BLOCKING[number % 3]}")))


@pytest.mark.parametrize("requests", [38, 50])
def test_however_many_requests_block_for_an_hour_the_server_is_gone_in_the_time_of_one_ladder(server, requests):
    with ExitStack() as stack:
        begin(server, stack, requests)
        running = min(requests, 40)
        server.until(lambda: len(served(server, "/workers")) == running)
        began = time.monotonic()
        server.send(SIGTERM)
        assert server.end() == -SIGTERM
        assert time.monotonic() - began < 10 * LADDER  # and not an hour; the machine may be busy
    named = re.findall(r"^\s*(?:\S+ +)*?((?:event|sleep|queue)-\d+)\b", server.output, re.MULTILINE)
    assert len(set(named)) == running, server.output
    assert server.has_line(r"^stopped: shutdown \(SIGTERM\)"), server.output


def test_so_it_is_where_uvicorn_cancels_the_requests(monkeypatch):
    monkeypatch.setenv("GRACEFUL", "1")
    with started(APP, "supervised") as server, ExitStack() as stack:
        server.until(lambda: is_up(server))
        begin(server, stack, 50)
        server.until(lambda: len(served(server, "/workers")) == 40)
        server.send(SIGINT)
        assert server.end() == 0
        assert server.has_line("^stopped: shutdown took"), server.output


def test_without_it_the_server_hangs():
    with started(APP, "plain") as server, ExitStack() as stack:
        server.until(lambda: is_up(server))
        begin(server, stack, 6)
        threads = Path(f"/proc/{server.process.pid}/task")
        server.until(lambda: len(list(threads.iterdir())) > 6)  # the main thread, and one for each request
        server.send(SIGTERM)
        with pytest.raises(TimeoutExpired):
            server.process.wait(2 * LADDER)


def test_endpoints_dependencies_background_tasks_and_files_are_supervised(server):
    endpoint, dependency = served(server, "/name")
    assert re.fullmatch(r"endpoint-\d+", endpoint)
    assert re.fullmatch(r"opened-\d+", dependency)
    server.until(lambda: served(server, "/noted") != [])
    (noted,) = served(server, "/noted")
    assert re.fullmatch(r"note-\d+", noted)
    status, body = server.get("/file")
    assert (status, body) == (200, APP.read_bytes())
    assert served(server, "/upload") == "rows"
    assert re.fullmatch(r"File.read-\d+", served(server, "/noted")[-1])
    server.until(lambda: served(server, "/left") == 0)  # a file is closed once its request has been answered
    server.send(SIGTERM)
    assert server.end() == -SIGTERM
    assert server.has_line("nothing was running"), server.output
