"""The fixtures, in test files that pytest runs here: under each plugin that runs coroutines, and without any."""

import re
import subprocess
import sys
import time

import pytest

import supervisor.testing.quick  # noqa: F401  # an inner run would forget what it is the first to import

PRELUDE = """
import asyncio, threading, time
import anyio, pytest, pytest_asyncio
from supervisor import *
from tests import inside
from tests.waiting import Release

wall = Release()

def obey(ctx):
    ctx.stop.wait()

def stuck(*_):
    threads.append(threading.current_thread())
    wall.wait(20)

threads = []

@pytest.fixture(autouse=True, scope="session")
def release():
    yield
    wall.set()
    for thread in threads:
        thread.join(10)
"""

ANYIO = """
pytestmark = pytest.mark.anyio
@pytest.fixture(scope="module")
def anyio_backend():
    return BACKEND
"""

PATIENT = "supervisor_policy = ask=20\n"
"""Whoever obeys has the time that it needs for it, on a busy machine too: the quick ladder would inject it, or give it
up."""

RUNNERS = {  # what a test file has at its top, and what makes an async fixture of a function
    "asyncio, strict": ("pytestmark = pytest.mark.asyncio", "@pytest_asyncio.fixture"),
    "asyncio, auto": ("", "@pytest.fixture"),
    "asyncio, a loop for the module": (
        "pytestmark = pytest.mark.asyncio(loop_scope='module')",
        "@pytest_asyncio.fixture(loop_scope='module')",
    ),
    "anyio": (ANYIO.replace("BACKEND", "'asyncio'"), "@pytest.fixture"),
    "anyio, uvloop": (ANYIO.replace("BACKEND", "'asyncio', {'use_uvloop': True}"), "@pytest.fixture"),
}


@pytest.fixture
def inner(pytester):
    """Runs a test file in this process; `ini` is added to its configuration."""

    def run(source, *args, ini=""):
        pytester.makeini(
            "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n" + ini,
        )
        pytester.makepyfile(PRELUDE + source)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:timeout", *args)

    return run


@pytest.fixture(params=RUNNERS)
def run(inner, request):
    """The same under each runner of coroutines, with its own word for `@async_fixture`."""
    top, async_fixture = RUNNERS[request.param]
    ini = "asyncio_mode = auto\n" if request.param == "asyncio, auto" else ""
    return lambda source, more="": inner(top + source.replace("@async_fixture", async_fixture), ini=ini + more)


def text(result):
    return result.stdout.str()


# ------------------------------------------------------------------------------------------------ the supervisor


def test_it_is_shut_down_when_the_test_is_over(run):
    result = run(
        """
seen = []

@pytest.fixture(autouse=True)
def told():
    yield
    for sup in seen:
        assert sup.report.counts() == {"stopped": 1}, sup.report
    assert len(seen) == 2
    seen.clear()

async def test_one(supervisor, make_supervisor):
    other = make_supervisor(name="other")
    seen[:] = supervisor, other
    assert (supervisor.name, other.name) == ("test_one", "other")
    for sup in seen:
        await sup.start(obey)

async def test_another(make_supervisor):
    seen[:] = make_supervisor(), make_supervisor()
    assert [sup.name for sup in seen] == ["test_another", "test_another-2"]
    for sup in seen:
        await sup.start(obey)
""",
        PATIENT + "supervisor_no_leaks = true\n",
    )
    result.assert_outcomes(passed=2)


def test_async_fixtures_that_use_it_are_torn_down_before(run):
    result = run(
        """
@async_fixture
async def service(supervisor):
    worker = await supervisor.start(obey)
    yield worker
    assert worker.state == "running"
    assert (await worker.stop()).ended == "stopped"

async def test_it(service, supervisor):
    assert service in supervisor.workers()
""",
        PATIENT + "supervisor_no_leaks = true\n",
    )
    result.assert_outcomes(passed=1)


def test_a_test_without_a_plugin_that_runs_its_own_loop(inner):
    result = inner(
        """
def test_it(supervisor):
    async def main():
        await supervisor.start(obey)
    asyncio.run(main())
    assert supervisor.report.counts() == {"stopped": 1}

def test_with_a_loop_that_goes_on_in_a_thread(supervisor):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(supervisor.start(obey), loop).result(20)
    loops.append((loop, thread))

loops = []

@pytest.fixture(autouse=True)
def end_of_the_loop():
    yield
    while loops:
        loop, thread = loops.pop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

def test_unused(supervisor):
    assert supervisor.workers() == ()

def test_closed_by_itself(supervisor):
    async def main():
        async with supervisor:
            assert await supervisor.run(int) == 0
    asyncio.run(main())
""",
        ini=PATIENT + "supervisor_no_leaks = true\n",
    )
    result.assert_outcomes(passed=4)


def test_a_worker_that_had_to_be_abandoned_fails_its_test_and_is_shown(run):
    began = time.monotonic()
    result = run(
        """
async def test_at_the_end(supervisor):
    await supervisor.start(stuck, name="deaf")

async def test_on_the_way(supervisor):
    before = len(threads)
    call = asyncio.ensure_future(supervisor.run(stuck, name="slow call"))
    while len(threads) == before:
        await asyncio.sleep(0.001)
    await supervisor.workers()[0].stop()
    with pytest.raises(WorkerStopped):
        await call

@pytest.mark.supervisor(may_abandon=True)
async def test_on_purpose(supervisor):
    await supervisor.start(stuck)
""",
        "supervisor_policy = ask=0.2 inject=0.1\n",
    )
    result.assert_outcomes(passed=3, errors=2)
    assert (
        "supervisor 'test_at_the_end' had to abandon 1 of its workers:\n- worker 'deaf' (thread), which stood"
        in text(result)
    )
    assert "worker 'slow call' (thread)" in text(result)
    assert text(result).count("in stuck\n    wall.wait(20)") >= 2
    assert time.monotonic() - began < 15  # three ladders of less than a second


def test_the_marker_has_the_options_of_a_supervisor(inner):
    result = inner(
        """
pytestmark = [pytest.mark.asyncio, pytest.mark.supervisor(max_threads=3, shutdown_timeout=1)]

@pytest.mark.supervisor(policy=EscalationPolicy(Ask(9)), max_threads=2)
async def test_the_nearest_wins(supervisor, make_supervisor):
    settings = inside.settings(make_supervisor(strategy="one_for_all"))
    assert settings.policy == inside.settings(supervisor).policy == EscalationPolicy(Ask(9))
    assert (settings.pools["thread"].size, settings.shutdown_timeout, settings.strategy) == (2, 1.0, "one_for_all")

@pytest.mark.supervisor(max_thread=2)
async def test_misspelt(supervisor):
    pass

@pytest.mark.supervisor("one_for_all")
async def test_no_keyword(supervisor):
    pass
""",
        "--strict-markers",
    )
    result.assert_outcomes(passed=1, errors=2)
    assert "unexpected keyword argument 'max_thread'" in text(result)
    assert "@pytest.mark.supervisor('one_for_all',): takes keyword arguments alone" in text(result)


def test_the_default_ladder_is_quick_and_otherwise_as_always(inner):
    """A call whose own timeout passes is not injected, where the user has named no policy."""
    result = inner("""
import math

@pytest.mark.asyncio
async def test_it(supervisor, ladder_time):
    go_on = threading.Event()
    entered = threading.Event()
    steps = []

    def work():
        entered.set()
        ctx = current_context()
        ctx.stop.wait()
        steps.append(ctx.remaining())
        go_on.wait(10)
        return "late"

    seen = supervisor.transitions()
    with pytest.raises(WorkerTimeout) as caught:
        call = asyncio.ensure_future(supervisor.run(work, timeout=5))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        await ladder_time.advance(5)
        while not steps:
            await asyncio.sleep(0.001)
        assert steps == [pytest.approx(0.5)]
        go_on.set()
        await call
    assert caught.value.outcome.ended == "stopped"
    assert inside.steps_of_a_call_that_is_cancelled(supervisor) == (Ask(0.5),)
    assert EscalationPolicy().budget("thread") == 7
""")
    result.assert_outcomes(passed=1)


def test_late_calls_of_the_default_executor_are_looked_at_as_well(inner):
    result = inner(
        """
@pytest.mark.asyncio
async def test_stuck(supervisor):
    supervisor.install_as_default_executor()
    await supervisor.shutdown()
    call = asyncio.get_running_loop().run_in_executor(None, stuck)
    while not threads:
        await asyncio.sleep(0.001)
    call.add_done_callback(lambda call: call.cancelled() or call.exception())
""",
        ini="supervisor_policy = ask=0.1\n",
    )
    result.assert_outcomes(passed=1, errors=1)
    assert re.search(r"had to abandon 1 of its workers:\n- worker 'stuck-1' \(thread\)", text(result))


def test_the_quick_ladder_is_what_is_compared_with_the_platform(inner):
    inner("""
from structlog.testing import capture_logs
from supervisor.config import load

@pytest.mark.asyncio
async def test_it(make_supervisor):
    with capture_logs() as logs:
        await make_supervisor(config=load({}, environ={}, platform={"docker": 2})).run(int)
    assert [log for log in logs if log["event"] == "supervisor.over_budget"] == []
""").assert_outcomes(passed=1)


def test_the_default_ladder_can_be_configured(inner):
    source = """
@pytest.mark.asyncio
async def test_it(supervisor):
    await supervisor.run(int)
    assert inside.default_policy(supervisor) == EscalationPolicy(Ask(3), Kill(0.25))
"""
    inner(source, ini="supervisor_policy = kill=0.25 ask=3\n").assert_outcomes(passed=1)
    for wrong, why in ("ask", "could not convert"), ("aks=5", "unknown step 'aks'"), ("ask=-1", "0 or more"):
        result = inner(source, ini=f"supervisor_policy = {wrong}\n")
        result.assert_outcomes(errors=1)
        assert re.search(f"supervisor_policy: .*{why}", text(result))


def test_a_loop_that_is_closed_too_early_is_told(inner):
    result = inner(
        """
def test_it(supervisor):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(supervisor.start(obey))
    loop.close()
    supervisors.append(supervisor)

supervisors = []

@pytest.fixture(autouse=True, scope="module")
def let_go():
    yield
    inside.let_go(supervisors.pop())
""",
    )
    result.assert_outcomes(passed=1, errors=1)
    assert "the event loop of supervisor 'test_it' was closed before it could shut down; it has still 1" in text(result)


def test_a_name_of_a_test_that_is_none_for_a_supervisor(inner):
    result = inner("""
@pytest.mark.parametrize("path", ["a/b"])
def test_it(supervisor, path):
    assert supervisor.name == "test_it[a_b]"
""")
    result.assert_outcomes(passed=1)


# ------------------------------------------------------------------------------------------------ time, fakes


def test_the_time_of_ladders_in_a_test_and_in_what_follows_it(run):
    began = time.monotonic()
    result = run("""
class App:  # builds its own
    def __init__(self):
        self.sup = Supervisor("app")

    async def close(self):
        return await self.sup.shutdown()

@async_fixture
async def app():
    app = App()
    yield app
    await app.close()

@pytest.mark.supervisor(may_abandon=True, policy=EscalationPolicy(), shutdown_timeout=20)
async def test_it(app, supervisor, ladder_time):
    worker = await app.sup.start(stuck)
    await supervisor.start(stuck)
    stopping = asyncio.create_task(worker.stop())
    await ladder_time.advance(7)
    outcome = await stopping
    assert (outcome.ended, round(outcome.stop_seconds)) == ("abandoned", 7)
    await app.sup.start(stuck)  # the clock stands still when the fixtures are torn down: it must not hold them up

async def test_the_other_way_round(ladder_time, app):
    await app.sup.start(stuck)
""")
    result.assert_outcomes(passed=2)
    assert time.monotonic() - began < 30


def test_a_clock_of_the_module_does_not_hold_up_the_end_of_a_supervisor(run):
    result = run("""
from supervisor.testing import VirtualTime

@pytest.fixture(scope="module")
def clock():
    with VirtualTime(patience=0) as time:
        yield time

@pytest.mark.supervisor(may_abandon=True)
async def test_it(clock, supervisor):
    await supervisor.start(stuck)
""")
    result.assert_outcomes(passed=1)


def test_fake_workers_in_a_test(run):
    result = run("""
def render(page):
    raise AssertionError

async def test_it(fake_workers, supervisor):
    fake_workers.script(render, after=0, returns="page")
    assert await supervisor.run(render, 1, kind="process") == "page"
    assert [run.args for run in fake_workers.runs] == [(1,)]
""")
    result.assert_outcomes(passed=1)


# ------------------------------------------------------------------------------------------------ leaks

LEAKS = """
import subprocess, sys
from pathlib import Path

def test_a_thread(no_leaks):
    threading.Thread(target=stuck, name="stray", daemon=True).start()

def test_a_process(no_leaks):
    processes.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))

def test_a_zombie(no_leaks):
    process = subprocess.Popen(["true"])
    while b" Z " not in Path(f"/proc/{process.pid}/stat").read_bytes():
        time.sleep(0.01)
    processes.append(process)

@pytest.mark.asyncio
async def test_an_abandoned_worker(no_leaks):
    async with Supervisor(policy=EscalationPolicy(Ask(0.01))) as sup:
        await sup.start(stuck, name="deaf")

@pytest.mark.asyncio
async def test_an_open_supervisor(no_leaks):
    supervisors.append(Supervisor("forgotten"))
    await supervisors[-1].start(stuck, name="poller")

def test_nothing(no_leaks, supervisor):
    pass

@pytest.mark.supervisor(may_leak=True)
def test_a_thread_on_purpose(no_leaks):
    threading.Thread(target=stuck, daemon=True).start()

supervisors, processes = [], []

@pytest.fixture(autouse=True, scope="module")
def let_go():
    yield
    for process in processes:
        process.kill()
        process.wait()
    wall.set()
    for sup in supervisors:  # nobody can shut it down any more: its thread ends by itself
        inside.forget(sup)
"""


def test_what_is_left_behind_fails_its_test_and_is_shown(inner):
    result = inner(LEAKS)
    result.assert_outcomes(passed=7, errors=5)
    result.stdout.fnmatch_lines(
        [
            "test_a_thread has left behind:",
            "- thread 'stray'",
            "*in stuck*",
            "*wall.wait(20)",
            "test_a_process has left behind:",
            "- process *: *python* -c 'import time; time.sleep(60)'",
            "test_a_zombie has left behind:",
            "- process *, a zombie: nobody has waited for it: true",
            "test_an_abandoned_worker has left behind:",
            "- thread 'supervisor/deaf'",
            "test_an_open_supervisor has left behind:",
            "- supervisor 'forgotten', which was not shut down, and whose event loop is closed",
            "  worker 'poller' (thread, running)",
            "- thread 'forgotten/poller'",
            "    wall.wait(20)",
        ]
    )


def test_what_belongs_to_others_is_not_blamed(inner):
    """A supervisor of the module with its pool, asyncio's and anyio's threads, a fixture of the module, a quick end."""
    result = inner(
        """
import subprocess, sys
import anyio.to_thread

pytestmark = pytest.mark.asyncio(loop_scope="module")

@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sup():
    async with Supervisor("module") as sup:
        yield sup

@pytest.fixture(scope="module")
def server():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    thread = threading.Thread(target=wall.wait, args=(20,))
    thread.start()
    yield
    process.communicate()
    wall.set()
    thread.join()

async def test_a_supervisor_that_was_there(sup):
    assert await sup.run(int) == 0
    assert await sup.run(int, kind="process") == 0

async def test_to_thread(server):
    await asyncio.to_thread(int)
    await anyio.to_thread.run_sync(int)

async def test_what_is_about_to_end():
    threading.Thread(target=time.sleep, args=(0.05,)).start()

async def test_a_configured_pattern():
    threading.Thread(target=wall.wait, args=(20,), name="grpc-7", daemon=True).start()

async def test_a_worker_in_a_supervisor_that_was_there(sup):
    await sup.start(obey, name="left")
""",
        ini="supervisor_no_leaks = true\nsupervisor_leaks_ignored =\n    grpc-*\n",
    )
    result.assert_outcomes(passed=5, errors=1)
    result.stdout.fnmatch_lines(
        [
            "test_a_worker_in_a_supervisor_that_was_there has left behind:",
            "- worker 'left' (thread, running), of supervisor 'module', which was there before",
            "*ctx.stop.wait()*",
        ]
    )


def test_the_timer_of_pytest_timeout_is_not_blamed(pytester):
    pytester.makeini(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
        "supervisor_no_leaks = true\ntimeout = 30\ntimeout_method = thread\n"
    )
    pytester.makepyfile("def test_it(): pass")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


# ------------------------------------------------------------------------------------------------ the plugin itself


def test_it_costs_a_test_run_that_does_not_use_it_next_to_nothing(pytester):
    pytester.makepyfile("""
        import sys
        def test_it():
            assert "supervisor.pytest_plugin" in sys.modules
            loaded = {name for name in sys.modules if name.partition(".")[0] == "supervisor"}
            assert loaded == {"supervisor", "supervisor.pytest_plugin"}
            assert "anyio" not in sys.modules and "structlog" not in sys.modules
    """)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:anyio", "-p", "no:asyncio", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=pytester.path,
    )
    assert done.returncode == 0, done.stdout


def test_it_can_be_left_out(pytester):
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile("def test_it(supervisor): pass")
    result = pytester.runpytest_inprocess("-p", "no:supervisor", "-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    assert "fixture 'supervisor' not found" in text(result)


def test_a_script_that_imports_the_library_and_then_runs_pytest_is_not_warned(pytester):
    script = pytester.makepyfile("""
        import supervisor, sys, pytest

        def test_it(supervisor):
            assert supervisor.report is None

        if __name__ == "__main__":
            sys.exit(pytest.main([__file__, "-q", "-W", "error", "-p", "no:asyncio", "-p", "no:cacheprovider"]))
    """)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
