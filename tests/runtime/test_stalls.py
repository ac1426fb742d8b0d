"""`stall_after=`: a loop that is blocked is named while it is. Threads and time are real."""

import asyncio
import ctypes
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import uvloop

from supervisor import Supervisor
from supervisor.testing import LeakCheck

from .. import inside
from ..inside import integration_of
from ..waiting import LIMIT, until

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
AFTER = 0.1


@pytest.fixture(params=LOOPS)
def run(request):
    def run(main):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(main)

    run.name = request.param
    return run


def named(events, name):
    return [event for event in events if event["event"] == name]


def stalls(events):
    return named(events, "loop.stalled")


def last_index(events, name):
    return max((index for index, event in enumerate(events) if event["event"] == name), default=-1)


def sleeps_until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def computes_until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition() and time.monotonic() < deadline:
        pass


def waits_until(condition):
    lock = threading.Lock()
    lock.acquire()

    def release():
        sleeps_until(condition)
        lock.release()

    threading.Thread(target=release).start()
    lock.acquire()


@pytest.mark.parametrize("blocks", [sleeps_until, computes_until, waits_until])
def test_a_loop_is_named_with_its_line_while_it_is_blocked(events, run, blocks):
    def here():
        """Where the machine is busy, the loop may be blocked elsewhere as well."""
        return [event for event in stalls(events) if f"in {blocks.__name__}" in event.get("stack", "")]

    async def main():
        async with Supervisor("app", stall_after=AFTER):
            blocks(lambda: len(here()) >= 2)
            assert len(here()) >= 2
            await until(lambda: events.index(here()[-1]) < last_index(events, "loop.recovered"))

    run(main())
    first, second = here()[:2]
    assert (first["level"], first["supervisor"]) == ("warning", "app")
    assert first["at"].startswith(f"{__file__}:")
    assert "blocks(lambda" in first["stack"]
    assert AFTER <= first["elapsed"] < second["elapsed"]
    assert second["elapsed"] >= 2 * AFTER
    after = events[events.index(first) + 1 :]
    recovered = next(event for event in after if event["event"] == "loop.recovered")
    assert after.index(second) < after.index(recovered)
    assert recovered["level"] == "info"
    assert recovered["elapsed"] >= second["elapsed"]


def test_each_stall_is_a_stall_of_its_own(events, run):
    async def main():
        async with Supervisor(stall_after=AFTER):
            for _ in range(2):
                before, recovered = len(stalls(events)), len(named(events, "loop.recovered"))
                sleeps_until(lambda before=before: len(stalls(events)) > before)
                await until(lambda recovered=recovered: len(named(events, "loop.recovered")) > recovered)
            told = "".join(event["event"][5] for event in events if event["event"].startswith("loop."))
            assert re.fullmatch("(s+r){2,}s*", told), "a busy machine may have blocked the loop once more"

    run(main())


def test_a_loop_that_only_has_much_to_do_is_not_blocked(events, run):
    turns = [0.0]

    async def main():
        async with Supervisor(stall_after=1):
            began = turned = time.monotonic()
            while turned < began + 1.5:
                time.sleep(0.002)
                await asyncio.sleep(0)
                turned, before = time.monotonic(), turned
                turns.append(turned - before)

    run(main())
    assert [event for event in stalls(events) if event["elapsed"] > max(turns)] == []


def test_a_loop_that_waits_is_not_woken(monkeypatch, events):
    asked = inside.questions_to_loops(monkeypatch)

    async def main():
        async with Supervisor(stall_after=0.05):
            await asyncio.sleep(0.5)
            asked.clear()
            await asyncio.sleep(0.5)
            assert len(asked) <= 2  # as it goes to sleep, and as it wakes up; not again and again

    asyncio.run(main())


def test_a_loop_that_does_not_show_whether_it_waits_is_asked_a_few_times(monkeypatch, events):
    asked = inside.questions_to_loops(monkeypatch)

    async def main():
        async with Supervisor(stall_after=2):
            began = time.monotonic()
            await asyncio.sleep(1)
            assert len(asked) <= 4 * (time.monotonic() - began)

    uvloop.run(main())


def test_another_thread_sees_for_how_long_it_is_blocked(events, run):
    seen = []

    async def main():
        async with Supervisor(stall_after=60) as sup:
            survey = integration_of(sup).survey
            await until(lambda: survey().loop_blocked_for is None)  # making it may have taken long
            thread = threading.Thread(target=sleeps_until, args=(lambda: (survey().loop_blocked_for or 0) > 0.3,))
            thread.start()
            thread.join()
            seen.append(survey().loop_blocked_for)
            await until(lambda: survey().loop_blocked_for is None)

    run(main())
    assert seen[0] > 0.3


def test_a_loop_that_is_blocked_during_a_shutdown_is_named(events, run):
    may_end = threading.Event()

    async def main():
        async with Supervisor(stall_after=AFTER) as sup:
            await sup.start(lambda ctx: may_end.wait(LIMIT), name="w")
            sup.request_shutdown()
            await until(lambda: named(events, "supervisor.stopping"))
            before = len(stalls(events))
            sleeps_until(lambda: len(stalls(events)) > before)
            may_end.set()

    with LeakCheck():
        run(main())
    order = [event["event"] for event in events]
    assert "loop.stalled" in order[order.index("supervisor.stopping") : order.index("supervisor.stopped")]


def test_supervisors_of_one_loop_share_a_thread_and_each_logs(events, run):
    async def main():
        async with Supervisor("a", stall_after=AFTER), Supervisor("b", stall_after=3 * AFTER):
            assert len(inside.threads_named("supervisor/stalls")) == 1
            sleeps_until(lambda: {event["supervisor"] for event in stalls(events)} == {"a", "b"})
            await until(lambda: {event["supervisor"] for event in named(events, "loop.recovered")} == {"a", "b"})

    with LeakCheck():
        run(main())
    assert stalls(events)[0]["supervisor"] == "a"
    assert {event["supervisor"] for event in stalls(events)} == {"a", "b"}
    assert all(event["elapsed"] >= 3 * AFTER for event in stalls(events) if event["supervisor"] == "b")


@pytest.mark.filterwarnings("ignore:supervisor 'forgotten' was never shut down:ResourceWarning")
def test_it_ends_with_a_loop_that_is_closed_before_a_shutdown(run):
    async def main():
        sup = Supervisor("forgotten", stall_after=AFTER)
        assert await sup.run(int) == 0
        return sup

    sup = run(main())
    sleeps_until(lambda: not inside.threads_named("supervisor/stalls"))
    assert inside.threads_named("supervisor/stalls") == []
    del sup


@pytest.mark.filterwarnings("ignore:supervisor 'forgotten' was never shut down:ResourceWarning")
def test_a_supervisor_that_is_forgotten_is_let_go(events):
    async def main():
        sup = Supervisor("forgotten", stall_after=AFTER)
        await sup.run(int)
        assert inside.threads_named("supervisor/stalls")
        del sup
        await until(lambda: not inside.threads_named("supervisor/stalls"))

    asyncio.run(main())


async def test_its_thread_is_nobodys_leak():
    sup = Supervisor(stall_after=AFTER)
    with LeakCheck(grace=0):
        await sup.run(int)
        assert inside.threads_named("supervisor/stalls")
    with LeakCheck():
        await sup.shutdown()
    sleeps_until(lambda: not inside.threads_named("supervisor/stalls"))
    assert inside.threads_named("supervisor/stalls") == []


async def test_without_a_thread_to_watch_a_supervisor_is_used_all_the_same(events, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        inside.patch_starts_of_watches(patched, start)
        sup = Supervisor(stall_after=AFTER)
        async with sup:
            assert await sup.run(int) == 0
            time.sleep(2 * AFTER)
    assert [event["doing"] for event in named(events, "supervisor.fault")] == ["stall_after"]
    async with Supervisor(stall_after=AFTER):
        sleeps_until(lambda: stalls(events))
    assert stalls(events)


def logger_that(write):
    """A logger whose methods all do this."""
    return type("Logger", (), dict.fromkeys(("debug", "info", "warning", "error"), staticmethod(write)))


def test_a_logger_that_blocks_holds_up_neither_the_watch_nor_a_shutdown():
    release = threading.Event()
    asked = []

    def write(event, **fields):
        if event == "loop.stalled":
            asked.append(event)
            release.wait(5 * LIMIT)

    async def main():
        async with Supervisor(stall_after=AFTER, logger=logger_that(write)) as sup:
            survey = integration_of(sup).survey
            sleeps_until(lambda: asked)
            await until(lambda: survey().loop_blocked_for is None)
            looks = threading.Thread(target=sleeps_until, args=(lambda: survey().loop_blocked_for is not None,))
            looks.start()
            looks.join()
            assert survey().loop_blocked_for is not None
            return time.monotonic()

    began = asyncio.run(main())
    assert time.monotonic() - began < LIMIT / 2
    assert not release.is_set()
    release.set()


@pytest.mark.parametrize("error", [OSError("no"), SystemExit(3)])
def test_a_logger_that_raises_ends_nothing(error):
    seen = []

    def write(event, **fields):
        seen.append(event)
        if event.startswith("loop."):
            raise error

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with Supervisor(stall_after=AFTER, logger=logger_that(write)):
            sleeps_until(lambda: seen.count("loop.stalled") >= 2)
            await until(lambda: "loop.recovered" in seen)

    asyncio.run(main())


def test_c_code_that_holds_the_interpreter_is_named_as_soon_as_anybody_can(events, run):
    holds = ctypes.PyDLL(None).usleep

    async def main():
        async with Supervisor(stall_after=AFTER):
            await asyncio.sleep(0.2)
            holds(1_000_000)
            await until(lambda: named(events, "loop.recovered"))

    run(main())
    held = [event for event in stalls(events) if "interpreter" in event.get("reason", "")]
    assert held[0]["elapsed"] > 0.3


def test_it_is_named_also_where_it_begins_in_the_midst_of_a_look(events, run, monkeypatch):
    holds = ctypes.PyDLL(None).usleep
    looks, go_on = threading.Event(), threading.Event()

    async def main():
        async with Supervisor(stall_after=AFTER):
            await asyncio.sleep(0.2)
            inside.hold_looks_of_watches(monkeypatch, looks, go_on)
            await until(looks.is_set)
            go_on.set()
            holds(1_000_000)
            await until(lambda: named(events, "loop.recovered"))

    run(main())
    held = [event for event in stalls(events) if "interpreter" in event.get("reason", "")]
    assert held[0]["elapsed"] > 0.3


def test_what_a_debugger_has_stopped_is_not_blocked(events, run):
    there = {"__name__": "pdb", "sleep": time.sleep}
    exec("def interaction():\n    sleep(0.5)", there)

    async def main():
        async with Supervisor(stall_after=AFTER):
            there["interaction"]()

    run(main())
    assert [event for event in stalls(events) if "interaction" in event.get("stack", "")] == []


STOPPED = """
import asyncio, sys, time, structlog
from supervisor import Supervisor

async def main():
    async with Supervisor(stall_after=1):
        print("up", flush=True)
        told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        while not told.done():
            time.sleep(0.2)  # so that it is asked, and has not answered, when it is stopped
            await asyncio.sleep(0)

structlog.configure(processors=[lambda logger, method, event: print(event["event"], flush=True) or event,
                                structlog.processors.JSONRenderer()])
if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_process_that_was_stopped_has_no_blocked_loop(loop):
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout.readline() == "up\n"
        for _ in range(2):
            time.sleep(0.5)
            program.send_signal(signal.SIGSTOP)
            time.sleep(2.5)
            program.send_signal(signal.SIGCONT)
        out, _ = program.communicate("\n", timeout=120)
    assert program.returncode == 0
    assert "supervisor.stopped" in out
    assert "loop.stalled" not in out


AT_EXIT = """
import asyncio, sys, threading, time, structlog
from supervisor import Supervisor

async def main():
    async with Supervisor(stall_after=0.05):
        time.sleep(300)

def told(logger, method, event):
    if event["event"] == "loop.stalled":
        stalled.set()
    return str(event)

structlog.configure(processors=[told])
stalled = threading.Event()
threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
stalled.wait(100)
time.sleep(0.1)
sys.exit(7)
"""


def test_the_interpreter_ends_while_a_loop_is_blocked():
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=150)
        assert (ended.returncode, ended.stderr) == (7, "")
        assert "loop.stalled" in ended.stdout


def test_nothing_of_it_is_imported_where_nobody_asks_for_it():
    code = (
        "import asyncio, sys\nfrom supervisor import Supervisor\n"
        "async def main():\n    async with Supervisor(slow_after=1) as sup:\n        await sup.run(int)\n"
        "asyncio.run(main())\nprint([name for name in sys.modules if 'stalls' in name])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.stdout.strip().endswith("[]")


IN_THE_COPY = """
import asyncio, os, sys, threading, time, structlog
from supervisor import Supervisor

async def use(sup):
    await sup.run(int)

def told(logger, method, event):
    if event["event"] == "loop.stalled":
        stalled.append(True)
    return f"{'parent' if os.getpid() == parent else 'copy'}: {event}"

async def watched():
    async with Supervisor("copy", stall_after=0.1):
        while not stalled:
            time.sleep(0.01)
        await asyncio.sleep(0.1)

structlog.configure(processors=[told])
parent, stalled = os.getpid(), []

loop = asyncio.new_event_loop()
sup = Supervisor("app", stall_after=0.1)
loop.run_until_complete(use(sup))
pid = os.fork()
if pid == 0:
    print("threads:", threading.active_count(), flush=True)
    stalled.clear()  # the parent's own loop may have been
    asyncio.run(watched())
    sys.stdout.flush()
    os._exit(0)
_, status = os.waitpid(pid, 0)
loop.run_until_complete(sup.shutdown())
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_copy_by_fork_watches_its_own_loops_alone():
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_THE_COPY], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert "threads: 1" in ended.stdout.splitlines()
    logged = [line for line in ended.stdout.splitlines() if "loop.stalled" in line and line.startswith("copy: ")]
    assert logged
    assert all("'supervisor': 'copy'" in line for line in logged)


@pytest.mark.parametrize("held", [False, True])
def test_time_in_which_the_watch_itself_did_not_run_counts_only_where_the_interpreter_was_held(monkeypatch, held):
    told = inside.told_of_a_loop_that_never_answers(monkeypatch, after=10, late=[0, 100, 0], held=held)
    assert bool(told) == held
