"""What whoever waits for a worker gets, as a table."""

from types import SimpleNamespace

import pytest

from supervisor import (
    Outcome,
    RestartLimitExceeded,
    StopInjected,
    StopRequested,
    SupervisorError,
    WorkerDied,
    WorkerExit,
    WorkerFailed,
    WorkerStopped,
    WorkerTimeout,
)
from supervisor._core.verdict import converted, error_of_call, error_of_start, error_of_wait

WORKER = SimpleNamespace(name="w")
ERROR = ValueError("no")


def ended(how, error=None):
    return Outcome("w", "thread", ended=how, error=error)


@pytest.mark.parametrize("stopping", [False, True])
def test_an_error_of_the_function_is_delivered_as_it_is(stopping):
    assert converted(WORKER, ERROR, stopping=stopping) is ERROR


@pytest.mark.parametrize("code", [None, 0, False])
def test_leaving_by_sys_exit_without_a_code_is_a_success(code):
    assert converted(WORKER, SystemExit(code), stopping=False) is None


@pytest.mark.parametrize(
    ("raised", "delivered"),
    [
        (StopIteration(1), RuntimeError),
        (SystemExit(3), WorkerExit),
        (SystemExit("why"), WorkerExit),
        (KeyboardInterrupt(), WorkerFailed),
        (GeneratorExit(), WorkerFailed),
        (StopRequested(), WorkerFailed),
        (StopInjected(), WorkerFailed),
    ],
)
def test_nothing_else_reaches_the_event_loop_as_it_is(raised, delivered):
    error = converted(WORKER, raised, stopping=False)
    assert type(error) is delivered
    assert "'w'" in str(error)
    assert error.__cause__ is raised


@pytest.mark.parametrize("raised", [StopRequested(), StopInjected()])
def test_a_run_that_is_being_stopped_ends_by_what_unwinds_it(raised):
    assert converted(WORKER, raised, stopping=True) is raised


def test_a_call_that_nobody_stopped_gives_what_it_made_of_itself():
    assert error_of_call(ended("returned"), None, returned=True) is None
    assert error_of_call(ended("failed", ERROR), None, returned=False) is ERROR
    died = error_of_call(ended("died"), None, returned=False)
    assert isinstance(died, WorkerDied)
    assert died.outcome == ended("died")


@pytest.mark.parametrize("how", ["returned", "stopped", "injected", "abandoned", "cancelled"])
def test_a_timeout_is_a_timeout_whatever_the_function_then_did(how):
    for returned in (True, False):
        error = error_of_call(ended(how), "timeout", returned=returned)
        assert type(error) is WorkerTimeout
        assert error.outcome.ended == how


@pytest.mark.parametrize("cause", ["stop", "shutdown", "cancel"])
def test_work_in_flight_may_finish_in_its_grace(cause):
    assert error_of_call(ended("stopped"), cause, returned=True) is None
    error = error_of_call(ended("stopped", ERROR), cause, returned=False)
    assert type(error) is WorkerStopped
    assert error.__cause__ is ERROR


@pytest.mark.parametrize("how", ["abandoned", "cancelled"])
def test_what_never_ended_or_never_began_gives_no_value(how):
    """The run's record says `returned` for as long as nothing is known of it."""
    assert type(error_of_call(ended(how), "shutdown", returned=True)) is WorkerStopped


@pytest.mark.parametrize(
    ("outcome", "cause", "raised"),
    [
        (ended("stopped"), "stuck", WorkerTimeout),
        (ended("failed", ERROR), "stuck", WorkerTimeout),
        (ended("died"), None, WorkerDied),
        (ended("failed", ERROR), None, ValueError),
        (ended("returned"), None, SupervisorError),
        (ended("stopped"), "stop", WorkerStopped),
        (ended("cancelled"), "shutdown", WorkerStopped),
    ],
)
def test_a_start_that_fails_says_how(outcome, cause, raised):
    error = error_of_start(outcome, cause)
    assert type(error) is raised
    assert error is ERROR or "'w'" in str(error)


def test_whoever_waits_for_a_worker_hears_of_the_limit_of_its_restarts():
    limit = RestartLimitExceeded("w", 3, 5.0)
    assert error_of_wait(ended("failed", limit)) is limit
    assert type(error_of_wait(ended("failed", ERROR))) is WorkerStopped
    assert type(error_of_wait(ended("returned"))) is WorkerStopped
