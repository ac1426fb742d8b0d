"""`health()`: whether a supervisor may be given work, and whether it can go on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from supervisor import Ask, EscalationPolicy, Health, Inject, Restart, RestartLimitExceeded, Supervisor, WorkerStopped

from .. import inside
from ..waiting import until

WELL = (True, True)
UNREADY = (False, True)
DEAD = (False, False)

NO_MORE = Restart("failure", max_restarts=0)


def state(health):
    return health.ready, health.live


def wait(ctx):
    ctx.stop.wait()


def fail(ctx):
    raise ValueError("no")


def ready_when(ctx, event):
    event.wait(30)
    ctx.ready()
    ctx.stop.wait()


# ------------------------------------------------------------------------------------------------ ready


async def test_it_is_ready_from_before_its_first_use_until_its_shutdown_begins():
    sup = Supervisor("app")
    assert sup.health() == Health("app", ready=True, live=True)
    async with sup:
        worker = await sup.start(wait)
        assert sup.health() == Health("app", ready=True, live=True)
        sup.request_shutdown()
        assert worker.state == "running"
        assert sup.health() == Health("app", ready=False, live=True, reasons=("is shutting down",))
    assert sup.health() == Health("app", ready=False, live=True, reasons=("has shut down",))


def test_one_that_was_asked_to_shut_down_before_its_first_use_is_not_ready():
    sup = Supervisor()
    sup.request_shutdown()
    assert sup.health().reasons == ("is shutting down",)
    assert state(sup.health()) == UNREADY


async def test_it_is_not_ready_while_a_worker_with_a_ready_timeout_is_not():
    async with Supervisor() as sup:
        event = threading.Event()
        starting = asyncio.create_task(sup.start(ready_when, event, name="db", ready_timeout=30))
        await until(sup.workers)
        assert state(sup.health()) == UNREADY
        assert sup.health().reasons == ("not ready: 'db'",)
        assert state(sup.group("feeds").health()) == WELL
        event.set()
        worker = await starting
        assert state(sup.health()) == WELL
        event.clear()
        restarting = asyncio.create_task(worker.restart())
        await until(lambda: worker.attempt == 2)
        assert state(sup.health()) == UNREADY
        event.set()
        await restarting
        assert state(sup.health()) == WELL


async def test_a_worker_that_backs_off_is_not_ready_where_it_has_a_ready_timeout():
    def once(ctx):
        ctx.ready()
        if ctx.attempt == 1:
            raise ValueError("no")
        ctx.stop.wait()

    async with Supervisor() as sup:
        later = Restart("failure", backoff=30)
        await sup.start(fail, restart=later)  # it never says that it is ready, so it does not matter
        worker = await sup.start(once, name="db", restart=later, ready_timeout=30)
        await until(lambda: worker.state == "backing_off")
        assert sup.health().reasons == ("not ready: 'db'",)
        await worker.restart()
        assert state(sup.health()) == WELL


async def test_a_worker_that_is_stopped_for_good_is_not_waited_for():
    def slow(ctx, entered, go_on):
        ctx.ready()
        ctx.stop.wait()
        entered.set()
        go_on.wait(30)

    async with Supervisor(policy=EscalationPolicy(Ask(60))) as sup:
        entered, go_on = threading.Event(), threading.Event()
        worker = await sup.start(slow, entered, go_on, ready_timeout=30)
        stopping = asyncio.create_task(worker.stop())
        await asyncio.to_thread(entered.wait)
        assert worker.state == "stopping"
        assert state(sup.health()) == WELL
        go_on.set()
        await stopping


async def test_a_reason_names_a_few_and_counts_the_others():
    async with Supervisor() as sup:
        event = threading.Event()
        starting = [
            asyncio.create_task(sup.start(ready_when, event, name=f"w{number}", ready_timeout=30))
            for number in range(8)
        ]
        await until(lambda: len(sup.workers()) == 8)
        assert sup.health().reasons == ("not ready: 'w0', 'w1', 'w2', 'w3', 'w4' and 3 more",)
        event.set()
        await asyncio.gather(*starting)


# ------------------------------------------------------------------------------------------------ live


async def test_more_abandoned_workers_than_it_bears_are_its_end_until_they_come_back(leftovers):
    async with Supervisor(max_threads=1, policy=EscalationPolicy(Ask(0.01))) as sup:
        for number in range(2):
            await (await sup.start(leftovers.block, name=f"deaf{number}")).stop()
            assert state(sup.health()) == (WELL if number == 0 else DEAD)  # None is max_threads
        assert sup.health().reasons == ("more than max_abandoned=1 have not come back: 'deaf0', 'deaf1'",)
        assert state(sup.health(max_abandoned=2)) == WELL
        assert state(sup.health(max_abandoned=0)) == DEAD
        leftovers.release.set()
        await until(lambda: not sup.statistics().abandoned)
        assert state(sup.health(max_abandoned=0)) == WELL


async def test_a_worker_that_was_given_up_is_missed_until_another_one_has_its_name():
    async with Supervisor() as sup:
        await (await sup.start(fail, name="poller", restart=NO_MORE)).wait()
        assert state(sup.health()) == DEAD
        assert sup.health().reasons == ("more than max_exhausted=0 were given up: 'poller'",)
        assert state(sup.health(max_exhausted=1)) == WELL
        await sup.run(int, name="poller")  # a call is no replacement
        assert state(sup.health()) == DEAD
        await sup.start(wait, name="poller")
        assert state(sup.health()) == WELL


async def test_a_worker_that_ends_otherwise_is_not_missed():
    async with Supervisor() as sup:
        await (await sup.start(fail)).wait()
        await (await sup.start(wait)).stop()
        assert state(sup.health()) == WELL


async def test_a_worker_that_takes_the_supervisor_with_it_leaves_that_live_while_it_shuts_down():
    sup = Supervisor("app", on_exhausted="escalate")
    with pytest.raises(RestartLimitExceeded):
        async with sup:
            worker = await sup.start(fail, restart=NO_MORE)
            await worker.wait()
            assert state(sup.health()) == UNREADY
    assert state(sup.health()) == UNREADY


async def test_only_so_many_of_those_that_were_given_up_are_remembered(monkeypatch):
    inside.patch(monkeypatch, REMEMBERED=3)
    async with Supervisor() as sup:
        for number in range(5):
            await (await sup.start(fail, name=f"w{number}", restart=NO_MORE)).wait()
        assert sup.health(max_exhausted=2).reasons == ("more than max_exhausted=2 were given up: 'w2', 'w3', 'w4'",)
        assert state(sup.health(max_exhausted=3)) == WELL


# ------------------------------------------------------------------------------------------------ groups


async def test_a_group_has_a_health_of_its_own_and_its_supervisor_counts_it(leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(0.01))) as sup:
        feeds, web = sup.group("feeds", on_exhausted="give_up"), sup.group("web")
        inner = feeds.group("inner", on_exhausted="give_up")
        assert feeds.health() == Health("feeds", ready=True, live=True)
        await (await inner.start(fail, name="poller", restart=NO_MORE)).wait()
        await (await feeds.start(leftovers.block, name="deaf")).stop()
        for around in (sup, feeds, inner):
            assert around.health().reasons == ("more than max_exhausted=0 were given up: 'feeds/inner/poller'",)
            assert state(around.health()) == DEAD
        assert state(web.health(max_abandoned=0)) == WELL
        assert state(feeds.health(max_abandoned=0, max_exhausted=1)) == DEAD
        assert state(inner.health(max_abandoned=0, max_exhausted=1)) == WELL
        await inner.shutdown()  # it is not missed any more
        assert state(sup.health()) == WELL
        assert inner.health().reasons == ("has ended",)
        await feeds.shutdown()
        assert (state(feeds.health()), state(sup.health())) == (UNREADY, WELL)
        assert web.health().ready
    assert web.health().reasons == ("has shut down",)


async def test_a_call_of_a_group_that_is_abandoned_counts_for_that_group(leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(0.01))) as sup:
        feeds, web = sup.group("feeds"), sup.group("web")
        call = asyncio.create_task(feeds.run(leftovers.block))
        await until(lambda: leftovers.entered)
        await sup.workers()[0].stop()
        with pytest.raises(WorkerStopped):
            await call
        assert state(feeds.health(max_abandoned=0)) == DEAD
        assert state(web.health(max_abandoned=0)) == WELL
        assert state(sup.health(max_abandoned=0)) == DEAD
        leftovers.release.set()
        await until(lambda: not sup.statistics().abandoned)


async def test_while_a_group_shuts_down_it_and_those_in_it_are_not_ready():
    def slow(ctx, entered, go_on):
        ctx.stop.wait()
        entered.set()
        go_on.wait(30)

    async with Supervisor("app") as sup:
        feeds = sup.group("feeds")
        inner = feeds.group("inner")
        entered, go_on = threading.Event(), threading.Event()
        await inner.start(slow, entered, go_on)
        stopping = asyncio.create_task(feeds.shutdown())
        await asyncio.to_thread(entered.wait)
        assert feeds.health().reasons == ("is shutting down",)
        assert not inner.health().ready
        assert state(sup.health()) == WELL  # somebody wants it so
        go_on.set()
        await stopping
        assert state(sup.health()) == WELL


async def test_a_group_that_waits_to_begin_anew_is_not_ready_nor_is_its_supervisor():
    async with Supervisor("app") as sup:
        feeds = sup.group("feeds", restart=Restart("always", backoff=30))
        inner = feeds.group("inner", on_exhausted="give_up")
        await feeds.start(fail, restart=NO_MORE)
        await until(lambda: not feeds.health().ready)
        await until(lambda: "again" in sup.health().reasons[0])
        assert state(feeds.health()) == UNREADY  # it is started again, and so is its worker
        assert feeds.health().reasons == ("is being stopped or started again",)
        assert not inner.health().ready
        assert sup.health() == Health("app", ready=False, live=True, reasons=("being started again: 'feeds'",))


async def test_a_group_is_not_ready_until_all_that_begins_anew_in_it_is():
    fails, again = threading.Event(), threading.Event()
    runs = []

    def slow(ctx):
        runs.append(ctx)
        if len(runs) == 1:
            ctx.ready()
            fails.wait(30)
            fail(ctx)
        again.wait(30)
        if len(runs) == 2:
            fail(ctx)
        ctx.ready()
        ctx.stop.wait()

    async with Supervisor("app") as sup:
        feeds = sup.group("feeds", restart=Restart("always", backoff=0))
        first = await feeds.start(wait, name="first")
        await feeds.start(slow, restart=Restart("failure", max_restarts=0, backoff=0), ready_timeout=30)
        assert state(sup.health()) == WELL
        fails.set()
        await until(lambda: len(runs) == 2)
        assert first.state == "ended"
        assert feeds.health().reasons == ("is being stopped or started again",)
        assert "being started again: 'feeds'" in sup.health().reasons
        assert state(sup.health()) == UNREADY
        again.set()
        await until(lambda: state(sup.health()) == WELL)
        assert len(runs) == 3


async def test_a_group_that_was_asked_to_shut_down_is_not_ready_at_once():
    async with Supervisor("app") as sup:
        feeds = sup.group("feeds")
        inner = feeds.group("inner")
        feeds.request_shutdown()
        assert feeds.health().reasons == ("is shutting down",)
        assert not inner.health().ready
        assert state(sup.health()) == WELL


@pytest.mark.parametrize("restart", [Restart("always", max_restarts=0), Restart("never")])
async def test_a_group_that_was_given_up_is_dead(restart):
    async with Supervisor("app") as sup:
        feeds = sup.group("feeds", restart=restart)
        await feeds.start(fail, restart=NO_MORE)
        await until(lambda: not sup.health().live)
        assert sup.health().reasons == ("more than max_exhausted=0 were given up: 'feeds'",)
        assert state(feeds.health()) == DEAD
        sup.group("feeds")
        assert state(sup.health()) == WELL


# ------------------------------------------------------------------------------------------------ from anywhere


async def test_any_thread_may_ask_and_a_worker_may_too():
    async with Supervisor("app") as sup:
        assert (await asyncio.to_thread(sup.health)).ready
        assert (await sup.run(sup.health)).ready

        over = threading.Event()

        def asks():
            while not over.is_set():
                assert sup.health().live

        asking = asyncio.create_task(asyncio.to_thread(asks))
        for _ in range(50):
            await (await sup.start(wait, ready_timeout=None)).stop()
            await asyncio.gather(*(sup.run(int) for _ in range(20)))
            await sup.group("group").shutdown()
        over.set()
        await asking


async def test_an_injection_waits_until_a_worker_has_its_answer(monkeypatch):
    entered, whole = threading.Event(), []

    def slow(*args, **kwargs):
        entered.set()
        while sup.workers()[0].state != "stopping":
            pass
        end = time.monotonic() + 0.1  # in which it would strike again and again
        while time.monotonic() < end:
            pass
        whole.append(True)
        return inside.health_of(*args, **kwargs)

    inside.patch_health(monkeypatch, slow)
    async with Supervisor("app", policy=EscalationPolicy(Inject(20, every=0.01))) as sup:
        worker = await sup.start(lambda ctx: sup.health())
        await asyncio.to_thread(entered.wait)
        assert (await worker.stop()).ended == "injected"
    assert whole


def test_it_is_json():
    health = Health("app", ready=False, live=True, reasons=("is shutting down",))
    assert json.loads(json.dumps(health.to_dict())) == {
        "supervisor": "app",
        "ready": False,
        "live": True,
        "reasons": ["is shutting down"],
        "failed": [],
    }


@pytest.mark.parametrize("field", ["max_abandoned", "max_exhausted"])
@pytest.mark.parametrize(("wrong", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)])
async def test_thresholds_that_cannot_be_are_refused_by_name(field, wrong, error):
    async with Supervisor() as sup:
        for one in (sup, sup.group("group"), Supervisor()):
            with pytest.raises(error, match=f"{field}="):
                one.health(**{field: wrong})


FORKS = """
import asyncio, os
from supervisor import Supervisor

async def main():
    async with Supervisor("app") as sup:
        group = sup.group("group")
        child = os.fork()
        if child == 0:
            ours, groups = sup.health(), group.health()
            os._exit(0 if not (ours.live or groups.live) and "before the fork" in ours.reasons[0] else 3)
        print("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

asyncio.run(main())
"""


def test_one_that_a_fork_has_copied_is_dead():
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60, check=True, env=os.environ
    )
    assert done.stdout == "exit 0\n", done.stderr
