"""Random populations of a supervisor, and what is true of each worker in them when it was shut down."""

import asyncio
import os
import random
import sys
import threading
import time
from concurrent.futures import Future

from supervisor import Ask, EscalationPolicy, Inject, Kill, Restart, Supervisor, Terminate, current_context

KINDS = ("listens", "polls", "is slow to obey", "loops", "swallows", "is blocked")

ON_ITS_WAY = 0.02
"""Seconds that a thread may need for the interpreter, from its function's last line until its end is said."""


def contended():
    """Whether others use the processors, so that nothing can be said of who is late."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


class Work:
    """What the threads do, and when each of them has ended, by its worker's name."""

    def __init__(self):
        self.over = threading.Event()
        self.ended = {}

    def do(self, what, name):
        try:
            getattr(self, "_" + what.replace(" ", "_"))(current_context().stop)
        finally:
            self.ended[name] = time.monotonic()

    def living(self):
        """The names of those that have not ended, by the frames of all threads: a strike may keep `ended` from it."""
        frames = list(sys._current_frames().values())
        found = set()
        while frames:
            frame = frames.pop()
            if frame.f_code is Work.do.__code__ and frame.f_locals["self"] is self:
                found.add(frame.f_locals["name"])
            if frame.f_back is not None:
                frames.append(frame.f_back)
        return found

    def worker(self, ctx, what):
        self.do(what, ctx.name)

    def call(self, what):
        self.do(what, current_context().name)

    def _listens(self, stop):
        stop.wait(30)

    def _polls(self, stop):
        while not stop.is_set():
            time.sleep(0.005)

    def _is_slow_to_obey(self, stop):
        stop.wait(30)
        time.sleep(0.05)

    def _loops(self, stop):
        while not self.over.is_set():
            pass

    def _swallows(self, stop):
        while not self.over.is_set():
            try:
                while not self.over.is_set():
                    sum(range(50))
            except BaseException:
                pass

    def _is_blocked(self, stop):
        while not self.over.wait(30):
            pass


def in_a_process(what):
    stop = current_context().stop
    if what == "listens":
        stop.wait(30)
    else:
        while True:
            try:
                while True:
                    sum(range(50))
            except BaseException:
                pass


def worker_in_a_process(ctx, what):
    in_a_process(what)


def random_policy(dice):
    steps = [Ask(dice.choice((0.0, 0.05, 5)))]
    if dice.random() < 0.7:
        steps.append(Inject(dice.choice((0.0, 0.1, 2)), every=0.05))
    if dice.random() < 0.5:
        steps.append(Terminate(dice.choice((0.05, 3))))
    if dice.random() < 0.5:
        steps.append(Kill(dice.choice((0.05, 2))))
    return EscalationPolicy(*steps)


async def populate(dice, work):
    """Makes a supervisor with workers and calls; returns it, with the futures of its calls."""
    sup = Supervisor("s", policy=random_policy(dice), max_threads=4, max_processes=2)
    groups = [sup]
    for number in range(dice.randrange(3)):
        around = dice.choice(groups)
        groups.append(around.group(f"group{number}", strategy=dice.choice(("one_for_one", "one_for_all"))))
    kinds = random.Random(dice.random()).choices(KINDS, weights=(8, 3, 2, 2, dice.choice((0, 0, 1)), 2), k=30)
    starts = [
        dice.choice(groups).start(work.worker, kinds.pop(), restart=dice.choice((None, Restart("always"))))
        for _ in range(dice.randrange(8))
    ]
    processes = dice.choice((0, 0, 1, 3))
    starts += [
        dice.choice(groups).start(worker_in_a_process, dice.choice(("listens", "is deaf")), kind="process")
        for _ in range(processes)
    ]
    await asyncio.gather(*starts)
    calls = [asyncio.ensure_future(dice.choice(groups).run(work.call, kinds.pop())) for _ in range(dice.randrange(10))]
    if processes:
        calls += [
            asyncio.ensure_future(sup.run(in_a_process, dice.choice(("listens", "is deaf")), kind="process"))
            for _ in range(dice.randrange(4))
        ]
    executor = sup.executor()
    calls += [executor.submit(work.call, kinds.pop()) for _ in range(dice.randrange(6))]
    await asyncio.sleep(dice.choice((0, 0.05, 0.2)))
    return sup, calls


async def shut_down(dice, sup, timeout):
    """Shuts it down in one of the ways, now and then under a cancellation; returns the report."""
    if dice.random() < 0.3:
        closing = asyncio.ensure_future(sup.shutdown(timeout=timeout))
        await asyncio.sleep(timeout / 2)
        closing.cancel()
        await asyncio.wait((closing,))
        return sup.report
    if dice.random() < 0.2:
        sup.request_shutdown("asked before")
    return await sup.shutdown(timeout=timeout)


def living_children():
    """How many processes of this one live, those that are dead and not yet reaped left out."""
    return len(states_of_children()) - states_of_children().count("Z")


def states_of_children():
    states = []
    with open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        for pid in file.read().split():
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    states.append(stat.read().rpartition(") ")[2][0])
            except (FileNotFoundError, ProcessLookupError):
                pass
    return states


def untruths(report, calls, work, given_up_at, *, is_exact):
    """What a report says, or leaves out, and is not so.

    Where it is to be exact, also what is only so where nothing holds up one thread for longer than another.
    """
    living = work.living()
    for outcome in report.outcomes:
        name, ended = outcome.worker, work.ended.get(outcome.worker)
        if outcome.kind == "thread" and outcome.ended == "abandoned":
            on_its_way = ON_ITS_WAY if is_exact and not contended() else 1
            if ended is not None and ended < given_up_at[name] - on_its_way:
                yield f"{name} had ended {given_up_at[name] - ended:.6f} s before it was abandoned"
        elif outcome.kind == "thread" and name in living:
            yield f"{name} is said to be {outcome.ended}, and goes on"
    lost = sum(outcome.kind == "process" and outcome.ended == "abandoned" for outcome in report.outcomes)
    if lost > living_children() and is_exact and not contended():  # one that is killed may die before anybody looks
        yield f"{lost} processes are said to be abandoned, of which {lost - living_children()} are dead"
    for call in calls:
        if not call.done():
            yield f"a call is not resolved: {call}"


def errors_of(calls):
    """Retrieves the errors, of which nobody needs to hear."""
    for call in calls:
        if isinstance(call, Future):
            yield None if call.cancelled() else call.exception(0)
        else:
            yield None if call.cancelled() else call.exception()


async def one_shutdown(seed, given_up_at, *, is_exact=False):
    """Populates a supervisor and shuts it down; returns how late that was, and what is not true of it."""
    dice, work = random.Random(seed), Work()
    given_up_at.clear()
    sup, calls = await populate(dice, work)
    timeout = dice.choice((0, 0.02, 0.1, 0.3, 0.6))
    began = time.monotonic()
    report = await shut_down(dice, sup, timeout)
    late = time.monotonic() - began - timeout
    await asyncio.sleep(0)
    found = list(untruths(report, calls, work, given_up_at, is_exact=is_exact))
    work.over.set()
    await asyncio.wait(
        [call for call in calls if not isinstance(call, Future)] or [asyncio.ensure_future(asyncio.sleep(0))]
    )
    list(errors_of(calls))
    return late, found, str(report)
