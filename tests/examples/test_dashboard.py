"""The example with a page, as a process of its own."""

import base64
import http.client
import signal
from contextlib import closing

import pytest

from tests.examples.servers import EXAMPLES, LIMIT, example, started

pytestmark = pytest.mark.timeout(180)


def get(server, password):
    given = base64.b64encode(f"admin:{password}".encode()).decode()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT)) as connection:
        connection.request("GET", "/supervisor/", headers={"Authorization": f"Basic {given}"})
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_its_page_asks_for_a_password_and_its_end_is_reported(monkeypatch):
    monkeypatch.setenv("PASSWORD", "secret")
    with started(*example(EXAMPLES / "dashboard_app.py")) as server:
        server.until_written("running on")
        assert get(server, "guessed")[0] == 401
        status, page = get(server, "secret")
        assert status == 200
        for name in ("feeds/reader-0", "importer", "spinner", "sleeper"):
            assert name in page
        server.send(signal.SIGTERM)
        server.end()
        assert server.has_line(r"^shutdown( \(|\b).* took ")
