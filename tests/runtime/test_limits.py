"""`limits=`: what follows where a run uses too much. Workers are fakes, and time is virtual."""

import asyncio
import pickle
import sys
import time as real_time

import pytest

from supervisor import (
    Ask,
    EscalationPolicy,
    Inject,
    Kill,
    Limits,
    Restart,
    RestartLimitExceeded,
    Supervisor,
    WorkerOverLimit,
    WorkerStopped,
    WorkerTimeout,
)
from supervisor.testing import FakeWorkers

from ..inside import WHEN_A_LIMIT_IS_EXCEEDED, patch
from ..waiting import turns, until
from .striking import strike_everywhere

MIB = 1 << 20
LIMITS = Limits(rss=512 * MIB, cpu_seconds=10)


def work():
    """Is never called: its runs are scripted."""


def serve(ctx):
    """The same of a worker."""


def call(virtual, uses, *, obeys="ask", delay=0.0, policy=None, returns=None, then=(), **options):
    """How a call ends whose usage is `uses` from its first second on, and how long after that."""

    async def main(time):
        with FakeWorkers() as fakes:
            fakes.script(work, obeys=obeys, delay=delay, returns=returns)
            async with Supervisor(policy=policy, shutdown_timeout=1000) as sup:
                task = asyncio.ensure_future(sup.run(work, kind="process", **{"limits": LIMITS, **options}))
                await time.advance(1)
                for stop, seconds in then:
                    stop(sup, task)
                    await time.advance(seconds)
                fakes.runs[0].use(**uses)
                began = time.now
                ended_at = []
                task.add_done_callback(lambda _: ended_at.append(time.now))
                await time.advance(100)
                sup.request_shutdown()
                await asyncio.wait([task])
                error = None if task.cancelled() else task.exception()
                return error, (ended_at or [began + 100])[0] - began, fakes.runs[0].steps

    return virtual(main)


@pytest.mark.parametrize(
    ("uses", "limit", "allowed", "used", "text"),
    [
        ({"rss": 700 * MIB}, "rss", 512 * MIB, 700 * MIB, "rss of 700 MiB, allowed are 512 MiB"),
        ({"cpu_seconds": 10.5}, "cpu_seconds", 10, 10.5, "cpu_seconds of 10.5, allowed are 10"),
    ],
)
def test_a_call_over_its_limit_is_stopped_and_says_which(virtual, uses, limit, allowed, used, text):
    error, seconds, steps = call(virtual, uses)
    assert type(error) is WorkerOverLimit
    assert isinstance(error, WorkerStopped)
    assert error.limit == limit
    assert (error.outcome.limit, error.outcome.allowed, error.outcome.used) == (limit, allowed, used)
    assert error.outcome.ended == "stopped"
    assert text in str(error)
    assert steps == ["ask"]
    assert seconds <= 0.5
    assert error.outcome.to_dict()["limit"] == limit
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.limit, copy.outcome) == (str(error), limit, error.outcome)


def test_a_call_within_its_limits_goes_on(virtual):
    error, seconds, steps = call(virtual, {"rss": 512 * MIB, "cpu_seconds": 10})
    assert seconds == pytest.approx(100)
    assert type(error) is WorkerStopped  # by the shutdown
    assert error.outcome.limit is None
    assert steps == ["ask"]


def test_limits_that_say_nothing_limit_nothing(virtual):
    _, seconds, _ = call(virtual, {"rss": 1 << 50, "cpu_seconds": 1e9}, limits=Limits())
    assert seconds == pytest.approx(100)


def test_a_value_that_comes_too_late_is_in_the_outcome(virtual):
    error, _, _ = call(virtual, {"rss": 513 * MIB}, returns="value")
    assert type(error) is WorkerOverLimit
    assert error.outcome.value == "value"


def test_where_nobody_has_named_a_ladder_it_is_a_hasty_one(virtual):
    error, seconds, steps = call(virtual, {"rss": 513 * MIB}, obeys="kill")
    assert error.outcome.ended == "killed"
    assert steps == ["ask", "inject", "terminate", "kill"]
    assert seconds < 0.3


def test_a_ladder_that_was_named_is_followed_as_it_stands(virtual):
    policy = EscalationPolicy(Ask(3), Inject(4, every=10), Kill(5))
    for given in ({"policy": policy}, {"policy": None}):
        error, seconds, steps = call(virtual, {"rss": 513 * MIB}, obeys="kill", **given)
        assert error.outcome.ended == "killed"
        assert 7 <= seconds < 7.6 if given["policy"] else seconds < 0.3
        assert steps[:2] == ["ask", "inject"]


def test_the_first_cause_stays_and_a_limit_hastens_the_ladder(virtual):
    cancel = [(lambda sup, task: task.cancel(), 0.1)]
    error, seconds, steps = call(virtual, {"rss": 513 * MIB}, obeys="kill", then=cancel)
    assert error is None  # it is a cancellation
    assert steps == ["ask", "ask", "inject", "terminate", "kill"]  # the second time, that there is less time now
    assert seconds < 3
    error, seconds, _ = call(virtual, {"rss": 513 * MIB}, obeys="kill", timeout=0.5)
    assert type(error) is WorkerTimeout
    assert error.outcome.limit is None
    assert seconds < 3


def test_a_call_that_waits_for_a_process_is_not_looked_at(virtual):
    async def main(time):
        with FakeWorkers() as fakes:
            fakes.script(work, after=5, returns=1)
            async with Supervisor(max_processes=1) as sup:
                first = asyncio.ensure_future(sup.run(work, kind="process"))
                second = asyncio.ensure_future(sup.run(work, kind="process", limits=LIMITS))
                await time.advance(11)
                return await asyncio.gather(first, second)

    assert virtual(main) == [1, 1]


def worker(virtual, restart, uses=513):
    """How a worker ends whose first runs use too much, and how many runs it had."""

    async def main(time):
        with FakeWorkers() as fakes:
            fakes.script(serve)
            async with Supervisor() as sup:
                worker = await sup.start(serve, kind="process", name="w", limits=LIMITS, restart=restart)
                for _ in range(3):
                    fakes.runs[-1].use(rss=uses * MIB)
                    await time.advance(60)
                return worker.outcome, worker.last_outcome, len(fakes.runs)

    return virtual(main)


def test_a_worker_over_its_limit_has_failed(virtual):
    outcome, _, runs = worker(virtual, None)
    assert (outcome.ended, outcome.limit, runs) == ("stopped", "rss", 1)
    outcome, last, runs = worker(virtual, Restart("failure", max_restarts=5))
    assert (outcome, last.limit, runs) == (None, "rss", 4)
    outcome, last, runs = worker(virtual, Restart("failure", max_restarts=1, within=1000))
    assert isinstance(outcome.error, RestartLimitExceeded)
    assert (last.limit, runs) == ("rss", 2)


def test_a_worker_that_is_over_its_limit_before_it_is_ready_fails_its_start(virtual):
    async def main(time):
        with FakeWorkers() as fakes:
            fakes.script(serve, ready=False)
            async with Supervisor() as sup:
                start = asyncio.ensure_future(sup.start(serve, kind="process", ready_timeout=60, limits=LIMITS))
                await time.advance(1)
                fakes.runs[0].use(rss=513 * MIB)
                await time.advance(1)
                with pytest.raises(WorkerOverLimit):
                    await start

    virtual(main)


def test_what_is_logged_and_seen_names_the_limit_and_the_figure(virtual, events):
    async def main(time):
        with FakeWorkers() as fakes:
            fakes.script(work)
            async with Supervisor() as sup:
                transitions = sup.transitions()
                task = asyncio.ensure_future(sup.run(work, kind="process", name="w", limits=LIMITS))
                await time.advance(1)
                fakes.runs[0].use(rss=700 * MIB)
                await time.advance(1)
                with pytest.raises(WorkerOverLimit):
                    await task
            return [item async for item in transitions]

    seen = virtual(main)
    assert [(item.new, item.limit, item.used) for item in seen] == [
        ("queued", None, None),
        ("running", None, None),
        ("stopping", "rss", 700 * MIB),
        ("ended", "rss", 700 * MIB),
    ]
    assert "rss of 700 MiB" in seen[2].reason
    stopping, ended = (event for event in events if event["event"] in ("worker.stopping", "worker.ended"))
    for event in (stopping, ended):
        assert (event["limit"], event["used"]) == ("rss", 700 * MIB)
        assert event["reason"] == "over its limit: rss of 700 MiB, allowed are 512 MiB"


async def a_limit_is_exceeded(striker):
    with FakeWorkers() as fakes:
        fakes.script(work)
        fakes.script(serve, after=0)
        async with Supervisor(max_processes=3, shutdown_timeout=1) as sup:
            call = asyncio.ensure_future(sup.run(work, kind="process", limits=Limits(rss=5)))
            other = asyncio.ensure_future(sup.run(work, kind="process", limits=Limits(rss=500)))
            await until(lambda: len(fakes.runs) == 2)
            for run in fakes.runs:
                run.use(rss=50)
            sys.settrace(striker.trace)
            await asyncio.wait([call], timeout=0.1)
            sys.settrace(None)
            # An alarm that was struck as it began to ring is heard at the latest when another one is set.
            await sup.run(serve, kind="process", timeout=60)
            await asyncio.wait([call], timeout=5)
            assert call.done(), f"struck in {striker.struck}: it was not stopped"
            assert isinstance(call.exception(), WorkerOverLimit)
            fakes.runs[1].use(rss=5000)
            await asyncio.wait([other], timeout=5)
            assert other.done(), f"struck in {striker.struck}: it was not looked at any more"
            return isinstance(other.exception(), WorkerOverLimit)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("quiet")
def test_an_interrupt_at_any_line_keeps_nobody_from_being_stopped(monkeypatch):
    patch(monkeypatch, OFTEN=0.005, SELDOM=0.02)
    strike_everywhere(a_limit_is_exceeded, WHEN_A_LIMIT_IS_EXCEEDED)


def work_of_a_look(virtual, limits, uses, seconds=10, look=lambda: None):
    """How often it is looked at what a call uses, within so many seconds; `look` is called each time."""

    async def main(time):
        with FakeWorkers() as fakes:
            fakes.script(work)
            async with Supervisor() as sup:
                task = asyncio.ensure_future(sup.run(work, kind="process", limits=limits))
                await turns()
                looks = 0

                class Counted(type(fakes.runs[0])):
                    @property
                    def usage(self):
                        nonlocal looks
                        looks += 1
                        look()
                        return self.__dict__["usage"]

                    @usage.setter
                    def usage(self, usage):
                        self.__dict__["usage"] = usage

                fakes.runs[0].__class__ = Counted
                fakes.runs[0].use(**uses)
                await time.advance(seconds)
                task.cancel()
                await asyncio.wait([task])
                return looks

    return virtual(main)


def test_it_is_looked_seldom_while_the_limit_cannot_be_reached(virtual):
    near = work_of_a_look(virtual, Limits(rss=512 * MIB), {"rss": 500 * MIB})
    far = work_of_a_look(virtual, Limits(rss=1 << 40), {"rss": 500 * MIB})
    assert 150 < near <= 202
    assert 10 < far <= 25


def test_looks_that_take_real_time_take_none_where_a_test_holds_the_clock(virtual):
    limits, uses = Limits(rss=512 * MIB), {"rss": 500 * MIB}
    assert work_of_a_look(virtual, limits, uses, 1, lambda: real_time.sleep(0.01)) >= 15


async def test_limits_of_threads_are_refused_at_once():
    async with Supervisor() as sup:
        with pytest.raises(ValueError, match=r'limits=.*kind="process"'):
            await sup.run(work, limits=LIMITS)
        with pytest.raises(ValueError, match=r'limits=.*kind="process"'):
            await sup.start(serve, limits=LIMITS)
        for kind in ("thread", "process"):
            with pytest.raises(TypeError, match=r"limits=512: must be Limits or None, such as Limits\(rss="):
                await sup.run(work, kind=kind, limits=512)
            with pytest.raises(TypeError, match=r"limits="):
                await sup.start(serve, kind=kind, limits={"rss": 5})
        assert not sup.workers()


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("rss", 0, ValueError),
        ("rss", -1, ValueError),
        ("rss", 8e9, TypeError),
        ("rss", "1G", TypeError),
        ("rss", True, TypeError),
        ("cpu_seconds", 0, ValueError),
        ("cpu_seconds", -1, ValueError),
        ("cpu_seconds", float("nan"), ValueError),
        ("cpu_seconds", "5", TypeError),
        ("cpu_seconds", True, TypeError),
    ],
)
def test_wrong_limits_are_refused_by_name(field, value, error):
    with pytest.raises(error, match=rf"Limits\({field}="):
        Limits(**{field: value})


def test_limits_are_a_value():
    assert Limits(rss=5) == Limits(rss=5)
    assert hash(Limits(rss=5)) == hash(Limits(rss=5))
    assert pickle.loads(pickle.dumps(LIMITS)) == LIMITS
    with pytest.raises(AttributeError):
        LIMITS.rss = 5
    with pytest.raises(TypeError):
        Limits(5)
