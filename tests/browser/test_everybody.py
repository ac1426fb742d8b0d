"""The page for everybody: by keyboard, without sight, on a phone, in the dark, without JavaScript; hostile names."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from supervisor import Ask, EscalationPolicy, Inject

from .service import failing, obedient, spinner

pytestmark = pytest.mark.timeout(120)

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
DESK = {"viewport": {"width": 1280, "height": 800}}
slow = pytest.mark.slow


TOO_WIDE = """
document.documentElement.scrollWidth <= innerWidth ? [] :
    [...document.querySelectorAll("main *")]
        .filter((element) => element.getBoundingClientRect().right > innerWidth && !element.closest(".scroll *"))
        .slice(0, 5).map((element) => element.outerHTML.slice(0, 200))
        .concat(`${document.documentElement.scrollWidth} pixels of ${innerWidth}`)
"""


def problems(page):
    """What axe-core finds that is serious, or critical; and whether the page is wider than its window."""
    found = [
        f"{violation['impact']}: {violation['id']}: {[node['html'] for node in violation['nodes'][:3]]}"
        for violation in Axe().run(page).response["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]
    found += [f"wider than the window: {html}" for html in page.evaluate(TOO_WIDE)]
    return found


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(DESK, "light", id="light"),
        pytest.param(PHONE, "dark", id="dark, on a phone", marks=slow),
        pytest.param(DESK, "dark", id="dark", marks=slow),
        pytest.param(PHONE, "light", id="light, on a phone", marks=slow),
    ],
)
def test_nothing_serious_is_wrong_with_any_page(size, scheme, serve, visit, leftovers):
    service = serve(actions=True, policy=EscalationPolicy(Ask(0.5), Inject(30)))
    feeds = service.do(service.sup.group, "feeds")
    service.do(feeds.start, obedient, name="a-reader-with-a-rather-long-name-of-its-own")
    service.start(spinner, name="spinner")
    service.start(leftovers.block, name="deaf")
    service.do(service.start(failing, name="failing").wait)
    page = visit(service.url, color_scheme=scheme, **size)
    expect(page.locator("#health")).to_contain_text("failing")
    assert problems(page) == [], "the overview"
    for path in ("worker?name=spinner", "worker?name=failing", "confirm?do=stop&name=spinner"):
        page.goto(service.url + path)
        assert problems(page) == [], path
    service.shut_down()
    page.goto(service.url)
    expect(page.locator("#shutdown")).to_contain_text("Shutting down")
    assert problems(page) == [], "while it shuts down"
    leftovers.release.set()
    expect(page.locator("#shutdown")).to_contain_text("Shut down, not all of it clean")
    assert problems(page) == [], "with the report"


def test_all_of_it_can_be_done_by_keyboard(serve, visit):
    service = serve(actions=True)
    worker = service.start(obedient, name="reader")
    service.start(obedient, name="writer")
    page = visit(service.url)
    keys = page.keyboard

    def tab_to(text, *, at_most=40):
        """Presses Tab until what has the focus says this; all that is passed must show that it has it."""
        for _ in range(at_most):
            keys.press("Tab")
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'")
            if page.evaluate("document.activeElement.textContent || document.activeElement.name").strip() == text:
                return
        raise AssertionError(f"Tab does not come to {text}")

    keys.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    keys.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to("q")
    keys.type("read")
    expect(page.locator("#workers").get_by_role("link", name="writer")).to_have_count(0)
    tab_to("reader")
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("reader")
    tab_to("Stop…")
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Stop reader?")
    tab_to("Stop it")
    keys.press("Enter")
    expect(page.get_by_text("It is no longer there.")).to_be_visible()
    assert worker.outcome.ended == "stopped"


def test_it_reads_and_acts_without_javascript(serve, visit):
    service = serve(actions=True)
    worker = service.start(spinner, name="spinner")
    service.start(obedient, name="reader")
    page = visit(service.url, java_script_enabled=False)
    assert "Without JavaScript" in page.locator("noscript").inner_text()
    page.get_by_role("searchbox").fill("spin")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#workers tbody tr")).to_have_count(1)
    page.locator("#workers").get_by_role("link", name="spinner").click()
    expect(page.locator("#stack")).to_contain_text("spin_for_ever")
    assert not page.get_by_role("button", name="Copy").is_visible()
    page.get_by_role("link", name="Stop").click()
    page.get_by_role("button", name="Stop it").click()
    service.do(worker.wait)
    page.reload()
    expect(page.get_by_text("It is no longer there.")).to_be_visible()


# ------------------------------------------------------------------------------------------------ hostile names

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"onmouseover="alert(1)" x="',
    "{{ 7*7 }}${7*7}",
    "a?b#c%2f&d=e+f",
    "..",
    "javascript:alert(1)",
    "\N{ARABIC LETTER ALEF}\N{HEBREW LETTER ALEF} to the left",
    "x" * 400,
)


def refuse_html(ctx):
    raise ValueError("<script>alert(2)</script>\n\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe")


def test_hostile_names_reasons_and_errors_are_texts_and_nothing_else(serve, visit):
    service = serve(name="<img src=y onerror=alert(4)>", actions=True)
    group = service.do(service.sup.group, "<script>alert(1)<")
    service.do(group.start, obedient, name="script>")
    for name in HOSTILE:
        service.start(obedient, name=name)
    service.do(service.start(refuse_html, name="fails").wait)
    page = visit(service.url)
    table = page.locator("#workers")
    expect(table.get_by_role("link", name="<script>alert(1)</script>", exact=True)).to_be_visible()
    for name in HOSTILE[:-1]:
        page.goto(service.url)
        table.get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        expect(page.locator("#stack pre")).to_contain_text("ctx.stop.wait()")
    page.goto(f"{service.url}worker?name=fails")
    expect(page.locator("#changes")).to_contain_text("<script>alert(2)</script>")
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in page.content()
    page.goto(f"{service.url}confirm?do=stop&name=..")
    page.get_by_label("Why").fill("<img src=x onerror=alert(3)> \"'&\N{RIGHT-TO-LEFT OVERRIDE}")
    page.get_by_role("button", name="Stop it").click()
    expect(page.locator("#changes")).to_contain_text("<img src=x onerror=alert(3)>")
    assert page.evaluate("document.querySelectorAll('script, img').length") == 1, "the one of the page"


@pytest.mark.parametrize("name", ["a\nb", "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe", "<b>/x"])
def test_names_that_would_deceive_are_refused(name, serve):
    service = serve()
    with pytest.raises(ValueError, match="must"):
        service.start(obedient, name=name)
