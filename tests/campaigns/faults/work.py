"""What the workers and calls of the fault matrix do, in threads and in processes."""

import time

from supervisor import current_context

SECONDS = 30
"""How long those wait who are to be stopped long before; longer than what is awaited may take to pass for lost."""


class Failure(Exception):
    pass


def listen(ctx, *_):
    ctx.ready()
    ctx.heartbeat()
    with ctx.on_stop(str):
        ctx.stop.wait(SECONDS)


def fail_once(ctx, marker):
    if ctx.attempt == 1:
        raise Failure("the first run")
    ctx.stop.wait(SECONDS)


def add(*numbers):
    return sum(numbers)


def fail(*_):
    raise Failure("on purpose", bytes(100))


def echo(data):
    return data


def obey():
    """Waits until it is stopped, and asks for more time first."""
    ctx = current_context()
    with ctx.on_stop(str):
        try:
            ctx.sleep(SECONDS)
        finally:
            ctx.extend(0.01)


def swallow():
    """Does not end, whoever asks for it."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        try:
            time.sleep(0.01)
        except BaseException:
            pass


def shielded_sleep():
    with current_context().shield():
        time.sleep(0.01)
    return "shielded"


def call_the_loop():
    return current_context().call(abs, -3)


def log(what):
    import structlog

    structlog.get_logger("work").warning("work.done", what=what)
    return what


def cannot_be_sent():
    return lambda: None
