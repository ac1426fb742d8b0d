"""`transitions()` and `statistics()`."""

import asyncio
import contextlib
import dataclasses
import gc
import json
import threading

import pytest

from supervisor import Ask, EscalationPolicy, Statistics, Supervisor

from .. import inside


def failing():
    raise ValueError("no number")


def short(transition):
    return (transition.worker, transition.old, transition.new, transition.step, transition.ended)


async def test_calls_are_seen_too_whether_they_are_logged_or_not():
    async with Supervisor() as sup:
        seen = sup.transitions()
        await sup.run(int, name="call")
        await asyncio.get_running_loop().run_in_executor(sup.executor(), int)
        got = [await asyncio.wait_for(anext(seen), 20) for _ in range(6)]
    assert [(transition.worker, transition.new) for transition in got] == [
        *(("call", new) for new in ("queued", "running", "ended")),
        *(("int-2", new) for new in ("queued", "running", "ended")),
    ]


async def test_a_call_that_goes_on_is_seen_to_run_also_after_quick_ones():
    seen_running = threading.Event()
    async with Supervisor(max_threads=1) as sup:
        seen = sup.transitions()
        for _ in range(20):
            await sup.run(int)
        going_on = asyncio.ensure_future(sup.run(seen_running.wait, 20, name="going on"))
        async for transition in seen:
            if (transition.worker, transition.new) == ("going on", "running"):
                seen_running.set()
                break
        assert await going_on


async def test_a_watched_call_whose_end_fails_is_answered_and_seen_to_end(monkeypatch, events):
    inside.break_end_of_watched_calls(monkeypatch)
    async with Supervisor() as sup:
        seen = sup.transitions()
        assert await sup.run(int) == 0
        with pytest.raises(ValueError, match="no number"):
            await sup.run(failing)
    assert [transition.ended async for transition in seen if transition.ended] == ["returned", "failed"]
    assert [entry["doing"] for entry in events if entry["event"] == "supervisor.fault"] == ["ended", "ended"]
    events.clear()  # their errors hold the supervisor


@pytest.mark.parametrize("through", ["run", "executor", "group", "pool"])
async def test_a_call_is_published_in_fewer_steps_with_the_same_words(through, events):
    """While nobody else has calls watched, its changes go another way."""
    published, logged = [], []
    for receive in (None, lambda notice: None):
        async with Supervisor("app", max_threads=1) as sup:
            made = {"run": sup, "group": sup.group("feeds"), "pool": sup.pool("lane", kind="thread", size=1)}
            events.clear()
            seen = sup.transitions()
            with contextlib.nullcontext() if receive is None else inside.subscribed(sup, receive):
                if through == "executor":
                    await asyncio.get_running_loop().run_in_executor(sup.executor(), int)
                else:
                    await made[through].run(int)
                got = [await asyncio.wait_for(anext(seen), 20) for _ in range(3)]
            assert [transition.ident is None for transition in got] == [True, False, False]
            assert got == sorted(got, key=lambda transition: transition.at)
            assert all(0 <= transition.elapsed < 20 for transition in got)
            published.append([dataclasses.replace(transition, at=0, elapsed=0, ident=None) for transition in got])
            logged.append([list((entry | {"elapsed": 0, "ident": 0}).items()) for entry in events])
    assert published[0] == published[1]
    assert logged[0] == logged[1]
    assert [dict(entry)["event"] for entry in logged[0]] == ["worker.queued", "worker.running", "worker.ended"]


async def test_it_ends_with_the_supervisor_for_whoever_waits_in_it():
    async with Supervisor() as sup:
        seen = sup.transitions()
        reading = asyncio.ensure_future(anext(seen, "the end"))
        await asyncio.sleep(0)
    assert await reading == "the end"
    assert [transition async for transition in sup.transitions()] == []


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many():
    async with Supervisor() as sup:
        seen = sup.transitions(buffer=3)
        for number in range(4):
            await sup.run(int, name=f"call{number}")
        assert seen.dropped == 9
        assert "9 dropped" in repr(seen)
    assert [short(transition)[::2] for transition in [transition async for transition in seen]] == [
        ("call3", "queued", None),
        ("call3", "running", None),
        ("call3", "ended", "returned"),
    ]


async def test_each_reader_sees_all():
    async with Supervisor() as sup:
        readers = [sup.transitions(), sup.transitions()]
        await sup.run(int)
    for reader in readers:
        assert [transition.new async for transition in reader] == ["queued", "running", "ended"]


async def test_two_tasks_may_share_one_iterator():
    async with Supervisor() as sup:
        seen = sup.transitions()
        reading = [asyncio.ensure_future(anext(seen)) for _ in range(3)]
        await asyncio.sleep(0)
        await sup.run(int)
        assert {transition.new for transition in await asyncio.gather(*reading)} == {"queued", "running", "ended"}


async def test_cancelling_a_reader_loses_nothing():
    async with Supervisor() as sup:
        seen = sup.transitions()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(seen), 0.01)
        await sup.run(int)
        assert (await anext(seen)).new == "queued"


async def test_a_closed_one_reads_no_more_and_costs_no_more():
    async with Supervisor() as sup:
        async with sup.transitions() as seen:
            reading = asyncio.ensure_future(anext(seen, "the end"))
            await asyncio.sleep(0)
        assert await reading == "the end"
        assert not inside.has_subscribers(sup)
        await sup.run(int)
        assert [transition async for transition in seen] == []


async def test_one_that_is_dropped_costs_no_more():
    async with Supervisor() as sup:
        sup.transitions()
        gc.collect()
        assert not inside.has_subscribers(sup)


async def test_it_may_be_opened_before_the_first_use():
    sup = Supervisor()
    seen = sup.transitions()
    async with sup:
        await sup.run(int)
        assert (await anext(seen)).new == "queued"


async def test_what_it_is_read_in_must_be_the_supervisors_loop():
    async with Supervisor() as sup:
        seen = sup.transitions()

        def elsewhere():
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(anext(seen))

        await asyncio.to_thread(elsewhere)


@pytest.mark.parametrize(("wrong", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (None, TypeError)])
def test_a_buffer_that_cannot_be_is_refused(wrong, error):
    with pytest.raises(error, match="buffer="):
        Supervisor().transitions(buffer=wrong)


# ------------------------------------------------------------------------------------------------ statistics


async def test_statistics_count_what_there_is(leftovers):
    def counted():
        return dataclasses.replace(sup.statistics(), pools={})

    sup = Supervisor("app", max_threads=1, policy=EscalationPolicy(Ask(0.01)))
    assert counted() == Statistics("app")
    async with sup:
        await sup.start(lambda ctx: ctx.stop.wait(), name="waiter")
        deaf = await sup.start(leftovers.block, name="deaf")
        entered = threading.Event()
        calls = [asyncio.ensure_future(sup.run(lambda: entered.set() or leftovers.block()))]
        await asyncio.to_thread(entered.wait)
        calls += [asyncio.ensure_future(sup.run(int)) for _ in range(3)]
        await asyncio.sleep(0)
        assert counted() == Statistics("app", {"running": 3, "queued": 3}, queued=3, threads=3)
        await deaf.stop()
        assert counted() == Statistics("app", {"running": 2, "queued": 3}, queued=3, threads=3, abandoned=1)
        leftovers.release.set()
        await asyncio.gather(*calls)
    assert sup.statistics().stopping
    assert await asyncio.to_thread(lambda: sup.statistics().queued) == 0


# ------------------------------------------------------------------------------------------------ the report


async def test_a_report_is_text_and_a_dict_and_json(leftovers):
    async with Supervisor("app", policy=EscalationPolicy(Ask(0.1))) as sup:
        await sup.start(lambda ctx: ctx.stop.wait(), name="waiter", policy=EscalationPolicy(Ask(20)))
        await sup.start(leftovers.block, name="deaf")
        await sup.shutdown(reason="deploy")
    text = str(sup.report)
    assert text.startswith("shutdown (deploy) took ")
    assert "waiter" in text
    assert "deaf was last seen at:" in text
    data = json.loads(json.dumps(sup.report.to_dict()))
    assert data == sup.report.to_dict()
    assert data["counts"] == {"stopped": 1, "abandoned": 1}
    assert {outcome["worker"]: outcome["ended"] for outcome in data["outcomes"]} == {
        "waiter": "stopped",
        "deaf": "abandoned",
    }
