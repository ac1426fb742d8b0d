"""The inbox and the alarms by themselves."""

import asyncio
import os
import random
import threading
import time
from functools import partial
from itertools import count

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor

from .. import inside
from ..inside import TURN, Alarms, Inbox, outlast
from ..stepper import Stepper


class Target:
    over = False


@pytest.fixture(params=[True, False], ids=["eventfd", "call_soon_threadsafe"])
def eventfd(request, monkeypatch):
    if not request.param:
        monkeypatch.delattr(os, "eventfd")
    return request.param


async def test_what_is_posted_from_many_threads_arrives_once_and_in_order(eventfd):
    seen, done = [], asyncio.Event()
    inbox = Inbox(asyncio.get_running_loop(), lambda item: (seen.append(item), len(seen) == 8000 and done.set()))
    threads = [
        threading.Thread(target=lambda name=name: [inbox.post((name, n)) for n in range(1000)]) for name in range(8)
    ]
    for thread in threads:
        thread.start()
    await done.wait()
    for thread in threads:
        thread.join()
    for name in range(8):
        assert [n for who, n in seen if who == name] == list(range(1000))
    inbox.close()


async def test_a_burst_is_handled_in_turns_that_are_short(eventfd):
    seen, turns = [], []

    def handle(item):
        seen.append(item)
        until = time.thread_time() + TURN / 10
        while time.thread_time() < until:
            pass

    inbox = Inbox(asyncio.get_running_loop(), handle)
    for n in range(5 * Inbox.SLICE):
        inbox.post(n)
    while len(seen) < 5 * Inbox.SLICE:
        before = len(seen)
        await asyncio.sleep(0)
        turns.append(len(seen) - before)
    assert max(turns) <= 2 * Inbox.SLICE  # so many fit in, and the turn ends with the one that makes it full
    assert seen == list(range(5 * Inbox.SLICE))
    inbox.close()


async def test_a_burst_of_what_is_quickly_done_is_handled_in_few_turns(eventfd, monkeypatch):
    inside.patch(monkeypatch, TURN=60)
    seen = []
    inbox = Inbox(asyncio.get_running_loop(), seen.append)
    for n in range(100 * Inbox.SLICE):
        inbox.post(n)
    turns = 0
    while len(seen) < 100 * Inbox.SLICE:
        turns += 1
        await asyncio.sleep(0)
    assert turns <= 3
    inbox.close()


async def test_an_item_whose_handling_fails_is_reported_and_the_next_is_handled(eventfd):
    reports, seen, done = [], [], asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reports.append(context["exception"]))

    def handle(item):
        if item == "bad":
            raise ValueError(item)
        seen.append(item)
        done.set()

    inbox = Inbox(loop, handle)
    inbox.post("bad")
    inbox.post("good")
    await done.wait()
    assert seen == ["good"]
    assert [str(error) for error in reports] == ["bad"]
    inbox.close()


async def test_what_reaches_a_closed_inbox_is_dropped(eventfd):
    seen = []
    inbox = Inbox(asyncio.get_running_loop(), seen.append)
    inbox.close()
    inbox.post(1)
    await asyncio.sleep(0.01)
    assert seen == []


def test_alarms_ring_in_order_whatever_is_set_while_they_ring(virtual):
    """An alarm that is set while another rings must not keep an earlier one waiting."""
    rang = []

    async def main(time):
        began, first, second = time.now, Target(), Target()

        def ring(target):
            rang.append((round(time.now - began, 3), "first" if target is first else "second"))
            if target is first and len(rang) == 1:
                alarms.set(began + 1.0, first)

        alarms = Alarms(asyncio.get_running_loop(), time, ring)
        alarms.set(began + 0.10, first)
        alarms.set(began + 0.11, second)
        for _ in range(12):
            await time.advance(0.1)
        alarms.close()

    virtual(main)
    assert rang == [(0.1, "first"), (0.11, "second"), (1.0, "first")]


def test_alarms_of_what_is_over_do_not_ring_and_are_forgotten(virtual):
    rang = []

    async def main(time):
        alarms = Alarms(asyncio.get_running_loop(), time, rang.append)
        targets = [Target() for _ in range(1000)]
        for target in targets:
            alarms.set(time.now + 1000, target)
        for target in targets[:-1]:
            target.over = True
            alarms.forget()
        assert inside.alarms_in(alarms) < 200
        await time.advance(1500)
        return targets[-1]

    last = virtual(main)
    assert rang == [last]


async def test_an_alarm_that_is_overdue_is_not_put_off_by_what_is_set_for_later():
    """A turn of the loop has taken long, and what comes in before the timer's turn sets alarms of its own."""
    loop, rung = asyncio.get_running_loop(), []
    alarms = Alarms(loop, loop.time, rung.append)
    due, later = Target(), Target()
    alarms.set(loop.time() + 0.001, due)
    time.sleep(0.01)
    for _ in range(3):
        alarms.set(loop.time() + 1000, later)
        await asyncio.sleep(0)
    assert rung == [due]
    alarms.close()


def test_an_alarm_whose_ringing_was_interrupted_rings_again(virtual):
    rang = []

    async def main(time):
        target = Target()

        def ring(target):
            rang.append(target)
            if len(rang) == 1:
                raise KeyboardInterrupt

        alarms = Alarms(asyncio.get_running_loop(), time, ring)
        alarms.set(time.now, target)
        with pytest.raises(KeyboardInterrupt):
            inside.ring_alarms(alarms)
        await time.advance(0)

    virtual(main)
    assert len(rang) == 2


async def test_outlast_returns_none_where_nobody_cancelled():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, future.set_result, None)
    assert await outlast(future) is None


async def test_no_queued_call_starts_once_a_shutdown_has_begun_and_each_is_in_the_report():
    """Also where the logger is slow, so that telling everybody takes long."""
    release, started = threading.Event(), []

    class SlowLogger:
        def slow(self, *args, **kwargs):
            release.wait(0.002)

        debug = info = warning = error = slow

    def work(n):
        started.append(n)
        release.wait(0.001)

    sup = Supervisor(logger=SlowLogger(), max_threads=4)
    for _ in range(10):
        await sup.start(lambda ctx: ctx.stop.wait())
    calls = [asyncio.create_task(sup.run(work, n)) for n in range(200)]
    await asyncio.sleep(0)
    live = len(inside.runs(sup))
    begun = asyncio.create_task(sup.shutdown())
    await asyncio.sleep(0)
    at_the_beginning = len(started)
    report = await begun
    await asyncio.gather(*calls, return_exceptions=True)
    assert len(started) - at_the_beginning <= 4
    assert sum(report.counts().values()) >= live - at_the_beginning


async def test_two_ladders_side_by_side_escalate_each_in_its_time():
    def spin():
        while True:
            pass

    async with Supervisor(policy=EscalationPolicy(Ask(0.1), Inject(5, every=1.0))) as sup:
        for _ in range(3):
            await sup.start(lambda ctx: spin())
        report = await sup.shutdown()
    assert report.counts() == {"injected": 3}
    assert max(outcome.stop_seconds for outcome in report.outcomes) < 0.9


async def test_the_repr_says_where_it_is_in_its_life():
    sup = Supervisor("app")
    assert repr(sup) == "<Supervisor 'app': not used yet>"
    worker = await sup.start(lambda ctx: ctx.stop.wait(), name="w")
    assert repr(sup) == "<Supervisor 'app': running, 1 workers>"
    assert repr(worker) == "<Worker 'w' on a thread: running>"
    assert "<Run 'w' running>" in repr(inside.runs(sup))
    closing = asyncio.create_task(sup.shutdown())
    await asyncio.sleep(0)
    assert repr(sup) == "<Supervisor 'app': shutting down, 1 workers>"
    await closing
    assert repr(sup) == "<Supervisor 'app': shut down>"
    assert repr(worker) == "<Worker 'w' on a thread: stopped>"


async def test_a_copy_of_a_process_lets_go_of_what_it_has_not():
    used, unused = Supervisor("used"), Supervisor("unused")
    await used.run(int)
    shut_down = inside.copied_by_a_fork(used, unused)
    with pytest.raises(RuntimeError, match="before the fork"):
        await used.run(int)
    assert await unused.run(int, "5") == 5
    await unused.shutdown()
    await shut_down()


# ------------------------------------------------------------------------------------------------ the bell


BELL = [(["b"], True), (["b"], False), ([], True), ([], False)]
"""What is in the inbox, and whether it is armed, when the loop begins its turn: somebody has rung."""


def raced(items, armed, posters, choose):
    """Has threads post while the loop takes its turn, line by line as `choose` says; then has it take what it hears."""
    seen = []
    inbox = inside.inbox_with(items, seen.append, armed=armed)
    racers = [Stepper(partial(inside.take_turn, inbox), inside.IN_A_TURN)]
    racers += [Stepper(partial(inbox.post, name), inside.IN_A_POST) for name in range(posters)]
    while racing := [racer for racer in racers if not racer.over]:
        choose(racing).step()
    for racer in racers:
        racer.thread.join()
    while inside.is_rung(inbox):
        inside.take_turn(inbox)
    inbox.post("last")
    while inside.is_rung(inbox):
        inside.take_turn(inbox)
    inbox.close()
    return seen, sorted(map(str, [*items, *range(posters), "last"]))


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="there is no bell without eventfd")
@pytest.mark.parametrize(("items", "armed"), BELL)
async def test_whatever_is_posted_while_the_loop_takes_its_turn_is_heard_of(items, armed):
    """All orders of the lines of one post and of the loop's turn."""
    untried = [[]]
    tried = 0
    while untried:
        decisions = untried.pop()
        known = len(decisions)

        def choose(racing, decisions=decisions, at=count(), known=known):  # noqa: B008  # one for each order
            number = next(at)
            if number >= known:
                untried.extend([*decisions, other] for other in range(1, len(racing)))
                decisions.append(0)
            return racing[decisions[number]]

        seen, posted = raced(items, armed, 1, choose)
        assert sorted(map(str, seen)) == posted, f"in the order {decisions}"
        tried += 1
    assert tried > 100


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="there is no bell without eventfd")
@pytest.mark.parametrize(("items", "armed"), BELL)
async def test_whatever_several_post_while_the_loop_takes_its_turn_is_heard_of(items, armed):
    for seed in range(200):
        seen, posted = raced(items, armed, 3, random.Random(seed).choice)
        assert sorted(map(str, seen)) == posted, f"with the seed {seed}"
