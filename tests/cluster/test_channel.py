"""A conversation that outlives its connections: nothing is lost, and nothing comes twice."""

import asyncio
import random

import pytest

from ..inside_cluster import PIECE, WINDOW, Channel
from ..waiting import until


class Pipe:
    """A connection in memory, of two ends; it may break at any moment, at one end sooner than at the other."""

    def __init__(self):
        self.ends = (End(self, 0), End(self, 1))
        self.cut = False


class End:
    def __init__(self, pipe, side):
        self.pipe, self.side = pipe, side
        self.inbox = asyncio.Queue()
        self.broken = False
        self.bytes = self.written = self.largest = 0

    async def write(self, frame):
        if self.broken:
            raise ConnectionError("broken")
        other = self.pipe.ends[1 - self.side]
        sizes = [len(part) for item in frame["items"] for part in item if isinstance(part, bytes | memoryview)]
        if not self.pipe.cut:
            other.inbox.put_nowait({**frame, "items": [[*map(as_bytes, item)] for item in frame["items"]]})
        self.written += 1
        self.bytes += sum(sizes)
        self.largest = max(sizes, default=self.largest)
        await asyncio.sleep(0)

    async def read(self):
        frame = None if self.broken else await self.inbox.get()
        if frame is None or self.broken:
            raise ConnectionError("broken")
        return frame

    def abort(self):
        self.broken = True
        self.inbox.put_nowait(None)

    def closed(self):
        return self.broken


def as_bytes(part):
    return bytes(part) if isinstance(part, memoryview) else part


class Talker:
    """One end of a conversation, and what has come there."""

    def __init__(self, heard=None):
        self.items, self.news, self.errors = [], [], []
        self.channel = Channel(heard or self.items.extend, self.news.append, self.errors.append)
        self.serving = []

    def serve(self, comm, other):
        self.serving.append(asyncio.ensure_future(self.channel.serve(comm, other.channel.heard_number)))

    async def end(self):
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)


def connect(one, other):
    pipe = Pipe()
    one.serve(pipe.ends[0], other)
    other.serve(pipe.ends[1], one)
    return pipe


async def test_over_connections_that_break_each_item_comes_once_and_what_is_about_the_same_in_order():
    dice = random.Random(7)
    one, other = Talker(), Talker()
    said = 0
    for _ in range(60):
        pipe = connect(one, other)
        for _ in range(dice.randrange(30)):
            said += 1
            one.channel.send("item", said % 3, bytes(dice.choice((0, 10, 3 * PIECE))), said)
            other.channel.send("item", said)
            await asyncio.sleep(0)
        for _ in range(dice.randrange(5)):
            await asyncio.sleep(0)
        pipe.ends[dice.randrange(2)].abort()  # the other one does not know
    connect(one, other)
    await until(lambda: len(other.items) == len(one.items) == said)
    assert [item[1] for item in one.items] == list(range(1, said + 1))
    for about in range(3):
        came = [item[3] for item in other.items if item[1] == about]
        assert came == [number for number in range(1, said + 1) if number % 3 == about]
    assert {len(item[2]) for item in other.items} == {0, 10, 3 * PIECE}
    assert not one.errors
    await one.channel.flushed(5)
    assert one.channel.waiting == 0
    await one.end()
    await other.end()


async def test_what_an_end_writes_that_does_not_know_yet_is_not_lost():
    one, other = Talker(), Talker()
    first = connect(one, other)
    await asyncio.sleep(0)
    first.cut = True  # and neither end knows
    before = first.ends[0].written
    one.channel.send("lost")
    await until(lambda: first.ends[0].written > before)
    connect(one, other)
    await until(lambda: other.items == [("lost",)])
    with pytest.raises(ConnectionAbortedError, match="another connection"):
        await one.serving[0]
    await one.end()
    await other.end()


async def test_what_is_taken_in_and_raises_ends_no_conversation():
    def refuse(items):
        raise ZeroDivisionError(items)

    one, other = Talker(), Talker(refuse)
    connect(one, other)
    one.channel.send("first")
    await until(lambda: other.errors)
    other.channel.send("answer")
    await until(lambda: one.items == [("answer",)])
    assert [type(error) for error in other.errors] == [ZeroDivisionError]
    await one.end()
    await other.end()


async def test_no_more_is_on_its_way_than_a_window_and_what_counts_now_comes_soon():
    one, other = Talker(), Talker()
    pipe = Pipe()
    one.serve(pipe.ends[0], other)  # nobody reads at the other end
    one.channel.send("large", bytes(20 * WINDOW))
    await until(lambda: pipe.ends[0].bytes >= WINDOW)
    for _ in range(100):
        await asyncio.sleep(0)
    assert pipe.ends[0].bytes <= WINDOW + PIECE
    one.channel.tell(stamp=1)
    other.serve(pipe.ends[1], one)
    await until(lambda: other.news)
    assert not other.items  # it has come before the rest
    await until(lambda: other.items)
    assert len(other.items[0][1]) == 20 * WINDOW
    assert pipe.ends[0].largest <= PIECE
    await one.end()
    await other.end()


async def test_what_is_small_overtakes_what_is_large_unless_both_are_about_the_same():
    one, other = Talker(), Talker()
    one.channel.send("begin", 1, bytes(3 * WINDOW))
    one.channel.send("begin", 2, bytes(WINDOW))
    one.channel.send("stop", 2)
    one.channel.send("stop", 3)
    connect(one, other)
    await until(lambda: len(other.items) == 4)
    assert [item[:2] for item in other.items] == [("stop", 3), ("begin", 1), ("begin", 2), ("stop", 2)]
    one.channel.send("log", "info")
    one.channel.send("ended", 1, bytes(2 * PIECE))
    one.channel.send("over", "the end")
    one.channel.send("last", 5)
    await until(lambda: len(other.items) == 8)
    assert [item[0] for item in other.items[4:]] == ["log", "ended", "over", "last"]
    one.channel.send("pool", "name", bytes(2 * PIECE))
    one.channel.send("begin", 6)  # which needs what is set for its pool
    await until(lambda: len(other.items) == 10)
    assert [item[0] for item in other.items[8:]] == ["pool", "begin"]
    await one.end()
    await other.end()


async def test_a_question_has_the_number_of_no_run():
    one, other = Talker(), Talker()
    one.channel.send("begin", 1, bytes(2 * PIECE))
    one.channel.send("answered", 2, bytes(2 * PIECE))
    one.channel.send("stacks", 1, [1])
    one.channel.send("stop", 2)
    one.channel.send("stop", 1)
    connect(one, other)
    await until(lambda: len(other.items) == 5)
    assert [item[0] for item in other.items] == ["stacks", "stop", "begin", "answered", "stop"]
    await one.end()
    await other.end()


async def test_a_flood_of_what_is_small_does_not_hold_up_what_is_large():
    one, other = Talker(), Talker()
    connect(one, other)
    one.channel.send("ended", 0, bytes(8 * PIECE))
    for number in range(1, 2000):
        for _ in range(500):
            one.channel.send("log", "info", number)
        await asyncio.sleep(0)
        if any(item[0] == "ended" for item in other.items):
            break
    else:
        pytest.fail("it does not come")
    await one.end()
    await other.end()


async def test_an_item_that_was_left_out_breaks_the_connection_and_comes_with_the_next():
    one, other = Talker(), Talker()
    pipe = Pipe()
    other.serve(pipe.ends[1], one)
    await pipe.ends[0].write({"heard": 0, "items": [[2, [], "second"]]})
    with pytest.raises(ValueError, match="item 2 has come after item 0"):
        await other.serving[0]
    one.channel.send("first")
    one.channel.send("second")
    connect(one, other)
    await until(lambda: other.items == [("first",), ("second",)])
    await one.end()
    await other.end()


async def test_what_was_said_last_is_acknowledged_at_once_where_that_is_asked_for():
    one, other = Talker(), Talker()
    connect(one, other)
    one.channel.send("bye")
    await one.channel.flushed(10)
    assert one.channel.waiting == 0
    await one.end()
    await other.end()
