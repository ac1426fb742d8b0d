"""What becomes of tasks: limits, revocations, deaths, and what the remote control sees; in processes and in threads."""

import os
import time
from pathlib import Path

import pytest

from .workers import LADDER, Worker, alive, redis_server, wait_until

pytest.importorskip("celery")
pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(not redis_server(), reason="needs redis-server")]

SLACK = 15.0
"""Seconds beyond what is promised, on a machine that has much to do."""


@pytest.fixture(scope="module", params=["process", "thread"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def at_work(service, client, kind):
    """One worker for all tests of a kind."""
    with Worker(service, kind=kind, conf={"worker_pool_restarts": True}) as worker:
        worker.wait_for(" ready.")
        assert client.call("add", 1, 2) == ("SUCCESS", 3)  # all connections of the client are open
        client.ask("ping")
        yield worker


@pytest.fixture
def mark(at_work, request):
    return at_work.mark(str(abs(hash(request.node.name))))


def still_works(client):
    return client.call("add", 2, 3) == ("SUCCESS", 5)


def test_a_spinning_task_ends_at_its_hard_limit_and_the_worker_goes_on(at_work, client, mark):
    task = client.send("spin", mark, time_limit=1)
    at_work.begun(mark)
    began = time.monotonic()
    status, error = client.ended(task)
    assert time.monotonic() - began < 1 + LADDER + SLACK
    assert (status, type(error).__name__) == ("FAILURE", "TimeLimitExceeded")
    at_work.wait_for(f"Hard time limit (1s) exceeded for spin[{task}]")
    assert still_works(client)


def test_a_soft_limit_is_raised_in_the_task_which_can_clean_up(at_work, client, mark):
    task = client.send("soft", mark, soft_time_limit=0.5, time_limit=20)
    assert client.ended(task) == ("SUCCESS", "cleaned up")
    at_work.wait_for(f"Soft time limit (0.5s) exceeded for soft[{task}]")


def test_a_soft_limit_that_nobody_handles_is_the_failure_of_the_task(at_work, client, mark):
    status, error = client.call("spin", mark, soft_time_limit=0.3)
    assert (status, type(error).__name__) == ("FAILURE", "SoftTimeLimitExceeded")
    assert still_works(client)


def test_a_soft_limit_waits_until_a_shield_is_left(at_work, client, mark):
    assert client.call("shielded", mark, soft_time_limit=0.3, time_limit=20) == ("SUCCESS", True)


def test_a_task_that_blocks_in_c_is_ended_or_given_up_and_the_worker_goes_on(at_work, client, mark, kind):
    task = client.send("sleep", mark, 30, time_limit=0.5)
    pid = at_work.begun(mark)
    status, error = client.ended(task)
    assert (status, type(error).__name__) == ("FAILURE", "TimeLimitExceeded")
    wait_until(lambda: kind == "thread" or not alive(pid), at_work.text)  # who was hit is not used again
    assert still_works(client)


def test_a_task_that_looks_at_its_stop_event_ends_when_it_is_asked(at_work, client, mark):
    assert client.call("polite", mark, time_limit=0.3) == ("SUCCESS", "asked to stop")


@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
def test_a_revoked_task_is_ended(at_work, client, mark, number):
    task = client.send("spin", mark)
    at_work.begun(mark)
    client.app.control.revoke(task, terminate=True, signal=number)
    status, error = client.ended(task)
    assert (status, type(error).__name__) == ("REVOKED", "TaskRevokedError")
    wait_until(lambda: not active(client), at_work.text)
    assert still_works(client)


def active(client):
    return client.ask("active")


def test_a_task_that_waits_is_revoked_before_it_begins(at_work, client, mark):
    release = at_work.mark("release-revoked")
    blocking = [client.send("until", mark, release) for _ in range(2)]
    wait_until(lambda: len(active(client)) == 2, at_work.text)
    waiting = client.send("add", 1, 1)
    wait_until(lambda: client.ask("reserved"), at_work.text)
    client.app.control.revoke(waiting)
    wait_until(lambda: waiting in client.ask("revoked"), at_work.text)
    Path(release).touch()
    assert client.ended(waiting)[0] == "REVOKED"
    assert [client.ended(task) for task in blocking] == [("SUCCESS", "released")] * 2


def test_the_remote_control_sees_what_runs_and_where(at_work, client, mark, kind):
    release = at_work.mark("release-seen")
    task = client.send("until", mark, release)
    pid = at_work.begun(mark)
    (seen,) = wait_until(lambda: active(client), at_work.text)
    assert (seen["id"], seen["worker_pid"], seen["acknowledged"]) == (task, pid, True)
    stats = client.stats()
    assert (stats["kind"], stats["max-concurrency"]) == (kind, 2)
    assert stats["implementation"] == "supervisor.celery.pool:Pool"
    assert pid in stats["processes"] or (kind, pid) == ("thread", at_work.pid)
    Path(release).touch()
    assert client.ended(task) == ("SUCCESS", "released")


def test_the_pool_grows_and_shrinks(at_work, client, mark):
    client.ask("pool_grow", n=1)
    release = at_work.mark("release-grown")
    tasks = [client.send("until", f"{mark}-{number}", release) for number in range(3)]
    for number in range(3):
        at_work.begun(f"{mark}-{number}")  # all three at a time
    Path(release).touch()
    assert {client.ended(task) for task in tasks} == {("SUCCESS", "released")}
    client.ask("pool_shrink", n=2)
    assert client.stats()["max-concurrency"] == 1
    assert "error" in client.ask("pool_shrink", n=1)
    client.ask("pool_grow", n=1)
    assert still_works(client)


@pytest.mark.parametrize("code", [0, 1])
def test_a_task_that_exits_is_lost_and_the_worker_goes_on(at_work, client, code):
    status, error = client.call("leave", code)
    assert (status, type(error).__name__) == ("FAILURE", "WorkerLostError")
    assert f"exitcode {code}" in str(error)
    assert still_works(client)


def test_errors_arrive_as_they_are(at_work, client):
    status, error = client.call("fail")
    assert (status, type(error).__name__, error.args) == ("FAILURE", "KeyError", ("a", 1))


def test_what_tasks_log_and_print_is_in_the_log_of_the_worker(at_work, client):
    assert client.call("log", "a line of a task")[0] == "SUCCESS"
    at_work.wait_for("WARNING/")
    at_work.wait_for("a line of a task")
    at_work.wait_for("printed a line of a task")


# ------------------------------------------------------------------------------------------------ processes alone


@pytest.fixture
def only_processes(kind):
    if kind == "thread":
        pytest.skip("of processes alone")


def test_a_task_whose_process_dies_is_lost(at_work, client, only_processes):
    status, error = client.call("die")
    assert (status, type(error).__name__) == ("FAILURE", "WorkerLostError")
    assert "signal 9 (SIGKILL)" in str(error)
    assert still_works(client)


def test_a_task_that_may_be_repeated_runs_again_where_its_process_has_died(at_work, client, mark, only_processes):
    assert client.call("die_once", mark) == ("SUCCESS", "second time")


def test_c_code_that_holds_the_interpreter_ends_within_the_ladder(at_work, client, mark, only_processes):
    task = client.send("hold", mark, time_limit=0.5)
    pid = at_work.begun(mark)
    assert type(client.ended(task)[1]).__name__ == "TimeLimitExceeded"
    wait_until(lambda: not alive(pid), at_work.text)
    assert still_works(client)


def test_the_signal_that_a_process_begins_is_sent_in_it(at_work, client, only_processes):
    assert client.call("signals") == ("SUCCESS", ["worker_process_init"])


def test_a_restart_of_the_pool_replaces_processes_and_stops_no_task(at_work, client, mark, only_processes):
    release = at_work.mark("release-restart")
    task = client.send("until", mark, release)
    pid = at_work.begun(mark)
    before = set(client.stats()["processes"])
    assert "ok" in client.ask("pool_restart")
    wait_until(lambda: set(client.stats()["processes"]) & before == {pid}, at_work.text)
    Path(release).touch()
    assert client.ended(task) == ("SUCCESS", "released")
    wait_until(lambda: not set(client.stats()["processes"]) & before, at_work.text)
    assert still_works(client)


def test_the_worker_has_no_processes_but_those_of_the_pool(at_work, client, only_processes):
    wait_until(lambda: set(at_work.children()) == set(client.stats()["processes"]), at_work.text)
    assert os.getpid() not in at_work.children()
