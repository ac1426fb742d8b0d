"""One view of what runs on a cluster: what a supervisor says of it, and what it logs."""

import asyncio
import os
import re
import signal
import threading
import time

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Kill, Supervisor, Terminate, WorkerStopped

from ..inside_shown import survey_text
from ..waiting import until
from . import functions as f

FAST = EscalationPolicy(Ask(0.1), Inject(2, every=0.1), Terminate(1), Kill(1))
DAEMON = EscalationPolicy(Ask(1), Terminate(1), Kill(1))
LAST = EscalationPolicy(Ask(0.2), Kill(1))


class Recorder:
    """A logger that keeps its events; those of workers are in no catalogue."""

    def __init__(self):
        self.events = []

    def __getattr__(self, level):
        if level.startswith("_") or level in ("bind", "is_enabled_for", "isEnabledFor"):
            raise AttributeError(level)
        return lambda event, **fields: self.events.append({**fields, "event": event, "level": level})


async def ended(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_worker_has_its_node(three, kind, tmp_path, events):
    async with Supervisor("app", cluster=three.address) as sup:
        seen = sup.transitions()
        worker = await sup.start(f.tick, tmp_path / "t", name="ticker", kind=kind, on="cluster", nodes="b")
        await until(lambda: [node.state for node in sup.statistics().nodes] == ["up"] * 3)
        assert (worker.node, sup.worker("ticker").node) == ("b", "b")
        await until(lambda: (tmp_path / "t").exists() and (tmp_path / "t").read_text().split())
        pid = int((tmp_path / "t").read_text().split()[0])
        assert worker.pid == (pid if kind == "process" else None)
        assert (worker.ident is not None) is (kind == "thread")
        task = asyncio.ensure_future(sup.run(f.until_stopped, tmp_path / "c", name="call", on="cluster", kind=kind))
        assert [one.node for one in sup.workers() if one.state == "queued"] in ([], [None])
        await until((tmp_path / "c").exists)
        statistics = sup.statistics()
        assert statistics.workers == {"running": 2}
        nodes = {node.name: node for node in statistics.nodes}
        assert sorted(nodes) == ["a", "b", "c"]
        assert {node.state for node in nodes.values()} == {"up"}
        assert (nodes["b"].workers, sum(node.calls for node in nodes.values())) == (1, 1)
        pool = statistics.pools[f"cluster-{kind}"]
        assert (pool.size, pool.capacity, pool.running, pool.alive) == (6, 6, 1, 2)
        assert (statistics.threads, statistics.processes) == (0, 0)
        with pytest.raises(ValueError, match="no"):
            await sup.run(f.fail, "no", name="failing", on="cluster", kind=kind)
        (incident,) = sup.incidents()
        assert incident.node in three.nodes
        await worker.stop("enough")
        assert (worker.node, worker.outcome.node) == (None, "b")
        await ended(task)
    changes = [change async for change in seen if change.worker == "ticker"]
    assert [(change.new, change.node) for change in changes] == [("running", "b"), ("stopping", "b"), ("ended", "b")]
    assert changes[0].pid == (pid if kind == "process" else None)
    assert {event.get("node") for event in events if event["event"] == "worker.running"} <= set(three.nodes)


async def test_a_supervisor_that_has_not_used_its_cluster_is_ready():
    async with Supervisor(cluster="tcp://127.0.0.1:9") as sup:
        assert await sup.run(int) == 0
        assert sup.health().ready
        pool = sup.statistics().pools["cluster-thread"]
        assert (pool.size, pool.capacity, sup.statistics().nodes) == (0, 0, ())


async def test_what_a_process_logs_arrives_in_order_with_its_steps(three, tmp_path):
    log = Recorder()
    events = log.events
    async with Supervisor(cluster=three.address, logger=log) as sup:
        began = tmp_path / "began"
        worker = await sup.start(
            f.log_some, began, 20, name="talker", kind="process", on="cluster", nodes="c", policy=LAST
        )
        await until(lambda: any(event["event"] == "odd" for event in events))
        await worker.stop("enough")
        pid = next(event["pid"] for event in events if event["event"] == "worker.running")
    ours = [event for event in events if event.get("worker") == "talker"]
    said = [event["event"] for event in ours]
    assert said == [
        "worker.running",
        *["step"] * 20,
        "odd",
        "worker.stopping",
        "asked",
        "worker.escalated",
        "worker.ended",
    ]
    assert [event["count"] for event in ours if event["event"] == "step"] == list(range(20))
    assert {event["node"] for event in ours} == {"c"}
    odd = next(event for event in ours if event["event"] == "odd")
    assert (odd["value"], odd["level"]) == ("<odd>", "debug")
    assert (odd["attempt"], odd["kind"], odd["pid"]) == (1, "process", pid)
    assert next(event for event in ours if event["event"] == "step")["what"] == {"a": [0]}


async def flooded(three, tmp_path, seconds):
    """Returns how often a worker has logged, what has arrived and was counted, and how long two stops have taken."""
    log = Recorder()
    events = log.events
    async with Supervisor(cluster=three.address, cluster_lease=3, logger=log) as sup:
        flood = await sup.start(f.log_flood, tmp_path / "flood", name="flood", kind="process", on="cluster", nodes="a")
        other = asyncio.ensure_future(
            sup.run(f.until_stopped, tmp_path / "other", name="other", on="cluster", nodes="a")
        )
        await until((tmp_path / "other").exists)
        await asyncio.sleep(seconds)
        time.sleep(0.5)  # what comes meanwhile is too much for the loop
        began = time.monotonic()
        await sup.worker("other").stop("enough")
        assert await other == "enough"
        of_other = time.monotonic() - began
        began = time.monotonic()
        outcome = await flood.stop("enough")
        of_flood = time.monotonic() - began
        assert outcome.ended == "stopped"

        def counted():
            arrived = sum(event["event"] == "flood" for event in events)
            return arrived, sum(event["dropped"] for event in events if event["event"] == "worker.logs_dropped")

        await until(lambda: sum(counted()) >= outcome.value)
        return outcome.value, *counted(), of_other, of_flood


async def test_a_flood_of_logs_delays_no_stop_and_what_is_lost_is_counted(three, tmp_path):
    logged, arrived, dropped, of_other, of_flood = await flooded(three, tmp_path, 1.0)
    print(f"logged {logged}, arrived {arrived}, dropped {dropped}, stops in {of_other:.2f} and {of_flood:.2f} s")
    assert arrived + dropped == logged
    assert of_other < 2
    assert of_flood < 4


@pytest.mark.slow
async def test_a_long_flood_of_logs_costs_no_lease(three, tmp_path):
    logged, arrived, dropped, of_other, of_flood = await flooded(three, tmp_path, 8.0)
    assert arrived + dropped == logged
    assert max(of_other, of_flood) < 4


async def test_stacks_of_many_on_all_nodes_are_there_within_a_second(three, tmp_path):
    async with Supervisor(cluster=three.address) as sup:
        tasks = []
        for node in three.nodes:
            for kind in ("thread", "process") if node != "c" else ("thread",):
                fn = f.until_stopped if kind == "thread" else f.in_c
                name = f"{kind}-{node}"
                tasks.append(
                    asyncio.ensure_future(
                        sup.run(fn, tmp_path / name, name=name, on="cluster", kind=kind, nodes=node, policy=FAST)
                    )
                )
        sleep = sup.run(time.sleep, 20, name="c", on="cluster", nodes="c", policy=FAST)  # no Python code at all
        tasks.append(asyncio.ensure_future(sleep))
        await until(lambda: len(list(tmp_path.iterdir())) == 5)
        await until(lambda: sup.worker("c").state == "running")
        await asyncio.sleep(0.1)
        stacks, took = timed(sup.stacks)
        assert took < 1
        elsewhere: list = []
        thread = threading.Thread(target=lambda: elsewhere.append(timed(sup.stacks)))
        thread.start()
        await until(lambda: elsewhere)
        thread.join()
        assert elsewhere[0][1] < 1
        for found in (stacks, elsewhere[0][0]):
            for name, stack in found.items():
                if name == "c":
                    assert "in sleep()" in stack, stack
                else:
                    first = stack.splitlines()[0]
                    assert "functions.py" in first, stack
                    assert "parcel.py" not in stack
                    assert ("in in_c" if name.startswith("process") else "in until_stopped") in stack
        assert len(stacks) == 6
        await ended(*tasks)


def timed(fn):
    began = time.monotonic()
    return fn(), time.monotonic() - began


async def test_a_node_that_stands_still_costs_a_look_at_stacks_one_second_once(three, tmp_path):
    async with Supervisor(cluster=three.address, cluster_lease=10) as sup:
        tasks = [
            asyncio.ensure_future(
                sup.run(f.until_stopped, tmp_path / f"{node}{kind}", name=f"{node}-{kind}", on="cluster", kind=kind)
            )
            for node in "ab"
            for kind in ("thread", "process")
        ]
        await until(lambda: len(list(tmp_path.iterdir())) == 4)
        still = sup.workers()[0].node
        os.kill(three.nodes[still].pid, signal.SIGSTOP)
        try:
            stacks, took = timed(sup.stacks)
            assert took < 1.5
            assert len(stacks) == 4
            again, took = timed(sup.stacks)
            assert took < 0.5
            assert [name for name, stack in again.items() if "does not answer" in stack] == [
                worker.name for worker in sup.workers() if worker.node == still
            ]
        finally:
            os.kill(three.nodes[still].pid, signal.SIGCONT)
        await until(lambda: "does not answer" not in sup.worker(sup.workers()[0].name).stack())
        await ended(*tasks)


async def test_health_and_log_say_that_a_node_is_lost(nodes, events):
    nodes.add("only")
    async with Supervisor("app", cluster=nodes.address) as sup:
        task = asyncio.ensure_future(sup.run(f.spin, on="cluster"))
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        assert sup.health().ready
        await until(lambda: ("node_joined", "info", "only", None) in reported(events))
        nodes.nodes["only"].kill()
        await asyncio.gather(task, return_exceptions=True)
        assert not sup.health().ready
    assert reported(events)[-1] == ("node_lost", "warning", "only", 1)
    assert [event["reason"] for event in events if event["event"] == "supervisor.node_lost"] == [
        "its process has ended"
    ]


async def test_a_slow_call_and_a_stuck_worker_are_logged_with_where_they_stand(three, tmp_path, events):
    async with Supervisor(cluster=three.address) as sup:
        options = {"on": "cluster", "nodes": "c", "policy": FAST}
        task = asyncio.ensure_future(sup.run(f.spin, name="slow", slow_after=0.2, **options))
        await until(lambda: any(event["event"] == "worker.slow" for event in events))
        worker = await sup.start(f.silent, name="stuck", heartbeat=0.3, **options)
        assert (await worker.wait()).ended == "injected"
        await ended(task)
    for name, function in (("worker.slow", "in spin"), ("worker.stuck", "in silent")):
        (event,) = [event for event in events if event["event"] == name]
        assert event["node"] == "c"
        assert function in event["stack"]


async def test_a_page_and_a_dump_show_the_node(three, tmp_path):
    pytest.importorskip("jinja2")
    from supervisor import dashboard

    from ..dashboard.visiting import At, visitor

    async with Supervisor(cluster=three.address) as sup, visitor(At(dashboard.app(sup))) as client:
        await sup.start(f.tick, tmp_path / "t", name="ticker", on="cluster", nodes="b")
        assert "on <bdi>b</bdi>" in (await client.get("")).text
        assert "<dt>Node</dt><dd><bdi>b</bdi>" in (await client.get("worker?name=ticker")).text
        assert re.search(r"ticker .* on b$", survey_text(sup), re.MULTILINE)


async def test_health_says_that_the_link_has_failed(three):
    from .. import inside_nodes

    async with Supervisor(cluster=three.address) as sup:
        await sup.run(f.pid, on="cluster")
        assert sup.health().ready
        inside_nodes.fail_link(sup)
        await until(lambda: any("the link to its nodes has failed" in reason for reason in sup.health().reasons))


@pytest.mark.slow
async def test_health_and_log_say_that_no_node_takes_runs_and_that_the_scheduler_is_gone(nodes, events):
    async with Supervisor("app", cluster=nodes.address) as sup:
        task = asyncio.ensure_future(sup.run(f.spin, on="cluster"))
        await until(lambda: any("no node that takes runs" in reason for reason in sup.health().reasons))
        await until(lambda: reported(events) == [("cluster_unready", "warning", None, None)])
        nodes.add("only")
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"])
        assert sup.health().ready
        await until(lambda: len(reported(events)) == 3)
        assert set(reported(events)[1:]) == {
            ("cluster_ready", "info", None, None),
            ("node_joined", "info", "only", None),
        }
        nodes.scheduler.kill()
        await until(lambda: any("scheduler" in reason for reason in sup.health().reasons))
        await until(lambda: "cluster_unready" in [event for event, *_ in reported(events)[3:]])  # its node may go first
        await ended(task)


@pytest.mark.slow
async def test_a_node_that_stands_still_is_out_of_reach_and_joins_again(nodes, events):
    nodes.add("only")
    async with Supervisor("app", cluster=nodes.address, cluster_lease=6) as sup:
        await sup.run(f.pid, on="cluster")
        await until(lambda: ("node_joined", "info", "only", None) in reported(events))
        events.clear()
        nodes.nodes["only"].kill(signal.SIGSTOP)
        await until(lambda: [node.state for node in sup.statistics().nodes] == ["unreachable"])
        assert "silent" in sup.statistics().nodes[0].reason
        await until(lambda: reported(events) == [("node_unreachable", "warning", "only", 0)])
        nodes.nodes["only"].kill(signal.SIGCONT)
        await until(lambda: reported(events)[1:] == [("node_joined", "info", "only", None)])
        assert [node.state for node in sup.statistics().nodes] == ["up"]


def reported(events):
    """Returns what was logged of the cluster and its nodes: names without their beginning, levels, nodes and runs."""
    return [
        (event["event"].partition(".")[2], event["level"], event.get("node"), event.get("runs"))
        for event in events
        if event["event"].startswith(("supervisor.node_", "supervisor.cluster_"))
    ]


async def test_the_metrics_count_nodes_by_their_states(three):
    prometheus_client = pytest.importorskip("prometheus_client")
    from supervisor.metrics import register

    async with Supervisor("app", cluster=three.address) as sup:
        registry = prometheus_client.CollectorRegistry()
        register(sup, registry=registry)

        def nodes(state):
            return registry.get_sample_value("supervisor_cluster_nodes", {"supervisor": "app", "state": state})

        assert nodes("up") == 0
        await sup.run(f.pid, on="cluster")
        await until(lambda: nodes("up") == 3)
        assert (nodes("unreachable"), nodes("closing")) == (0, 0)
        assert registry.get_sample_value("supervisor_threads", {"supervisor": "app"}) == 0


async def test_a_span_reaches_the_function_and_has_the_node(three, kind):
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from supervisor.otel import instrument

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with Supervisor(cluster=three.address) as sup:
        instrument(sup, tracer_provider=provider)
        found = await sup.run(f.span_of_here, on="cluster", kind=kind, nodes="c")
        task = asyncio.ensure_future(sup.run(f.spin, on="cluster", kind=kind, policy=FAST, nodes="c", name="spin"))
        await until(lambda: [worker for worker in sup.workers() if worker.ident or worker.pid])  # its node has said so
        await sup.worker("spin").stop()
        with pytest.raises(WorkerStopped):
            await task
    span, stopped, *_ = exporter.get_finished_spans()
    assert format(span.context.trace_id, "032x") == found
    assert span.attributes["supervisor.node"] == "c"
    said = [(event.name, event.attributes.get("supervisor.step")) for event in stopped.events]
    assert said[:3] == [("worker.running", None), ("worker.stopping", "ask"), ("worker.escalated", "inject")]
    assert {event.attributes["supervisor.node"] for event in stopped.events} == {"c"}
