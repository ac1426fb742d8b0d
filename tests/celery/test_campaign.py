"""Long: what Celery's own smoke tests ask of its pools, and many tasks under deaths, limits and revocations."""

import random
import signal
import time
from pathlib import Path

import pytest

from .workers import LADDER, alive, redis_server, wait_until

pytest.importorskip("celery")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not redis_server(), reason="needs redis-server"),
]

PATIENT = """
shutdown_timeout = 600
[policy]
ask = 3
inject = 1
kill = 1
"""
"""A ladder that asks for longer than Celery takes two signals for one, and ends anything within 5 s."""

KINDS = pytest.mark.parametrize("kind", ["process", "thread"])


@KINDS
def test_several_signals_of_a_warm_shutdown_are_one(worker, client, kind):
    mine = worker(kind=kind, conf={"task_acks_late": True})
    task = client.send("sleep", mine.mark(), 0.8)
    mine.begun(mine.mark())
    for _ in range(3):
        mine.signal(signal.SIGTERM)
    assert mine.gone()[0] == 0
    assert client.ended(task) == ("SUCCESS", "slept")


@KINDS
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGQUIT])
def test_a_worker_that_is_urged_again_and_again_ends_within_its_ladder(worker, client, kind, first):
    mine = worker(kind=kind, config=PATIENT)
    client.send("spin", mine.mark())
    pid = mine.begun(mine.mark())
    mine.signal(first)
    mine.wait_for("supervisor.stopping" if first == signal.SIGQUIT else "shutdown (MainProcess)")
    for _ in range(3):
        mine.signal(signal.SIGQUIT)
        time.sleep(0.3)  # Celery takes signals that come together for one
    mine.gone(5 + 10)
    wait_until(lambda: not alive(pid), "the process of the task is left")
    client.purge()


def test_a_heartbeat_goes_on_in_a_long_warm_shutdown(worker, client):
    mine = worker(conf={"broker_heartbeat": 2, "task_acks_late": True}, config="shutdown_timeout = 60", concurrency=3)
    tasks = [client.send("sleep", mine.mark(str(number)), 10) for number in range(3)]
    for number in range(3):
        mine.begun(mine.mark(str(number)))
    mine.signal(signal.SIGTERM)
    assert mine.gone()[0] == 0
    assert {client.ended(task) for task in tasks} == {("SUCCESS", "slept")}


def test_a_soft_shutdown_keeps_limits(worker, client):
    mine = worker(conf={"worker_soft_shutdown_timeout": 5, "task_time_limit": 4, "task_soft_time_limit": 3})
    task = client.send("sleep", mine.mark(), 2)
    mine.begun(mine.mark())
    mine.signal(signal.SIGQUIT)
    mine.gone()
    assert client.ended(task) == ("SUCCESS", "slept")
    assert "TimeLimitExceeded" not in mine.text()


def test_the_remote_control_ends_a_worker_with_status_0(worker, client):
    mine = worker()
    client.app.control.shutdown()
    assert mine.gone()[0] == 0


def test_no_task_is_lost_under_deaths_limits_and_revocations(worker, client):
    dice = random.Random(7)
    mine = worker("--max-tasks-per-child=20", concurrency=4)
    sent = {}
    for number in range(200):
        what = dice.choice(["add"] * 6 + ["die", "spin", "soft", "leave", "revoked"])
        mark = mine.mark(str(number))
        match what:
            case "add":
                task = client.send("add", number, 1)
            case "spin":
                task = client.send("spin", mark, time_limit=0.3)
            case "soft":
                task = client.send("soft", mark, soft_time_limit=0.2)
            case "revoked":
                task = client.send("spin", mark)
                client.app.control.revoke(task, terminate=True, signal=dice.choice(["SIGTERM", "SIGKILL"]))
            case "die":
                task = client.send("die")
            case _:
                task = client.send("leave", 1)
        sent[task] = what
    endings = {"add": "SUCCESS", "soft": "SUCCESS", "revoked": "REVOKED"}
    for task, what in sent.items():
        wait_until(lambda task=task: client._ended(task), lambda task=task: f"{task}: {mine.text()}", 300)
        assert client.ended(task)[0] == endings.get(what, "FAILURE"), what
    wait_until(lambda: not client.ask("active"), mine.text)
    children = mine.children()
    mine.signal(signal.SIGTERM)
    code, seconds = mine.gone()
    assert (code, seconds < 4 + LADDER + 15) == (0, True)
    assert not [pid for pid in children if alive(pid)]


def test_a_killed_worker_gives_late_tasks_to_the_next_one(worker, client):
    conf = {"broker_transport_options": {"visibility_timeout": 1}}
    first = worker(conf=conf)
    task = client.send("late", first.mark(), first.mark("never"))
    first.begun(first.mark())
    first.signal(signal.SIGKILL)
    first.gone()
    Path(first.mark("never")).touch()
    time.sleep(1.5)  # a worker looks for what is lost as it starts, and then seldom
    worker(conf=conf)
    assert client.ended(task) == ("SUCCESS", "released")
