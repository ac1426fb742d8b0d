"""Run as a program: workers that do one thing without end are stopped by an injection, again and again.

Prints how they ended, how often what they had used could not be used afterwards, and what reached standard error.
"""

import asyncio
import collections
import concurrent.futures
import itertools
import json
import logging
import queue
import sys
import threading

import structlog

from supervisor import Ask, EscalationPolicy, Inject, Supervisor


class Lock:
    def __init__(self):
        self.lock = threading.Lock()

    def use(self):
        with self.lock:
            pass


class RLock(Lock):
    def __init__(self):
        self.lock = threading.RLock()


class ByHand(Lock):
    def use(self):
        self.lock.acquire()
        try:
            pass
        finally:
            self.lock.release()


class Items:
    def __init__(self):
        self.queue = queue.Queue()

    def use(self):
        self.queue.put(1)
        self.queue.get()
        self.queue.task_done()


class Semaphore:
    def __init__(self):
        self.semaphore = threading.BoundedSemaphore(1)

    def use(self):
        with self.semaphore:
            pass


class Condition:
    def __init__(self):
        self.condition = threading.Condition()

    def use(self):
        with self.condition:
            self.condition.notify_all()


class Event:
    def __init__(self):
        self.event = threading.Event()

    def use(self):
        self.event.set()
        self.event.wait(0.0001)
        self.event.clear()


class Polling:
    def __init__(self):
        self.event = threading.Event()

    def use(self):
        self.event.wait(0.0001)


class Future:
    def __init__(self):
        self.last = concurrent.futures.Future()

    def use(self):
        self.last.done()
        self.last = concurrent.futures.Future()
        self.last.set_result(1)
        self.last.result()


class Logging:
    def use(self):
        logging.getLogger("spinning").error("item")


class Loggers:
    numbers = itertools.count()

    def use(self):
        logging.getLogger(f"spinning.{next(self.numbers) % 50}").isEnabledFor(10)


class Import:
    def use(self):
        sys.modules.pop("colorsys", None)
        import colorsys  # noqa: PLC0415, F401


class Thread:
    def use(self):
        thread = threading.Thread(target=int, daemon=True)
        thread.start()
        thread.join()


USED = {
    kind.__name__: kind
    for kind in (
        Items,
        Semaphore,
        Condition,
        Event,
        Polling,
        Future,
        Logging,
        Loggers,
        Import,
        Thread,
    )
}


UNPROTECTED = {kind.__name__: kind for kind in (Lock, RLock, ByHand)}
"""Code of the application's own: what it has taken is left taken, now and then, where the interpreter does not help."""


def spin(_, use):
    def endless():
        while True:
            use()

    endless()


def usable(use):
    done = threading.Event()
    threading.Thread(target=lambda: (use(), done.set()), daemon=True).start()
    return done.wait(20)


async def one(thing):
    async with Supervisor(policy=EscalationPolicy(Ask(0.005), Inject(20, every=0.5)), shutdown_timeout=30) as sup:
        await sup.start(spin, thing.use)
        await asyncio.sleep(0.003)
    return sup.report.outcomes[0].ended


def main(name, rounds):
    ended, broken = collections.Counter(), 0
    for _ in range(rounds):
        thing = (USED | UNPROTECTED)[name]()
        ended[asyncio.run(one(thing))] += 1
        broken += not usable(thing.use)
    print(json.dumps({"ended": ended, "broken": broken, "switching": sys.getswitchinterval()}))


def drop(*_):
    raise structlog.DropEvent


if __name__ == "__main__":
    structlog.configure(processors=[drop])
    logging.basicConfig(handlers=[logging.StreamHandler(open("/dev/null", "w"))])  # noqa: SIM115, PTH123
    main(sys.argv[1], int(sys.argv[2]))
