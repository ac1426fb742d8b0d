"""The page in a real browser: it loads, stays true while it is open, and does what its buttons say."""

from __future__ import annotations

import re
import threading

import pytest
from playwright.sync_api import expect

from supervisor import Ask, EscalationPolicy, Inject, Restart

from .service import failing, obedient, spinner

pytestmark = pytest.mark.timeout(120)


def row(page, name):
    """The row of a worker in the table of all."""
    return page.locator("#workers").get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def names(page):
    return page.locator("#workers tbody th").all_inner_texts()


def open_worker(page, name):
    row(page, name).get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def stack(page):
    return page.locator("#stack pre")


# ------------------------------------------------------------------------------------------------ what it shows


def test_it_loads_with_nothing_from_elsewhere_and_shows_who_is_there(serve, visit):
    service = serve()
    service.start(obedient, name="reader")
    service.submit(threading.Event().wait, 0.2)
    page = visit(service.url)
    assert page.title() == "shop"
    expect(row(page, "reader")).to_contain_text("running")
    expect(page.locator("#pools")).to_contain_text("of 4 running")
    assert all(status == 200 for status, _ in visit.answers), visit.answers
    assert {url.rpartition("/")[2] for _, url in visit.answers} >= {"dashboard.css", "dashboard.js"}


def test_a_worker_that_begins_or_ends_while_it_is_open_comes_and_goes(serve, visit):
    service = serve()
    page = visit(service.url)
    worker = service.start(obedient, name="newcomer")
    expect(row(page, "newcomer")).to_be_visible()
    service.do(worker.stop)
    expect(row(page, "newcomer")).to_have_count(0)
    expect(page.locator("#changes")).to_contain_text("stopped")


def test_what_changes_costs_nobody_the_focus_or_what_is_selected(serve, visit):
    service = serve()
    service.start(obedient, name="first")
    service.start(obedient, name="last")
    page = visit(service.url)
    row(page, "last").get_by_role("link", name="last").focus()
    page.evaluate("getSelection().selectAllChildren(document.activeElement)")
    service.start(obedient, name="newcomer")
    expect(row(page, "newcomer")).to_be_visible()
    assert page.evaluate("document.activeElement.textContent") == "last"
    assert page.evaluate("getSelection().toString()") == "last"


@pytest.mark.slow
def test_it_can_be_paused_and_goes_on(serve, visit):
    service = serve()
    page = visit(service.url)
    page.get_by_role("button", name="Pause").click()
    service.start(obedient, name="newcomer")
    with page.expect_response(lambda response: "live" in response.url):
        page.get_by_role("button", name="Go on").click()
    expect(row(page, "newcomer")).to_be_visible()


def test_the_page_of_a_worker_shows_its_stack_and_looks_again(serve, visit):
    service = serve()
    service.start(spinner, name="spinner")
    page = visit(service.url)
    open_worker(page, "spinner")
    expect(stack(page)).to_contain_text("spin_for_ever")
    page.get_by_role("link", name="Look again").click()
    expect(page.locator("#stack-seen")).to_contain_text("as of")
    expect(stack(page)).to_contain_text("spin_for_ever")
    page.get_by_role("link", name="All workers").click()
    expect(row(page, "spinner")).to_be_visible()


def test_the_page_of_a_worker_that_fails_has_what_it_did(serve, visit):
    service = serve()
    worker = service.start(
        failing, name="failing", restart=Restart("failure", max_restarts=2, backoff=0.01, within=600)
    )
    service.do(worker.wait)
    page = visit(f"{service.url}worker?name=failing")
    expect(page.locator("#changes")).to_contain_text("ValueError: <b>no</b> such & so")
    expect(page.locator("#changes")).to_contain_text("run 3")
    expect(page.get_by_text("It is no longer there.")).to_be_visible()
    assert page.locator("main b").count() == 0


# ------------------------------------------------------------------------------------------------ what it does


def test_a_worker_is_stopped_by_its_button_after_a_question(serve, visit):
    service = serve(actions=True)
    worker = service.start(obedient, name="reader")
    page = visit(service.url)
    open_worker(page, "reader")
    page.get_by_role("link", name="Stop").click()
    assert worker.state == "running"
    page.get_by_label("Why").fill("of <no> use")
    page.get_by_role("button", name="Stop it").click()
    expect(page.get_by_text("It is no longer there.")).to_be_visible()
    expect(page.locator("#changes")).to_contain_text("dashboard: of <no> use")
    assert worker.outcome.ended == "stopped"


@pytest.mark.slow
def test_a_worker_is_restarted_by_its_button(serve, visit):
    service = serve(actions=True)
    worker = service.start(obedient, name="reader", restart=Restart("failure", backoff=0.01))
    page = visit(f"{service.url}worker?name=reader")
    page.get_by_role("link", name="Restart").click()
    page.get_by_role("button", name="Restart it").click()
    expect(page.locator("#changes")).to_contain_text("run 2")
    assert worker.attempt == 2


def test_without_actions_there_is_no_button_and_nothing_behind_one(serve, visit):
    service = serve()
    worker = service.start(obedient, name="reader")
    page = visit(service.url)
    expect(row(page, "reader")).to_be_visible()
    assert page.get_by_text(re.compile("Stop|Restart|Shut down")).count() == 0
    open_worker(page, "reader")
    assert page.get_by_text(re.compile(r"^(Stop|Restart)\W*$")).count() == 0
    for path in ("stop", "restart", "shutdown"):
        answer = page.request.post(f"{service.url}{path}", form={"name": "reader"})
        assert answer.status in {403, 404, 405}
    assert worker.state == "running"


def test_the_page_of_another_site_can_stop_nobody(serve, visit):
    service, other = serve(actions=True), serve(name="other")
    worker = service.start(obedient, name="reader")
    page = visit(f"{service.url}worker?name=reader")
    page.get_by_role("link", name="Stop").click()
    form = page.locator("form").inner_html()  # a token and a cookie that are good
    assert "token" in form

    def forged(route):
        text = f'<form method="post" action="{service.url}stop">{form}</form>'
        route.fulfill(status=200, content_type="text/html", body=text)

    site = other.origin.replace("127.0.0.1", "localhost")
    page.route(f"{site}/forged", forged)
    page.goto(f"{site}/forged")
    page.get_by_role("button", name="Stop it").click()
    expect(page.get_by_text("page of another site")).to_be_visible()
    assert worker.state == "running"
    visit.allowed = "403|http://localhost"


def test_the_filter_shows_those_who_match_and_stays_while_the_page_changes(serve, visit):
    service = serve()
    for name in ("reader-eu", "reader-us", "writer"):
        service.start(obedient, name=name)
    page = visit(service.url)
    page.get_by_role("searchbox").fill("READER")
    expect(row(page, "writer")).to_have_count(0)
    assert names(page) == ["reader-eu", "reader-us"]
    service.start(obedient, name="reader-asia")
    service.start(obedient, name="writer-2")
    expect(row(page, "reader-asia")).to_be_visible()
    assert names(page) == ["reader-eu", "reader-us", "reader-asia"]
    page.reload()
    expect(row(page, "reader-asia")).to_be_visible()
    assert len(names(page)) == 3
    page.get_by_role("searchbox").fill("reader-?s*")
    expect(row(page, "reader-eu")).to_have_count(0)
    page.get_by_role("searchbox").fill("")
    expect(row(page, "writer")).to_be_visible()


# ------------------------------------------------------------------------------------------------ many


def test_two_thousand_calls_stay_usable(serve, visit):
    service = serve(max_queued=2000)
    service.call_many(2000)
    usable(visit, service, "call")


@pytest.mark.slow
def test_two_thousand_workers_stay_usable(serve, visit):
    service = serve()
    service.start_many(2000)
    usable(visit, service, "worker")


def usable(visit, service, what):
    page = visit(service.url)
    expect(page.locator("#workers .counts")).to_contain_text("2000")
    assert 0 < len(names(page)) <= 200, "as many as a page can hold"
    page.get_by_role("searchbox").fill(f"{what}-1999")
    expect(row(page, f"{what}-1999")).to_be_visible()
    assert names(page) == [f"{what}-1999"]
    page.get_by_role("searchbox").fill(f"{what}-0")
    open_worker(page, f"{what}-0")
    expect(stack(page)).to_contain_text("stop.wait()")
    timing = page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
    print(f"{timing:.0f} ms until the page of one could be used")


# ------------------------------------------------------------------------------------------------ the shutdown


def test_a_shutdown_is_seen_as_it_climbs_and_to_its_end_with_its_report(serve, visit, leftovers):
    service = serve(policy=EscalationPolicy(Ask(6), Inject(6)))
    for name, function in (("obedient", obedient), ("spinner", spinner), ("deaf", leftovers.block)):
        service.start(function, name=name)
    page = visit(service.url)
    service.shut_down()
    shutdown = page.locator("#shutdown")
    expect(shutdown).to_contain_text("Shutting down")
    expect(shutdown).to_contain_text("a test")
    expect(shutdown.get_by_role("row").filter(has_text="deaf").locator(".step")).to_have_text("ask")
    expect(shutdown.get_by_role("row").filter(has_text="deaf").locator(".step")).to_have_text("inject")
    expect(shutdown).to_contain_text("Shut down, not all of it clean")
    for text in ("1 stopped", "1 injected", "1 abandoned"):
        expect(shutdown).to_contain_text(text)
    expect(page.locator("#status")).to_contain_text("shut down")
    expect(page.locator("#workers")).to_contain_text("Nobody is here")
    report = page.request.get(service.url + shutdown.get_by_role("link", name="the whole report").get_attribute("href"))
    assert "self.release.wait" in report.text(), "the stack of the one that was given up"


@pytest.mark.slow
def test_the_shutdown_is_begun_by_its_button(serve, visit):
    service = serve(actions=True)
    service.start(obedient, name="reader")
    page = visit(service.url)
    page.get_by_role("link", name="Shut down").click()
    page.get_by_role("button", name="Shut down").click()
    expect(page.locator("#shutdown")).to_contain_text("Shut down, all of it clean")
    assert service.sup.report.reason == "dashboard"


@pytest.mark.slow
def test_a_service_that_is_gone_is_said_to_be_gone(serve, visit):
    service = serve()
    service.start(obedient, name="reader")
    page = visit(service.url)
    expect(row(page, "reader")).to_be_visible()
    service.__exit__()
    expect(page.get_by_role("status").first).to_contain_text("Connection lost")
    visit.allowed = "ERR_CONNECTION_REFUSED"
