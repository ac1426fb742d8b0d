"""The last failures and stops of a supervisor, kept for whoever asks later."""

import asyncio
import gc
import json
import os
import threading
import time
import weakref

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Incident,
    Inject,
    Restart,
    Supervisor,
    WorkerDied,
    WorkerStopped,
    WorkerTimeout,
    current_context,
)

from ..inside import integration_of
from ..waiting import until

SHORT = EscalationPolicy(Ask(0.05), Inject(20))


def fail(*_):
    raise ValueError("no")


def obey(*_):
    current_context().stop.wait()


def spin(*_):
    while True:
        time.sleep(0.001)


def said(held):
    return [f"{incident.worker} {incident.ended} {incident.reason}" for incident in held.incidents()]


async def test_a_call_that_fails_is_an_incident_and_one_that_returns_is_none():
    async with Supervisor("app") as sup:
        assert sup.incidents() == ()
        before = time.time()
        await sup.run(int)
        with pytest.raises(ValueError, match="no"):
            await sup.run(fail, name="fails")
        (incident,) = sup.incidents()
        assert (incident.worker, incident.kind, incident.role, incident.pool) == ("fails", "thread", "call", "thread")
        assert (incident.group, incident.attempt, incident.ended, incident.step) == (None, 1, "failed", None)
        assert (incident.reason, incident.error, incident.stack) == (None, "ValueError: no", None)
        assert before <= incident.at <= time.time()
        assert 0 <= incident.elapsed < 60
        assert (incident.late_end, incident.submitted_from) == (None, None)
        assert json.loads(json.dumps(incident.to_dict()))["error"] == "ValueError: no"
    assert sup.incidents() == (incident,)  # after the end, too


@pytest.mark.parametrize("watched", [False, True])
async def test_a_call_of_an_executor_that_fails_is_one(watched):
    async with Supervisor("app") as sup:
        seen = sup.transitions() if watched else None
        with pytest.raises(ValueError, match="no"):
            await asyncio.wrap_future(sup.executor().submit(fail))
        await until(sup.incidents)
        assert [incident.ended for incident in sup.incidents()] == ["failed"]
        assert sup.incidents()[0].worker == "fail-1"
        del seen


async def test_a_call_in_a_process_that_fails_or_dies_is_one():
    async with Supervisor("app", max_processes=1) as sup:
        with pytest.raises(ValueError, match="invalid literal"):
            await sup.run(int, "seven", kind="process", name="parse")
        with pytest.raises(WorkerDied):
            await sup.run(os._exit, 3, kind="process", name="dies")
        parse, dies = sup.incidents()
        assert (parse.error, parse.pool) == ("ValueError: invalid literal for int() with base 10: 'seven'", "process")
        assert (dies.ended, dies.kind) == ("died", "process")
        assert dies.error == "WorkerDied: the process of worker 'dies' died: it exited with code 3"


def test_what_is_stopped_by_its_timeout_or_by_hand_is_one_and_what_its_caller_cancels_is_none(virtual):
    async def main(clock):
        async with Supervisor("app", policy=EscalationPolicy(Ask(20))) as sup:
            late = asyncio.ensure_future(sup.run(obey, timeout=5, name="late"))
            await until(lambda: (there := sup.worker("late")) and there.state == "running")
            await clock.advance(5)
            with pytest.raises(WorkerTimeout):
                await late
            call = asyncio.ensure_future(sup.run(obey, name="unwanted"))
            await until(lambda: sup.worker("unwanted"))
            call.cancel()
            await asyncio.wait([call])
            stopped = asyncio.ensure_future(sup.run(obey, name="by hand"))
            await until(lambda: (there := sup.worker("by hand")) and there.state == "running")
            await sup.worker("by hand").stop("enough")
            await stopped  # it has returned in its grace
            worker = await sup.start(lambda ctx: ctx.stop.wait(), name="w")
            await worker.stop("not needed")
        return sup

    sup = virtual(main)
    assert said(sup) == ["late stopped timeout", "by hand stopped enough", "w stopped not needed"]
    assert [incident.step for incident in sup.incidents()] == ["ask"] * 3


async def test_what_needs_more_than_being_asked_is_one_whatever_the_cause():
    async with Supervisor("app", policy=SHORT) as sup:
        call = asyncio.ensure_future(sup.run(spin, name="deaf"))
        await until(lambda: "in spin" in sup.stacks().get("deaf", ""))
        call.cancel()
        await asyncio.wait([call])
        await sup.start(spin, name="spins")
        await until(lambda: "in spin" in sup.stacks().get("spins", ""))
        await sup.start(lambda ctx: ctx.stop.wait(), name="obeys", policy=EscalationPolicy(Ask(20)))
    assert said(sup) == ["deaf injected cancelled", "spins injected shutdown"]
    assert all("in spin" in incident.stack for incident in sup.incidents())


async def test_a_call_that_was_stopped_before_it_began_is_one_but_not_where_it_was_withdrawn():
    async with Supervisor("app", max_threads=1) as sup:
        entered, release = threading.Event(), threading.Event()
        first = asyncio.ensure_future(sup.run(lambda: entered.set() or release.wait()))
        await until(entered.is_set)
        withdrawn = asyncio.ensure_future(sup.run(int, name="withdrawn"))
        late = asyncio.ensure_future(sup.run(int, name="late", timeout=0.01))
        await asyncio.sleep(0)
        withdrawn.cancel()
        with pytest.raises(WorkerTimeout):
            await late
        future = sup.executor().submit(int)
        future.cancel()
        left = asyncio.ensure_future(sup.run(int, name="left"))
        await asyncio.sleep(0)
        sup.request_shutdown()
        await asyncio.wait([left])
        release.set()
        await first
    assert said(sup) == ["late cancelled timeout"]


async def test_each_run_of_a_worker_is_one_and_so_is_its_being_given_up():
    async with Supervisor("app") as sup:
        worker = await sup.start(fail, name="w", restart=Restart("failure", max_restarts=2, backoff=0, within=600))
        await worker.wait()
        assert [(one.attempt, one.role, one.pool) for one in sup.incidents()] == [
            (attempt, "worker", None) for attempt in (1, 2, 3)
        ]
        errors = [one.error for one in sup.incidents()]
        assert errors[:2] == ["ValueError: no"] * 2
        assert errors[2].startswith("RestartLimitExceeded: worker 'w' is given up after 2 restarts")
        assert errors[2].endswith(": ValueError: no")


async def test_a_stop_during_a_pause_hides_no_failure():
    async with Supervisor("app") as sup:
        worker = await sup.start(fail, name="w", restart=Restart("failure", backoff=20))
        await until(lambda: worker.state == "backing_off")
        await worker.stop("enough")
        assert said(sup) == ["w failed None"]


async def test_a_restart_by_hand_and_a_missed_heartbeat_are_such_stops():
    async with Supervisor("app") as sup:
        worker = await sup.start(lambda ctx: ctx.stop.wait(), name="w", restart=Restart("always"))
        await worker.restart()
        silent = await sup.start(lambda ctx: ctx.stop.wait(), name="silent", heartbeat=0.02)
        await silent.wait()
        assert said(sup) == ["w stopped restart", "silent stopped no heartbeat for 0.02 s"]


async def test_the_late_end_of_one_that_was_abandoned_is_marked(leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(0.01))) as sup:
        call = asyncio.ensure_future(sup.run(leftovers.block, name="stuck"))
        await until(lambda: leftovers.entered)
        await sup.worker("stuck").stop()
        with pytest.raises(WorkerStopped):
            await call
        (stuck,) = sup.incidents()
        assert (stuck.ended, stuck.late_end) == ("abandoned", None)
        assert "leftovers" not in stuck.stack
        assert "block" in stuck.stack
        leftovers.release.set()
        await until(lambda: sup.incidents()[0].late_end)
        (back,) = sup.incidents()
        assert back.at == stuck.at <= back.late_end
        assert back.ended == "abandoned"


async def test_as_many_are_kept_as_were_asked_for_the_newest_last():
    async with Supervisor("app", incidents=3) as sup:
        for number in range(5):
            with pytest.raises(ValueError, match="no"):
                await sup.run(fail, name=f"f{number}")
        assert [one.worker for one in sup.incidents()] == ["f2", "f3", "f4"]


async def test_none_are_kept_where_nobody_wants_any(leftovers):
    async with Supervisor("app", incidents=0, policy=EscalationPolicy(Ask(0.01))) as sup:
        with pytest.raises(ValueError, match="no"):
            await sup.run(fail)
        with pytest.raises(ValueError, match="no"):
            await asyncio.wrap_future(sup.executor().submit(fail))
        with pytest.raises(WorkerTimeout):
            await sup.run(leftovers.block, timeout=0.02)
        assert sup.incidents() == ()
        leftovers.release.set()
        await until(lambda: not sup.statistics().abandoned)


async def test_those_of_a_group_are_its_own_and_those_of_the_groups_in_it():
    async with Supervisor("app") as sup:
        feeds = sup.group("feeds")
        fast = feeds.group("fast")
        other = sup.group("feeds2")
        for held in (sup, feeds, fast, other):
            with pytest.raises(ValueError, match="no"):
                await held.run(fail, name="f")
        assert [one.worker for one in feeds.incidents()] == ["feeds/f", "feeds/fast/f"]
        assert [one.group for one in sup.incidents()] == [None, "feeds", "feeds/fast", "feeds2"]
        assert [one.worker for one in fast.incidents()] == ["feeds/fast/f"]
        await feeds.shutdown()
        assert len(feeds.incidents()) == 2


class Large(Exception):
    def __init__(self, payload):
        super().__init__("x" * 10_000_000)
        self.payload = payload


class Payload:
    pass


async def test_it_holds_nothing_but_text_and_no_long_one():
    seen = []

    def fails():
        payload = Payload()
        seen.append(weakref.ref(payload))
        raise Large(payload)

    async with Supervisor("app") as sup:
        for calls in (lambda: sup.run(fails), lambda: asyncio.wrap_future(sup.executor().submit(fails))):
            try:
                await calls()
            except Large:
                pass
        await until(lambda: len(sup.incidents()) == 2)
        await until(lambda: gc.collect() is not None and not any(payload() for payload in seen))
        incident = sup.incidents()[0]
        assert len(incident.error) <= 2000
        assert incident.error.endswith("…")


async def test_of_a_long_stack_the_end_is_kept():
    async with Supervisor("app", policy=SHORT) as sup:
        call = asyncio.ensure_future(sup.run(deep_and_wide, 60, name="deep"))
        await until(lambda: "in spin" in sup.stacks().get("deep", ""))
        await sup.worker("deep").stop()
        with pytest.raises(WorkerStopped):
            await call
        (incident,) = sup.incidents()
        assert len(incident.stack) <= 8100
        assert "in spin" in incident.stack


def deep_and_wide(depth):
    names = [f"level_{'x' * 150}_{number}" for number in range(depth)]
    source = "".join(f"def {name}(): {after}()\n" for name, after in zip(names, [*names[1:], "spin"], strict=True))
    made = {"spin": spin}
    exec(source, made)
    made[names[0]]()


class Rude(Exception):
    def __str__(self):
        raise SystemExit


@pytest.mark.parametrize("error", [Rude(), ValueError("\x1b[2J<script>\u202e"), UnicodeError("\udc80")])
async def test_hostile_errors_are_harmless(error):
    def fails():
        raise error

    async with Supervisor("app") as sup:
        with pytest.raises(type(error)):
            await sup.run(fails)
        with pytest.raises(type(error)):
            await asyncio.wrap_future(sup.executor().submit(fails))
        await until(lambda: len(sup.incidents()) == 2)
        for incident in sup.incidents():
            json.dumps(incident.to_dict()).encode()
            assert incident.error.isprintable()


async def test_the_initializer_of_a_pool_that_fails_is_one():
    async with Supervisor("app") as sup:
        pool = sup.pool("gpu", kind="thread", size=1, initializer=fail)
        with pytest.raises(Exception, match="initializer"):
            await pool.run(int)
        first = sup.incidents()[0]
        assert (first.worker.rpartition("-")[0], first.pool, first.error) == (
            "gpu-initializer",
            "gpu",
            "ValueError: no",
        )


async def test_they_are_in_the_survey_also_after_the_end():
    sup = Supervisor("app")
    assert integration_of(sup).survey().incidents == ()
    assert integration_of(sup).incidents() == ()
    async with sup:
        with pytest.raises(ValueError, match="no"):
            await sup.run(fail, name="f")
        assert integration_of(sup).survey().incidents == sup.incidents() == integration_of(sup).incidents()
    seen = integration_of(sup).survey()
    assert [one.worker for one in seen.incidents] == ["f"]
    (plain,) = seen.to_dict()["incidents"]
    assert Incident(**plain) == seen.incidents[0]
    json.dumps(seen.to_dict())
