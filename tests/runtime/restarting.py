"""What the tests of restarts, readiness, heartbeats and order share."""

import math
import threading

from supervisor import (
    Ask,
    EscalationPolicy,
    Restart,
)

LIMIT = 20  # seconds after which whoever waits gives up


PATIENT = EscalationPolicy(Ask(math.inf))


SLOWLY = Restart("failure", max_restarts=100, within=1000, backoff=10, max_backoff=100, jitter=0)


AT_ONCE = Restart("failure", max_restarts=3, within=1000, backoff=0)


def backing_off(worker, attempt=1):
    return lambda: (worker.state, worker.attempt) == ("backing_off", attempt)


def runs(worker, attempt):
    return lambda: (worker.state, worker.attempt) == ("running", attempt)


def wait_for_stop(ctx):
    return ctx.stop.wait()


def readies(ctx):
    ctx.ready()
    return ctx.stop.wait()


def fail(ctx):
    raise ValueError(f"run {ctx.attempt}")


def fail_but_last(last):
    """A worker that fails until its run of this number."""

    def work(ctx):
        if ctx.attempt < last:
            raise ValueError(f"run {ctx.attempt}")
        return ctx.stop.wait()

    return work


def spin():
    while True:
        pass


class OnCommand:
    """A worker whose runs end when the test says how."""

    def __init__(self):
        self.command = None
        self.given = threading.Semaphore(0)

    def __call__(self, ctx):
        with ctx.on_stop(self.given.release):
            self.given.acquire()
        if self.command is not None:
            raise self.command

    def end(self, error=None):
        self.command = error
        self.given.release()
