"""A process that SIGKILL has ended was killed, and not abandoned, however little time was left."""

import asyncio
import gc
import time
import warnings

import pytest

from supervisor import Ask, EscalationPolicy, Kill, Supervisor, WorkerTimeout

from ... import inside
from ...waiting import LIMIT, until
from .faults import look, wait_until


def spin(*_):
    while True:
        pass


@pytest.mark.parametrize("timeout", [0, 0.02, 0.1])
async def test_it_is_reported_as_killed(timeout, monkeypatch):
    inside.patch(monkeypatch, DYING_TIME=LIMIT)  # on a busy machine the kernel takes longer
    sup = Supervisor()
    for _ in range(3):
        await sup.start(spin, kind="process")
    report = await sup.shutdown(timeout=timeout)
    assert {outcome.ended for outcome in report.outcomes} <= {"killed", "terminated", "injected"}
    assert inside.processes(sup) == []


async def test_also_where_the_last_resort_of_a_shutdown_comes_before_its_ladder_has_climbed(monkeypatch, events):
    inside.patch(monkeypatch, ASKED_LEAST=LIMIT, LAST_RESORT_SLACK=0, LAST_LOOK=LIMIT, DYING_TIME=LIMIT)
    sup = Supervisor()
    await sup.start(spin, kind="process")
    report = await sup.shutdown(timeout=0)
    assert [(outcome.ended, outcome.step) for outcome in report.outcomes] == [("killed", "kill")]
    assert not report.clean


async def test_also_where_its_policy_gives_it_no_time(events, monkeypatch):
    inside.patch(monkeypatch, DYING_TIME=LIMIT)
    async with Supervisor() as sup:
        worker = await sup.start(spin, kind="process", policy=EscalationPolicy(Kill(0)))
        assert (await worker.stop()).ended == "killed"


async def test_also_where_the_loop_stood_still_until_no_time_was_left(events, monkeypatch):
    inside.patch(monkeypatch, DYING_TIME=LIMIT)
    async with Supervisor(max_processes=2) as sup:
        await asyncio.gather(*(sup.run(abs, -1, kind="process") for _ in range(2)))
        await until(lambda: len(inside.idle_processes(sup)) == 2)
        began = time.monotonic()
        calls = [asyncio.ensure_future(sup.run(time.sleep, 60, kind="process", within=2)) for _ in range(2)]
        await until(lambda: [worker.state for worker in sup.workers()] == ["running"] * 2)
        time.sleep(max(0.0, began + 2.1 - time.monotonic()))  # all steps are performed, and judged, in one moment
        errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [(type(error), error.outcome.ended) for error in errors] == [(WorkerTimeout, "killed")] * 2


def test_what_even_that_has_not_ended_is_forgotten_without_a_warning_and_reaped(monkeypatch):
    async def main():
        sup = Supervisor(policy=EscalationPolicy(Ask(0.05)))
        pid = (await sup.start(spin, kind="process")).pid
        report = await sup.shutdown()
        assert report.counts() == {"abandoned": 1}
        return pid

    async def another():
        async with Supervisor() as sup:
            await sup.run(abs, -1, kind="process")

    with monkeypatch.context() as patched:
        patched.setattr("os.killpg", lambda *_: None)
        pid = asyncio.run(main())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert caught == []
    wait_until(lambda: inside.is_dead(pid) is not False)  # with all of its threads
    asyncio.run(another())
    assert look(pid) is None, "a zombie is left"
