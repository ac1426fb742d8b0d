"""What tests change of the pool for Celery that is private, and what they use of it."""

import contextlib
import threading


@contextlib.contextmanager
def host_of(app_at):
    """The pool's own part, without a worker of Celery's: one process, for the app that is at this place."""
    from supervisor.celery.child import SetUp
    from supervisor.celery.deliveries import Deliveries
    from supervisor.celery.host import Host

    module, name = app_at
    deliveries = Deliveries()
    host = Host(_settings(), SetUp((module, name), None, "host", [], {}), deliveries)
    host.start(1)
    try:
        yield host
    finally:
        host.shut_down(5.0)
        host.join()
        deliveries.deliver()
        deliveries.close()


def _settings():
    from types import SimpleNamespace

    from supervisor.celery.settings import settings_of

    app = SimpleNamespace(conf={"supervisor_kind": "process"})
    return settings_of(app, {"initargs": (None, "host")})


def submit(host, target, *args):
    """Has the process call a function, as a task; returns that, with what has become of it in a list of its own."""
    from supervisor.celery.job import Callbacks, Job

    ends = []
    callbacks = Callbacks(ends.append, lambda info: ends.append(info.exception.exc), None, None, None)
    job = Job(callbacks, host._deliveries, float("inf"), float("inf"), host.terminate, in_thread=False)
    host.submit(job, target, args, "task")
    return job, ends


def deliver(host):
    """Makes the calls that Celery's worker would make."""
    host._deliveries.deliver()


def has_done_all(host):
    """Waits until the host's loop has done what it was asked for."""
    done = threading.Event()
    host._call_soon(done.set)
    assert done.wait(20)


def tell_celery_after(seconds):
    """Has Celery hear that a task has begun after so many seconds, where it has not ended before."""
    from supervisor.celery import host

    host.TELL_AFTER = seconds
