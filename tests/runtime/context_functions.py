"""Functions that tests of context variables have carried out, also in processes."""

import contextvars
import time

from supervisor import current_context

request = contextvars.ContextVar("request", default=None)


def look():
    return request.get()


def leave_behind(what):
    request.set(what)


def obey():
    current_context().stop.wait()


def wait_for_stop(ctx):
    ctx.stop.wait()


def fail(ctx):
    raise ValueError("on purpose")


def be_ready(ctx):
    ctx.ready()
    while not ctx.stop.wait(0.01):
        ctx.heartbeat()


def call_back():
    return current_context().call(time.monotonic)


def die():
    import os

    os._exit(3)
