"""What makes items in these tests: functions of a module, so that processes can import them too."""

import os
import threading
import time

from supervisor import current_context

from .functions import LIMIT, TICK, Refusal


def count(stop, start=0):
    yield from range(start, stop)


def endless(board=None):
    """Counts for ever; says how far it has come, and when it is closed, where."""
    number = 0
    try:
        while True:
            if board is not None:
                board.post("made", str(number + 1))
            yield number
            number += 1
    finally:
        if board is not None:
            board.post("closed", f"{os.getpid()} {threading.get_ident()}")


def where():
    yield f"{os.getpid()} {threading.get_ident()}"
    yield f"{os.getpid()} {threading.get_ident()}"


def identified(board):
    """Says first where it runs, and last where it was closed."""
    try:
        while True:
            yield f"{os.getpid()} {threading.get_ident()}"
    finally:
        board.post("closed", f"{os.getpid()} {threading.get_ident()}")


def fails_after(number):
    yield from range(number)
    raise Refusal(number)


def ends_iterations_after(number):
    yield from range(number)
    raise StopAsyncIteration(number)


def ends_an_iteration(number):
    raise StopAsyncIteration(number)


def exits_after(number, code):
    yield from range(number)
    raise SystemExit(code)


def as_list(number):
    return list(range(number))


def nothing():
    return None


def name_and_items(number):
    yield current_context().name
    yield from range(number)


def slow(board, seconds):
    """One item, then nothing for so long unless it is asked to stop, then another one."""
    yield "first"
    board.post("between")
    current_context().stop.wait(seconds)
    yield "second"


def burst_then_slow(board, number):
    """Many items, then a pause: what has been made before it must not wait."""
    yield from range(number)
    board.post("between")
    current_context().stop.wait(LIMIT)
    yield "late"


def swallows(board):
    """Holds on to its item as long as it can: nothing ends it but force."""
    while True:
        try:
            yield 1
        except GeneratorExit:
            board.post("asked")
            while True:
                time.sleep(TICK)


def spins(board):
    """Never comes to its second item, and looks at nothing."""
    yield 1
    try:
        board.post("spinning")
        while True:
            time.sleep(TICK)
    finally:
        board.post("unwound")


def large(number, size):
    for each in range(number):
        yield bytes([each]) * size


class Unpicklable:
    def __reduce__(self):
        raise ValueError("on purpose")


def makes_unpicklable():
    yield 0
    yield 1
    yield Unpicklable()


class Unloadable:
    def __reduce__(self):
        return _refuse_to_load, ()


def _refuse_to_load():
    raise ValueError("not here")


def makes_unloadable():
    yield 0
    yield Unloadable()
    yield from range(10**9)


def dies():
    yield 1
    os.kill(os.getpid(), 9)
    yield 2


class Closing:
    """An iterator that is no generator, and can be closed."""

    def __init__(self, board):
        self.board = board

    def __iter__(self):
        return self

    def __next__(self):
        return 7

    def close(self):
        self.board.post("closed")


def reused_dict(number):
    """Yields one and the same dict each time."""
    row = {}
    for each in range(number):
        row["number"] = each
        yield row


def prints(number):
    for each in range(number):
        print(each)
        yield each


# ------------------------------------------------------------------------------------------------ for each item


def double(number):
    return number * 2


def refuse_three(number):
    if number == 3:
        raise Refusal(number)
    return number


def first_is_slow(number):
    """The first one ends last."""
    if number == 0:
        current_context().stop.wait(0.3)
    return number


def first_waits_for_another(board, number):
    if number == 0:
        board.wait("another")
    else:
        board.post("another")
    return number


def note(board, number):
    board.add("noted", str(number))
    return number


def until_asked(number):
    current_context().stop.wait(LIMIT)
    return number


def stay(board, number):
    """Ends when it is asked to."""
    board.add("begun", str(number))
    current_context().stop.wait(LIMIT)
    board.add("ended", str(number))
    return number


def double_once_told(board, number):
    """Says that it has begun, and waits for "go"."""
    board.add("begun", str(number))
    board.wait("go")
    return number * 2


def refuse_or_stay(board, number):
    """The first one fails, once the others are there."""
    if number == 0:
        while len(board.lines("begun")) < 2:
            time.sleep(TICK)
        raise Refusal(number)
    return stay(board, number)
