"""The injection gate against the interpreter: what is raised, where, and what is left alone."""

import ctypes
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor import StopInjected

from ... import inside
from ...inside import MISSING, Gate, Shield, injection_missing
from ...programs import found_by
from ...waiting import LIMIT

ROOT = Path(__file__).parents[3]


class InThread:
    """Carries a function out behind a gate, on a thread."""

    def __init__(self, function: Callable[..., Any], *args: object) -> None:
        self.gate = Gate()
        self.entered = threading.Event()
        self.result: tuple[Any, BaseException | None] = (MISSING, None)
        self.after: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(function, args), daemon=True)
        self.thread.start()
        assert self.entered.wait(LIMIT)

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        def enter() -> Any:
            self.entered.set()
            return function(self.gate, *args)

        self.result = self.gate.run(enter, ())
        try:
            for _ in range(1000):
                str(1)
        except BaseException as error:
            self.after = error

    def end(self) -> tuple[Any, BaseException | None]:
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()
        assert self.after is None, "an exception escaped into the pool's code"
        return self.result


def endless(gate: Gate) -> None:
    def spin() -> None:
        while True:
            pass

    spin()


def test_injection_is_possible_here() -> None:
    assert injection_missing() is None


def test_an_endless_loop_ends() -> None:
    running = InThread(endless)
    assert running.gate.inject() == "injected"
    value, error = running.end()
    assert value is MISSING
    assert type(error) is StopInjected


def test_a_value_passes_through() -> None:
    assert Gate().run(divmod, (7, 2)) == ((3, 1), None)


def test_an_error_passes_through_without_the_gates_frames() -> None:
    value, error = Gate().run(lambda: 1 / 0, ())
    assert value is MISSING
    assert isinstance(error, ZeroDivisionError)
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_frame.f_code.co_name == "<lambda>"


def test_before_the_start_nothing_is_injected() -> None:
    gate = Gate()
    assert gate.inject() == "unstarted"
    assert gate.run(lambda: 5, ()) == (5, None)


def test_after_the_end_nothing_is_injected() -> None:
    again = threading.Event()

    def two_runs(gate: Gate) -> str:
        return "first"

    running = InThread(two_runs)
    running.end()
    assert running.gate.inject() == "unstarted"

    # The same thread goes on with another run: the old gate cannot reach it.
    old = Gate()
    entered = threading.Event()
    results: list[Any] = []

    def thread() -> None:
        old.run(lambda: None, ())
        results.append(Gate().run(lambda: (entered.set(), again.wait(LIMIT)), ()))

    worker = threading.Thread(target=thread)
    worker.start()
    assert entered.wait(LIMIT)
    assert old.inject() == "unstarted"
    again.set()
    worker.join(LIMIT)
    assert results[0][1] is None


def test_an_injection_at_the_very_end_leaves_the_value() -> None:
    """The exception is set while the function is in its last C call; the value it computed wins."""
    release, results = threading.Event(), []

    def last_call(gate: Gate) -> bool:
        return release.wait(LIMIT)

    for _ in range(200):
        release.clear()
        running = InThread(last_call)
        release.set()
        running.gate.inject()
        results.append(running.end())
    for value, error in results:
        assert (value is True and error is None) or (value is MISSING and type(error) is StopInjected)


def test_a_shield_holds_it_back_until_it_is_left() -> None:
    within, go_on, log = threading.Event(), threading.Event(), []

    def work(gate: Gate) -> None:
        with Shield(gate):
            with Shield(gate):
                within.set()
                go_on.wait(LIMIT)
                log.append("inner done")
            log.append("outer done")
        log.append("after the shield")

    running = InThread(work)
    assert within.wait(LIMIT)
    assert running.gate.inject() == "deferred"
    assert running.gate.inject() == "deferred"
    go_on.set()
    _, error = running.end()
    assert type(error) is StopInjected
    assert log == ["inner done", "outer done"]


class Limit(Exception):
    pass


def test_another_exception_is_raised_which_the_function_handles_and_goes_on() -> None:
    def work(gate: Gate) -> str:
        try:
            endless(gate)
        except Limit:
            return "cleaned up"

    running = InThread(work)
    assert running.gate.inject(exception=Limit) in ("injected", "deferred", "waiting")
    while running.thread.is_alive() and running.gate.inject(exception=Limit) == "waiting":
        pass
    assert running.end() == ("cleaned up", None)


def test_a_shield_holds_another_exception_back_and_the_usual_one_comes_after_it() -> None:
    within, go_on, log = threading.Event(), threading.Event(), []

    def work(gate: Gate) -> None:
        try:
            with Shield(gate):
                within.set()
                go_on.wait(LIMIT)
                log.append("done")
        except Limit:
            log.append("limit")
            hit.set()
        endless(gate)

    hit = threading.Event()
    running = InThread(work)
    assert within.wait(LIMIT)
    assert running.gate.inject(exception=Limit) == "deferred"
    go_on.set()
    assert hit.wait(LIMIT)
    while running.thread.is_alive():
        running.gate.inject()
        time.sleep(0.01)
    assert type(running.end()[1]) is StopInjected
    assert log == ["done", "limit"]


def test_a_shield_that_swallows_what_it_held_back_can_be_hit_again() -> None:
    hits = []

    def work(gate: Gate) -> str:
        for _ in range(3):
            try:
                with Shield(gate):
                    within.set()
                    go_on.wait(LIMIT)
                    go_on.clear()
            except StopInjected as error:
                hits.append(error)
        return "done"

    within, go_on = threading.Event(), threading.Event()
    running = InThread(work)
    for _ in range(3):
        assert within.wait(LIMIT)
        within.clear()
        assert running.gate.inject() == "deferred"
        go_on.set()
    assert running.end() == ("done", None)
    assert len(hits) == 3


def test_the_error_of_a_shielded_body_is_kept_as_context() -> None:
    def work(gate: Gate) -> None:
        with Shield(gate):
            inside.defer(gate, StopInjected)
            raise ValueError("mine")

    _, error = InThread(work).end()
    assert type(error) is StopInjected
    assert isinstance(error.__context__, ValueError)


def test_only_the_worker_can_shield_itself() -> None:
    running = InThread(endless)
    with pytest.raises(RuntimeError, match="own thread"), Shield(running.gate):
        pass
    running.gate.inject()
    running.end()


def test_a_swallower_ends_by_the_third_injection() -> None:
    swallowed = []

    def stubborn(gate: Gate) -> None:
        def spin() -> None:
            spinning.append(True)
            while True:
                pass

        for _ in range(2):
            try:
                spin()
            except BaseException as error:
                swallowed.append(error)
        spin()

    spinning: list[bool] = []  # no Event, in whose code the next one could strike
    running = InThread(stubborn)
    for number in (1, 2, 3):
        until = time.monotonic() + LIMIT
        while len(spinning) < number:
            assert time.monotonic() < until
            time.sleep(0.001)
        running.gate.inject()
    _, error = running.end()
    assert len(swallowed) == 2
    assert type(error) is StopInjected


@pytest.mark.parametrize("where", ["blocked", "shielded"])
def test_who_injects_is_never_held_up(where: str) -> None:
    within, release = threading.Event(), threading.Event()

    def work(gate: Gate) -> None:
        if where == "shielded":
            with Shield(gate):
                within.set()
                release.wait(LIMIT)
        within.set()
        release.wait(LIMIT)

    running = InThread(work)
    assert within.wait(LIMIT)
    assert running.gate.inject() == ("deferred" if where == "shielded" else "injected")  # returned: it did not wait
    assert not release.is_set()
    release.set()
    _, error = running.end()
    assert type(error) is StopInjected


def test_an_exception_left_pending_ends_a_blocked_thread_when_its_call_returns() -> None:
    release, log = threading.Event(), []

    def work(gate: Gate) -> None:
        release.wait(LIMIT)
        log.append("went on")

    running = InThread(work)
    running.gate.inject()
    release.set()
    _, error = running.end()
    assert type(error) is StopInjected
    assert log == []


def test_a_process_that_is_forked_during_an_injection_can_inject() -> None:
    script = (
        "import os, threading\n"
        "from tests import inside\n"
        "held, go_on = threading.Event(), threading.Event()\n"
        "def inject():\n"
        "    with inside.injecting:\n"
        "        held.set()\n"
        "        go_on.wait()\n"
        "threading.Thread(target=inject).start()\n"
        "held.wait()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(0 if inside.injecting.acquire(False) else 1)\n"
        "go_on.set()\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout == "0\n"


def test_other_users_of_the_api_are_not_disturbed() -> None:
    """Our prototypes are our own: `argtypes` of the shared function stay as somebody else set them."""
    api = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert api.argtypes is None
    running = InThread(endless)
    ident = running.gate.ident
    assert api(ctypes.c_ulong(ident), ctypes.py_object(KeyError)) == 1
    value, error = running.end()
    assert value is MISSING
    assert type(error) is KeyError
    assert api.argtypes is None


def storm(runs: int, switch_interval: float) -> dict[str, Any]:
    return found_by("tests.kinds.threads.storm", runs, switch_interval)[0]


@pytest.mark.timeout(300)
def test_the_storm() -> None:
    report = storm(2_000, 1e-6)
    assert report["bad"] == {}
    assert report["seen"]["injected"] > 100
    assert report["seen"]["shields"] > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("switch_interval", [1e-6, 1e-4, 5e-3])
def test_the_long_storm(switch_interval: float) -> None:
    report = storm(60_000, switch_interval)
    assert report["bad"] == {}


def test_injecting_takes_under_a_millisecond_while_the_target_is_blocked() -> None:
    """Of this thread's own time; that it waits for nobody, another test says."""
    release = threading.Event()
    running = InThread(lambda gate: release.wait(LIMIT))
    began = time.thread_time()
    for _ in range(1000):
        running.gate.inject()
    assert time.thread_time() - began < 1.0, "1,000 injections took a second or more"
    release.set()
    running.end()


@pytest.mark.parametrize("injected", [False, True])
def test_a_run_leaves_no_signal_behind_for_the_whole_process(injected):
    """On 3.11, a signal that is left makes a traced function's entry last for ever."""
    script = f"""if True:
        import faulthandler, sys, threading
        from tests.inside import Gate
        faulthandler.dump_traceback_later(40, exit=True)
        entered, go_on = threading.Event(), threading.Event()
        gate = Gate()
        thread = threading.Thread(target=gate.run, args=(lambda: (entered.set(), go_on.wait(5)), ()))
        thread.start()
        entered.wait()
        if {injected}:
            gate.inject()
        go_on.set()
        thread.join()
        sys.settrace(lambda *_: None)
        (lambda: None)()
        sys.settrace(None)
        print("went on")
    """
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout == "went on\n", done.stderr
