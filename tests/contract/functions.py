"""What the workers of these tests do: functions of a module, so that processes can import them too."""

import asyncio
import os
import sys
import threading
import time
from pathlib import Path

from supervisor import StopInjected, current_context

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

    def wait(self, notice, seconds=LIMIT):
        until = time.monotonic() + seconds
        while not self.has(notice):
            assert time.monotonic() < until, f"nobody posted {notice!r}"
            time.sleep(TICK)

    async def posted(self, notice, lines=0):
        """Waits for a notice, and for so many lines under it; for long, as a process may have to start before."""
        until = time.monotonic() + 3 * LIMIT
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


def name_of_current():
    return current_context().name


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
    """Swallows what is injected so many times, and then lets it through; says when it can be injected again."""
    board.post("entered")
    caught = 0
    while True:
        try:
            board.add("turns", caught + 1)
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


# ------------------------------------------------------------------------------------------------ workers


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


SLEEP = 4
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


def is_ready_and_returns(ctx):
    ctx.ready()
