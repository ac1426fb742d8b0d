"""The inbox by itself: what threads post arrives, in order, in turns that are short."""

import asyncio
import os
import random
import threading
import time
from functools import partial
from itertools import count

import pytest

from .. import inside
from ..inside import TURN, Inbox
from ..stepper import Stepper
from ..waiting import turns, until


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
    await turns()
    assert seen == []


# ------------------------------------------------------------------------------------------------ notices


async def test_a_notice_wakes_the_loop_where_it_does_not_look_by_itself(eventfd):
    done = asyncio.Event()
    inbox = Inbox(asyncio.get_running_loop(), lambda _: done.set())
    await asyncio.to_thread(inbox.post_notice, "notice", time.monotonic())
    await asyncio.wait_for(done.wait(), 20)
    inbox.close()


async def test_a_notice_waits_for_the_look_that_is_due_or_for_what_comes_next(eventfd, monkeypatch):
    inside.patch(monkeypatch, NOTICE=600)
    seen, done = [], asyncio.Event()
    inbox = Inbox(asyncio.get_running_loop(), lambda item: (seen.append(item), item == "end" and done.set()))
    inbox.look_soon()
    await asyncio.to_thread(inbox.post_notice, "notice", time.monotonic())
    await turns()
    assert seen == []  # nobody has woken the loop
    await asyncio.to_thread(inbox.post, "end")
    await asyncio.wait_for(done.wait(), 20)
    assert seen == ["notice", "end"]
    inbox.close()


async def test_the_loop_looks_by_itself_once_for_all_notices(eventfd):
    done = asyncio.Event()
    inbox = Inbox(asyncio.get_running_loop(), lambda _: done.set())
    inbox.look_soon()
    await asyncio.to_thread(inbox.post_notice, "notice", 0.0)
    await asyncio.wait_for(done.wait(), 20)
    inbox.close()


async def test_a_notice_wakes_a_loop_whose_look_is_overdue(eventfd, monkeypatch):
    """A test has stopped the loop's clock, say: its timers do not ring."""
    done = asyncio.Event()
    inbox = Inbox(asyncio.get_running_loop(), lambda _: done.set())
    with monkeypatch.context() as patched:
        patched.setattr(asyncio.get_running_loop(), "call_later", lambda *args, **kwargs: None)
        inbox.look_soon()
    await asyncio.to_thread(inbox.post_notice, "notice", time.monotonic() + 1)
    await asyncio.wait_for(done.wait(), 20)
    inbox.close()


async def test_it_looks_once_at_a_time_however_long_a_turn_takes(eventfd, monkeypatch):
    """Else each look that lasts has several others follow, and each of those several again."""
    inside.patch(monkeypatch, NOTICE=1e-9)
    loop, looks = asyncio.get_running_loop(), []
    inbox = Inbox(loop, lambda _: inbox.look_soon())
    with monkeypatch.context() as patched:
        patched.setattr(loop, "call_later", lambda _, look, *args, **kwargs: looks.append(look))
        inbox.look_soon()
        for n in range(10):
            inbox.post_notice(n, 0.0)
        inbox.drain()
        assert len(looks) == 1
        looks.pop()()
        inbox.look_soon()
        assert len(looks) == 1
    inbox.close()


async def test_of_notices_and_items_from_many_threads_none_is_lost(eventfd):
    seen, done = [], asyncio.Event()

    def handle(item):
        seen.append(item)
        inbox.look_soon()
        if len(seen) == 4000:
            done.set()

    def post(name):
        for n in range(500):
            inbox.post_notice((name, n), time.monotonic())

    inbox = Inbox(asyncio.get_running_loop(), handle)
    threads = [threading.Thread(target=post, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    await asyncio.wait_for(done.wait(), 60)
    for thread in threads:
        thread.join()
    for name in range(8):
        assert [n for who, n in seen if who == name] == list(range(500))
    inbox.close()


async def test_a_look_at_a_closed_inbox_does_nothing(eventfd):
    seen = []
    inbox = Inbox(asyncio.get_running_loop(), seen.append)
    inbox.look_soon()
    inbox.post_notice("notice", 0.0)
    inbox.close()
    await asyncio.sleep(0.05)
    assert seen == []


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


async def test_what_arrives_waits_while_many_need_the_interpreter(monkeypatch):
    seen, rests = [], [True]
    inbox = Inbox(asyncio.get_running_loop(), seen.append, rests=lambda: rests[0])
    monkeypatch.setattr(inside.inbox, "LONGEST_PAUSE", 30)
    inbox.post(1)
    await asyncio.sleep(0.02)
    inbox.post(2)
    await turns()
    assert seen == []
    rests[0] = False
    await until(lambda: seen == [1, 2])
    inbox.close()


async def test_what_arrives_is_handled_though_others_need_the_interpreter_for_long():
    seen = []
    inbox = Inbox(asyncio.get_running_loop(), seen.append, rests=lambda: True)
    for number in range(3):
        inbox.post(number)
        await until(lambda number=number: seen == [*range(number + 1)])
    inbox.close()


async def test_whoever_judges_hears_what_waits(monkeypatch):
    seen = []
    inbox = Inbox(asyncio.get_running_loop(), seen.append, rests=lambda: True)
    monkeypatch.setattr(inside.inbox, "LONGEST_PAUSE", 30)
    inbox.post(1)
    await asyncio.sleep(0.01)
    assert seen == []
    inbox.catch_up()
    assert seen == [1]
    inbox.close()


async def test_nothing_is_lost_where_what_arrives_waits_and_is_more_than_fits_into_a_turn(monkeypatch):
    seen = []
    inbox = Inbox(asyncio.get_running_loop(), seen.append, rests=lambda: random.random() < 0.7)
    inside.patch(monkeypatch, TURN=0.0)
    monkeypatch.setattr(inside.inbox, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(inside.inbox, "PAUSE", 0.0005)

    def post(name):
        for n in range(300):
            inbox.post((name, n))
            if not n % 50:
                time.sleep(0.001)

    threads = [threading.Thread(target=post, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    await until(lambda: len(seen) == 8 * 300)
    for thread in threads:
        thread.join()
    inbox.close()
