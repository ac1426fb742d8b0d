"""Long: heartbeats and limits while a worker ends, and many tasks under deaths, limits and revocations."""

import random
import signal

import pytest

from .workers import LADDER, SOFT_SHUTDOWNS, alive, redis_server, wait_until

pytest.importorskip("celery")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not redis_server(), reason="needs redis-server"),
]


def test_a_heartbeat_goes_on_in_a_long_warm_shutdown(worker, client):
    mine = worker(conf={"broker_heartbeat": 2, "task_acks_late": True}, config="shutdown_timeout = 60", concurrency=3)
    tasks = [client.send("sleep", mine.mark(str(number)), 10) for number in range(3)]
    for number in range(3):
        mine.begun(mine.mark(str(number)))
    mine.signal(signal.SIGTERM)
    assert mine.gone()[0] == 0
    assert {client.ended(task) for task in tasks} == {("SUCCESS", "slept")}


@pytest.mark.skipif(not SOFT_SHUTDOWNS, reason="Celery has soft shutdowns from 5.5 on")
def test_a_soft_shutdown_keeps_limits(worker, client):
    mine = worker(conf={"worker_soft_shutdown_timeout": 5, "task_time_limit": 4, "task_soft_time_limit": 3})
    task = client.send("sleep", mine.mark(), 2)
    mine.begun(mine.mark())
    mine.signal(signal.SIGQUIT)
    mine.gone()
    assert client.ended(task) == ("SUCCESS", "slept")
    assert "TimeLimitExceeded" not in mine.text()


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
        wait_until(lambda task=task: client.has_ended(task), lambda task=task: f"{task}: {mine.text()}", 300)
        assert client.ended(task)[0] == endings.get(what, "FAILURE"), what
    wait_until(lambda: not client.ask("active"), mine.text)
    children = mine.children()
    mine.signal(signal.SIGTERM)
    code, seconds = mine.gone()
    assert (code, seconds < 4 + LADDER + 15) == (0, True)
    assert not [pid for pid in children if alive(pid)]
