"""What the workers do whose tests are about their context; functions of a module, so that processes can import them."""

import contextvars
import functools
import socket
import sys
import threading
import time

from supervisor import StopInjected, StopRequested, current_context

from .functions import LIMIT, TICK, obey_and_return_reason, spin

variable = contextvars.ContextVar("variable", default=None)


def seconds_to(method, seconds):
    getattr(current_context(), method)(seconds)


def on_stop_with(callback):
    current_context().on_stop(callback)


def shield_elsewhere():
    ctx = current_context()
    errors = []

    def look():
        try:
            with ctx.shield():
                pass
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return errors


def checker(ctx, board):
    ctx.check()
    board.post("entered")
    try:
        while True:
            ctx.check()
    finally:
        board.post("unwound")


def waits(ctx, board):
    seen = [ctx.stop.is_set(), ctx.stop.wait(0), ctx.stop.wait(0.001), ctx.stop.wait(-1)]
    board.post("entered")
    return [*seen, ctx.stop.wait(), ctx.stop.wait(0), ctx.stop.is_set()]


def helpers_wait(ctx, board):
    results = []
    helpers = [threading.Thread(target=lambda: results.append(ctx.stop.wait(LIMIT))) for _ in range(10)]
    for helper in helpers:
        helper.start()
    board.post("entered")
    ctx.stop.wait()
    for helper in helpers:
        helper.join(LIMIT)
    return results


def sleeps_briefly_then_long(ctx, board):
    ctx.sleep(0.001)
    board.post("entered")
    ctx.sleep(3600)


def returns_its_reason(ctx, board):
    return obey_and_return_reason(board)


def reprs(ctx, board):
    before = repr(ctx)
    board.post("entered")
    ctx.stop.wait(LIMIT)
    return [before, repr(ctx)]


def extends(ctx, board, seconds):
    """Needs more time than it has been given."""
    board.post("entered")
    ctx.stop.wait(LIMIT)
    granted = ctx.extend(seconds)
    board.post("extended")
    board.wait("release")
    return granted


def type_of_stop():
    return type(current_context().stop).__name__


def context_is_made_late(board):
    board.post("entered")
    board.wait("look")
    ctx = current_context()
    return ctx.stop.wait(LIMIT), ctx.reason


def stop_requested(ctx):
    raise StopRequested


# ------------------------------------------------------------------------------------------------ on_stop


def wakes_a_socket(ctx, board):
    ours, theirs = socket.socketpair()
    with ours, theirs, ctx.on_stop(functools.partial(ours.shutdown, socket.SHUT_RDWR)):
        board.post("entered")
        return ours.recv(100)


def callbacks_in_order(ctx, board):
    here = threading.get_ident()
    ctx.on_stop(lambda: board.add("order", f"first {threading.get_ident() != here}"))
    with ctx.on_stop(lambda: board.add("order", f"second {ctx.reason}")):
        try:
            board.post("entered")
            spin()
        except StopInjected:
            board.add("order", "injected")
            raise


def variables_in_callbacks(ctx, board):
    """One that runs beside it, one that comes too late, and one of a thread of its own."""

    looked = threading.Semaphore(0)

    def look():
        board.add("seen", f"{variable.get()} {current_context().name} {current_context().reason}")
        looked.release()

    def register():
        variable.set("of a helper")
        ctx.on_stop(look)

    variable.set("of the worker")
    ctx.on_stop(look)
    variable.set("later")
    helper = threading.Thread(target=register)
    helper.start()
    helper.join()
    board.post("entered")
    ctx.stop.wait()
    ctx.on_stop(look)
    for _ in range(3):  # a process may be over before its helper threads are
        looked.acquire(timeout=LIMIT)


def callback_of_a_block_that_was_left(ctx, board):
    with ctx.on_stop(lambda: board.add("ran", "left before")):
        pass
    board.post("entered")
    ctx.stop.wait(LIMIT)


def late_callback(ctx, board):
    board.post("entered")
    ctx.stop.wait(LIMIT)
    ran = []
    with ctx.on_stop(lambda: ran.append(threading.get_ident())):
        return ran == [threading.get_ident()]


def block_waits_for_its_callback(ctx, board):
    begun, go_on, log = threading.Event(), threading.Event(), []

    def callback():
        begun.set()
        go_on.wait(LIMIT)
        log.append("callback done")

    with ctx.on_stop(callback):
        board.post("entered")
        begun.wait(LIMIT)
        threading.Timer(0.02, go_on.set).start()
    log.append("block left")
    return log


def callback_leaves_its_own_block(ctx, board):
    left = threading.Event()

    def callback():
        registration.__exit__(None, None, None)
        left.set()

    registration = ctx.on_stop(callback)
    board.post("entered")
    ctx.stop.wait(LIMIT)
    ran = left.wait(LIMIT)
    registration.__exit__(None, None, None)  # does not wait for itself, and may be left twice
    return ran


def broken():
    raise ValueError("broken callback")


def exits():
    raise SystemExit(3)


def broken_callbacks(ctx, board):
    ctx.on_stop(broken)
    ctx.on_stop(exits)
    ctx.on_stop(lambda: board.post("the next"))
    board.post("entered")
    ctx.stop.wait(LIMIT)
    board.wait("the next")
    ctx.on_stop(broken)  # late
    ctx.on_stop(exits)
    return "went on"


def blocking_callback(ctx, board):
    def blocks():
        board.post("callback")
        board.wait("release")

    ctx.on_stop(blocks)
    board.post("entered")
    spin()


class Nameless:
    """A callback without a decent repr, or text of its error."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __call__(self):
        raise Refused

    def method(self):
        raise Refused


class Refused(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def nameless_callback(ctx, board):
    ctx.on_stop(Nameless())
    ctx.on_stop(Nameless().method)
    ctx.on_stop(lambda: board.post("the next"))
    board.post("entered")
    ctx.stop.wait(LIMIT)
    board.wait("the next")


# ------------------------------------------------------------------------------------------------ shields, graces


def shielded(ctx, board, depth=1):
    """Is injected inside a shield; says what it has done, in order."""
    log = []
    try:
        with ctx.shield():
            if depth == 2:
                with ctx.shield():
                    board.post("entered")
                    board.wait("injected")
                log.append("inner left")
            else:
                board.post("entered")
                board.wait("injected")
            log.append("stored")
        log.append("not reached")
    except StopInjected:
        log.append("raised on leaving")
    return log


def shielded_forever(ctx, board):
    with ctx.shield():
        board.post("entered")
        board.wait("never")


def shields_and_an_error(ctx, board):
    """What its own block raises is not lost where an injection is raised in its place."""
    try:
        with ctx.shield():
            board.post("entered")
            board.wait("injected")
            raise ValueError("mine")
    except StopInjected as error:
        return repr(error.__context__)


def asks(ctx, board):
    """Answers questions of the test: `question-n` holds an expression, `answer-n` gets its value."""
    number = 0
    board.post("entered")
    while True:
        number += 1
        while not board.has(f"question-{number}"):
            time.sleep(TICK)
        question = board.read(f"question-{number}")
        if question == "return":
            return "done"
        board.post(f"answer-{number}", repr(eval(question)))


def attack_registry(ctx, board):
    """Registers and leaves blocks in a storm of injections: the registry stays whole."""
    sys.settrace(None)  # coverage's tracer has locks of its own, which this storm would leave locked
    hits = 0
    posted = False
    while hits < 50:
        try:
            if not posted:
                with ctx.shield():
                    board.post("entered")
                    posted = True
            for _ in range(20):
                with ctx.on_stop(int), ctx.shield():
                    pass
                ctx.extend(0)
                ctx.remaining()
                ctx.stop.wait(0)
        except StopInjected:
            hits += 1
    return hits
