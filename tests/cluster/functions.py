"""What the workers of these tests do: functions of a module, which nodes import."""

import asyncio
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


def spin_from(began):
    began.touch()
    spin()


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


def log_some(ctx, began, number):
    """Logs, and waits until it is stopped; logs once more, with what cannot be pickled, and does not obey."""
    import structlog

    log = structlog.get_logger()
    for count in range(number):
        log.info("step", count=count, what={"a": [count]})
    log.debug("odd", value=Odd(), text="x" * 10)
    began.touch()
    ctx.stop.wait()
    log.warning("asked", reason=ctx.reason)
    while True:
        time.sleep(0.01)


class SlowToLoad:
    """What takes so many seconds to unpickle, as what imports a large package does."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __reduce__(self):
        return slept, (self.seconds,)


class Raising:
    """What raises an error as it is unpickled."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return fail_with, (self.error,)


def fail_with(error):
    raise error("unpickled")


def slept(seconds):
    time.sleep(seconds)
    return "slept"


class Odd:
    """What cannot be pickled, and is shown as a text."""

    def __reduce__(self):
        raise ValueError

    def __repr__(self):
        return "<odd>"


def log_flood(ctx, began):
    """Logs as fast as it can until it is stopped; returns how often it has."""
    import structlog

    log, number = structlog.get_logger(), 0
    began.touch()
    while not ctx.stop.is_set():
        log.info("flood", number=number, text="x" * 200)
        number += 1
    return number


def in_c(began):
    began.touch()
    time.sleep(30)


def span_of_here():
    from opentelemetry import trace

    return format(trace.get_current_span().get_span_context().trace_id, "032x")


def silent(ctx):
    ctx.heartbeat()
    while True:
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------------ what does not obey


async def until_there(path, seconds=20):
    """Waits, in the test, until a worker has made a file."""
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"nobody has made {path}"
        await asyncio.sleep(0.005)


def spins(path):
    path.touch()
    spin()


def spins_as_worker(ctx, path):
    spins(path)


def sleeps(path):
    path.touch()
    time.sleep(3)  # a thread that is given up ends then


def sleeps_and_refuses(path):
    path.touch()
    while True:
        try:
            time.sleep(30)
        except BaseException:
            continue


def holds_the_gil(path):
    """C code that holds the interpreter (GIL), and looks for no signal."""
    path.touch()
    sum(range(10**13))


# ------------------------------------------------------------------------------------------------ who runs where


def runs_alone(ctx, folder):
    """Notes where it runs, and when it has begun and ended; says so should another run of it be there."""
    mine = folder / f"{ctx.name.replace('/', '-')}-{ctx.attempt}"
    mine.with_suffix(".began").write_text(f"{os.getpid()} {os.getppid()} {time.monotonic()}")
    ctx.ready()
    while not ctx.stop.wait(0.005):
        mine.with_suffix(".alive").write_text(str(time.monotonic()))
        ctx.heartbeat()


INITIALIZED = []


def initialize():
    INITIALIZED.append(os.getpid())


def refuse_to_initialize():
    raise LookupError("no model")


def initialized():
    return os.getpid() in INITIALIZED


def hold(path, release):
    """Makes a file of its own, and waits for another one."""
    (path / f"{os.getpid()}-{time.monotonic_ns()}").write_text(f"{os.getpid()} {os.getppid()}")
    until = time.monotonic() + 20
    while not release.exists() and time.monotonic() < until and current_context().reason is None:
        time.sleep(0.005)
    return pids()


def calls_the_loop():
    return current_context().call(pid)


def iterates_in_the_loop():
    async def items():
        yield 1

    return list(current_context().iterate(items()))


def enter(path):
    """Notes that a run has begun; a second one of the same path raises."""
    with path.open("x") as file:
        file.write(str(os.getpid()))


def spin_at(path):
    """Spins, and says again and again that it does."""
    enter(path)
    beat = path.with_suffix(".beat")
    while True:
        beat.touch()


def spin_with_a_child(path):
    """The same, beside a process of its own."""
    import subprocess
    import sys

    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    path.with_suffix(".child").write_text(str(child.pid))
    spin_at(path)


def wait_at_ease(seconds):
    """Waits for so long, or until it is asked to stop; returns why it was."""
    current_context().stop.wait(seconds)
    return current_context().reason


def wait_at(path, seconds):
    """Waits for so long, and returns its path's name."""
    enter(path)
    current_context().stop.wait(seconds)
    return path.name


def hold_the_gil(path, seconds):
    """Holds the GIL, in C, for so long."""
    import ctypes

    enter(path)
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return path.name


def give_back(data):
    return data


def spin_forever(ctx, path):
    """The same, as a worker."""
    spin_at(path)


def once(path):
    """Notes that a run has begun, and by which process; that it is the second of its path, too."""
    try:
        enter(path)
    except FileExistsError:
        path.with_suffix(".twice").touch()
        raise


def wait_once(path, seconds):
    once(path)
    current_context().stop.wait(seconds)


def spin_once(path, seconds):
    once(path)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def alone(ctx, folder):
    """Spins, and notes where another one does so at the same time."""
    import fcntl

    with (folder / "alone").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            (folder / "twice").touch()
        while True:
            time.sleep(0.001)


# ------------------------------------------------------------------------------------------------ what the loop does


async def never(path):
    """Notes that it has begun, and, should that be so, that it was cancelled."""
    path.touch()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        path.with_suffix(".cancelled").touch()
        raise


async def doubled(number):
    return 2 * number


def calls_until_refused(*given):
    """Calls the loop, and calls it once more for its clean-up; notes what was raised by both."""
    ctx, path = current_context(), given[-1]
    said = []
    for call in (lambda: ctx.call(never, path), lambda: ctx.call(doubled, 1, cleanup=True)):
        try:
            said.append(str(call()))
        except BaseException as error:
            said.append(f"{type(error).__name__}: {error}")
    path.with_suffix(".writing").write_text("\n".join(said))
    path.with_suffix(".writing").rename(path.with_suffix(".said"))


def doubles_when_stopped(ctx, began):
    """Waits for its stop, and calls the loop for its clean-up."""
    began.touch()
    ctx.stop.wait()
    return ctx.call(doubled, 21, cleanup=True)


def calls_with(size):
    return len(current_context().call(give_back, b"x" * size))


# ------------------------------------------------------------------------------------------------ initializers, limits


def initialize_at(folder, seconds):
    """Notes that it has been called, after so long."""
    time.sleep(seconds)
    (folder / f"{os.getppid()}-{os.getpid()}-{time.monotonic_ns()}").touch()


def fill(megabytes):
    kept = bytearray(os.urandom(1) * (megabytes << 20))
    time.sleep(20)
    return len(kept)


def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def pauses_its_node(path, release):
    """Has Dask pause the node, as it does when that has little memory, until it is released."""
    from distributed.worker import Worker

    (worker,) = Worker._instances
    worker.memory_manager.memory_pause_fraction = 1e-9
    hold(path, release)
    worker.memory_manager.memory_pause_fraction = 0.99
    return "went on"


def thread_or_process(kind):
    import threading

    return threading.get_native_id() if kind == "thread" else os.getpid()
