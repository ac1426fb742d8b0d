"""Fake workers: the supervisor is real, and what it runs follows a script."""

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Kill,
    Restart,
    Supervisor,
    Terminate,
    WorkerDied,
    WorkerStopped,
    WorkerTimeout,
)
from supervisor.testing import FakeWorkers, VirtualTime

from .. import inside
from ..waiting import turns, until

LADDER = EscalationPolicy(Ask(5), Inject(2), Terminate(3), Kill(2))


def render(*_):
    raise AssertionError("it is never called")


def other(*_):
    raise AssertionError("it is never called")


@pytest.fixture
async def sup(fake_workers, ladder_time):
    inside.wait_for_nothing_real(ladder_time)
    async with Supervisor("fakes", policy=LADDER, max_threads=2) as sup:
        yield sup
        for run in fake_workers.runs:
            run.finish()


@pytest.mark.parametrize(
    ("kind", "obeys", "ended", "steps", "seconds", "exit_code"),
    [
        ("thread", "ask", "stopped", ["ask"], 0, None),
        ("thread", "inject", "injected", ["ask", "inject"], 5, None),
        ("thread", None, "abandoned", ["ask", "inject", "inject", "inject"], 7, None),
        ("process", "ask", "stopped", ["ask"], 0, None),
        ("process", "inject", "injected", ["ask", "inject"], 5, None),
        ("process", "terminate", "terminated", ["ask", "inject", "inject", "terminate"], 7, -15),
        ("process", "kill", "killed", ["ask", "inject", "inject", "terminate", "kill"], 10, -9),
        ("process", None, "abandoned", ["ask", "inject", "inject", "terminate", "kill"], 12, None),
    ],
)
async def test_a_worker_ends_on_the_step_that_it_obeys(
    sup, fake_workers, ladder_time, kind, obeys, ended, steps, seconds, exit_code
):
    fake_workers.script(render, obeys=obeys)
    worker = await sup.start(render, "page", kind=kind)
    stopping = asyncio.create_task(worker.stop())
    await ladder_time.advance(12)
    outcome = await stopping
    assert (outcome.ended, outcome.exit_code) == (ended, exit_code)
    assert outcome.stop_seconds == pytest.approx(seconds, abs=0.001)
    (run,) = fake_workers.runs
    assert run.steps == steps
    assert (run.name, run.kind, run.attempt, run.args) == (worker.name, kind, 1, ("page",))
    assert run.over == (ended != "abandoned")
    assert sup.statistics().workers == {}
    if ended != "stopped":
        assert "in render(), a fake worker" in outcome.stack


async def test_a_step_that_the_ladder_lacks_gives_way_to_the_next(sup, fake_workers, ladder_time):
    fake_workers.script(render, obeys="inject")
    call = asyncio.create_task(
        sup.run(render, kind="process", timeout=1, policy=EscalationPolicy(Ask(1), Kill(1))),
    )
    await ladder_time.advance(3)
    with pytest.raises(WorkerTimeout) as caught:
        await call
    assert caught.value.outcome.ended == "killed"


async def test_no_thread_and_no_process_is_there(sup, fake_workers):
    fake_workers.script(render)
    before = threading.enumerate()
    workers = [await sup.start(render, kind=kind) for kind in ("thread", "process")]
    assert threading.enumerate() == before
    assert [(worker.state, worker.ident, worker.pid) for worker in workers] == [("running", None, None)] * 2
    assert (sup.statistics().threads, sup.statistics().processes) == (1, 1)


async def test_what_a_call_returns_or_raises_and_when(sup, fake_workers, ladder_time):
    fake_workers.script(render, after=0, returns="page")
    assert await sup.run(functools.partial(render, 1)) == "page"
    error = OSError("disk full")
    fake_workers.script(render, after=3600, raises=error)
    call = asyncio.create_task(sup.run(render, kind="process"))
    await ladder_time.advance(3599)
    assert not call.done()
    await ladder_time.advance(1)
    with pytest.raises(OSError, match="disk full"):
        await call


async def test_a_process_dies_by_itself(sup, fake_workers):
    fake_workers.script(render, after=0, exit_code=-11)
    with pytest.raises(WorkerDied) as caught:
        await sup.run(render, kind="process")
    assert caught.value.outcome.exit_code == -11
    worker = await sup.start(other_for(fake_workers), kind="process")
    fake_workers.runs[-1].die()
    assert ((await worker.wait()).ended, worker.outcome.exit_code) == ("died", -9)


def other_for(fake_workers):
    fake_workers.script(other)
    return other


async def test_work_in_flight_may_finish_in_its_grace(sup, fake_workers, ladder_time):
    fake_workers.script(render, delay=4, returns="just in time")
    call = asyncio.create_task(sup.run(render))
    await fake_workers.next_run()
    closing = asyncio.create_task(sup.shutdown())
    await ladder_time.advance(4)
    assert await call == "just in time"
    assert (await closing).clean


async def test_a_call_that_unwinds_when_it_is_asked(sup, fake_workers):
    fake_workers.script(render)
    call = asyncio.create_task(sup.run(render))
    await fake_workers.next_run()
    report = await sup.shutdown()
    with pytest.raises(WorkerStopped):
        await call
    assert report.counts() == {"stopped": 1}


async def test_the_late_end_of_an_abandoned_worker(sup, fake_workers, ladder_time, events):
    fake_workers.script(render, obeys=None)
    call = asyncio.create_task(sup.run(render, timeout=1))
    await ladder_time.advance(1 + 7)
    with pytest.raises(WorkerTimeout) as caught:
        await call
    assert caught.value.outcome.ended == "abandoned"
    assert sup.statistics().abandoned == 1
    fake_workers.runs[0].finish("too late")
    fake_workers.runs[0].finish("even later")
    await until(lambda: sup.statistics().abandoned == 0)
    await turns()
    assert [event["event"] for event in events].count("worker.late_end") == 1


async def test_calls_queue_as_always(sup, fake_workers):
    fake_workers.script(render)
    calls = [asyncio.create_task(sup.run(render, number)) for number in range(4)]
    first, second = await fake_workers.next_run(), await fake_workers.next_run()
    assert sup.statistics().queued == 2
    calls[2].cancel()
    await asyncio.wait([calls[2]])
    first.finish("first")
    third = await fake_workers.next_run()
    assert third.args == (3,)
    second.fail(ValueError("second"))
    third.finish("third")
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert (results[0], str(results[1]), results[3]) == ("first", "second", "third")
    assert isinstance(results[2], asyncio.CancelledError)


async def test_restarts_readiness_and_heartbeats_driven_by_hand(sup, fake_workers, ladder_time):
    fake_workers.script("poller", ready=False)
    restart = Restart("failure", backoff=20, jitter=0)
    starting = asyncio.create_task(
        sup.start(render, name="poller", restart=restart, ready_timeout=30, heartbeat=10),
    )
    run = await fake_workers.next_run()
    await ladder_time.advance(29)
    assert not starting.done()
    run.ready()
    worker = await starting
    await ladder_time.advance(9)
    run.heartbeat()
    await ladder_time.advance(9)
    assert worker.state == "running"
    run.fail(OSError())
    await ladder_time.advance(19)
    assert worker.state == "backing_off"
    waiting = asyncio.create_task(fake_workers.next_run())
    await ladder_time.advance(1)
    second = await waiting
    assert (second.attempt, worker.restarts) == (2, 1)
    second.ready()
    await ladder_time.advance(11)  # silent
    assert worker.last_outcome.ended == "stopped"
    assert repr(second) == "<FakeRun of thread worker 'poller', run 2: over, met ['ask']>"


async def test_more_time_is_asked_for(sup, fake_workers, ladder_time):
    fake_workers.script(render, obeys=None)
    worker = await sup.start(render)
    stopping = asyncio.create_task(worker.stop())
    await ladder_time.advance(1)
    assert fake_workers.runs[0].extend(10) == 10
    await ladder_time.advance(13.9)
    assert fake_workers.runs[0].steps == ["ask"]
    await ladder_time.advance(0.2)
    assert fake_workers.runs[0].steps == ["ask", "inject"]
    fake_workers.runs[0].finish()
    await stopping


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_calls_of_an_executor(sup, fake_workers, kind, watched):
    listening = sup.transitions() if watched else None
    fake_workers.script(render, after=0, returns=7)
    fake_workers.script(other)
    futures = await asyncio.to_thread(lambda: [sup.executor(kind).submit(render, number) for number in range(10)])
    await asyncio.to_thread(wait, futures)
    assert [future.result() for future in futures] == [7] * 10
    stuck = sup.executor(kind).submit(other)
    while len(fake_workers.runs) < 11:
        await asyncio.sleep(0)
    assert not stuck.cancel()
    assert isinstance(await asyncio.to_thread(stuck.exception), WorkerStopped)
    del listening


async def test_calls_by_way_of_to_thread(sup, fake_workers):
    fake_workers.script(render, after=0, returns="page")
    sup.install_as_default_executor()
    assert await asyncio.to_thread(render, 1) == "page"
    assert await asyncio.to_thread(functools.partial(render, 1), 2, lang="en") == "page"
    assert await asyncio.get_running_loop().run_in_executor(None, render, 3) == "page"
    first, second, third = fake_workers.runs
    assert (first.fn, first.args) == (render, (1,))
    assert (second.fn.func, second.fn.args, second.fn.keywords) == (render, (1,), {"lang": "en"})
    assert (second.args, third.fn, third.args) == ((2,), render, (3,))


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_calls_by_way_of_map(sup, fake_workers, kind):
    fake_workers.script(render, after=0, returns="page")
    executor = sup.executor(kind)
    for size, args in (1, [("a",), ("b",), ("c",)]), (2, [(("a",), ("b",)), ("c",)]):
        results = executor.map(functools.partial(render), "abc", chunksize=size)
        with ThreadPoolExecutor(1) as aside:
            assert await asyncio.wrap_future(aside.submit(list, results)) == ["page"] * 3
        assert [run.args for run in fake_workers.runs] == args
        fake_workers.runs.clear()


def test_late_calls_are_fake_where_the_supervisor_is():
    async def main(sup):
        sup.install_as_default_executor()
        await sup.shutdown()

    with asyncio.Runner() as runner:
        with FakeWorkers() as fakes:
            fakes.script(render, after=0, returns="page")
            runner.run(main(Supervisor("app")))
        assert runner.run(asyncio.to_thread(render)) == "page"
    with asyncio.Runner() as runner:
        runner.run(main(Supervisor("app")))
        with FakeWorkers():
            assert runner.run(asyncio.to_thread(int, "7")) == 7


def test_late_calls_have_the_clock_of_the_supervisor():
    async def main():
        sup = Supervisor("app")
        sup.install_as_default_executor()
        await sup.shutdown()
        return sup

    with asyncio.Runner() as runner:
        sup = runner.run(main())
        with VirtualTime():
            assert runner.run(asyncio.to_thread(int, "7")) == 7
        assert inside.clock_of_late_calls(sup) == inside.clock_of(sup)


async def test_a_function_without_a_script_is_named(sup, fake_workers):
    fake_workers.script(other)
    for kind in "thread", "process":
        with pytest.raises(LookupError, match=r"no script: say what it does by fakes.script\(render\)"):
            await sup.run(render, kind=kind)
        with pytest.raises(LookupError, match=r"fakes.script\(render\)"):
            await sup.start(render, kind=kind)
    assert sup.workers() == ()


@pytest.mark.parametrize(
    ("worker", "options", "what"),
    [
        (7, {}, "7"),
        (render, {"obeys": "asks"}, "obeys='asks'"),
        (render, {"delay": -1}, "delay=-1"),
        (render, {"after": "soon"}, "after='soon'"),
        (render, {"raises": "OSError"}, "raises='OSError'"),
        (render, {"exit_code": 1}, "exit_code=1"),
    ],
)
def test_a_wrong_script_is_refused(worker, options, what):
    with pytest.raises((TypeError, ValueError), match=what):
        FakeWorkers().script(worker, **options)


async def test_a_thread_cannot_die(sup, fake_workers):
    fake_workers.script(render)
    await sup.start(render)
    with pytest.raises(RuntimeError, match="is a thread"):
        fake_workers.runs[0].die()


async def test_a_thread_that_is_to_die_fails_instead(sup, fake_workers):
    fake_workers.script(render, after=0, exit_code=-11)
    with pytest.raises(RuntimeError, match="is a thread, which cannot die"):
        await sup.run(render)


def test_who_waits_for_a_run_no_longer_holds_up_none():
    """Be it given up by itself, or with its event loop."""

    async def give_up(fakes):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fakes.next_run(), 0.01)

    async def run():
        async with Supervisor() as sup:
            return await asyncio.wait_for(sup.run(render), 10)

    with FakeWorkers() as fakes:
        fakes.script(render, after=0, returns="page")
        asyncio.run(give_up(fakes))
        assert not inside.waits_for_a_run(fakes)
        loop = asyncio.new_event_loop()
        waiting = fakes.next_run()
        loop.run_until_complete(begun(waiting))
        loop.close()
        assert asyncio.run(run()) == "page"
        waiting.close()


async def begun(coroutine):
    """Has a coroutine wait that nobody goes on with."""
    coroutine.send(None)


def test_only_one_is_in_force():
    with FakeWorkers(), pytest.raises(RuntimeError, match="in force already"), FakeWorkers():
        pass
    with FakeWorkers():
        pass


async def test_what_an_iteration_yields_and_how_it_ends(sup, fake_workers):
    fake_workers.script(render, after=0, returns=[1, 2, 3])
    assert [item async for item in sup.iterate(render, "page", kind="process")] == [1, 2, 3]
    assert (fake_workers.runs[0].fn, fake_workers.runs[0].args) == (render, ("page",))
    fake_workers.script(other, obeys=None)
    items = sup.iterate(functools.partial(other, 5))
    waiting = asyncio.create_task(anext(items))
    while (run := await fake_workers.next_run()).fn is render:
        pass
    run.yields("a", "b")
    assert [await waiting, await anext(items)] == ["a", "b"]
    run.fail(ValueError("on purpose"))
    with pytest.raises(ValueError, match="on purpose"):
        await anext(items)
    call = asyncio.create_task(sup.run(other))
    run = await fake_workers.next_run()
    with pytest.raises(RuntimeError, match="no call of iterate"):
        run.yields(1)
    run.finish()
    await call


async def test_an_iteration_that_is_left_climbs_its_ladder(sup, fake_workers):
    fake_workers.script(render)
    async with sup.iterate(render):
        run = await fake_workers.next_run()
    assert run.steps == ["ask"]
    assert run.over
