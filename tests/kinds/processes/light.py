"""Functions for processes that are started by the dozen: importing this module costs them nothing."""

import os
import time

KEPT = []


def keeps(size):
    """Leaks, as far as its process is concerned."""
    KEPT.append(b"x" * size)
    return os.getpid()


def naps(seconds):
    time.sleep(seconds)
    return os.getpid()


def is_ready_at_once(ctx):
    ctx.ready()
    ctx.stop.wait()
