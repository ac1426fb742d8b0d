"""What the workers of these tests do to their processes."""

import contextlib
import ctypes
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time

from supervisor import current_context

LONG = 3600


def note(board, notice="entered"):
    board.post(notice, str(os.getpid()))


# ------------------------------------------------------------------------------------------------ ways to wait


def sleeps(board):
    note(board)
    time.sleep(LONG)


def receives(board):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        note(board)
        ours.recv(1)


def locks(board):
    lock = threading.Lock()
    lock.acquire()
    note(board)
    lock.acquire()


def gets(board):
    note(board)
    queue.Queue().get()


def gets_simply(board):
    note(board)
    queue.SimpleQueue().get()


def selects(board):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        import select

        note(board)
        select.select([ours], [], [])


def joins(board):
    thread = threading.Thread(target=time.sleep, args=(LONG,), daemon=True)
    thread.start()
    note(board)
    thread.join()


def waits_for_a_program(board):
    program = subprocess.Popen(["sleep", str(LONG)])
    note(board)
    program.wait()


def backtracks(board):
    note(board)
    re.match(r"(a*)*b", "a" * 60)


def powers(board):
    note(board)
    while True:
        _ = 3**300_000


def spins(board):
    note(board)
    while True:
        pass


def wanders(board):
    """Python code of all kinds: frames come and go, by calls, generators, exceptions and calls back from C."""

    def fail():
        raise ValueError

    def up_to(number):
        yield from range(number)

    note(board)
    while True:
        try:
            fail()
        except ValueError:
            pass
        sum(up_to(5))
        sorted([3, 1, 2], key=lambda item: -item)
        os.path.exists("nowhere")


def dives(board, depth=800):
    if depth:
        return dives(board, depth - 1)
    note(board)
    while True:
        pass


def sums(board):
    """C code that holds the interpreter (GIL), and looks for no signal."""
    note(board)
    return sum(range(10**13))


def counts(board):
    """C code that runs with the interpreter's lock, in which no Python handler runs."""
    import itertools

    note(board)
    return sum(itertools.repeat(1))


# ------------------------------------------------------------------------------------------------ ways to be stuck


def ignores_sigterm(board):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    swallows(board)


def blocks_signals(board):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    note(board)
    while True:
        time.sleep(LONG)


def swallows(board):
    """Whatever is raised as soon as this has said that it is here."""
    while True:
        with contextlib.suppress(BaseException):
            note(board)
            while True:
                time.sleep(0.01)


def stops_itself(board):
    note(board)
    os.kill(os.getpid(), signal.SIGSTOP)


STUCK = (swallows, ignores_sigterm, blocks_signals, sums, stops_itself)


def has_grandchildren(board):
    """One that is deaf, one of its own, and one that was forked and holds all files."""
    deaf = subprocess.Popen(
        [sys.executable, "-c", "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(3600)"]
    )
    shell = subprocess.Popen(["sh", "-c", "sleep 3600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    inner = shell.stdout.readline().strip()
    forked = os.fork()
    if forked == 0:
        while True:
            time.sleep(LONG)
    board.post("grandchildren", f"{deaf.pid} {shell.pid} {inner} {forked}")
    note(board)
    time.sleep(LONG)


# ------------------------------------------------------------------------------------------------ ways to die


def dies(ctx, code):
    """A worker of `start()` whose process ends by itself."""
    os._exit(code)


def exits_hard(code):
    os._exit(code)


def segfaults():
    import faulthandler

    faulthandler.disable()
    ctypes.string_at(0)


def kills_itself(number):
    os.kill(os.getpid(), number)
    time.sleep(LONG)


def dies_after_its_answer(value):
    """The result is sent; then the process is gone at once."""
    from ... import inside_child

    inside_child.die_after_answering()
    return value


def dies_within_its_answer(size):
    """A part of the result is sent."""
    from ... import inside_child

    inside_child.die_within_answering(size // 2)
    return bytes(size)


def leaves_a_grandchild(value):
    """Returns, and leaves a process that holds all files of this one."""
    forked = os.fork()
    if forked == 0:
        time.sleep(LONG)
    return value, forked


def pid_of():
    return os.getpid()


def name_and_pid():
    return current_context().name, os.getpid()


# ------------------------------------------------------------------------------------------------ pickles


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("not me")


class NeedsTwo(Exception):
    """The usual mistake: it pickles, and cannot be unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class BecomesAnother(Exception):
    def __reduce__(self):
        return ValueError, ("another",)


class Frozen(Exception):
    """Refuses attributes, its cause included."""

    def __setattr__(self, name, value):
        raise AttributeError(f"frozen: {name}")


class WithoutText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class OddExit(SystemExit):
    @property
    def code(self):
        raise RuntimeError("no code")


def raises(kind, *args):
    raise kind(*args)


def raises_unpicklable_argument():
    raise ValueError(threading.Lock())


class Loads:
    """An object that does something when it is unpickled, in the process that is not its own."""

    def __init__(self, function, *args):
        self._call = (function, args)
        self._home = os.getpid()

    def __reduce__(self):
        return _load, (self._home, *self._call)


def _load(home, function, args):
    return None if os.getpid() == home else function(*args)


def returns_what_loads(function, *args):
    return Loads(function, *args)


class Poor:
    """Cannot be pickled in a worker, nor anywhere."""

    def __reduce__(self):
        raise RuntimeError("no pickle of this")


def returns_poor():
    return Poor()


def returns_a_lambda():
    return lambda: None


def returns_bytes(size):
    return bytes(size)


def returns_buffers(size, count):
    from pickle import PickleBuffer

    return [PickleBuffer(bytearray(size)) for _ in range(count)]


def length(value):
    return len(value)


# ------------------------------------------------------------------------------------------------ prints


def prints(text):
    print(text)
    print(f"err {text}", file=sys.stderr)
    os.write(1, f"raw {text}\n".encode())
    os.system(f"echo program {text}")  # noqa: S605 - a test's own text
    return text


def prints_from_c(text):
    libc = ctypes.CDLL(None)
    libc.puts(text.encode())
    libc.fflush(None)
    return text


def closes_its_output():
    print("never seen", end="")
    os.close(1)
    return "closed"


def closes_sys_stdout():
    sys.stdout.close()
    sys.stderr = None
    return "closed"


def attempts_a_supervisor():
    import asyncio

    from supervisor import Supervisor

    async def main():
        async with Supervisor() as sup:
            return await sup.run(pid_of)

    return asyncio.run(main())


# ------------------------------------------------------------------------------------------------ calls to the loop


def cause_of_call(fn, *args):
    try:
        current_context().call(fn, *args)
    except Exception as error:
        return str(error.__cause__)


def calls_with_a_lambda(fn):
    current_context().call(fn, lambda: None)


def calls_what_is_made_there():
    """Calls a function that this module has in the worker's process alone."""

    async def made_here():
        pass

    made_here.__qualname__ = "made_here"
    globals()["made_here"] = made_here
    current_context().call(made_here)


def call_with_bytes(size):
    return len(current_context().call(twice, bytes(size)))


async def twice(data):
    return data + data


def calls_and_dies(fn, board):
    ctx = current_context()
    threading.Thread(target=ctx.call, args=(fn,), daemon=True).start()
    time.sleep(0.01)  # it may have been sent by then, or not
    os._exit(3)


def leaves_a_caller(fn, board):
    ctx = current_context()

    def late():
        board.wait("go")
        try:
            ctx.call(fn, 1)
        except RuntimeError as error:
            board.post("late", str(error))

    threading.Thread(target=late, daemon=True).start()
    return "left"


def writes_into_its_socket(which, name, how, board):
    """A function that writes into a file that is not its own, and then waits, returns, or leaves the process."""
    from ... import inside_child

    os.write(inside_child.socket_of_this_process(which), inside_child.broken_frames()[name])
    note(board)
    if how == "leave":
        os._exit(0)
    if how == "wait":
        time.sleep(60)


def closes_its_socket(which, board):
    from ... import inside_child

    os.close(inside_child.socket_of_this_process(which))
    note(board)
    time.sleep(60)


def returns_beyond(limit):
    """More than its owner has memory for."""
    return b"x" * limit


def writes_to_its_standard_files():
    """Returns which files these are."""
    for fd in (1, 2):
        os.write(fd, b"text")
    return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in (1, 2)}


class HttpError(Exception):
    """Does not take its own `args`, as the errors of many libraries."""

    def __init__(self, code, *, url=""):
        super().__init__(f"the server said {code}")
        self.code, self.url = code, url


def fails_by_http():
    error = HttpError(503, url="http://here")
    error.add_note("once")
    raise error


class Unlike(Exception):
    """Has another text each time that it is made, and says itself how it is pickled."""

    def __init__(self, made=0):
        super().__init__(f"made {made + 1} times")
        self.made = made + 1

    def __reduce__(self):
        return Unlike, (self.made,)


def fails_unlike():
    raise Unlike


def types_and_first(*args):
    return [type(arg) for arg in args], args[0]
