"""How a worker ends: warm, cold, soft and by force; with tasks that are stuck, and with none."""

import signal
from pathlib import Path

import pytest

from .workers import LADDER, SOFT_SHUTDOWNS, alive, redis_server, wait_until

pytest.importorskip("celery")
pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(not redis_server(), reason="needs redis-server")]

SLACK = 15.0
"""Seconds beyond what is promised, for Celery's own end on a machine that has much to do."""

WARM = 4.0
"""The shutdown_timeout of the workers."""

KINDS = pytest.mark.parametrize("kind", ["process", "thread"])
KINDS_SLOWLY = pytest.mark.parametrize("kind", ["process", pytest.param("thread", marks=pytest.mark.slow)])


@KINDS
def test_a_warm_shutdown_waits_for_tasks_but_ends_in_time_where_one_is_stuck(worker, client, kind):
    """A task that ends meanwhile has its result; one that may be repeated is given back; another one has failed."""
    mine = worker(kind=kind, concurrency=3)
    release = mine.mark("release")
    stuck = client.send("spin", mine.mark("stuck"))
    ending = client.send("until", mine.mark("ending"), release)
    late = client.send("late", mine.mark("late"), mine.mark("never"))
    for mark in ("stuck", "ending", "late"):
        mine.begun(mine.mark(mark))
    children = mine.children()
    mine.signal(signal.SIGTERM)
    mine.wait_for("Warm shutdown")
    Path(release).touch()
    code, seconds = mine.gone()
    assert code == 0
    assert seconds < WARM + SLACK
    assert client.ended(ending) == ("SUCCESS", "released")
    status, error = client.ended(stuck)
    assert (status, type(error).__name__) == ("FAILURE", "WorkerLostError")
    assert not [pid for pid in children if alive(pid)]
    Path(mine.mark("never")).touch()
    worker(kind=kind)
    assert client.ended(late) == ("SUCCESS", "released")


@KINDS_SLOWLY
def test_a_warm_shutdown_without_tasks_is_quick_and_processes_hear_of_it(worker, kind, tmp_path):
    mark = tmp_path / "left"
    mine = worker(kind=kind, MARK_OF_SHUTDOWNS=str(mark))
    children = mine.children()
    mine.signal(signal.SIGTERM)
    code, seconds = mine.gone()
    assert (code, seconds < WARM + SLACK) == (0, True)
    assert not [pid for pid in children if alive(pid)]
    if kind == "process":
        assert {int(pid) for pid in mark.read_text().split()} == set(children)


@KINDS_SLOWLY
def test_a_cold_shutdown_ends_within_the_ladder(worker, client, kind):
    mine = worker(kind=kind)
    client.send("spin", mine.mark())
    mine.begun(mine.mark())
    children = mine.children()
    mine.signal(signal.SIGQUIT)
    _, seconds = mine.gone()
    assert seconds < LADDER + SLACK
    assert "Cold shutdown" in mine.text()
    assert not [pid for pid in children if alive(pid)]


def test_a_warm_shutdown_becomes_a_cold_one(worker, client):
    mine = worker(config="shutdown_timeout = 600")
    client.send("spin", mine.mark())
    mine.begun(mine.mark())
    mine.signal(signal.SIGTERM)
    mine.wait_for("Warm shutdown")
    mine.signal(signal.SIGQUIT)
    _, seconds = mine.gone()
    assert seconds < 6.5 + SLACK


@pytest.mark.skipif(not SOFT_SHUTDOWNS, reason="Celery has soft shutdowns from 5.5 on")
def test_a_soft_shutdown_lets_tasks_end_and_gives_back_what_does_not(worker, client):
    conf = {"worker_soft_shutdown_timeout": 1.0}
    mine = worker(conf=conf, REMAP_SIGTERM="SIGQUIT")
    late = client.send("late", mine.mark("late"), mine.mark("never"))
    ending = client.send("sleep", mine.mark("ending"), 0.3)
    mine.begun(mine.mark("late"))
    mine.begun(mine.mark("ending"))
    mine.signal(signal.SIGTERM)
    mine.wait_for("Initiating Soft Shutdown")
    _, seconds = mine.gone()
    assert seconds < 1 + LADDER + SLACK
    assert client.ended(ending) == ("SUCCESS", "slept")
    Path(mine.mark("never")).touch()
    worker()
    assert client.ended(late) == ("SUCCESS", "released")


def test_no_process_outlives_a_worker_that_is_killed(worker, client):
    mine = worker()
    client.send("spin", mine.mark())
    children = {mine.begun(mine.mark()), *mine.children()}
    mine.signal(signal.SIGKILL)
    mine.gone()
    wait_until(lambda: not [pid for pid in children if alive(pid)], "processes are left")
    client.purge()
