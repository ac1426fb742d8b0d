"""A KeyboardInterrupt in the loop, at every line of the supervisor's own code, loses no completion."""

import asyncio
import linecache
import re
import sys
import threading
import time

import pytest

from supervisor import Ask, EscalationPolicy, Restart, Supervisor, WorkerStopped, current_context

from .. import inside

# The interpreter looks for signals after calls, at a function's entry and on a loop's back edge. A tracer strikes
# elsewhere too: at the `try` itself, at plain stores, and on leaving a `with` before its lock is released.
DEAF = re.compile(r"(with |try:|[\w.]+ = (True|False|None|[\w.]+)$)")


class Striker:
    """Raises KeyboardInterrupt at the n-th line that the loop's thread executes in the supervisor's callbacks."""

    def __init__(self, strike_at, where):
        self.strike_at = strike_at
        self.files = {module.__file__ for module in where.modules}
        self.functions = where.functions
        self.lines = 0
        self.struck = None

    def trace(self, frame, event, arg):
        code = frame.f_code
        return self.trace_line if code.co_name in self.functions and code.co_filename in self.files else None

    def trace_line(self, frame, event, arg):
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and self.struck is None and not DEAF.match(line):
            self.lines += 1
            if self.lines == self.strike_at:
                self.struck = f"{frame.f_code.co_name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self.trace_line


def run_struck(strike_at, where, scenario):
    """Runs a scenario on a loop that goes on after the interrupt, as asyncio.run does for its own teardown."""
    loop = asyncio.new_event_loop()
    striker = Striker(strike_at, where)
    previous = sys.gettrace()  # that of coverage
    try:
        task = loop.create_task(scenario(striker))
        while not task.done():
            try:
                loop.run_until_complete(task)
            except KeyboardInterrupt:
                sys.settrace(None)
        return striker, task.result()
    finally:
        sys.settrace(previous)
        loop.close()


async def calls_end(striker):
    sup = Supervisor(max_threads=2)
    await sup.run(int)
    release = threading.Event()
    calls = [asyncio.create_task(sup.run(lambda n=n: release.wait(5) and n)) for n in range(4)]
    worker = await sup.start(lambda ctx: release.wait(5))
    sys.settrace(striker.trace)
    release.set()
    done, pending = await asyncio.wait([*calls, asyncio.create_task(worker.wait())], timeout=0.5)
    sys.settrace(None)
    assert not pending, f"struck in {striker.struck}: {len(pending)} never resolved"
    report = await sup.shutdown()
    assert report.seconds < 1
    return len(done)


async def a_stop_ends(striker):
    sup = Supervisor(policy=EscalationPolicy(Ask(5)))
    worker = await sup.start(lambda ctx: ctx.stop.wait())
    call = asyncio.create_task(sup.run(lambda: hold.wait(5), timeout=0.005, policy=EscalationPolicy(Ask(0.005))))
    hold = threading.Event()
    await asyncio.sleep(0)
    sys.settrace(striker.trace)
    await asyncio.wait([call], timeout=0.05)
    sys.settrace(None)
    # An alarm that was struck as it began to ring is heard at the latest when something else is stopped.
    assert (await worker.stop()).ended == "stopped"
    await sup.shutdown(timeout=0.05)
    done, pending = await asyncio.wait([call], timeout=1)
    assert not pending, f"struck in {striker.struck}: the call never resolved"
    assert isinstance(call.exception(), WorkerStopped)
    hold.set()
    while sup.statistics().abandoned:
        await asyncio.sleep(0.001)
    return len(done)


async def a_shutdown_asks_all(striker):
    sup = Supervisor(max_threads=1, policy=EscalationPolicy(Ask(30)))

    def waits():
        entered.set()
        return current_context().stop.wait()

    for _ in range(3):
        await sup.start(lambda ctx: ctx.stop.wait())
    entered = threading.Event()
    calls = [asyncio.create_task(sup.run(waits)) for _ in range(2)]
    while not entered.is_set():
        await asyncio.sleep(0)
    sys.settrace(striker.trace)
    asyncio.get_running_loop().call_soon(sup.request_shutdown)
    await asyncio.wait(calls, timeout=LIMIT)
    sys.settrace(None)
    report = await asyncio.wait_for(sup.shutdown(), LIMIT)
    assert report.counts() == {"stopped": 4, "cancelled": 1}, f"struck in {striker.struck}"
    assert report.never_started == 1
    assert [type(call.exception()) for call in calls] == [type(None), WorkerStopped]
    return 2


async def a_group_restarts(striker):
    running, twice, fail = [], [], threading.Event()

    def lives(ctx, fails):
        if ctx.name in running:
            twice.append(ctx.name)
        running.append(ctx.name)
        while not ctx.stop.wait(0.001) and not (fails and ctx.attempt == 1 and fail.is_set()):
            pass
        running.remove(ctx.name)
        if not ctx.stop.is_set():
            raise ValueError(ctx.name)

    sup = Supervisor(strategy="one_for_all", policy=EscalationPolicy(Ask(30)))
    restart = Restart("failure", backoff=0)
    workers = [await sup.start(lives, n == 1, name=str(n), restart=restart) for n in range(3)]
    sys.settrace(striker.trace)
    fail.set()
    until = time.monotonic() + LIMIT
    while not all(worker.attempt == 2 and worker.state == "running" for worker in workers):
        assert time.monotonic() < until, f"struck in {striker.struck}: {workers}"
        await asyncio.sleep(0.001)
    sys.settrace(None)
    assert not twice, f"struck in {striker.struck}: {twice} ran twice"
    report = await asyncio.wait_for(sup.shutdown(), LIMIT)
    assert report.counts() == {"stopped": 3}, f"struck in {striker.struck}"
    return 1


LIMIT = 10


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("scenario", "where"),
    [
        (calls_end, inside.WHEN_CALLS_END),
        (a_stop_ends, inside.WHEN_ALARMS_RING),
        (a_shutdown_asks_all, inside.WHEN_A_SHUTDOWN_ASKS),
        (a_group_restarts, inside.WHEN_A_GROUP_RESTARTS),
    ],
)
def test_an_interrupt_at_any_line_loses_nothing(scenario, where):
    assert not where.missing()
    strike_at, missed, struck = 0, 0, set()
    while missed < 2 and strike_at < 1000:
        strike_at += 1
        striker, _ = run_struck(strike_at, where, scenario)
        missed += striker.struck is None
        struck.add(striker.struck)
    assert len(struck) > 20, "the interrupts did not strike"
