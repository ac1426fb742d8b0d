"""Calls in which a worker waits for files and processes, or computes: rows of the table that `blocked.py` makes."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import multiprocessing
import os
import re
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from blocked_calls import KEPT, LONG, row

from supervisor import current_context

# ------------------------------------------------------------------------------------- files, pipes, and what is ready


@row("`open()` of a FIFO", "opening its other end")
def open_fifo():
    path = Path(tempfile.mkdtemp()) / "fifo"
    os.mkfifo(path)
    return lambda: path.open("rb"), lambda: os.open(path, os.O_WRONLY)


@row("`read()` of a file object on a pipe", "closing its other end")
def file_read():
    end, other = os.pipe()
    file = open(end)  # noqa: SIM115, PTH123
    return file.read, lambda: os.close(other)


@row("`os.read()` of a pipe", "closing its other end")
def os_read():
    end, other = os.pipe()
    return lambda: os.read(end, 1), lambda: os.close(other)


def full_pipe():
    end, other = os.pipe()
    os.set_blocking(other, False)
    try:
        while True:
            os.write(other, bytes(4096))
    except BlockingIOError:
        os.set_blocking(other, True)
    return other, lambda: os.read(end, 10**5)


@row("`os.write()` into a full pipe", "reading from it")
def os_write():
    other, free = full_pipe()
    return lambda: os.write(other, bytes(4096)), free


@row("`print()` into a full pipe", "reading from it")
def print_():
    other, free = full_pipe()
    file = open(other, "w")  # noqa: SIM115, PTH123
    KEPT.append(file)  # whoever lets go of it writes what it has not written yet, and blocks as well
    return lambda: print("text", file=file, flush=True), free


@row("`logging` into a full pipe", "reading from it")
def logging_():
    other, free = full_pipe()
    logger = logging.getLogger("blocked")
    logger.addHandler(logging.StreamHandler(open(other, "w")))  # noqa: SIM115, PTH123
    return lambda: logger.warning("text"), free


@row("`input()`", "closing the other end of `stdin`")
def input_():
    end, other = os.pipe()
    sys.stdin = open(end)  # noqa: SIM115, PTH123
    return input, lambda: os.close(other)


@row("`fcntl.flock()`", "unlocking it")
def flock():
    path = Path(tempfile.mkdtemp()) / "lock"
    taken, wanted = path.open("w"), path.open("w")
    fcntl.flock(taken, fcntl.LOCK_EX)
    return lambda: fcntl.flock(wanted, fcntl.LOCK_EX), lambda: fcntl.flock(taken, fcntl.LOCK_UN)


def watched():
    """A socket to be read, and what makes it readable."""
    ours, theirs = socket.socketpair()
    KEPT.extend((ours, theirs))
    return ours, lambda: theirs.send(b"x")


READABLE = "writing to what it watches"


@row("`select.select()`", READABLE)
def select_():
    sock, free = watched()
    return lambda: select.select([sock], [], []), free


@row("`poll()`", READABLE)
def poll():
    sock, free = watched()
    polled = select.poll()
    polled.register(sock, select.POLLIN)
    return polled.poll, free


@row("`epoll.poll()`", READABLE)
def epoll():
    sock, free = watched()
    polled = select.epoll()
    polled.register(sock, select.EPOLLIN)
    return polled.poll, free


@row("`selectors`: `select()`", READABLE)
def selectors_():
    sock, free = watched()
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    return selector.select, free


# ------------------------------------------------------------------------------------- processes, signals


def child():
    sleeping = subprocess.Popen(["sleep", str(LONG)], stdout=subprocess.PIPE)
    KEPT.append(sleeping)
    return sleeping


@row("`subprocess.run()`")
def subprocess_run():
    return lambda: subprocess.run(["sleep", str(LONG)], check=False), None


@row("`Popen.wait()`", "`child.terminate`")
def popen_wait():
    sleeping = child()
    return sleeping.wait, sleeping.terminate


@row("`Popen.communicate()`", "`child.terminate`")
def communicate():
    sleeping = child()
    return sleeping.communicate, sleeping.terminate


@row("`os.waitpid()`", "`os.kill` of the child")
def waitpid():
    sleeping = child()
    return lambda: os.waitpid(sleeping.pid, 0), lambda: os.kill(sleeping.pid, signal.SIGTERM)


@row("`os.system()`")
def os_system():
    return lambda: os.system(f"exec sleep {LONG}"), None


@row("`multiprocessing`: `Connection.recv()`", "closing its other end")
def connection_recv():
    ours, theirs = multiprocessing.Pipe()
    return ours.recv, theirs.close


@row("`multiprocessing`: `Queue.get()`", "a sentinel")
def multiprocessing_queue():
    jobs = multiprocessing.Queue()
    return jobs.get, lambda: jobs.put(None)


@row("`multiprocessing`: `Lock.acquire()`", "`lock.release`")
def multiprocessing_lock():
    taken = multiprocessing.Lock()
    taken.acquire()
    return taken.acquire, taken.release


@row("`multiprocessing`: `Process.join()`", "`process.terminate`")
def process_join():
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(LONG,), daemon=True)
    process.start()
    return process.join, process.terminate


@row("`signal.sigwait()`", "`signal.pthread_kill`")
def sigwait():
    ident = threading.get_ident()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    return lambda: signal.sigwait({signal.SIGUSR2}), lambda: signal.pthread_kill(ident, signal.SIGUSR2)


# ------------------------------------------------------------------------------------- time, and code that computes


@row("`ctx.stop.wait()`")
def stop_wait():
    return current_context().stop.wait, None


@row("`time.sleep()`")
def sleep():
    return lambda: time.sleep(LONG), None


@row("a loop of short sleeps")
def short_sleeps():
    def loop():
        while True:
            time.sleep(0.01)

    return loop, None


@row("`asyncio.run()`, in the worker's thread", "`loop.call_soon_threadsafe(task.cancel)`")
def asyncio_run():
    running = []

    async def main():
        running.extend((asyncio.get_running_loop(), asyncio.current_task()))
        await asyncio.sleep(LONG)

    return lambda: asyncio.run(main()), lambda: running[0].call_soon_threadsafe(running[1].cancel)


@row("a loop in Python")
def loop():
    def spin():
        number = 0
        while True:
            number += 1

    return spin, None


@row("C code that computes without the GIL: `hashlib.pbkdf2_hmac`")
def pbkdf2():
    return lambda: hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2 * 10**9), None


@row("C code that computes with the GIL: a regular expression")
def regular_expression():
    return lambda: re.match(r"(a+)+$", "a" * 60 + "b"), None
