"""A soft limit is raised in the task that it is for: once, however late that is entered, and in no other one."""

import time

import pytest

pytest.importorskip("celery")

from celery.exceptions import SoftTimeLimitExceeded

from supervisor.celery.child import SOFT_LIMIT

from ..inside_celery import deliver, has_done_all, host_of, submit
from .workers import wait_until

pytestmark = pytest.mark.timeout(300)


class Held:
    """What a process cannot unpickle before a file is there; it makes one itself first."""

    def __init__(self, came, go_on):
        self.came, self.go_on = came, go_on

    def __reduce__(self):
        return hold, (self.came, self.go_on)


def hold(came, go_on):
    came.touch()
    until = time.monotonic() + 60
    while not go_on.exists() and time.monotonic() < until:
        time.sleep(0.005)


def go_on_for_ever(_):
    while True:
        time.sleep(0.005)


def until_there(path):
    """Says that it has begun, and that it was struck; waits for a file, and returns how often it was."""
    struck = 0
    while True:
        try:
            path.with_suffix(".begun").touch()
            while not path.exists():
                time.sleep(0.005)
            return struck
        except SoftTimeLimitExceeded:
            struck += 1
            path.with_suffix(".struck").touch()


@pytest.fixture
def host():
    with host_of(("tests.celery.tasks", "app")) as host:
        yield host


def ended(host, ends):
    def look():
        deliver(host)
        return ends

    return wait_until(look, "the task has not ended")[0]


def test_one_that_passes_before_the_task_is_entered_is_raised_as_it_is_entered(host, tmp_path):
    came, go_on = tmp_path / "came", tmp_path / "go-on"
    job, ends = submit(host, go_on_for_ever, Held(came, go_on))
    wait_until(came.exists, "the call has not come")
    job.terminate(SOFT_LIMIT)
    has_done_all(host)
    go_on.touch()
    assert isinstance(ended(host, ends), SoftTimeLimitExceeded)
    _, ends = submit(host, until_there, go_on)
    assert ended(host, ends) == 0


def test_each_is_raised_once(host, tmp_path):
    path = tmp_path / "path"
    job, ends = submit(host, until_there, path)
    wait_until(path.with_suffix(".begun").exists, "the task has not begun")
    job.terminate(SOFT_LIMIT)
    wait_until(path.with_suffix(".struck").exists, "the task was not struck")
    path.touch()
    assert ended(host, ends) == 1


def test_one_that_is_late_meets_no_other_task(host, tmp_path):
    go_on = tmp_path / "go-on"
    go_on.touch()
    for _ in range(50):
        job, ends = submit(host, until_there, go_on)
        job.terminate(SOFT_LIMIT)
        _, others = submit(host, until_there, go_on)
        assert ended(host, others) == 0
        ended(host, ends)
