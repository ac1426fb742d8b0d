"""Leases: a node ends what it has of an owner that is gone, and an owner never counts on it too early."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerDied, WorkerStopped

from ..inside_cluster import VERSION, Lease, Watch, break_link, raw_connection
from ..programs import ROOT
from ..waiting import LIMIT, until
from . import functions as f
from .nodes import until_dead

FAST = EscalationPolicy(Ask(0.1), Inject(1, every=0.1))

OWNER = """
import asyncio, sys
from pathlib import Path
from supervisor import Ask, EscalationPolicy, Inject, Kill, Supervisor
from tests.cluster import functions as f

FAST, HARD = EscalationPolicy(Ask(0.1), Inject(1, every=0.1)), EscalationPolicy(Ask(0.1), Kill())

async def main(address, folder):
    async with Supervisor(cluster=address, cluster_lease=1) as sup:
        calls = [
            sup.run(f.spin_at, folder / "thread", on="cluster", policy=FAST),
            sup.run(f.spin_with_a_child, folder / "process", on="cluster", kind="process", policy=HARD),
        ]
        print("SAID", *(type(how).__name__ for how in await asyncio.gather(*calls, return_exceptions=True)), flush=True)
        print("SAID", await sup.run(f.give_back, "again", on="cluster"), flush=True)

asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""
"""An owner that has a thread and a process spin on nodes, says how that has ended, and goes on."""


@pytest.fixture
def owner(three, tmp_path):
    """The owner's process, whose runs have begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, three.address, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            paths = [tmp_path / "thread.beat", tmp_path / "process.beat"]
            began = time.monotonic()
            while not all(path.exists() for path in paths):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() - began < 20
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def beats(folder):
    """What the runs have said last; a run that goes on says something else a moment later."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.beat")}


def until_silent(folder, seconds):
    """Waits until neither run goes on; returns how long that took."""
    changed = began = time.monotonic()
    before = beats(folder)
    while time.monotonic() - changed < 0.5:
        time.sleep(0.02)
        if (now := beats(folder)) != before:
            before, changed = now, time.monotonic()
        assert time.monotonic() - began < seconds, "they go on"
    return changed - began


def processes_of(folder):
    return [int((folder / name).read_text()) for name in ("process", "process.child")]


def test_what_an_owner_that_was_killed_has_left_is_over_within_its_lease_and_ladder(owner, tmp_path):
    owner.kill()
    assert until_silent(tmp_path, 20) < 1 + 1.1 + 0.5
    for pid in processes_of(tmp_path):
        until_dead(pid, 2)


def test_an_owner_that_was_stopped_for_longer_than_its_lease_says_so_and_goes_on(owner, three, tmp_path):
    owner.send_signal(signal.SIGSTOP)
    until_silent(tmp_path, 20)
    owner.send_signal(signal.SIGCONT)
    said, errors = owner.communicate(timeout=20)
    lines = [line for line in said.splitlines() if line.startswith("SAID")]
    assert lines == ["SAID WorkerDied WorkerDied", "SAID again"], (said, errors)
    assert not errors
    for pid in processes_of(tmp_path):
        until_dead(pid, 2)


async def test_a_node_whose_gil_was_held_for_longer_than_the_lease_asks_once_more(three, tmp_path):
    async with Supervisor(cluster=three.address, cluster_lease=1) as sup:
        beside = asyncio.ensure_future(sup.run(f.wait_at, tmp_path / "beside", 2.5, on="cluster", nodes="b"))
        await until((tmp_path / "beside").exists)
        assert await sup.run(f.hold_the_gil, tmp_path / "held", 1.5, on="cluster", nodes="b") == "held"
        assert await beside == "beside"


async def test_what_is_large_outlasts_no_lease_and_is_not_too_large_for_a_frame(three):
    async with Supervisor(cluster=three.address, cluster_lease=1) as sup:
        data = os.urandom(1 << 20) * 50
        assert await sup.run(f.give_back, data, on="cluster") == data


async def test_a_link_that_dies_hangs_nobody_and_is_said(three, tmp_path, monkeypatch):
    said = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
    async with Supervisor(cluster=three.address, cluster_lease=1, shutdown_timeout=2) as sup:
        task = asyncio.ensure_future(sup.run(f.spin_at, tmp_path / "run", on="cluster", policy=FAST))
        await until((tmp_path / "run.beat").exists)
        break_link(monkeypatch, SystemError("broken"))
        with pytest.raises(WorkerDied):
            await asyncio.wait_for(task, 20)
        before = beats(tmp_path)
        await asyncio.sleep(0.1)
        assert beats(tmp_path) == before  # it is over there
        with pytest.raises(ConnectionError, match="link to its nodes has failed"):
            await asyncio.wait_for(sup.run(f.pid, on="cluster"), 20)
    assert "the link to the cluster failed" in said[0]["message"]
    assert repr(said[0]["exception"]) == "SystemError('broken')"


@pytest.mark.filterwarnings("ignore:.*was never shut down", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_closed_leaves_no_thread_and_no_run(three, tmp_path):
    loop = asyncio.new_event_loop()
    sup = Supervisor("left", cluster=three.address, cluster_lease=60)

    async def begin():
        await sup.start(f.spin_forever, tmp_path / "run", on="cluster", policy=FAST)
        await until((tmp_path / "run.beat").exists)

    loop.run_until_complete(begin())
    loop.close()
    assert until_silent(tmp_path, 20) < 10
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "left-cluster"] or [None]
    if thread is not None:
        thread.join(20)
        assert not thread.is_alive()


async def test_after_a_shutdown_no_thread_is_left(three):
    async with Supervisor("brief", cluster=three.address) as sup:
        await sup.run(f.pid, on="cluster")
        mine = [thread for thread in threading.enumerate() if thread.name.startswith("brief-cluster")]
        assert sorted(thread.name for thread in mine) == ["brief-cluster", "brief-cluster-intake"]
    for thread in mine:
        thread.join(LIMIT)  # nodes that are slow to answer to the good-bye hold it up, and no shutdown waits for them
        assert not thread.is_alive()


async def test_a_shutdown_is_bounded_where_no_scheduler_answers():
    pytest.importorskip("distributed")
    async with Supervisor(cluster="tcp://127.0.0.1:9", cluster_lease=1, shutdown_timeout=1) as sup:
        with pytest.raises(ConnectionError, match=r"no node could be reached for .* cannot be reached"):
            await asyncio.wait_for(sup.run(f.pid, on="cluster"), 20)
        task = asyncio.ensure_future(sup.run(f.pid, on="cluster"))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await sup.shutdown()
        assert time.monotonic() - began < 3
        with contextlib.suppress(WorkerStopped, ConnectionError):
            await task


# ------------------------------------------------------------------------------------ what a node bears

HELLO = {
    "op": "supervisor",
    "owner": "me",
    "supervisor": "garbage",
    "version": VERSION,
    "lease": 1,
    "shutdown_timeout": 1,
    "heard": 0,
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 99},
        {"version": "1 on Python 2.7"},
        {"lease": float("nan")},
        {"lease": -1},
        {"lease": None},
        {"heard": -1},
        {"heard": "x"},
        {"shutdown_timeout": "long"},
    ],
)
async def test_a_node_refuses_what_is_no_owner(three, wrong):
    async with raw_connection(three.nodes["c"].address) as comm:
        await comm.write({**HELLO, **wrong})
        answer = await comm.read()
        assert "takes nothing" in answer["problem"]


async def test_a_node_bears_garbage_from_an_owner(three):
    async with raw_connection(three.nodes["c"].address) as comm:
        await comm.write({**HELLO, "owner": "garbage"})
        assert "incarnation" in await comm.read()
        await comm.write({"heard": 0, "items": [[1, [], "nonsense", 3], [2, [], "begin", 1, {}, b"x"]], "echo": 1e300})
        await comm.write({"heard": 0, "items": [[3, [], "stacks", 5, [1]]]})
        while not (items := (await comm.read())["items"]):
            pass
        assert [*items[-1][2:]] == ["stacks", 5, (None,)]
        await comm.write({"garbage": True})
        with pytest.raises(OSError, match=r".*"):
            while True:
                await comm.read()
    async with Supervisor(cluster=three.address) as sup:
        await sup.run(f.pid, on="cluster", nodes="c")


async def test_a_node_begins_nothing_beside_what_an_owner_has_given_up_and_resumes_nothing_that_is_over(three):
    async def say(**more):
        async with raw_connection(three.nodes["c"].address) as comm:
            await comm.write({**HELLO, "owner": "twice", **more})
            return await comm.read()

    first = await say()
    again = await say(resume=first["incarnation"])
    assert again["incarnation"] == first["incarnation"]
    assert "it ends what it had" in (await say())["problem"]
    while "problem" in (second := await say()):
        await asyncio.sleep(0.05)
    assert second["incarnation"] != first["incarnation"]
    answer = await say(resume=first["incarnation"])
    assert answer["over"]
    assert answer["agent"] == first["agent"]


# ------------------------------------------------------------------------------------ by a clock of the test's own


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def watched(seconds=10.0):
    clock, said = Clock(), []
    return clock, said, Watch(Lease(seconds, 20.0), said.append, clock)


def test_a_lease_runs_out_when_it_was_agreed_on():
    clock, said, watch = watched()
    while not watch.ran_out():
        clock.now += 0.1
    assert 110 < clock.now < 110.3
    assert len(said) >= 4


def test_a_lease_that_is_renewed_does_not():
    clock, said, watch = watched()
    for _ in range(1000):
        clock.now += 0.1
        assert not watch.ran_out()
        if said:
            watch.renew(said[-1])


def test_what_stood_still_asks_once_more():
    clock, said, watch = watched()
    clock.now += 50
    assert not watch.ran_out()
    watch.renew(said[-1])
    clock.now += 5
    assert not watch.ran_out()
    clock.now += 50
    assert not watch.ran_out()
    clock.now += 0.9
    assert not watch.ran_out()
    clock.now += 0.2
    assert watch.ran_out()


def test_what_an_owner_says_of_the_future_renews_no_more_than_now():
    clock, _, watch = watched()
    watch.renew(1e300)
    clock.now += 10.1
    assert not watch.ran_out()
    clock.now += 1.1
    assert watch.ran_out()


@pytest.mark.parametrize("seconds", [1, 10, 3600])
@pytest.mark.parametrize("ladder", [0, 1, 100])
def test_an_owner_waits_for_longer_than_a_node_with_a_slower_clock_takes(seconds, ladder):
    lease = Lease(seconds, 20)
    node_takes = seconds + lease.grace + 0.1 + lease.end(ladder)
    assert lease.over(ladder) >= node_takes * 1.049
    assert lease.alone(ladder) + 0.5 <= lease.over(ladder) / 1.049  # a process that does not hear of its node


async def test_who_ends_while_it_connects_leaves_no_socket_open(three):
    def files():
        return len(os.listdir("/proc/self/fd"))

    async with Supervisor(cluster=three.address) as sup:
        await sup.run(int, on="cluster")
    before = files()
    gc.disable()  # which would close them, some time
    try:
        for moment in range(40):
            async with Supervisor(cluster=three.address) as sup:
                sup.executor(pool="cluster-thread").submit(int).cancel()
                await asyncio.sleep(moment * 0.0015)
            await until(lambda: files() <= before)
    finally:
        gc.enable()
