"""A function that goes on until a file is there; its module is light, as a process that carries it out imports it."""

import time

from ..waiting import LIMIT


def wait_for(condition):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < LIMIT
        time.sleep(0.001)


def wait_for_file(entered, go):
    entered.touch()
    wait_for(go.exists)
    return "ended by itself"
