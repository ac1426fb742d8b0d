"""The pictures of the README and of the docs: `make screenshots` takes them, of a service that runs for a while."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from supervisor import Ask, EscalationPolicy, Inject, Restart, current_context

from .service import obedient

TARGET = os.environ.get("SUPERVISOR_PICTURES")
SECONDS = 45 if TARGET else 1
"""For how long the service runs before a picture is taken of it."""

SIZE = {"viewport": {"width": 1180, "height": 900}}
LARGEST = 150_000
"""Bytes of a picture."""


def read_feed(ctx):
    while not ctx.stop.wait(0.2):
        ctx.heartbeat()


def send_mail(ctx):
    ctx.stop.wait(6)
    raise ConnectionError("mail.example: connection refused")


def render_report(seconds):
    current_context().stop.wait(seconds)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_pictures_of_the_page_are_small_enough_to_keep(quiet, serve, visit, leftovers, tmp_path):
    def parse_huge_file(ctx):
        leftovers.block()

    folder = Path(TARGET) if TARGET else tmp_path
    service = serve(actions=True, policy=EscalationPolicy(Ask(600), Inject(600)), incidents=20)
    feeds = service.do(service.sup.group, "feeds")
    for name in ("europe", "asia", "americas"):
        service.do(feeds.start, read_feed, name=name, heartbeat=60, policy=EscalationPolicy(Ask(5)))
    service.start(obedient, name="store", policy=EscalationPolicy(Ask(5)))
    service.start(send_mail, name="mailer", restart=Restart("failure", backoff=3), policy=EscalationPolicy(Ask(5)))
    parser = service.start(parse_huge_file, name="parser")
    service.do(service.sup.pool, "reports", kind="thread", size=2, max_queued=50)
    calls = [service.background(service.sup.run(render_report, 200 + each, pool="reports")) for each in range(7)]
    time.sleep(SECONDS)  # its life is what the picture shows
    stopping = service.background(parser.stop("its input is too old"))
    pages = {scheme: visit(service.url, color_scheme=scheme, **SIZE) for scheme in ("light", "dark")}
    for scheme, page in pages.items():
        expect(page.locator("#workers")).to_contain_text("stopping")
        take(page, folder / f"dashboard-{scheme}.png")
    leftovers.release.set()
    stopping.result(30)
    service.shut_down()
    for call in calls:
        call.cancel()


def take(page, file):
    page.screenshot(path=file, animations="disabled")
    assert file.stat().st_size < LARGEST
