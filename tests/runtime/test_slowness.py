"""`slow_after=`: calls that run for too long are logged while they run. Time is virtual; most workers are fakes."""

import asyncio
import math
import threading
import time as real_time

import pytest

from supervisor import EscalationPolicy, Kill, Restart, Supervisor
from supervisor.config import load
from supervisor.testing import FakeWorkers

from .. import inside
from ..waiting import turns, until


def work():
    """Is never called where workers are fakes."""


def serve(ctx):
    """The same of a worker."""


def stand(release):
    release.wait()


def slow(events):
    return [event for event in events if event["event"] == "worker.slow"]


def times(events):
    return [round(event["elapsed"], 3) for event in slow(events)]


def in_fakes(virtual, main, **options):
    """Runs `main(sup, time, fakes)` where workers are fakes that only a stop ends."""

    async def around(time):
        with FakeWorkers() as fakes:
            fakes.script(work)
            fakes.script(serve)
            async with Supervisor("app", **options) as sup:
                await main(sup, time, fakes)

    virtual(around)


async def under_way(call):
    task = asyncio.ensure_future(call)
    await turns()
    return task


def test_a_call_is_logged_at_its_time_at_twice_that_and_so_on(virtual, events):
    async def main(sup, time, fakes):
        await under_way(sup.run(work, name="long"))
        await time.advance(9.9)
        assert times(events) == []
        await time.advance(100)

    in_fakes(virtual, main, slow_after=10)
    assert times(events) == [10, 20, 40, 80]
    first = slow(events)[0]
    assert (first["level"], first["supervisor"], first["worker"]) == ("warning", "app", "long")
    assert (first["kind"], first["attempt"]) == ("thread", 1)
    assert "work()" in first["stack"]
    assert "left_out" not in first


def test_calls_that_end_in_time_are_not_logged_and_nothing_is_left_to_look_at(virtual, events):
    async def main(sup, time, fakes):
        for _ in range(3):
            call = await under_way(sup.run(work))
            await time.advance(6)
            fakes.runs[-1].finish()
            await call
        await time.advance(100)
        assert inside.alarms_set(sup) == 0

    in_fakes(virtual, main, slow_after=10)
    assert times(events) == []


def test_nothing_is_looked_at_where_nobody_asks_for_it(virtual, events):
    async def main(sup, time, fakes):
        await under_way(sup.run(work))
        assert inside.alarms_set(sup) == 0
        await time.advance(10_000)

    in_fakes(virtual, main)
    assert times(events) == []


def test_the_time_counts_from_when_the_function_was_entered(virtual, events):
    async def main(sup, time, fakes):
        await under_way(sup.run(work, name="first"))
        await under_way(sup.run(work, name="waits"))
        await time.advance(7)
        fakes.runs[0].finish()
        await turns()
        await time.advance(9)
        assert times(events) == []
        await time.advance(2)
        assert [event["worker"] for event in slow(events)] == ["waits"]

    in_fakes(virtual, main, slow_after=10, max_threads=1)
    assert times(events) == [10]


def test_the_call_goes_before_its_pool_and_the_pool_before_the_supervisor(virtual, events):
    async def main(sup, time, fakes):
        mail = sup.pool("mail", kind="thread", slow_after=4)
        quiet = sup.pool("quiet", kind="thread", slow_after=math.inf)
        await under_way(sup.run(work, name="of the supervisor"))
        await under_way(mail.run(work, name="of its pool"))
        await under_way(mail.run(work, name="its own", slow_after=1))
        await under_way(mail.run(work, name="never", slow_after=math.inf))
        await under_way(quiet.run(work, name="in quiet"))
        await under_way(sup.group("feeds").run(work, name="of a group"))
        await time.advance(11)

    in_fakes(virtual, main, slow_after=10)
    first = {}
    for event in slow(events):
        first.setdefault(event["worker"], round(event["elapsed"], 3))
    assert first == {"of the supervisor": 10, "of its pool": 4, "its own": 1, "feeds/of a group": 10}
    assert {event["worker"]: event.get("pool") for event in slow(events)}["of its pool"] == "mail"


def test_a_call_that_comes_while_others_run_is_logged_in_time(virtual, events):
    async def main(sup, time, fakes):
        await under_way(sup.run(work, name="first"))
        await time.advance(9)
        await under_way(sup.run(work, name="second"))
        await under_way(sup.run(work, name="third", slow_after=2))
        await time.advance(11)

    in_fakes(virtual, main, slow_after=10)
    assert [(event["worker"], round(event["elapsed"], 3)) for event in slow(events)] == [
        ("first", 10),
        ("third", 2),
        ("third", 4),
        ("third", 8),
        ("second", 10),
        ("first", 20),
    ]


def test_only_a_pool_or_a_call_may_have_it(virtual, events):
    async def main(sup, time, fakes):
        mail = sup.pool("mail", kind="thread", slow_after=3)
        await under_way(sup.run(work))
        await under_way(mail.run(work, name="slow"))
        await time.advance(4)
        await under_way(sup.run(work, slow_after=5, name="own"))
        await time.advance(5)

    in_fakes(virtual, main)
    assert [(event["worker"], round(event["elapsed"], 3)) for event in slow(events)] == [
        ("slow", 3),
        ("slow", 6),
        ("own", 5),
    ]


@pytest.mark.parametrize("how", ["executor", "iterate", "map", "to_thread"])
def test_all_ways_to_call_are_looked_at(virtual, events, how):
    async def main(sup, time, fakes):
        if how == "executor":
            sup.executor().submit(work)
        elif how == "iterate":
            items = sup.iterate(work, slow_after=10)
            await under_way(anext(items))
        elif how == "map":
            fakes.script(stand)
            await under_way(anext(sup.map(stand, [1], slow_after=10)))
        else:
            sup.install_as_default_executor()
            await under_way(asyncio.to_thread(work))
        await turns()
        await time.advance(10)
        assert times(events) == [10]

    in_fakes(virtual, main, slow_after=None if how in ("iterate", "map") else 10)


def test_of_workers_only_those_are_logged_that_ask_for_it_each_run_anew(virtual, events):
    async def main(sup, time, fakes):
        await sup.start(serve, name="service")
        await sup.start(serve, name="job", slow_after=5, restart=Restart("failure", backoff=0, jitter=0))
        await time.advance(12)
        next(run for run in fakes.runs if run.name == "job").fail(OSError())
        await time.advance(0)
        await turns()
        await time.advance(6)

    in_fakes(virtual, main, slow_after=1)
    assert [(event["worker"], event["attempt"], round(event["elapsed"], 3)) for event in slow(events)] == [
        ("job", 1, 5),
        ("job", 1, 10),
        ("job", 2, 5),
    ]


def test_a_thousand_slow_calls_are_no_storm(virtual, events):
    async def main(sup, time, fakes):
        calls = [asyncio.ensure_future(sup.run(work)) for _ in range(1000)]
        await turns(1000)
        await time.advance(10)
        assert 1 <= len(slow(events)) <= 5  # as many as a turn has time for
        assert [event["worker"] for event in slow(events) if "left_out" in event] == [slow(events)[-1]["worker"]]
        assert len(slow(events)) + slow(events)[-1]["left_out"] == 1000
        await time.advance(20)
        assert 2 <= len(slow(events)) <= 10
        assert not any(call.done() for call in calls)

    in_fakes(virtual, main, slow_after=10, max_threads=1000)


def test_calls_that_become_slow_one_after_the_other_are_no_storm_either(virtual, events):
    async def main(sup, time, fakes):
        calls = []
        for _ in range(100):
            calls.append(await under_way(sup.run(work)))
            await time.advance(0.01)
        await time.advance(11)

    in_fakes(virtual, main, slow_after=10, max_threads=1000)
    assert len(slow(events)) <= 15
    assert sum(1 + event.get("left_out", 0) for event in slow(events)) == 100


def test_what_is_left_of_a_long_stack_is_its_innermost_part(virtual, events, monkeypatch):
    async def main(sup, time, fakes):
        inside.patch_stacks_of_fakes(monkeypatch, "  outer\n" * 100_000 + "  innermost\n")
        await under_way(sup.run(work))
        await time.advance(10)

    in_fakes(virtual, main, slow_after=10)
    stack = slow(events)[0]["stack"]
    assert len(stack) < 10_000
    assert stack.startswith("  ...\n  outer\n")
    assert stack.endswith("  innermost\n")


def test_a_look_that_takes_real_time_takes_none_where_a_test_holds_the_clock(virtual, events, monkeypatch):
    def stack():
        real_time.sleep(0.06)
        return "  there\n"

    async def main(sup, time, fakes):
        inside.patch_stacks_of_fakes(monkeypatch, stack)
        await under_way(sup.run(work, name="long"))
        await under_way(sup.run(work, name="other"))
        await time.advance(4)

    in_fakes(virtual, main, slow_after=1)
    assert times(events) == [1, 1, 2, 2, 4, 4]


def test_a_stack_that_cannot_be_had_keeps_nobody_from_being_logged(virtual, events, monkeypatch):
    async def main(sup, time, fakes):
        inside.patch_stacks_of_fakes(monkeypatch, OSError("no stack"))
        await under_way(sup.run(work, name="long"))
        await time.advance(20)

    in_fakes(virtual, main, slow_after=10)
    assert [(event["worker"], "stack" in event) for event in slow(events)] == [("long", False)] * 2
    assert [event["doing"] for event in events if event["event"] == "supervisor.fault"] == ["slow"] * 2


async def test_calls_that_have_ended_are_let_go_though_their_time_is_far_away():
    async with Supervisor() as sup:
        for _ in range(1000):
            await sup.run(int, slow_after=3600)
        assert inside.expected_to_be_slow(sup) < 200


async def test_the_stack_is_that_of_the_function_while_it_runs(events):
    release = threading.Event()
    async with Supervisor() as sup:
        call = asyncio.ensure_future(sup.run(stand, release, slow_after=0.05))
        await until(lambda: len(standing(events)) >= 2)
        release.set()
        await call
    first, second = standing(events)[:2]
    assert 0.049 <= first["elapsed"] < second["elapsed"]
    assert "in stand\n    release.wait()" in first["stack"]
    assert first["ident"]


def standing(events):
    """Those of a call that has come to where it stands: on a busy machine it may be slow before that."""
    return [event for event in slow(events) if "release.wait()" in event.get("stack", "")]


async def test_a_call_in_a_process_shows_where_it_stands_there(events):
    async with Supervisor() as sup:
        call = asyncio.ensure_future(
            sup.run(real_time.sleep, 3600, kind="process", slow_after=0.05, policy=EscalationPolicy(Kill(5)))
        )
        await until(lambda: any(event.get("stack") for event in slow(events)))  # it may be busy with its start before
        call.cancel()
    assert next(event for event in slow(events) if event.get("stack"))["pid"]


async def test_an_executors_call_of_another_thread_is_seen(events):
    release = threading.Event()
    async with Supervisor(slow_after=0.05) as sup:
        executor = sup.executor()
        threading.Thread(target=executor.submit, args=(stand, release)).start()
        await until(lambda: standing(events))
        release.set()


def test_what_is_no_interval_is_refused():
    for wrong in (0, -1, math.nan):
        with pytest.raises(ValueError, match="slow_after"):
            Supervisor().pool("p", kind="thread", slow_after=wrong)
    with pytest.raises(TypeError, match="slow_after"):
        Supervisor(slow_after="1")


async def test_what_is_wrong_at_a_call_is_refused_before_it_begins():
    async with Supervisor() as sup:
        for call in (sup.run, sup.start):
            with pytest.raises(ValueError, match="slow_after=0: must be more than 0 seconds"):
                await call(work, slow_after=0)
        for call in (lambda: sup.iterate(work, slow_after=0), lambda: sup.map(stand, [1], slow_after=0)):
            with pytest.raises(ValueError, match="slow_after=0"):
                call()


def test_the_configuration_goes_before_the_code(virtual, events):
    config = load(
        {"slow_after": 10, "pools": {"mail": {"slow_after": 4}, "quiet": {"slow_after": math.inf}}}, environ={}
    )

    async def main(sup, time, fakes):
        await under_way(sup.run(work, name="a"))
        await under_way(sup.pool("mail", kind="thread", slow_after=1).run(work, name="b"))
        await under_way(sup.pool("quiet", kind="thread", slow_after=1).run(work, name="c"))
        await time.advance(11)

    in_fakes(virtual, main, slow_after=3, config=config)
    assert [(event["worker"], round(event["elapsed"], 3)) for event in slow(events)] == [
        ("b", 4),
        ("b", 8),
        ("a", 10),
    ]
