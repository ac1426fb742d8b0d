"""A browser that the system has, services to look at, and what each page must keep: no error, nobody else is asked."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

    from .service import Service

NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if next(filter(None, map(shutil.which, NAMES)), None) is None:
        missing = pytest.mark.skip(reason=f"needs a browser: one of {', '.join(NAMES)}; .ci/browser may get it")
        for item in items:
            if "browser" in getattr(item, "fixturenames", ()):
                item.add_marker(missing)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of a module. While it is there, an event loop of playwright's runs in the tests' thread."""
    from playwright.sync_api import expect, sync_playwright

    from .service import LIMIT

    expect.set_options(timeout=LIMIT * 1000)
    path = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as playwright:
        # The browser cannot isolate itself where it is root; all that it shows here is ours.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Begins a service; see `Service`. All of them end with the test, after the pages that are open."""
    from contextlib import ExitStack

    from .service import Service

    with ExitStack() as running:
        yield lambda **options: running.enter_context(Service(**options))


class Visits:
    """Opens pages; keeps what they complain of, and whom else they ask."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[Any] = []
        self.complaints: list[str] = []
        self.allowed = ""
        """A pattern for the complaints that belong to a test."""
        self.answers: list[tuple[int, str]] = []

    def __call__(self, url: str, **options: Any) -> Page:
        """Opens a page in a context of its own."""
        from .service import LIMIT

        context = self._browser.new_context(**options)
        context.set_default_timeout(LIMIT * 1000)
        self._contexts.append(context)
        origin = "/".join(url.split("/", 3)[:3]) + "/"

        def asked(request: Any) -> None:
            if not request.url.startswith((origin, "data:")):
                self.complaints.append(f"asked elsewhere: {request.url}")

        context.on("request", asked)
        context.on("response", lambda response: self.answers.append((response.status, response.url)))
        context.on("page", self._watch)
        page = context.new_page()
        page.goto(url)
        return page

    def _watch(self, page: Page) -> None:
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(f"raised: {error}"))
        page.on("dialog", self._asked)
        page.on("crash", lambda _: self.complaints.append("crashed"))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _asked(self, dialog: Any) -> None:
        self.complaints.append(f"{dialog.type}: {dialog.message}")
        dialog.dismiss()

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        self._contexts.clear()


@pytest.fixture
def visit(browser: Browser, serve: Callable[..., Service]) -> Iterator[Visits]:
    """Opens pages. At its end none may have complained of anything, or have asked another server."""
    visits = Visits(browser)
    try:
        yield visits
    finally:
        visits.close()
    complaints = [text for text in visits.complaints if not (visits.allowed and re.search(visits.allowed, text))]
    assert complaints == []
