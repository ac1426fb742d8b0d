"""What was lost before a shutdown: until it is replaced or comes back, reports, statistics and probes say so."""

import asyncio
import gc
import json
import pickle
import re
import weakref

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    RemoteError,
    Restart,
    RestartLimitExceeded,
    Supervisor,
    WorkerStopped,
)

from .. import inside
from ..kinds.processes import tasks
from ..waiting import until
from .restarting import fail, wait_for_stop

NO_MORE = Restart("failure", max_restarts=0)
QUICK = EscalationPolicy(Ask(0.02))


def lost(report):
    return [(outcome.worker, outcome.ended) for outcome in report.earlier]


async def test_a_worker_that_has_failed_is_in_the_report_which_is_not_clean(events):
    async with Supervisor() as sup:
        await (await sup.start(fail, name="poller")).wait()
        await sup.start(wait_for_stop, name="other")
        assert sup.statistics().failed == 1
        assert sup.health().failed == ("poller",)
    report = sup.report
    assert lost(report) == [("poller", "failed")]
    assert report.counts() == {"stopped": 1}
    assert not report.clean
    lines = str(report).splitlines()
    assert lines[0].endswith(" s: 1 stopped; lost before it began: 1 failed")
    assert lines[2].startswith("other ")
    assert lines[3:5] == ["", "lost before it began:"]
    assert re.fullmatch(r"poller +thread +failed +- +\d+\.\d\d s +\d+\.\d\d s +ValueError: run 1", lines[6].strip())
    data = json.loads(json.dumps(report.to_dict()))
    assert [outcome["worker"] for outcome in data["earlier"]] == ["poller"]
    assert data["earlier"][0]["error"] == "ValueError: run 1"
    assert pickle.loads(pickle.dumps(report)).to_dict() == report.to_dict()
    assert events[-1]["event"] == "supervisor.stopped"
    assert (events[-1]["level"], events[-1]["clean"], events[-1]["earlier"]) == ("warning", False, {"failed": 1})


async def test_a_worker_whose_process_has_died_too(quiet):
    async with Supervisor() as sup:
        outcome = await (await sup.start(tasks.dies, 3, kind="process", name="poller")).wait()
        assert outcome.ended == "died"
    (earlier,) = sup.report.earlier
    assert (earlier.worker, earlier.kind, earlier.ended, earlier.exit_code) == ("poller", "process", "died", 3)


async def test_a_worker_that_was_given_up_is_there_once_with_its_last_error(quiet):
    async with Supervisor() as sup:
        restart = Restart("failure", max_restarts=1, backoff=0, within=600)
        await (await sup.start(fail, name="poller", restart=restart)).wait()
    (earlier,) = sup.report.earlier
    assert (earlier.worker, earlier.ended, earlier.attempt) == ("poller", "failed", 2)
    assert "is given up after 1 restarts" in str(earlier.error)
    assert str(earlier.error).endswith("ValueError: run 2")


async def test_a_worker_that_takes_the_supervisor_with_it_is_why_that_is_not_clean(quiet):
    with pytest.raises(RestartLimitExceeded):
        async with Supervisor(on_exhausted="escalate") as sup:
            await sup.start(wait_for_stop)
            await (await sup.start(fail, name="poller", restart=NO_MORE)).wait()
            await sup.wait_closed()
    assert lost(sup.report) == [("poller", "failed")]
    assert sup.report.counts() == {"stopped": 1}


async def test_what_was_abandoned_is_there_until_it_has_come_back(quiet, leftovers):
    async with Supervisor(policy=QUICK) as sup:
        call = asyncio.create_task(sup.run(leftovers.block, name="call"))
        await until(lambda: leftovers.entered)
        await sup.workers()[0].stop()
        with pytest.raises(WorkerStopped):
            await call
        await (await sup.start(leftovers.block, name="deaf")).stop()
        group = sup.group("feeds")
        await (await group.start(leftovers.block, name="deaf")).stop()
        report = await group.shutdown()
        assert lost(report) == [("feeds/deaf", "abandoned")]
        report = await sup.shutdown()
    assert lost(report) == [("call", "abandoned"), ("deaf", "abandoned"), ("feeds/deaf", "abandoned")]
    assert (report.outcomes, report.abandoned, report.clean) == ((), (), False)
    assert str(report).count("was last seen at:") == 3
    assert "in block" in report.earlier[0].stack


async def test_what_has_come_back_is_not(quiet, leftovers):
    async with Supervisor(policy=QUICK) as sup:
        await (await sup.start(leftovers.block)).stop()
        leftovers.release.set()
        await until(lambda: not sup.statistics().abandoned)
    assert sup.report.clean


async def test_what_comes_back_while_the_supervisor_shuts_down_is_not_either(quiet, leftovers):
    def last(ctx):
        ctx.stop.wait()
        leftovers.release.set()
        while sup.statistics().abandoned:
            ctx.extend(1)

    async with Supervisor() as sup:
        await (await sup.start(leftovers.block, policy=QUICK)).stop()
        await sup.start(last)
    assert sup.report.clean


async def test_what_a_shutdown_abandons_itself_is_no_part_of_it(quiet, leftovers):
    async with Supervisor(policy=QUICK) as sup:
        group = sup.group("feeds")
        await group.start(leftovers.block, name="deaf")
        report = await group.shutdown()
        assert ([outcome.worker for outcome in report.abandoned], report.earlier) == (["feeds/deaf"], ())
        await sup.start(leftovers.block, name="deaf")
    assert [outcome.worker for outcome in sup.report.abandoned] == ["deaf"]
    assert lost(sup.report) == [("feeds/deaf", "abandoned")]  # it is still there


async def test_a_worker_that_was_stuck_and_could_not_be_replaced_is_there_once_and_stays(quiet, leftovers):
    async with Supervisor(policy=QUICK) as sup:
        worker = await sup.start(leftovers.block, name="deaf", heartbeat=0.05, restart=Restart("failure"))
        await worker.wait()
        leftovers.release.set()
        await until(lambda: not sup.statistics().abandoned)
    (earlier,) = sup.report.earlier
    assert (earlier.worker, earlier.ended) == ("deaf", "abandoned")
    assert "could not be ended" in str(earlier.error)


async def test_errors_that_somebody_got_are_no_part_of_it(quiet):
    def unready(ctx):
        raise ValueError

    async with Supervisor() as sup:
        with pytest.raises(ValueError):
            await sup.run(int, "x")
        with pytest.raises(ValueError):
            await sup.run(int, "x", kind="process")
        with pytest.raises(ValueError):
            await sup.start(unready, ready_timeout=60)
        await (await sup.start(wait_for_stop)).stop()
        await (await sup.start(lambda ctx: None)).wait()
        assert (sup.statistics().failed, sup.health().failed) == (0, ())
    assert sup.report.clean


async def test_a_worker_in_whose_place_another_one_was_started_is_not_missed(quiet):
    async with Supervisor() as sup:
        await (await sup.start(fail, name="poller")).wait()
        await sup.run(int, name="poller")
        assert sup.health().failed == ("poller",)  # a call is no replacement
        await sup.start(wait_for_stop, name="poller")
        assert sup.statistics().failed == 0
    assert sup.report.clean


# ------------------------------------------------------------------------------------------------ groups


async def test_a_group_that_is_started_again_brings_back_what_it_lost(quiet):
    failing = [True]

    def flaky(ctx):
        if failing:
            failing.pop()
            raise ValueError
        ctx.stop.wait()

    async with Supervisor() as sup:
        group = sup.group("feeds", restart=Restart("always", backoff=0))
        await (await group.start(flaky, name="named", restart=NO_MORE)).wait()
        await until(lambda: len(sup.workers()) == 1 and sup.health().ready)
        failing.append(True)
        await (await group.start(flaky, restart=NO_MORE)).wait()
        await until(lambda: len(sup.workers()) == 2 and sup.health().ready)
        assert (sup.health().failed, group.health().failed) == ((), ())
    assert sup.report.clean


async def test_a_group_that_fails_for_good_is_lost_with_the_worker_that_has_failed(quiet):
    async with Supervisor() as sup:
        group = sup.group("feeds", restart=Restart("never"))
        await group.start(wait_for_stop, name="other")
        await group.start(fail, name="poller", restart=NO_MORE)
        report = await group.wait_closed()
        assert not report.clean
        assert sup.health().failed == ("feeds/poller",)
    assert lost(sup.report) == [("feeds/poller", "failed")]


async def test_a_group_says_what_it_has_lost_itself_and_after_its_shutdown_nobody_else_does(quiet):
    async with Supervisor() as sup:
        feeds, web = sup.group("feeds", on_exhausted="give_up"), sup.group("web")
        await (await feeds.start(fail, name="poller", restart=NO_MORE)).wait()
        await (await feeds.group("inner").start(fail)).wait()
        assert (feeds.statistics().failed, web.statistics().failed, sup.statistics().failed) == (2, 0, 2)
        assert web.health().failed == ()
        report = await feeds.shutdown()
        assert [worker for worker, _ in lost(report)] == ["feeds/poller", "feeds/inner/fail-5"]
        assert sup.statistics().failed == 0
        assert (await web.shutdown()).clean
    assert sup.report.clean


async def test_the_groups_of_a_supervisor_that_shuts_down_say_it_too(events):
    async with Supervisor() as sup:
        group = sup.group("feeds")
        await (await group.start(fail, name="poller")).wait()
        shutdown = asyncio.ensure_future(group.shutdown())
        await shutdown
        again = sup.group("again")
        await (await again.start(fail, name="poller")).wait()
    assert lost(again.report) == lost(sup.report) == [("again/poller", "failed")]
    (stopped,) = [event for event in events if event["event"] == "supervisor.group_stopped"]
    assert (stopped["level"], stopped["earlier"]) == ("warning", {"failed": 1})


# ------------------------------------------------------------------------------------------------ bounds


async def test_only_the_newest_are_kept_and_the_others_counted(monkeypatch, quiet):
    inside.patch(monkeypatch, REMEMBERED=3)
    async with Supervisor() as sup:
        for number in range(5):
            await (await sup.start(fail, name=f"w{number}")).wait()
        assert sup.statistics().failed == 5
        assert sup.health().failed == ("w2", "w3", "w4")
        await sup.start(wait_for_stop, name="w4")
    report = sup.report
    assert lost(report) == [("w2", "failed"), ("w3", "failed")]
    assert (report.forgotten, report.earlier_counts()) == (2, {"failed": 4})
    assert str(report).splitlines()[-1] == "and 2 more that have failed"
    assert report.to_dict()["forgotten"] == 2


async def test_what_is_kept_holds_nothing_of_what_the_worker_had(quiet):
    class Large:
        pass

    def fails_with(ctx, large):
        held = large  # noqa: F841  # the traceback holds it
        raise ValueError("x" * 1_000_000, large)

    async with Supervisor() as sup:
        large = Large()
        alive = weakref.ref(large)
        worker = await sup.start(fails_with, large, name="poller")
        await worker.wait()
        del worker, large
        gc.collect()
        assert alive() is None
    (earlier,) = sup.report.earlier
    assert isinstance(earlier.error, RemoteError)
    assert len(str(earlier.error)) == 2000


# ------------------------------------------------------------------------------------------------ probes


async def test_a_probe_may_be_told_how_many_it_bears(quiet):
    async with Supervisor() as sup:
        await (await sup.start(fail, name="poller")).wait()
        health = sup.health(max_failed=0)
        assert (health.ready, health.live) == (False, False)
        assert health.reasons == ("more than max_failed=0 have failed for good: 'poller'",)
        assert health.failed == ("poller",)
        assert sup.health(max_failed=1).live
        assert sup.health().reasons == ()
        with pytest.raises(ValueError, match="max_failed=-1"):
            sup.health(max_failed=-1)
