"""What the workers of these tests do: functions of a module, so that processes can import them too."""

import asyncio
import functools
import os
import socket
import sys
import threading
import time
from pathlib import Path

from supervisor import StopInjected, StopRequested, current_context

LIMIT = 20  # seconds after which whoever waits gives up
TICK = 0.001


class Board:
    """Notices between a test and its workers, in whatever process: each is a file. May be pickled."""

    def __init__(self, path):
        self.path = Path(path)

    def post(self, notice, text=""):
        draft = self.path / f".{notice}-{os.getpid()}-{threading.get_ident()}"
        draft.write_text(text)
        draft.rename(self.path / notice)

    def has(self, notice):
        return (self.path / notice).exists()

    def read(self, notice):
        return (self.path / notice).read_text()

    def add(self, notice, line):
        """One more line under a notice; short enough to be written in one piece."""
        with (self.path / notice).open("a") as file:
            file.write(f"{line}\n")

    def lines(self, notice):
        return self.read(notice).splitlines() if self.has(notice) else []

    def wait(self, notice):
        until = time.monotonic() + LIMIT
        while not self.has(notice):
            assert time.monotonic() < until, f"nobody posted {notice!r}"
            time.sleep(TICK)

    async def posted(self, notice, lines=0):
        """Waits for a notice, and for so many lines under it."""
        until = time.monotonic() + LIMIT
        while not self.has(notice) or len(self.lines(notice)) < lines:
            assert time.monotonic() < until, f"nobody posted {notice!r}"
            await asyncio.sleep(TICK)
        return self.read(notice)


class Stop(BaseException):
    """No Exception."""


class Refusal(Exception):
    """With an argument, an attribute and a note of its own."""

    def __init__(self, code):
        super().__init__(f"refused with {code}")
        self.code = code

    def __reduce__(self):
        return _refusal, (self.code, getattr(self, "__notes__", []))


def _refusal(code, notes):
    error = Refusal(code)
    for note in notes:
        error.add_note(note)
    return error


# ------------------------------------------------------------------------------------------------ calls


def fail(error):
    raise error


def refuse(code, note):
    error = Refusal(code)
    error.add_note(note)
    raise error


def first_of_nothing():
    return next(iter([]))


def leave(code):
    sys.exit(code)


def fail_with_a_cause():
    try:
        int("x")
    except ValueError as error:
        raise LookupError("second") from error


def same(value):
    return value


def add(a, b=0, *, c=0):
    return a + b + c


class Adder:
    """A callable object, with a method that is one too."""

    def __init__(self, a):
        self.a = a

    def __call__(self, b):
        return self.a + b

    def method(self, b):
        return self.a + b

    @classmethod
    def of_class(cls, a, b):
        return cls(a)(b)

    @staticmethod
    def static(a, b):
        return a + b


def touch(board, notice="ran"):
    board.add(notice, "once")


def hold(board, value="value", entered="entered", release="release"):
    """Says that it runs, and returns when it is let."""
    board.post(entered, str(os.getpid()))
    board.wait(release)
    return value


def hold_name(board):
    hold(board)
    return current_context().name


def hold_and_fail(board):
    hold(board)
    raise ValueError("mine")


def identity():
    ctx = current_context()
    same = current_context() is ctx
    elsewhere = []

    def look():
        try:
            current_context()
        except LookupError:
            elsewhere.append("LookupError")

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return ctx.name, ctx.kind, ctx.attempt, ctx.reason, ctx.remaining(), ctx.extend(5), same, elsewhere


def repr_of_context():
    return repr(current_context())


def seconds_to(method, seconds):
    getattr(current_context(), method)(seconds)


def on_stop_with(callback):
    current_context().on_stop(callback)


def name_of_current():
    return current_context().name


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


# ------------------------------------------------------------------------------------------------ being stopped


def spin():
    while True:
        pass


def spinner(board, unwound="unwound"):
    """Turns in Python until something is raised in it."""
    try:
        board.post("entered")
        spin()
    except Exception:
        board.add(unwound, "eaten")
    finally:
        board.add(unwound, "finally")


def spinner_worker(ctx, board):
    spinner(board)


def swallower(board, times):
    """Swallows what is injected so many times, and then lets it through."""
    board.post("entered")
    caught = 0
    while True:
        try:
            spin()
        except StopInjected:
            caught += 1
            board.add("caught", caught)
            if caught > times:
                raise


def saver(board):
    """Swallows what is injected, and returns."""
    try:
        board.post("entered")
        spin()
    except BaseException:
        return "saved"


def obey(board):
    """Sleeps until it is asked."""
    board.post("entered")
    while True:
        current_context().sleep(LIMIT)


def obey_and_return(board, value="value"):
    ctx = current_context()
    board.post("entered")
    ctx.stop.wait(LIMIT)
    return value


def obey_and_return_worker(ctx, board, value="value"):
    return obey_and_return(board, value)


def obey_and_return_reason(board):
    ctx = current_context()
    board.post("entered")
    ctx.stop.wait(LIMIT)
    return ctx.reason


def obey_and_fail(board):
    ctx = current_context()
    board.post("entered")
    ctx.stop.wait(LIMIT)
    raise ValueError(ctx.reason)


def obey_late(board, value="value"):
    """Says when it is asked, and ends only when it is let."""
    ctx = current_context()
    board.post("entered")
    ctx.stop.wait(LIMIT)
    board.post("asked", ctx.reason or "")
    board.wait("release")
    return value


def obey_late_worker(ctx, board, value="value"):
    return obey_late(board, value)


def wait_for_stop(ctx, board=None):
    if board is not None:
        board.post("entered")
    return ctx.stop.wait(LIMIT)


def sleeper(board=None, seconds=LIMIT):
    if board is not None:
        board.post("entered")
    time.sleep(seconds)


def sleeper_worker(ctx, board):
    sleeper(board)


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
    time.sleep(seconds)
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


def work(ctx, a, b):
    return a + b


def fails(ctx, error):
    raise error


def stands_here(ctx, board):
    board.post("entered")
    ctx.stop.wait(LIMIT)


# ------------------------------------------------------------------------------------------------ restarts


def ends(ctx, board, how, last=1):
    """Ends so in each run before the last, and waits in that one."""
    board.add("runs", ctx.attempt)
    if ctx.attempt >= last:
        board.post("last")
        return ctx.stop.wait(LIMIT)
    if how == "error":
        raise ValueError(f"run {ctx.attempt}")
    if how == "exit":
        sys.exit(3)
    if how == "death":
        os._exit(3)
    return how


def always_fails(ctx, board):
    board.add("runs", ctx.attempt)
    raise ValueError(f"run {ctx.attempt}")


def readies_late(ctx, board):
    """Is ready when the board has it."""
    board.add("runs", ctx.attempt)
    board.post("entered")
    board.wait("ready")
    for _ in range(3):
        ctx.ready()
    return ctx.stop.wait(LIMIT)


def readies_in_first_run(ctx, board):
    if ctx.attempt == 1:
        ctx.ready()
    board.post(f"entered {ctx.attempt}")
    return ctx.stop.wait(LIMIT)


def silent(ctx, board, how):
    """Gives no heartbeat in its first run; goes on beating in the next."""
    board.add("runs", ctx.attempt)
    if ctx.attempt > 1:
        while not ctx.stop.wait(TICK):
            ctx.heartbeat()
        return ctx.reason
    if how == "obeys":
        ctx.stop.wait(LIMIT)
    elif how == "spins":
        spin()
    else:
        time.sleep(SLEEP)
    return None


SLEEP = 2
"""Seconds for which nothing can be raised in a thread."""


def beats(ctx, board):
    """Lives for as long as it beats, however long it takes the board to say so."""
    while not ctx.stop.wait(TICK):
        ctx.heartbeat()
        if board.has("enough"):
            return "enough"
    return None


def notes_its_stop(ctx, board):
    ctx.stop.wait(LIMIT)
    board.add("asked", ctx.name)


def generator(ctx):
    yield


async def coroutine_function():
    pass
