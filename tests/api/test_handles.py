"""What a handle says of its worker, and how one is found by its name."""

import asyncio
import threading

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Restart, Supervisor

from ..inside import integration_of
from ..waiting import until

FACTS = ("started_at", "beat_at", "is_ready", "step", "next_step", "next_step_at", "restarts_left", "ident", "pid")


def wait(ctx):
    ctx.stop.wait()


def row_of(sup, name):
    (row,) = integration_of(sup).survey(matching=name).workers
    return row


async def test_a_worker_says_since_when_it_runs_and_that_it_is_ready():
    async with Supervisor("app") as sup:
        loop = asyncio.get_running_loop()
        before = loop.time()
        worker = await sup.start(wait, name="w")
        assert before <= worker.started_at <= loop.time()
        assert worker.started_at == worker.started_at  # it does not waver
        assert (worker.is_ready, worker.beat_at, worker.pool, worker.group) == (True, None, None, None)
        assert (worker.step, worker.next_step, worker.next_step_at) == (None, None, None)
        assert (worker.restarts_left, worker.submitted_from) == (None, None)
        row = row_of(sup, "w")
        assert row.running_for == pytest.approx(loop.time() - worker.started_at, abs=5)
        await worker.stop()
        assert [getattr(worker, fact) for fact in FACTS] == [None, None, False] + [None] * 6


async def test_who_runs_says_since_when_from_the_first_moment_on():
    async with Supervisor("app") as sup:
        for number in range(200):
            worker = await sup.start(wait, name=f"w{number}")
            assert worker.started_at is not None


async def test_a_call_says_the_same_and_while_it_is_queued_that_it_does_not_run():
    async with Supervisor("app", max_threads=1) as sup:
        release = threading.Event()
        calls = [asyncio.ensure_future(sup.run(release.wait, name=name)) for name in ("first", "second")]
        await until(lambda: (there := sup.worker("first")) and there.is_ready)
        first, second = sup.worker("first"), sup.worker("second")
        assert first.started_at <= asyncio.get_running_loop().time()
        assert (first.pool, first.group, first.restarts_left, first.attempt) == ("thread", None, None, 1)
        assert (second.state, second.started_at, second.is_ready) == ("queued", None, False)
        release.set()
        await asyncio.gather(*calls)
        assert (first.started_at, first.is_ready, first.state, second.state) == (None, False, "ended", "ended")


async def test_who_has_to_say_that_it_is_ready_is_so_only_then():
    say, said = threading.Event(), threading.Event()

    def works(ctx):
        say.wait()
        ctx.ready()
        said.set()
        ctx.stop.wait()

    async with Supervisor("app") as sup:
        starting = asyncio.ensure_future(sup.start(works, name="w", ready_timeout=20))
        await until(lambda: (there := sup.worker("w")) and there.started_at)
        assert not sup.worker("w").is_ready
        assert not row_of(sup, "w").ready
        say.set()
        worker = await starting
        assert worker.is_ready
        stopping = asyncio.ensure_future(worker.stop())
        await until(lambda: worker.state != "running")
        assert not worker.is_ready
        await stopping


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_a_heartbeat_is_a_sign_of_life(kind):
    async with Supervisor("app") as sup:
        loop = asyncio.get_running_loop()
        worker = await sup.start(beats, name="w", kind=kind)
        await until(lambda: worker.beat_at)
        first = worker.beat_at
        assert worker.started_at <= first <= loop.time()
        await until(lambda: worker.beat_at > first)
        assert row_of(sup, "w").beat_ago < 20


def beats(ctx):
    while not ctx.stop.wait(0.01):
        ctx.heartbeat()


def test_where_it_is_on_its_ladder_and_when_the_next_step_comes(virtual, leftovers):
    async def main(time):
        async with Supervisor("app", policy=EscalationPolicy(Ask(5), Inject(2))) as sup:
            worker = await sup.start(leftovers.block, name="deaf")
            began = time.now
            stop = asyncio.ensure_future(worker.stop("enough"))
            await until(lambda: worker.step == "ask")
            assert (worker.next_step, worker.next_step_at) == ("inject", began + 5)
            await time.advance(3)
            assert worker.next_step_at == began + 5
            assert row_of(sup, "deaf").step_ends_in == pytest.approx(2)
            await time.advance(2)
            await until(lambda: worker.step == "inject")
            assert worker.next_step == "abandon"
            assert worker.next_step_at == pytest.approx(began + 7)
            await time.advance(2)
            await stop
            assert (worker.step, worker.next_step, worker.next_step_at) == (None, None, None)
            assert worker.outcome.ended == "abandoned"
            leftovers.release.set()

    virtual(main)


def test_a_step_without_end_has_no_next_one(virtual, leftovers):
    async def main(time):
        async with Supervisor("app", policy=EscalationPolicy(Ask(float("inf")))) as sup:
            worker = await sup.start(leftovers.block, name="deaf")
            stop = asyncio.ensure_future(worker.stop())
            await until(lambda: worker.step == "ask")
            assert (worker.next_step, worker.next_step_at) == (None, None)
            leftovers.release.set()
            await stop

    virtual(main)


def test_in_virtual_time_it_runs_since_it_was_submitted(virtual):
    async def main(time):
        async with Supervisor("app") as sup:
            began = time.now
            worker = await sup.start(wait, name="w")
            await time.advance(3600)
            assert worker.started_at == began
            assert row_of(sup, "w").running_for == pytest.approx(3600)

    virtual(main)


def test_the_restarts_that_are_left_are_those_of_this_moment(virtual):
    fail = threading.Event()

    def works(ctx):
        while not ctx.stop.wait(0.001):
            if fail.is_set():
                fail.clear()
                raise ValueError

    async def main(time):
        async with Supervisor("app") as sup:
            restart = Restart("failure", max_restarts=2, within=100, backoff=10, jitter=0)
            worker = await sup.start(works, name="w", restart=restart)
            assert worker.restarts_left == 2
            fail.set()
            await until(lambda: worker.state == "backing_off")
            assert (worker.restarts_left, worker.started_at, worker.is_ready) == (1, None, False)
            assert row_of(sup, "w").restarts_left == 1
            await time.advance(10)
            await until(lambda: worker.is_ready)
            assert (worker.restarts_left, worker.attempt, worker.restarts) == (1, 2, 1)
            await time.advance(100)
            assert worker.restarts_left == 2
            assert (await sup.start(wait, restart=Restart("never"))).restarts_left is None
            stopping = asyncio.ensure_future(sup.shutdown())
            await until(lambda: worker.restarts_left is None)
            await stopping

    virtual(main)


async def test_workers_and_calls_are_found_by_their_names():
    async with Supervisor("app") as sup:
        assert Supervisor("unused").worker("w") is None
        release = threading.Event()
        worker = await sup.start(wait, name="w")
        unnamed = await sup.start(wait)
        calls = [asyncio.ensure_future(sup.run(release.wait)), asyncio.ensure_future(sup.run(release.wait, name="c"))]
        await until(lambda: len(sup.workers()) == 4)
        assert sup.worker("w") is worker
        assert sup.worker(unnamed.name) is unnamed
        for handle in sup.workers():
            assert sup.worker(handle.name) is handle
        generated = next(handle.name for handle in sup.workers() if handle.name.startswith("Event.wait-"))
        stem, _, number = generated.rpartition("-")
        near = (stem, f"{stem}-0{number}", f"other-{number}", f"w-{number}")
        for wrong in ("", "W", "w/", "/w", "-1", "x-" + "9" * 40, *near):
            assert sup.worker(wrong) is None
        with pytest.raises(TypeError, match=r"worker\(name=7\): must be a string"):
            sup.worker(7)
        release.set()
        await asyncio.gather(*calls)
        assert sup.worker("c") is None
        assert sup.worker(generated) is None
    assert sup.worker("w") is None


async def test_a_group_finds_its_own_by_the_short_name_and_by_the_full_one():
    async with Supervisor("app") as sup:
        feeds = sup.group("feeds")
        fast = feeds.group("fast")
        reader = await feeds.start(wait, name="reader")
        deep = await fast.start(wait, name="reader")
        outside = await sup.start(wait, name="reader")
        assert feeds.worker("reader") is feeds.worker("feeds/reader") is sup.worker("feeds/reader") is reader
        assert feeds.worker("fast/reader") is fast.worker("reader") is fast.worker("feeds/fast/reader") is deep
        assert sup.worker("reader") is outside
        assert feeds.worker("feeds") is None
        assert sup.worker("feeds") is None
        await reader.stop()
        assert feeds.worker("reader") is None  # and not the one outside
        assert (deep.group, outside.group) == ("feeds/fast", None)
        release = threading.Event()
        call = asyncio.ensure_future(feeds.run(release.wait))
        await until(lambda: len(feeds.workers()) == 2)
        handle = feeds.workers()[-1]
        assert (handle.group, handle.pool) == ("feeds", "thread")
        assert feeds.worker(handle.name.removeprefix("feeds/")) is handle
        release.set()
        await call


@pytest.mark.parametrize("times", [20, pytest.param(500, marks=pytest.mark.slow)])
async def test_another_thread_may_ask_at_any_moment(times):
    async with Supervisor("app") as sup:
        over, wrong = threading.Event(), []

        def asks():
            while not over.is_set():
                try:
                    for name in ("w", "c"):
                        worker = sup.worker(name)
                        if worker is not None:
                            assert worker.name == name
                            for fact in (*FACTS, "state", "attempt", "restarts", "outcome", "group", "pool"):
                                getattr(worker, fact)
                except Exception as error:
                    wrong.append(error)
                    return

        threads = [threading.Thread(target=asks) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(times):
            worker = await sup.start(wait, name="w", restart=Restart("failure"))
            await asyncio.gather(sup.run(int, name="c"), worker.restart())
            await worker.stop()
        over.set()
        for thread in threads:
            thread.join()
        assert not wrong
