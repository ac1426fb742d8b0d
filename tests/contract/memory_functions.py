"""Functions that hold things, and what says how many of these are alive in this process."""

import asyncio
import gc
import sys
import time
import weakref

from supervisor import current_context

alive = weakref.WeakSet()


class Thing:
    """Something that is large, in a manner of speaking."""

    def __init__(self):
        alive.add(self)

    def __setstate__(self, _):
        alive.add(self)

    def __getstate__(self):
        return {"some": "thing"}


class Failure(Exception):
    pass


def without_collector():
    gc.collect()
    gc.disable()


def things_alive():
    """Returns how many there are, once the thread of the last call's callbacks has had the time to end."""
    until = time.monotonic() + 5
    while alive and time.monotonic() < until:
        time.sleep(0.001)
    gc.enable()
    return len(alive)


def returns(thing):
    return thing


def takes(*, thing):
    assert thing


def fails(thing):
    mine = Thing()
    raise Failure(mine, thing)


def fails_in_a_chain(thing):
    try:
        fails(thing)
    except Failure:
        raise ValueError(Thing()) from None


def registers(thing):
    current_context().on_stop(lambda: thing)
    return thing


def registers_and_fails(thing):
    registers(thing)
    raise Failure(Thing())


def obeys(thing):
    mine = Thing()
    registers(mine)
    current_context().sleep(20)
    return thing


def spins(thing):
    mine = Thing()
    while True:
        time.sleep(0.001)
        del thing
        thing = mine


def returns_what_cannot_be_sent(thing):
    return lambda: thing


def fails_with_what_cannot_be_sent(thing):
    raise Failure(lambda: thing)


def exits(thing):
    raise SystemExit(thing)


def worker_that_returns(ctx, thing):
    ctx.ready()
    ctx.on_stop(lambda: thing)


def worker_that_waits(ctx, thing):
    mine = Thing()
    ctx.ready()
    with ctx.on_stop(lambda: (thing, mine)):
        ctx.stop.wait()


def worker_that_fails(ctx, thing):
    mine = Thing()
    raise Failure(str((mine, thing)))


def worker_that_fails_at_first(ctx, thing):
    if ctx.attempt < 3:  # noqa: PLR2004
        worker_that_fails(ctx, thing)
    ctx.stop.wait()


def worker_that_fails_once(ctx, path):
    if not path.exists():
        path.touch()
        raise Failure
    ctx.stop.wait()


def worker_that_spins(ctx, thing):
    mine = Thing()
    while mine is not thing:
        pass


def worker_that_checks(ctx, thing):
    while True:
        ctx.check()
        time.sleep(0.001)


def worker_that_calls_the_loop(ctx, thing):
    ctx.call(asyncio.sleep, 60)


def worker_that_exits(ctx, thing):
    sys.exit(str(thing))
