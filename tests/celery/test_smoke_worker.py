"""What Celery's own smoke tests ask of a worker that ends: by every signal, twice, with tasks that are given back."""

import signal
import time
from pathlib import Path

import pytest

from .workers import LADDER, SOFT_SHUTDOWNS, alive, redis_server, wait_until

pytest.importorskip("celery")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not redis_server(), reason="needs redis-server"),
    pytest.mark.parametrize("kind", ["process", "thread"]),
]

SLACK = 5.0
"""Seconds beyond what is promised, for Celery's own end on a machine that has much to do."""

GIVEN_BACK = {"PENDING", "STARTED", "RETRY"}
"""What Celery says of a task that it has given back; the last one before 5.6."""

PATIENT = """
shutdown_timeout = 600
drain = 400
[policy]
ask = 0.2
inject = { grace = 0.6, every = 0.2 }
terminate = 0.5
kill = 1
"""
"""A warm shutdown takes as long as the tasks do."""


@pytest.fixture(autouse=True)
def _nothing_is_queued(client):
    yield
    client.purge()
    with client.app.connection_for_write() as connection:  # of workers that were killed, or have left at once
        connection.default_channel.client.delete("unacked", "unacked_index")


def begun(mine, client, name, mark, *args, **options):
    """Sends a task, and waits until it has begun."""
    task = client.send(name, mine.mark(mark), *args, **options)
    mine.begun(mine.mark(mark))
    return task


def unacknowledged(client):
    with client.app.connection_for_read() as connection:
        return connection.default_channel.client.hlen("unacked")


def test_more_signals_for_a_warm_shutdown_do_nothing(worker, client, kind):
    mine = worker(kind=kind, config=PATIENT)
    task = begun(mine, client, "sleep", "mark", 3)
    for _ in range(3):
        mine.signal(signal.SIGTERM)
        time.sleep(0.3)
    code, _ = mine.gone()
    assert code == 0
    assert client.ended(task) == ("SUCCESS", "slept")


def test_a_remote_shutdown_ends_with_zero(worker, client, kind):
    mine = worker(kind=kind)
    task = begun(mine, client, "sleep", "mark", 0.5)
    client.app.control.shutdown()
    code, _ = mine.gone()
    assert code == 0
    assert client.ended(task) == ("SUCCESS", "slept")


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGTERM, signal.SIGQUIT, signal.SIGQUIT),
        (signal.SIGQUIT, signal.SIGQUIT),
        (signal.SIGINT, signal.SIGINT, signal.SIGINT),
    ],
    ids=["from-warm", "from-cold", "ctrl-c"],
)
def test_a_hard_shutdown_ends_a_worker_with_a_stuck_task(worker, client, kind, numbers):
    mine = worker(kind=kind, config=PATIENT)
    begun(mine, client, "spin", "mark")
    children = mine.children()
    for number in numbers:
        mine.signal(number)
        time.sleep(0.3)
    _, seconds = mine.gone()
    assert seconds < LADDER + SLACK
    wait_until(lambda: not [pid for pid in children if alive(pid)], "processes are left")


@pytest.mark.parametrize("more", [0, 1])
def test_sigterm_mapped_to_a_cold_shutdown_which_gives_late_tasks_back(worker, client, kind, more):
    mine = worker(kind=kind, config=PATIENT, REMAP_SIGTERM="SIGQUIT")
    task = begun(mine, client, "late", "mark", mine.mark("never"))
    for _ in range(1 + more):
        mine.signal(signal.SIGTERM)
        time.sleep(0.2)
    _, seconds = mine.gone()
    assert seconds < LADDER + SLACK
    assert "Cold shutdown" in mine.text()
    assert client.state(task) in GIVEN_BACK
    if not more:  # else Celery itself leaves at once
        Path(mine.mark("never")).touch()
        worker(kind=kind)
        assert client.ended(task) == ("SUCCESS", "released")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_late_task_is_given_back_though_celery_has_not_heard_that_it_has_begun(worker, client, kind, number):
    mine = worker(kind=kind, TELL_AFTER="60")
    client.call("noop")  # of tasks that take as little, it need not hear at once
    task = begun(mine, client, "late", "mark", mine.mark("never"))
    mine.signal(number)
    mine.gone()
    assert client.state(task) in GIVEN_BACK
    Path(mine.mark("never")).touch()
    worker(kind=kind)
    assert client.ended(task) == ("SUCCESS", "released")


@pytest.mark.skipif(not SOFT_SHUTDOWNS, reason="Celery has soft shutdowns from 5.5 on")
def test_a_soft_shutdown_gives_back_the_one_task_of_two_that_has_not_ended(worker, client, kind):
    mine = worker(kind=kind, conf={"worker_soft_shutdown_timeout": 2.0})
    long = begun(mine, client, "late", "long", mine.mark("never"))
    short = begun(mine, client, "late", "short", mine.mark("soon"))
    client.knows(long, short)
    mine.signal(signal.SIGQUIT)
    mine.wait_for("Initiating Soft Shutdown")
    Path(mine.mark("soon")).touch()
    mine.gone()
    assert "Restoring 1 unacknowledged message(s)" in mine.text()
    assert client.ended(short) == ("SUCCESS", "released")
    Path(mine.mark("never")).touch()
    worker(kind=kind)
    assert client.ended(long) == ("SUCCESS", "released")
    assert len(Path(mine.mark("short")).read_text().split()) == 1


@pytest.mark.skipif(not SOFT_SHUTDOWNS, reason="Celery has soft shutdowns from 5.5 on")
def test_a_soft_shutdown_gives_back_both_tasks_of_two(worker, client, kind):
    mine = worker(kind=kind, conf={"worker_soft_shutdown_timeout": 0.5})
    tasks = [begun(mine, client, "late", mark, mine.mark("never")) for mark in ("one", "two")]
    client.knows(*tasks)
    mine.signal(signal.SIGQUIT)
    mine.gone()
    assert "Restoring 2 unacknowledged message(s)" in mine.text()
    Path(mine.mark("never")).touch()
    worker(kind=kind)
    assert [client.ended(task) for task in tasks] == [("SUCCESS", "released")] * 2


@pytest.mark.skipif(not SOFT_SHUTDOWNS, reason="Celery has soft shutdowns from 5.5 on")
def test_a_soft_shutdown_is_cut_short_by_another_signal(worker, client, kind):
    mine = worker(kind=kind, conf={"worker_soft_shutdown_timeout": 60})
    client.knows(begun(mine, client, "spin", "mark"))
    mine.signal(signal.SIGQUIT)
    mine.wait_for("Initiating Soft Shutdown")
    mine.signal(signal.SIGQUIT)
    time.sleep(0.3)
    mine.signal(signal.SIGQUIT)
    _, seconds = mine.gone()
    assert seconds < LADDER + SLACK


def test_a_task_that_ends_during_a_warm_shutdown_is_acknowledged_before_that_ends(worker, client, kind):
    """Else a worker that is killed meanwhile would have it done twice."""
    mine = worker(kind=kind, config=PATIENT)
    begun(mine, client, "late", "long", mine.mark("never"))
    short = begun(mine, client, "late", "short", mine.mark("soon"))
    assert unacknowledged(client) == 2
    mine.signal(signal.SIGTERM)
    mine.wait_for("Warm shutdown")
    Path(mine.mark("soon")).touch()
    assert client.ended(short) == ("SUCCESS", "released")
    wait_until(lambda: unacknowledged(client) == 1, "the end of the task is not acknowledged")
    mine.signal(signal.SIGKILL)
    mine.gone()


def test_late_tasks_of_a_worker_that_is_killed_are_done_by_the_next_one(worker, client, kind):
    conf = {"broker_transport_options": {"visibility_timeout": 2, "unacked_restore_limit": 10, "polling_interval": 1}}
    mine = worker(kind=kind, conf=conf)
    task = begun(mine, client, "late", "mark", mine.mark("never"))
    mine.signal(signal.SIGKILL)
    mine.gone()
    Path(mine.mark("never")).touch()
    time.sleep(2)
    worker(kind=kind, conf=conf)
    assert client.ended(task) == ("SUCCESS", "released")


def test_the_pool_is_restarted_by_remote_control_while_a_late_task_runs(worker, client, kind):
    mine = worker(kind=kind, conf={"worker_pool_restarts": True})
    task = begun(mine, client, "late", "mark", mine.mark("soon"))
    answer = client.ask("pool_restart")
    assert "ok" in answer, answer
    Path(mine.mark("soon")).touch()
    assert client.ended(task) == ("SUCCESS", "released")
    assert client.call("add", 1, 2) == ("SUCCESS", 3)
