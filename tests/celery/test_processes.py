"""How processes come and go: after so many tasks, for their memory, by load; and what is refused."""

from pathlib import Path

import pytest

from .workers import Worker, redis_server, wait_until

pytest.importorskip("celery")
pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(not redis_server(), reason="needs redis-server")]


def test_processes_are_replaced_after_so_many_tasks_and_scaled_by_load(worker, client):
    mine = worker("--max-tasks-per-child=2", "--autoscale=3,1", AUTOSCALE_KEEPALIVE="1")
    pids = [client.call("pid")[1] for _ in range(7)]
    assert len(set(pids)) >= 3
    assert max(pids.count(pid) for pid in pids) <= 3  # one more where the next process is not up yet
    release = mine.mark("release")
    tasks = [client.send("until", mine.mark(str(number)), release) for number in range(3)]
    for number in range(3):
        mine.begun(mine.mark(str(number)))
    assert client.stats()["max-concurrency"] == 3
    Path(release).touch()
    assert {client.ended(task) for task in tasks} == {("SUCCESS", "released")}
    wait_until(lambda: client.stats()["max-concurrency"] == 1, mine.text)


def test_a_process_that_has_grown_too_large_is_replaced(worker, client):
    worker("--max-memory-per-child=200000", concurrency=1)
    large = client.call("grow", 300)[1]
    assert client.call("pid")[1] != large


def test_threads_say_that_they_cannot_keep_a_limit_of_memory(worker):
    mine = worker("--max-memory-per-child=200000", kind="thread")
    assert "worker_max_memory_per_child is ignored" in mine.text()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "fiber"}, "SUPERVISOR_CELERY_KIND='fiber'"),
        ({"config": "shutdown = 3"}, "shutdown"),
    ],
)
def test_what_is_wrong_ends_the_worker_at_once_and_is_said(service, settings, said):
    with Worker(service, **settings) as mine:
        code, _ = mine.gone()
        assert code != 0
        assert said in mine.text()
