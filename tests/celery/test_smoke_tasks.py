"""What Celery's own smoke tests ask of a pool whose tasks end badly, and what a hostile user sends."""

import os
import random
import signal
import tempfile
from pathlib import Path

import pytest
from celery import chord, group

from .workers import Client, Worker, alive, redis, redis_server, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(150),
    pytest.mark.skipif(not redis_server(), reason="needs redis-server"),
]

KINDS = pytest.mark.parametrize("kind", ["process", "thread"])


@pytest.mark.parametrize(
    ("name", "options", "error", "logged"),
    [
        ("die", {}, "WorkerLostError", "signal 9 (SIGKILL)"),
        ("leave", {}, "WorkerLostError", "exitcode 1"),
        ("spin", {"time_limit": 1}, "TimeLimitExceeded", "Hard time limit (1s) exceeded for spin"),
    ],
)
def test_a_process_that_a_task_has_ended_is_replaced(worker, client, name, options, error, logged):
    mine = worker(concurrency=1)
    before = client.call("pid")[1]
    args = {"die": (), "leave": (1,), "spin": (mine.mark(),)}[name]
    status, raised = client.call(name, *args, **options)
    assert (status, type(raised).__name__) == ("FAILURE", error)
    assert client.call("pid")[0] == "SUCCESS"
    assert alive(before) is (name == "leave")
    if name != "leave":
        assert logged in mine.text()


@KINDS
def test_chains_groups_and_chords(worker, client, kind):
    worker(kind=kind, concurrency=3)
    app = client.app
    add = lambda *args: app.signature("add", args=args)
    assert (add(1, 2) | add(3) | add(4)).apply_async().get(30) == 10
    assert group(add(n, n) for n in range(20)).apply_async().get(30) == [2 * n for n in range(20)]
    assert chord([add(n, 1) for n in range(20)], app.signature("total")).apply_async().get(30) == 210
    failing = chord([add(1, 1), app.signature("fail")], app.signature("total")).apply_async()
    with pytest.raises(KeyError):
        failing.get(30)


@KINDS
def test_tasks_that_try_again_and_those_for_later(worker, client, kind):
    mine = worker(kind=kind)
    assert client.call("try_again", mine.mark()) == ("SUCCESS", 2)
    assert client.call("add", 1, 2, countdown=0.5) == ("SUCCESS", 3)
    expired = client.send("add", 1, 2, expires=-1)
    assert client.ended(expired)[0] == "REVOKED"


@KINDS
def test_a_storm_of_tasks_that_misbehave_leaves_a_worker_that_works(worker, client, kind):
    """Each task ends in its own way, whatever the others do, and no process is left."""
    mine = worker(kind=kind, concurrency=4)
    dice = random.Random(os.environ.get("SUPERVISOR_SEED", "celery"))
    ways = {
        "add": ((2, 3), {}, "SUCCESS"),
        "fail": ((), {}, "FAILURE"),
        "leave": ((3,), {}, "FAILURE"),
        "spin": ((mine.mark("spin"),), {"time_limit": 0.3}, "FAILURE"),
        "soft": ((mine.mark("soft"),), {"soft_time_limit": 0.3}, "SUCCESS"),
        "sleep": ((mine.mark("sleep"), 0.02), {}, "SUCCESS"),
    }
    if kind == "process":
        ways["die"] = ((), {}, "FAILURE")
    weights = [10, 4, 2, 1, 1, 4, 2][: len(ways)]
    sent = []
    for _ in range(200):
        (name,) = dice.choices([*ways], weights)
        args, options, status = ways[name]
        sent.append((name, client.send(name, *args, **options), status))
    for name, task, status in sent:
        assert (name, client.ended(task)[0]) == (name, status)
    assert client.call("add", 1, 2) == ("SUCCESS", 3)
    wait_until(lambda: not client.ask("active"), "tasks are left")
    if kind == "process":
        wait_until(lambda: len(mine.children()) <= 5, mine.children)  # one may be kept ready


@KINDS
def test_many_running_tasks_are_revoked_at_once(worker, client, kind):
    mine = worker(kind=kind, concurrency=4)
    tasks = [client.send("spin", mine.mark(f"spin-{n}")) for n in range(4)]
    waiting = [client.send("spin", mine.mark(f"waits-{n}")) for n in range(3)]
    for n in range(4):
        mine.begun(mine.mark(f"spin-{n}"))
    client.app.control.revoke([*tasks, *waiting], terminate=True, signal="SIGKILL")
    assert [client.ended(task)[0] for task in [*tasks, *waiting]] == ["REVOKED"] * 7
    assert not any(Path(mine.mark(f"waits-{n}")).exists() for n in range(3))
    assert client.call("add", 1, 2) == ("SUCCESS", 3)


@KINDS
def test_values_and_errors_of_any_size_and_sort(worker, client, kind):
    worker(kind=kind)
    large = "x" * (20 << 20)
    assert client.call("echo", large) == ("SUCCESS", large)
    for name in ("odd_error", "odd_result"):
        status, error = client.call(name)
        assert (name, status) == (name, "FAILURE"), error
    assert client.call("children") == ("SUCCESS", 0)
    assert client.call("add", 1, 2) == ("SUCCESS", 3)


@KINDS
def test_task_after_task_that_exceeds_its_limit(worker, client, kind):
    mine = worker(kind=kind, concurrency=2)
    spinning = [client.send("spin", mine.mark(), time_limit=0.2) for _ in range(20)]
    waiting = [client.send("add", n, n) for n in range(20)]
    assert {type(client.ended(task)[1]).__name__ for task in spinning} == {"TimeLimitExceeded"}
    assert [client.ended(task)[1] for task in waiting] == [2 * n for n in range(20)]


def test_a_process_for_each_task(worker, client):
    worker("--max-tasks-per-child=1", concurrency=3)
    tasks = [client.send("pid") for _ in range(30)]
    assert len({client.ended(task)[1] for task in tasks}) == 30


def test_no_late_task_is_lost_or_done_twice_where_a_worker_ends_warm_under_load(worker, client):
    mine = worker(concurrency=4)
    tasks = {mine.mark(f"task-{n}"): client.send("count", mine.mark(f"task-{n}"), 0.1) for n in range(60)}
    mine.begun(mine.mark("task-8"))
    mine.signal(signal.SIGTERM)
    mine.gone()
    worker(concurrency=4)
    assert {client.ended(task)[0] for task in tasks.values()} == {"SUCCESS"}
    assert {len(Path(mark).read_text().split()) for mark in tasks} == {1}


@KINDS
def test_a_worker_whose_broker_goes_away_comes_back_to_it(kind):
    with tempfile.TemporaryDirectory() as folder, redis(folder) as service:
        client = Client(service)
        with Worker(service, kind=kind, conf={"broker_connection_retry_on_startup": True}) as mine:
            mine.wait_for(" ready.")
            client.send("sleep", mine.mark(), 1.5)
            mine.begun(mine.mark())
            client.close()
            kill_redis(folder)
            mine.wait_for("Trying again in")
            with redis(folder) as again:
                client = Client(again)
                assert client.call("add", 1, 2) == ("SUCCESS", 3)
                client.close()
                mine.signal(signal.SIGTERM)
                code, _ = mine.gone()
                assert code == 0


def kill_redis(folder):
    """Ends it with no chance to say so; its socket is left, and taken away."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and f"{folder}/redis".encode() in command_of(path):
            os.kill(int(path.name), signal.SIGKILL)
            break
    (Path(folder) / "redis").unlink()


def command_of(path):
    try:
        return (path / "cmdline").read_bytes()
    except OSError:
        return b""
