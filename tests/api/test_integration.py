"""The port through which integrations, and the tools for tests, reach a supervisor."""

import ast
import asyncio
import re
import threading
from pathlib import Path

import pytest

import supervisor
from supervisor import Supervisor

from ..inside import integration_of
from ..waiting import refused_elsewhere, until

TOP = Path(supervisor.__file__).parent
INTEGRATIONS = ["metrics.py", "otel.py", "systemd.py", "pytest_plugin.py", "testing/leaks.py", "testing/quick.py"]
OF_OTHERS = {"_current_frames", "_DummyThread", "_get_running_loop", "_replace"}


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_no_integration_reaches_for_what_is_private(name):
    tree = ast.parse((TOP / name).read_text())
    reached = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.match(r"_(?!_)", node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
    }
    assert reached <= OF_OTHERS


async def test_it_is_there_before_the_first_use():
    sup = Supervisor("app", max_threads=3, max_processes=2)
    port = integration_of(sup)
    assert (port.name, port.report, port.deadline, port.reason, port.lost, port.unended) == (
        "app",
        None,
        None,
        None,
        False,
        0,
    )
    assert port.snapshot().capacity == {"thread": 3, "process": 2}
    assert not port.snapshot().workers
    assert port.bind() is asyncio.get_running_loop()
    assert port.clock() <= asyncio.get_running_loop().time()
    await sup.shutdown()


async def test_what_is_there_now():
    async with Supervisor("app", max_threads=1) as sup:
        hold = threading.Event()
        calls = [asyncio.create_task(sup.run(hold.wait)) for _ in range(2)]
        worker = await sup.start(lambda ctx: ctx.stop.wait())
        port = integration_of(sup)
        await until(lambda: sup.statistics().workers.get("running") == 2)
        now = port.snapshot()
        running, queued = ("thread", "call", "running"), ("thread", "call", "queued")
        assert now.workers == {running: 1, queued: 1, ("thread", "worker", "running"): 1}
        assert (port.unended, now.threads, now.processes, now.stopping) == (3, 2, 0, False)
        hold.set()
        await asyncio.gather(*calls)
        await worker.stop()
        assert port.unended == 0


async def test_a_shutdown_has_a_deadline_that_may_come_nearer():
    entered, hold = threading.Event(), threading.Event()
    sup = Supervisor("app", shutdown_timeout=100)
    call = asyncio.create_task(sup.run(lambda: entered.set() or hold.wait()))
    port = integration_of(sup)
    await until(entered.is_set)
    sup.request_shutdown("deploy")
    await until(lambda: port.deadline is not None)
    assert port.reason == "deploy"
    assert 90 < port.deadline - port.clock() <= 100
    ending = asyncio.create_task(sup.shutdown(timeout=50, reason="hurry"))
    await until(lambda: port.deadline - port.clock() <= 50)
    assert port.reason == "deploy"
    hold.set()
    report = await ending
    assert port.report is report
    assert await call  # it has returned in its grace


async def test_who_subscribes_without_watching_has_no_call_watched():
    async with Supervisor("app") as sup:
        port, notices = integration_of(sup), []
        port.subscribe(notices.append, watch=False)
        await sup.run(int)
        assert not notices
        port.subscribe(notices.append)
        await sup.run(int)
        assert [type(notice).__name__ for notice in notices].count("StateChanged") == 6  # two have heard of three
        port.unsubscribe(notices.append)
        del notices[:]
        await sup.run(int)
        assert not notices


async def test_it_is_of_a_supervisor_and_of_no_group():
    async with Supervisor("app") as sup:
        with pytest.raises(TypeError, match=r"register\(None\): must be a Supervisor"):
            integration_of(None, "register({!r})")
        with pytest.raises(ValueError, match=r"register\(.*'feeds'.*\): is a group; give that around it"):
            integration_of(sup.group("feeds"), "register({!r})", no_group="is a group; give that around it")


async def test_it_belongs_to_the_supervisors_loop():
    async with Supervisor("app") as sup:

        async def bind():
            integration_of(sup).bind()

        (refused,) = await refused_elsewhere(bind)
        assert "another event loop" in refused
