"""A broker, and workers."""

import tempfile

import pytest

from .workers import Client, Worker, redis

QUICK = {"test_example.py", "test_soft_limits.py", "test_without_loop.py"}
"""All else is slow: each test starts a worker of Celery's."""


@pytest.hookimpl(tryfirst=True)  # before those that are slow are left out
def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/celery/" in str(item.path) and item.path.name not in QUICK:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def service():
    """Where tasks are sent: a Redis of the module's own."""
    with tempfile.TemporaryDirectory() as folder, redis(folder) as urls:
        yield urls


@pytest.fixture(scope="module")
def client(service):
    client = Client(service)
    yield client
    client.close()


@pytest.fixture
def worker(service, client):
    """Starts workers, which are gone after the test."""
    started = []

    def start(*options, **settings):
        started.append(Worker(service, *options, **settings))
        started[-1].wait_for(" ready.")
        return started[-1]

    yield start
    for each in started:
        each.close()
