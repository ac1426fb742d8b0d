"""A pace: tasks that begin something at once go on in their order, few in one turn of the loop."""

import asyncio

from .. import inside
from ..inside import Pace

MANY = 500


class Counting:
    """Counts the turns of the loop, and takes a while for each task that goes on."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.turns = [[]]
        self.looks = 0
        monkeypatch.setattr(inside.pace, "monotonic", lambda: self.now)
        self.pace = Pace(asyncio.get_running_loop(), self.look)

    def look(self):
        self.looks += 1

    async def go_on(self, name, cost=0.001):
        await self.pace.turn()
        if self.turns[-1] == []:
            asyncio.get_running_loop().call_soon(self.turns.append, [])
        self.turns[-1].append(name)
        self.now += cost

    @property
    def order(self):
        return [name for turn in self.turns for name in turn]


async def test_who_comes_alone_goes_on_at_once(monkeypatch):
    counting = Counting(monkeypatch)
    for name in range(3):
        await counting.go_on(name, cost=1.0)
        counting.now += 1.0
    assert counting.order == [0, 1, 2]
    alone = counting.pace.turn()
    try:
        alone.send(None)
    except StopIteration:
        pass
    else:
        raise AssertionError("it waits")


async def test_many_go_on_in_their_order_and_few_in_one_turn(monkeypatch):
    counting = Counting(monkeypatch)
    await asyncio.gather(*(counting.go_on(name) for name in range(MANY)))
    assert counting.order == list(range(MANY))
    assert max(map(len, counting.turns)) == Pace.LEAST
    assert counting.looks == sum(1 for turn in counting.turns if turn)


async def test_as_many_go_on_as_fit_into_a_turn(monkeypatch):
    counting = Counting(monkeypatch)
    await asyncio.gather(*(counting.go_on(name, cost=0.00005) for name in range(MANY)))
    assert counting.order == list(range(MANY))
    assert len(counting.turns[0]) in (100, 101)  # sums are not exact
    assert len(counting.turns) - 1 <= 7


async def test_who_is_cancelled_meanwhile_keeps_nobody_from_going_on(monkeypatch):
    counting = Counting(monkeypatch)
    tasks = [asyncio.create_task(counting.go_on(name)) for name in range(MANY)]
    await asyncio.sleep(0)
    for task in tasks[40:400]:
        task.cancel()
    await asyncio.wait(tasks)
    assert counting.order == [*range(40), *range(400, MANY)]
    await counting.go_on("last")
    assert counting.order[-1] == "last"
