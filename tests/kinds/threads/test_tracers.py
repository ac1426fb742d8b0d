"""Python 3.11 hangs where a traced function is entered while an exception waits: nothing is injected then."""

import cProfile
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor import Ask, EscalationPolicy, Inject, Supervisor

from ...waiting import until

ROOT = Path(__file__).parents[3]


def step():
    pass


def trace(*_):
    return None


class Tracing:
    def __enter__(self):
        sys.settrace(trace)

    def __exit__(self, *_):
        sys.settrace(None)


@pytest.mark.parametrize("tool", [cProfile.Profile, Tracing])
@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer is active already")
async def test_a_tracer_in_one_worker_is_not_frozen_by_an_injection_into_another(tool, events, leftovers):
    rounds = []

    def traced(ctx):
        with tool():
            while not ctx.stop.wait(0.001):
                for _ in range(20):
                    step()
                rounds.append(None)

    async with Supervisor(policy=EscalationPolicy(Ask(0.3), Inject(0.3))) as sup:
        deaf = await sup.start(leftovers.block, name="deaf")
        await sup.start(traced, name="traced", policy=EscalationPolicy(Ask(20)))
        await until(lambda: len(rounds) > 3)
        assert (await deaf.stop()).ended == "abandoned"
        before = len(rounds)
        await until(lambda: len(rounds) > before + 3)
    assert [outcome.ended for outcome in sup.report.outcomes] == ["stopped"]
    missing = [event for event in events if event["event"] == "supervisor.injection_missing"]
    assert len(missing) == (1 if sys.version_info < (3, 12) else 0)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="only 3.11 hangs")
def test_a_tracer_is_seen_in_any_thread():
    script = """if True:
        import cProfile, threading
        from tests.inside import anybody_traces
        assert not anybody_traces()
        on, go_on = threading.Event(), threading.Event()
        def profiled():
            with cProfile.Profile():
                on.set()
                go_on.wait()
        thread = threading.Thread(target=profiled)
        thread.start()
        on.wait()
        import time
        time.sleep(0.05)
        print(anybody_traces())
        go_on.set()
        thread.join()
        time.sleep(0.05)
        print(anybody_traces())
    """
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout == "True\nFalse\n", done.stderr
