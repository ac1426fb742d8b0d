"""The storm of waits: an injector aims at a worker that waits in what it shares with threads that must not be touched.

What it waits for comes one at a time, at any moment, and whoever is notified takes it. Run in a process of its own:
    python -m tests.kinds.threads.waiting_storm KIND RUNS SWITCH_INTERVAL
Its last line is a JSON object: what happened how often, and under "bad" what must never happen.
"""

from __future__ import annotations

import json
import os
import queue
import random
import sys
import threading
import time
from collections import Counter, deque

from supervisor import StopInjected

from ...inside import MISSING, Gate, leaving_thread, thread_of_ours

PATIENCE = 20.0

seen: Counter[str] = Counter()
bad: Counter[str] = Counter()
runs = progress = 0
current: list[Gate | None] = [None]
over = False


def as_of_the_library(function):
    """Has it struck only where it waits: elsewhere, what it was notified of is lost with it, as in any code."""
    function.__code__ = function.__code__.replace(co_filename=queue.__file__)
    return function


class Waiting:
    """Items, and a Condition in which those wait that want one."""

    bystanders = 2

    def __init__(self) -> None:
        self.items: deque[int] = deque()
        self.condition = threading.Condition()

    def put(self) -> None:
        with self.condition:
            self.items.append(1)
            self.condition.notify()

    @as_of_the_library
    def take(self) -> int:
        with self.condition:
            while not self.items:
                self.condition.wait()
            return self.items.popleft()

    def left(self) -> int:
        return len(self.items)


class OverLock(Waiting):
    def __init__(self) -> None:
        super().__init__()
        self.condition = threading.Condition(threading.Lock())


class Timed(OverLock):
    """Those that want an item look for it, now and then, without having been notified."""

    @as_of_the_library
    def take(self) -> int:
        with self.condition:
            while not self.items:
                self.condition.wait(random.random() * 3e-4)  # noqa: S311
            return self.items.popleft()


class Own:
    """A lock of somebody's own, in Python code; that of its methods, too, must not be struck."""

    def __init__(self) -> None:
        lock = threading.Lock()
        self.acquire, self.release, self.locked = lock.acquire, lock.release, lock.locked

    @as_of_the_library
    def __enter__(self) -> bool:
        return self.acquire()

    @as_of_the_library
    def __exit__(self, *_: object) -> None:
        self.release()


class InPython:
    """A lock of somebody's own, each method of which is Python code."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @as_of_the_library
    def acquire(self, *args: float) -> bool:
        return self._lock.acquire(*args)

    @as_of_the_library
    def locked(self) -> bool:
        return self._lock.locked()

    @as_of_the_library
    def release(self) -> None:
        self._lock.release()

    __enter__ = acquire

    @as_of_the_library
    def __exit__(self, *_: object) -> None:
        self._lock.release()


class OverOwn(Waiting):
    def __init__(self) -> None:
        super().__init__()
        self.condition = threading.Condition(Own())


class Derived(threading.Condition):
    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(timeout)


class OverDerived(Waiting):
    def __init__(self) -> None:
        super().__init__()
        self.condition = Derived()


class Queue(Waiting):
    def __init__(self) -> None:
        queued = queue.Queue[int]()
        self.condition = queued.not_empty
        self.put, self.take, self.left = lambda: queued.put(1), queued.get, queued.qsize


class QueueOfItsOwn(Queue):
    bystanders = 0


class TimedQueue(Queue):
    def __init__(self) -> None:
        super().__init__()
        get = self.take
        self.take = lambda: until_it_comes(get)


@as_of_the_library
def until_it_comes(get):
    while True:
        try:
            return get(timeout=random.random() * 3e-4)  # noqa: S311
        except queue.Empty:
            pass


class TimedQueueOfItsOwn(TimedQueue):
    bystanders = 0


class Semaphore(Waiting):
    def __init__(self) -> None:
        semaphore = threading.Semaphore(0)
        self.condition = vars(semaphore)["_cond"]
        self.put, self.take, self.left = semaphore.release, semaphore.acquire, lambda: vars(semaphore)["_value"]


KINDS = {
    kind.__name__: kind
    for kind in (
        Waiting,
        OverLock,
        OverOwn,
        OverDerived,
        Timed,
        Queue,
        QueueOfItsOwn,
        TimedQueue,
        TimedQueueOfItsOwn,
        Semaphore,
    )
}


def work(thing: Waiting) -> None:
    global progress
    thread_of_ours()
    for number in range(runs):
        progress = number
        mine = type(f"Injected{number}", (StopInjected,), {})  # a class of its own shows a foreign hit
        gate = Gate(mine)
        current[0] = gate
        value, error = gate.run(thing.take, ())
        current[0] = None
        try:
            if not thing.condition.acquire(timeout=PATIENCE):
                bad["a lock was left owned"] += 1
                return
            waiting = len(vars(thing.condition)["_waiters"])
            thing.condition.release()
            if waiting > thing.bystanders:
                bad["a waiter was left"] += 1
        except BaseException as escaped:
            bad[f"an exception escaped: {escaped!r}"] += 1
            return
        if type(error) is mine:
            seen["injected"] += 1
        elif error is not None or value is MISSING:
            bad[f"another error: {error!r}"] += 1
        else:
            seen["taken by the worker"] += 1
    progress = runs
    leaving_thread()


def stand_by(thing: Waiting) -> None:
    try:
        while True:
            thing.take()
            seen["taken by others"] += 1
    except BaseException as error:
        bad[f"others were struck: {error!r}"] += 1


def produce(thing: Waiting) -> None:
    pause = random.Random()
    while not over:
        thing.put()
        since = time.monotonic()
        while thing.left() and not over:  # whoever was notified of it takes it, or a wake-up was lost
            if time.monotonic() - since > PATIENCE:
                bad["a wake-up was lost"] += 1
                return
            time.sleep(0)
        time.sleep(pause.random() * 4e-4)


def inject() -> None:
    pause = random.Random()
    while not over:
        gate = current[0]
        if gate is not None:
            seen[gate.inject()] += 1
        if pause.random() < 0.7:
            time.sleep(pause.random() * 2e-4)


def main() -> None:
    global over, runs
    thing = KINDS[sys.argv[1]]()
    runs = int(sys.argv[2])
    sys.setswitchinterval(float(sys.argv[3]))
    threading.excepthook = lambda args: bad.update([f"a thread died: {args.exc_value!r}"])
    for _ in range(thing.bystanders):
        threading.Thread(target=stand_by, args=(thing,), daemon=True).start()
    worker = threading.Thread(target=work, args=(thing,), daemon=True)
    worker.start()
    threading.Thread(target=produce, args=(thing,), daemon=True).start()
    threading.Thread(target=inject, daemon=True).start()
    last, since = -1, time.monotonic()
    while worker.is_alive() and not bad:
        worker.join(0.2)
        if progress != last:
            last, since = progress, time.monotonic()
        elif time.monotonic() - since > 2 * PATIENCE:
            bad[f"hangs in run {progress}"] += 1
    over = True
    print(json.dumps({"python": sys.version.split()[0], "runs": progress, "seen": seen, "bad": bad}), flush=True)
    os._exit(bool(bad))


if __name__ == "__main__":
    main()
