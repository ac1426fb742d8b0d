"""What the workers of these tests do: functions of a module, which nodes import."""

import os
import time

from supervisor import current_context


def pid():
    return os.getpid()


def pids():
    """Its process, and the one that has started that: one of them is the node's."""
    return os.getpid(), os.getppid()


def fail(text):
    raise ValueError(text)


def spin():
    while True:
        pass


def until_stopped(began):
    began.touch()
    current_context().stop.wait()
    return current_context().reason


def tick(ctx, path):
    """Says again and again that it lives."""
    while not ctx.stop.wait(0.01):
        path.write_text(f"{os.getpid()} {time.monotonic()}")
        ctx.heartbeat()


def killed_by(number):
    os.kill(os.getpid(), number)
    time.sleep(20)
