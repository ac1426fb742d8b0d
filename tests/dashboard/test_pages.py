"""What the pages show, and where they can be."""

import asyncio
import re
import threading

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, dashboard

from .visiting import At, until, visitor

QUICK = EscalationPolicy(Ask(0.2), Inject(0.2))


def wait(ctx):
    ctx.stop.wait()


def fail(ctx):
    raise ConnectionError("refused <b>by all</b>")


async def test_the_overview_shows_workers_pools_and_groups():
    async with Supervisor("ingest", policy=QUICK) as sup, visitor(At(dashboard.app(sup))) as client:
        await sup.start(wait, name="poller")
        await sup.group("feeds").start(wait, name="reader")
        sup.pool("slow", kind="thread", size=3)
        page = (await client.get("")).text
    for shown in ("ingest", "poller", "feeds/reader", "slow", "one for one", "running", "ready"):
        assert shown in page


async def test_the_page_of_a_worker_shows_where_it_stands_and_what_it_did():
    async with Supervisor(policy=QUICK) as sup, visitor(At(dashboard.app(sup))) as client:
        poller = await sup.start(wait, name="poller")

        async def waiting():
            return "in wait" in poller.stack()

        await until(waiting)
        page = (await client.get("worker?name=poller")).text
        live = (await client.get("worker?name=poller&live=1")).text
    assert "in wait" in page
    assert "ctx.stop.wait()" in page
    assert "What it did" in page
    assert "ctx.stop.wait()" not in live  # one who only keeps the page open does not have the stack taken


async def test_a_failure_is_in_the_history_of_its_worker_and_marked_in_the_picture():
    async with Supervisor(policy=QUICK) as sup, visitor(At(dashboard.app(sup))) as client:
        worker = await sup.start(fail, name="failing")
        await worker.wait()
        page = (await client.get("worker?name=failing")).text
        overview = (await client.get("")).text
    assert "ConnectionError: refused &lt;b&gt;by all&lt;/b&gt;" in page
    assert '<circle class="failed"' in page
    assert "failing (ended)" in overview


async def test_whom_nobody_knows_has_no_page():
    async with Supervisor(policy=QUICK) as sup, visitor(At(dashboard.app(sup))) as client:
        assert (await client.get("worker?name=nobody")).status_code == 404
        assert (await client.get("worker")).status_code == 404
        assert (await client.get("nothing")).status_code == 404
        assert (await client.get("static/..%2fguard.py")).status_code == 404


async def test_many_workers_are_filtered_sorted_and_paged_by_the_service():
    async with Supervisor(policy=QUICK, max_threads=2) as sup, visitor(At(dashboard.app(sup))) as client:
        await sup.start(wait, name="poller")
        release = threading.Event()
        calls = [asyncio.ensure_future(sup.run(release.wait, name=f"nap-{number:03}")) for number in range(250)]
        await asyncio.sleep(0)
        first = (await client.get("")).text
        last = (await client.get("?page=3")).text
        beyond = (await client.get("?page=99")).text
        some = (await client.get("?q=NAP-01")).text
        pattern = (await client.get("?q=nap-*7")).text
        workers = (await client.get("?role=worker")).text
        by_name = (await client.get("?sort=name&q=nap")).text
        odd = await client.get("?page=x&sort=nothing&state=odd&role=odd&q=%00%ff[")
        release.set()
        await asyncio.gather(*calls)
    assert names(first) == ["poller", *(f"nap-{number:03}" for number in range(99))]
    assert len(names(last)) == 51
    assert names(beyond) == names(last)
    assert names(some) == [f"nap-{number:03}" for number in range(10, 20)]
    assert names(pattern) == [f"nap-{number:03}" for number in range(7, 250, 10)]
    assert names(workers) == ["poller"]
    assert names(by_name) == [f"nap-{number:03}" for number in range(100)]
    assert odd.status_code == 200


def names(page):
    """The names in the table of workers."""
    table = re.search(r'<table class="workers">.*?</table>', page, re.DOTALL)
    return re.findall(r'<th scope="row"><a [^>]*><bdi>([^<]*)</bdi>', table[0]) if table else []


async def test_the_page_shows_a_shutdown_as_it_climbs_and_its_report_at_the_end():
    sup = Supervisor("web", policy=EscalationPolicy(Ask(30), Inject(5)), shutdown_timeout=60)
    release = threading.Event()
    async with visitor(At(dashboard.app(sup))) as client:
        async with sup:
            await sup.start(lambda ctx: release.wait(), name="slow to end")
            sup.request_shutdown("a <deploy>")

            async def climbing():
                page = (await client.get("?live=1")).text
                return page if "slow to end" in page and '<span class="step ask">ask</span>' in page else None

            page = await until(climbing)
            assert "Shutting down" in page
            assert re.search("inject in [23][0-9] s", page)
            assert "a &lt;deploy&gt;" in page
            assert (await client.get("report.txt")).status_code == 404
            release.set()
        page = (await client.get("")).text
        report = await client.get("report.txt")
    assert "Shut down, all of it clean" in page
    assert "slow to end" in page
    assert report.text == str(sup.report)


async def test_before_the_first_use_and_in_its_end_there_is_a_page():
    sup = Supervisor("web")
    app = At(dashboard.app(sup))
    async with visitor(app) as client:
        assert "not used yet" in (await client.get("")).text
        async with sup:
            assert (await client.get("?live=1")).status_code == 200
        assert "shut down" in (await client.get("")).text


@pytest.mark.parametrize("stripped", [False, True])
async def test_links_are_relative_to_a_path_that_ends_with_a_slash(stripped):
    sup = Supervisor()
    async with visitor(At(dashboard.app(sup), stripped=stripped)) as client:
        moved = await client.get("http://service.test/at/this/path?q=a%20b")
        assert moved.status_code == 307
        assert moved.headers["location"] == "./path/?q=a%20b"
        page = (await client.get("")).text
        links = re.findall(r'(?:href|src|action)="([^"]*)"', page)
        assert links
        assert not [link for link in links if link.startswith("/") or ":" in link]
        for link in ("static/dashboard.css", "static/dashboard.js", "static/icon.svg"):
            assert (await client.get(link)).status_code == 200


async def test_a_path_of_a_proxy_before_that_of_the_mount_does_no_harm():
    app = dashboard.app(Supervisor())

    async def mounted(scope, receive, send):
        await app({**scope, "root_path": "/proxy/at"}, receive, send)

    async with visitor(mounted, "http://service.test/at/") as client:
        assert (await client.get("static/dashboard.css")).status_code == 200
        assert (await client.get("")).status_code == 200


def test_what_is_wrong_in_the_arguments_is_said():
    sup = Supervisor("web")
    with pytest.raises(TypeError, match=r"app\(sup=1\): must be a Supervisor"):
        dashboard.app(1)
    with pytest.raises(TypeError, match=r"actions='yes'"):
        dashboard.app(sup, actions="yes")
    with pytest.raises(TypeError, match=r"authorize=1"):
        dashboard.app(sup, authorize=1)


async def test_a_group_is_refused():
    async with Supervisor("web") as sup:
        with pytest.raises(ValueError, match="is a group, which its supervisor shows"):
            dashboard.app(sup.group("feeds"))
