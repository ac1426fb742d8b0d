"""What the workers of the tests of limits do: they use memory, or CPU."""

import os
import resource
import signal
import subprocess
import sys
import time

from supervisor import StopInjected, current_context

from .usages import MIB, burn, hold

TICK = 0.001


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def allocate(mib, board=None, mark=0):
    """Takes memory, 8 MiB at a time, and keeps it; posts when it has more than `mark` MiB resident."""
    blocks = []
    for _ in range(mib // 8):
        blocks.append(hold(8))
        if board is not None and resident() > mark * MIB:
            board.post("passed", repr(time.monotonic()))
            board = None
    time.sleep(30)


def allocate_at_once(mib):
    """Takes memory in one call of C code, which holds the interpreter meanwhile."""
    block = b"x" * (mib * MIB)
    time.sleep(30)
    return block


def allocate_deaf(mib):
    """Does not end by any exception."""
    block = hold(mib)
    while True:
        try:
            time.sleep(30)
        except StopInjected:
            pass
    return block


def allocate_and_return(mib):
    """Obeys at once, with a value."""
    block = hold(mib)
    current_context().stop.wait(30)
    return len(block)


def allocate_in_a_child(mib):
    """A program that it has started takes the memory."""
    code = f"import time; block = bytearray({mib << 20}); block[::4096] = b'x' * len(block[::4096]); time.sleep(60)"
    subprocess.run([sys.executable, "-c", code], check=True)


def share_with_children(mib, seconds, children=3):
    """Its children share its memory."""
    block = hold(mib)
    pids = []
    for _ in range(children):
        pid = os.fork()
        if pid == 0:
            time.sleep(30)
            os._exit(0)
        pids.append(pid)
    time.sleep(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(block)


def allocate_for_a_worker(ctx, mib, board):
    board.add("runs", os.getpid())
    if mib:
        allocate(mib)
    ctx.stop.wait()


def spin():
    while True:
        pass


def burn_in_a_child():
    subprocess.run([sys.executable, "-c", "while True: pass"], check=True)


def burn_for(seconds):
    burn(seconds)
    return seconds


def pid_after(seconds):
    burn(seconds)
    return os.getpid()


def soft_limit():
    return resource.getrlimit(resource.RLIMIT_CPU)


def leave_a_child():
    """Starts a program that outlives the call; returns its number."""
    return subprocess.Popen(["sleep", "60"]).pid


def limit_of(pid):
    limits = resource.prlimit(pid, resource.RLIMIT_CPU)
    os.kill(pid, signal.SIGKILL)
    return limits


def set_own_limit(seconds):
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def be_quick(number):
    time.sleep(0.002)
    return number


def hold_some(mib):
    """Takes memory for long enough to be seen."""
    block = hold(mib)
    time.sleep(0.3)
    return len(block)


KEPT = []


def keep(mib):
    """Leaves memory behind."""
    KEPT.append(hold(mib))
    return os.getpid()


def allocate_on_the_way(mib):
    """Yields numbers, and takes memory between two of them."""
    blocks = []
    for number in range(mib // 8):
        yield number
        blocks.append(hold(8))
        time.sleep(0.01)
    time.sleep(30)


def spin_within_own_limit():
    """Is ended by the kernel after a second of CPU, as it has asked for."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    set_own_limit(int(used.ru_utime + used.ru_stime) + 1)
    spin()
