"""With a transport that has no event loop, the callbacks of the pool have a thread of their own."""

import signal

import pytest

from .workers import LADDER, redis_server

pytest.importorskip("celery")
pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(not redis_server(), reason="needs redis-server")]


@pytest.mark.parametrize("kind", ["process", pytest.param("thread", marks=pytest.mark.slow)])
def test_tasks_limits_and_the_end_where_the_worker_has_no_event_loop(worker, client, kind):
    mine = worker(kind=kind, WITHOUT_LOOP="1")
    assert client.call("add", 1, 2) == ("SUCCESS", 3)
    stuck = client.send("spin", mine.mark(), time_limit=0.5)
    assert type(client.ended(stuck)[1]).__name__ == "TimeLimitExceeded"
    many = [client.send("add", number, 1) for number in range(20)]
    assert [client.ended(task)[1] for task in many] == list(range(1, 21))
    client.send("spin", mine.mark("again"))
    mine.begun(mine.mark("again"))
    mine.signal(signal.SIGTERM)
    code, seconds = mine.gone()
    assert code == 0
    assert seconds < 4 + LADDER + 15
