"""Scrapes over HTTP, and what the workers of the tests of metrics do."""

from __future__ import annotations

import asyncio
import os
import threading
import urllib.request
from collections import Counter
from contextlib import contextmanager
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from supervisor import (
    current_context,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Scrape:
    """What one scrape has told."""

    def __init__(self, families):
        self.families = {family.name: family for family in families}
        self.samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name, **labels):
        return self.samples[name, *sorted({"supervisor": "app", **labels}.items())]

    def nonzero(self, name, label, **labels):
        """The values of a metric by one of its labels, but for zeros."""
        found = Counter()
        for (sample, *pairs), value in self.samples.items():
            if sample == name and labels.items() <= dict(pairs).items():
                found[dict(pairs)[label]] += value
        return dict(+found)


@contextmanager
def served(registry):
    """Serves one request, as `start_http_server` does: that one takes half a second to end."""
    with make_server("127.0.0.1", 0, make_wsgi_app(registry), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield server.server_port
        thread.join()


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def scrape(registry, accept="text/plain"):
    with served(registry) as port:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=30) as response:
            parse = openmetrics_families if "openmetrics" in response.headers["Content-Type"] else text_families
            return Scrape(parse(response.read().decode()))


async def scraped(registry):
    return await asyncio.to_thread(scrape, registry)


def fail():
    raise ValueError("no")


def fail_as_worker(ctx):
    fail()


def dies(ctx):
    os._exit(7)


def wait(ctx):
    ctx.stop.wait()


def spin(ctx, entered):
    entered.set()
    while True:
        pass


def obey():
    current_context().sleep(60)
