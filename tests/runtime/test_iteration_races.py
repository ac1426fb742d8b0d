"""What meets at an unlucky moment between who makes items and who takes them; each moment is made, line by line."""

import asyncio
import sys
import threading
from pickle import loads

import pytest

from supervisor import Ask, EscalationPolicy, Inject, StopEvent, Supervisor, SupervisorError, WorkerStopped

from .. import inside
from ..stepper import Halt
from ..waiting import until
from .striking import LIMIT, strike_everywhere

BUFFER = 4


def by_text(line):
    return line.begins


class Context:
    """What a maker sees of its supervisor, in a thread of the test."""

    def __init__(self):
        self.stop = StopEvent()

    def own_shield(self):
        return threading.Lock()

    def check(self):
        """It is not being stopped."""


def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def ended(thread):
    thread.join(LIMIT)
    return not thread.is_alive()


# ------------------------------------------------------------------------------------------------ a thread


@pytest.mark.parametrize("line", inside.WAITS_FOR_ROOM, ids=by_text)
@pytest.mark.parametrize("how", ["taken", "stop"])
def test_a_maker_that_waits_for_room_goes_on_wherever_it_stood(line, how):
    channel, ctx = inside.Channel(BUFFER, lambda wake: None), Context()
    channel.items.extend(range(BUFFER))
    with Halt(line) as halt:
        thread = in_thread(channel.wait_for_room, ctx.stop)
        stood = halt.stands.wait(0.2)  # it may wait in a line before this one
        if how == "taken":
            for _ in range(BUFFER):
                channel.items.popleft()
                channel.make_room()
        else:
            ctx.stop.set()
            ctx.stop.release()
        halt.go.set()
        assert ended(thread), f"it waits for ever, after {'standing' if stood else 'waiting'} there"


@pytest.mark.parametrize("line", inside.PASSES_ITEMS_ON, ids=by_text)
def test_a_taker_that_begins_to_wait_is_woken_wherever_the_maker_stood(line):
    loop, posted = asyncio.new_event_loop(), []
    channel = inside.Channel(BUFFER, posted.append)
    producer = inside.Producer(lambda: None, channel)
    with Halt(line) as halt:
        thread = in_thread(inside.pass_on, producer, iter([1]), Context())
        assert halt.stands.wait(LIMIT)
        waiter = channel.wait(loop)
        halt.go.set()
        assert ended(thread)
    assert waiter is None or posted, "nobody wakes it"
    assert list(channel.items) == [1]
    loop.close()


@pytest.mark.parametrize("line", inside.WAITS_FOR_ITEMS, ids=by_text)
def test_a_maker_wakes_a_taker_wherever_that_stood(line):
    loop, posted, waiters = asyncio.new_event_loop(), [], []
    channel = inside.Channel(BUFFER, posted.append)
    producer = inside.Producer(lambda: None, channel)
    with Halt(line) as halt:
        thread = in_thread(lambda: waiters.append(channel.wait(loop)))
        halt.stands.wait(0.2)
        inside.pass_on(producer, iter([1]), Context())
        halt.go.set()
        assert ended(thread)
    assert waiters == [None] or posted, "nobody wakes it"
    loop.close()


# ------------------------------------------------------------------------------------------------ a process


class Backend:
    """The call of a worker process, in a thread of the test."""

    number = 1
    outlet = None

    def __init__(self):
        self.ctx = Context()
        self.frames = []

    def worker_context(self):
        return self.ctx

    def pass_on(self, parts):
        self.frames.append(b"".join(parts))

    @property
    def sent(self):
        items = []
        for frame in self.frames:
            _, _, first, parts = loads(frame[inside.HEAD :])
            assert first == len(items)
            items += [loads(part) for part in parts]
        return items


def item(number):
    return __import__("pickle").dumps(number)


@pytest.mark.parametrize("line", inside.PUTS_AN_ITEM, ids=by_text)
def test_an_item_is_sent_wherever_it_stood_when_the_owner_had_taken_all_others(line):
    backend = Backend()
    outlet = inside.Outlet(100, backend)

    def put(number):
        if outlet.put(item(number)):
            outlet.flush()

    put(0)  # is sent at once: somebody waits
    assert backend.sent == [0]
    inside.never_by_time(outlet)
    with Halt(line) as halt:
        thread = in_thread(put, 1)
        halt.stands.wait(0.05)
        outlet_taken = in_thread(outlet.taken, 1)
        outlet_taken.join(0.05)  # it may wait for the lock
        halt.go.set()
        assert ended(thread)
        assert ended(outlet_taken)
    assert backend.sent == [0, 1], "it waits for another item"


@pytest.mark.parametrize("line", inside.WAITS_FOR_THE_OWNER, ids=by_text)
@pytest.mark.parametrize("how", ["taken", "stop"])
def test_a_full_process_goes_on_wherever_it_stood(line, how):
    backend = Backend()
    outlet = inside.Outlet(BUFFER, backend)
    for number in range(BUFFER):
        if outlet.put(item(number)):
            outlet.flush()
    assert outlet.full
    assert backend.sent == list(range(BUFFER))
    with Halt(line) as halt:
        thread = in_thread(outlet.wait_for_room)
        halt.stands.wait(0.2)
        if how == "taken":
            outlet.taken(BUFFER)
        else:
            backend.ctx.stop.set()
            backend.ctx.stop.release()
        halt.go.set()
        assert ended(thread), "it waits for ever"


def test_after_its_end_an_outlet_sends_nothing():
    backend = Backend()
    outlet = inside.Outlet(100, backend)
    for number in range(3):
        outlet.put(item(number))
    outlet.close()
    outlet.put(item(3))
    outlet.flush()
    outlet.taken(3)
    assert backend.sent == [0, 1, 2]


# ------------------------------------------------------------------------------------------------ interrupts


def make(number):
    yield from range(number)


def same(number):
    return number


def scenario_of(kind, iterations):
    """Takes all items, each iteration after the other, with an interrupt somewhere; nobody may be left."""

    async def scenario(striker):
        async def take_all():
            seen = []
            try:
                for iterate, left_after in iterations:
                    async with iterate(sup, kind) as items:
                        async for item in items:
                            seen.append(item)
                            if item == left_after:
                                break
            except KeyboardInterrupt:
                return None
            except SupervisorError as error:
                return None if "not read to their end: KeyboardInterrupt" in str(error) else error
            return seen

        async with Supervisor(max_threads=2, max_processes=1, shutdown_timeout=LIMIT) as sup:
            await sup.run(same, 0, kind=kind)  # a process has imported this module, for which a stop would have to wait
            taking = asyncio.create_task(take_all())
            sys.settrace(striker.trace)
            _, pending = await asyncio.wait([taking], timeout=LIMIT)
            sys.settrace(None)
            assert not pending, f"struck in {striker.struck}: it waits for ever"
            seen = taking.result()
            expected = [item for _, left_after in iterations for item in range(left_after + 1)]
            assert seen in (None, expected), f"struck in {striker.struck}: {seen}"
            report = await sup.shutdown()
        assert report.clean, f"struck in {striker.struck}: {report}"
        assert report.seconds < LIMIT / 2, f"struck in {striker.struck}"
        return 1

    return scenario


def some(sup, kind):
    return sup.iterate(make, 12, kind=kind, buffer=4)


def test_an_interrupt_while_items_come_loses_none_and_leaves_nobody():
    strike_everywhere(scenario_of("thread", [(some, 11), (some, 5)]), inside.WHEN_ITEMS_COME, often=2)


def test_an_interrupt_while_items_come_from_a_process_loses_none_and_leaves_nobody():
    strike_everywhere(scenario_of("process", [(some, 11)]), inside.WHEN_ITEMS_COME_FROM_A_PROCESS, often=1)


def test_an_interrupt_while_results_come_loses_none_and_leaves_nobody():
    def ordered(sup, kind):
        return sup.map(same, range(12), kind=kind, limit=3)

    def unordered(sup, kind):
        return sup.map(same, range(1), kind=kind, ordered=False)

    strike_everywhere(
        scenario_of("thread", [(ordered, 11), (ordered, 5), (unordered, 0)]), inside.WHEN_ITEMS_COME, often=2
    )


# ------------------------------------------------------------------------------------------------ storms


@pytest.mark.parametrize("policy", [None, EscalationPolicy(Ask(0), Inject(LIMIT, every=0.002))], ids=["ask", "inject"])
async def test_iterations_that_are_left_at_any_moment_leave_nobody(policy):
    async def some(sup, kind, number):
        items = sup.iterate(make, 10**9, kind=kind, buffer=1 + number % 7, policy=policy)
        try:
            async with asyncio.timeout(0.0005 * number):
                async for item in items:
                    if item > 20 * number:
                        break
        except TimeoutError:
            pass
        if number % 2:
            await items.aclose()

    async with Supervisor(max_threads=8, max_processes=2) as sup:
        for kind, many in (("thread", 100), ("process", 30)):
            await asyncio.gather(*(some(sup, kind, number) for number in range(many)))
            await until(lambda: not sup.workers())
            assert await sup.run(len, "abc", kind=kind) == 3


async def test_shutdowns_while_items_come():
    for number in range(20):
        async with Supervisor(max_threads=4) as sup:

            async def take(sup=sup):
                with pytest.raises(WorkerStopped):
                    async for _ in sup.iterate(make, 10**9, buffer=3):
                        pass

            taking = [asyncio.create_task(take()) for _ in range(4)]
            await asyncio.sleep(0.001 * number)
            if not sup.workers():
                await until(lambda sup=sup: sup.workers())
            report = await sup.shutdown()
            assert report.clean
            await asyncio.gather(*taking)
