"""A service that is dumped at SIGUSR1: `python -m tests.observe.dumped SCENE`. It ends when its standard input does."""

import asyncio
import ctypes
import hashlib
import os
import signal
import sys
import tempfile
import threading
import time

import structlog

from supervisor import Ask, EscalationPolicy, Supervisor

DUMP = signal.SIGUSR1

SECONDS = 6
"""For how long the loop is blocked where nothing can end that."""


def deaf(ctx):
    while True:
        time.sleep(0.01)


def in_a_process():
    time.sleep(100)


def pid_of_mine():
    return os.getpid()


# Each says that it has begun, and blocks the loop: where it can, until it is told to go on.


def once_told(go_on):
    """Calls that, in a thread, once a line has come to the standard input."""
    threading.Thread(target=lambda: (sys.stdin.readline(), go_on())).start()


def busy_in_python(begun):
    told = []
    once_told(lambda: told.append(True))
    begun()
    while not told:
        pass


def locked(begun):
    lock = threading.Lock()
    lock.acquire()
    once_told(lock.release)
    begun()
    lock.acquire()


def asleep(begun):
    begun()
    time.sleep(SECONDS)


def hash_in_c(rounds):
    began = time.monotonic()
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", rounds)
    return time.monotonic() - began


def in_c(begun):
    """Gives up the interpreter, and heeds no signal: one call, of some seconds, or more where the machine is busy."""
    rounds = int(100_000 * SECONDS / min(hash_in_c(100_000) for _ in range(3)))
    begun()
    hash_in_c(rounds)


def holding_the_gil(begun):
    begun()
    until = time.monotonic() + 3
    libc = ctypes.PyDLL(None)
    while (left := until - time.monotonic()) > 0:
        libc.usleep(int(left * 1e6))


def threads_come_and_go():
    while True:
        threads = [threading.Thread(target=int) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


BLOCKED = {"python": busy_in_python, "lock": locked, "c": in_c, "gil": holding_the_gil, "sleep": asleep}


def say(*words):
    print(*words, flush=True)


async def main(scene):
    loop = asyncio.get_running_loop()
    policy = EscalationPolicy(Ask(600 if scene == "stopping" else 0.1))
    async with Supervisor("service", dump_signal=DUMP, policy=policy) as sup:
        await sup.start(deaf, name="deaf <one>")
        call = asyncio.create_task(sup.run(in_a_process, kind="process", name="crunch"))
        while "in_a_process" not in sup.stacks().get("crunch", ""):  # it imports this first
            await asyncio.sleep(0.01)
        pid = await sup.run(pid_of_mine, kind="process")  # not before: it has the process that the other call has not
        if scene == "threads":
            threading.Thread(target=threads_come_and_go, daemon=True).start()
        if scene == "stopping":
            closing = asyncio.create_task(sup.shutdown(timeout=600, reason="deploy"))
            while not all(worker.step for worker in sup.workers()):  # each has been asked
                await asyncio.sleep(0)
            say("up", pid)
            await closing
        elif scene in BLOCKED:
            BLOCKED[scene](lambda: say("up", pid))
            say("over")
        elif scene == "closed":
            os.close(2)
            theirs = tempfile.TemporaryFile(buffering=0)  # gets the number
            assert theirs.fileno() == 2
            say("up", pid)
        else:
            say("up", pid)
        await loop.run_in_executor(None, sys.stdin.read)
        if scene == "closed":
            say("theirs", os.fstat(2).st_size)
        say("still", await sup.run(pid_of_mine, kind="process") == pid)
        call.cancel()
    say("default", signal.getsignal(DUMP) == signal.SIG_DFL, signal.set_wakeup_fd(-1) == -1)
    until = time.monotonic() + 20
    while any("dump" in thread.name for thread in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.01)
    say("threads", [thread.name for thread in threading.enumerate() if "dump" in thread.name])


def drop(*_):
    raise structlog.DropEvent


if __name__ == "__main__":
    structlog.configure(processors=[drop])
    asyncio.run(main(sys.argv[1]))
