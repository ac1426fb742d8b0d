"""A service that a signal ends while pages are open: they hold nothing up."""

from __future__ import annotations

import re
import time
from pathlib import Path
from signal import SIGTERM

import pytest
from playwright.sync_api import expect

from tests.examples.servers import started

pytestmark = pytest.mark.timeout(120)

LOOKED_AGAIN = "performance.getEntriesByType('resource').some((entry) => entry.name.includes('live'))"
PROGRAM = Path(__file__).with_name("service.py")


def test_ten_open_pages_do_not_keep_uvicorn_from_its_end(visit):
    with started(PROGRAM) as server:
        url = f"http://127.0.0.1:{server.port}/supervisor/"
        server.until(lambda: answers(server))
        first = visit(url)
        pages = [first, *(first.context.new_page() for _ in range(4)), *(visit(url) for _ in range(5))]
        for page in pages:
            page.goto(url)
            expect(page.locator("#workers")).to_contain_text("spinner")
        for page in pages:  # all of them look again and again, those that share the connections of one browser too
            while not page.evaluate(LOOKED_AGAIN):  # `wait_for_function` needs what the page's policy forbids
                page.wait_for_timeout(50)
        began = time.monotonic()
        server.send(SIGTERM)
        assert server.end() == -SIGTERM
        took = time.monotonic() - began
        written = server.output
    at = float(re.search(r"lifespan ends at ([\d.]+)", written)[1])
    print(f"lifespan's shutdown after {at - began:.3f} s, gone after {took:.3f} s")
    assert at - began < 10, "the ladder begins at once, and not when the pages are closed"
    assert took < 20, "and takes 0.6 s"
    assert "1 stopped, 1 injected, 1 abandoned" in written
    visit.allowed = "ERR_"


def answers(server):
    try:
        return server.get("/supervisor/")[0] == 200
    except ConnectionRefusedError:
        return False
