"""What workers of these tests call on the loop, which runs in the test's process; and the workers that do so."""

import asyncio
import concurrent.futures
import contextvars
import functools
import os
import threading
import types

from supervisor import StopRequested, current_context

from .functions import LIMIT, Refusal, Stop

variable = contextvars.ContextVar("variable", default="nobody's")

loop = types.SimpleNamespace()
"""What the test has put here for the coroutines."""


def prepare():
    """Before each test, in its loop."""
    loop.log = []
    loop.begun = asyncio.Event()
    loop.begun_times = 0
    loop.release = asyncio.Event()
    loop.sup = None


def begin():
    loop.begun_times += 1
    loop.begun.set()


# ------------------------------------------------------------------------------------------------ in the loop


async def double(number):
    await asyncio.sleep(0)
    loop.log.append(number)
    return number * 2


async def named(a, *, b):
    return a, b


def where():
    asyncio.get_running_loop()
    return os.getpid(), threading.get_ident()


def promise(value):
    """No coroutine function, but what it returns can be awaited."""
    future = asyncio.get_running_loop().create_future()
    future.get_loop().call_soon(future.set_result, value)
    return future


async def refuse(code, note):
    await asyncio.sleep(0)
    error = Refusal(code)
    error.add_note(note)
    raise error


async def no_exception():
    raise Stop("no Exception")


async def numbers():
    yield 1


async def waits():
    """Runs until it is cancelled, and takes its time then."""
    begin()
    try:
        await asyncio.sleep(LIMIT)
    finally:
        await asyncio.sleep(0.01)
        loop.log.append("coroutine unwound")


async def held(value="value"):
    begin()
    await loop.release.wait()
    return value


async def finishes_anyhow():
    begin()
    try:
        await asyncio.sleep(LIMIT)
    except asyncio.CancelledError:
        return "finished"


async def fails_on_cancellation():
    begin()
    try:
        await asyncio.sleep(LIMIT)
    except asyncio.CancelledError:
        raise ValueError("cleaning up failed") from None


async def stubborn(*_):
    """Does not end before the test lets it."""
    begin()
    while not loop.release.is_set():
        try:
            await loop.release.wait()
        except asyncio.CancelledError:
            loop.log.append("refused")


async def fails_late():
    begin()
    while not loop.release.is_set():
        try:
            await loop.release.wait()
        except asyncio.CancelledError:
            pass
    raise ValueError("nobody hears this")


async def cancels_itself():
    raise asyncio.CancelledError


async def looks_at_context():
    before = variable.get()
    variable.set("the coroutine's")
    return before


async def current():
    return current_context()


async def runs_a_call(kind):
    begin()
    return await loop.sup.run(int, "5", kind=kind)


async def shuts_down():
    await loop.sup.shutdown()


# ------------------------------------------------------------------------------------------------ the workers


def call(fn, *args):
    """What came of a call, as the worker sees it."""
    try:
        return current_context().call(fn, *args)
    except Exception as error:
        return error


def call_raw(fn, *args):
    return current_context().call(fn, *args)


def call_partial():
    return current_context().call(functools.partial(named, 1, b=2))


def call_local():
    async def local():
        pass

    current_context().call(local)


def call_with_context(name):
    variable.set(name)
    return current_context().call(looks_at_context), variable.get()


def call_many(numbers):
    ctx = current_context()
    return [ctx.call(double, number) for number in numbers]


def call_from_helpers(numbers):
    """All at once, from threads of the worker's own."""
    ctx = current_context()
    with concurrent.futures.ThreadPoolExecutor(len(numbers)) as helpers:
        return list(helpers.map(functools.partial(ctx.call, double), numbers))


def calls_from_helpers(ctx, board, fn, number):
    """So many threads are in a call when it is stopped; the worker's own is one of them."""

    def helper():
        try:
            ctx.call(fn)
        except StopRequested:
            pass

    helpers = [threading.Thread(target=helper) for _ in range(number - 1)]
    for each in helpers:
        each.start()
    try:
        ctx.call(fn)
    finally:
        for each in helpers:
            each.join(LIMIT)


def worker(ctx, board, fn, *args):
    """A worker of `start()` that is in a call when it is stopped."""
    try:
        return ctx.call(fn, *args)
    except StopRequested as error:
        board.post("raised", type(error).__name__)
        raise
    finally:
        board.post("unwound")


def returns_what_it_raised(ctx, board, fn, *args):
    try:
        return ctx.call(fn, *args)
    except (Exception, StopRequested) as error:
        return error


def cleans_up(ctx, board, *fns):
    """Waits for its stop, and calls for its clean-up; returns what came of it."""
    board.post("entered")
    ctx.stop.wait(LIMIT)
    try:
        ctx.call(double, 1)
    except StopRequested:
        board.post("refused")
    results = []
    for fn in fns:
        try:
            results.append(ctx.call(fn, 21, cleanup=True))
        except StopRequested:
            results.append("StopRequested")
    return results


def cleans_up_without_end(ctx, board):
    """A clean-up that does not end by itself, begun before the stop."""
    try:
        ctx.call(waits, cleanup=True)
    except StopRequested:
        return ctx.remaining()


def leaves_a_helper(ctx, board):
    """Returns while a thread of its own is in a call; that tells what it got."""

    def helper():
        try:
            ctx.call(waits)
        except BaseException as error:
            board.post("helper", type(error).__name__)
            try:
                ctx.call(double, 1)
            except BaseException as late:
                board.post("late", f"{type(late).__name__}: {late}")

    threading.Thread(target=helper, daemon=True).start()
    board.wait("begun")


def storm(ctx, board):
    """Calls in a storm of injections; returns how many hits it took, and what was wrong."""
    hits, wrong, number = 0, [], 0
    while hits < 60:
        try:
            while True:
                number += 1
                with ctx.shield():
                    got = ctx.call(double, number, cleanup=True)
                    if got != number * 2:
                        wrong.append((number, got))
                number += 1
                ctx.call(double, number, cleanup=True)
        except StopRequested:
            hits += 1
    return wrong


def shielded_call(ctx, board, fn, *args):
    """Keeps what a call returned, though it is injected meanwhile."""
    kept = []
    try:
        with ctx.shield():
            kept.append(ctx.call(fn, *args, cleanup=True))
    except StopRequested as error:
        kept.append(type(error).__name__)
    return kept
