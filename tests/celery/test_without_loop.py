"""With a broker whose transport has no event loop: the callbacks have a thread of their own."""

import signal
import tempfile

import pytest

from .workers import LADDER, Client, Worker, files

pytest.importorskip("celery")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def service():
    with tempfile.TemporaryDirectory() as folder, files(folder) as urls:
        yield urls


@pytest.mark.parametrize("kind", ["process", pytest.param("thread", marks=pytest.mark.slow)])
def test_tasks_limits_and_the_end_with_files_as_the_broker(service, kind):
    client = Client(service)
    with Worker(service, kind=kind) as mine:
        mine.wait_for(" ready.")
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
        assert seconds < 4 + LADDER + 5
    client.close()
