"""Exceptions strike from outside, at any moment, in code that takes the library's locks: which of them are left taken?

    python -m tests.worker.lock_storm interrupted|injected STRIKES

`interrupted`: a signal's KeyboardInterrupt in the main thread, which uses an executor as any thread may, and as that of
its event loop in turn. The interpreter ignores one that strikes while an object is let go of, in a weak reference's
callback say: then another one comes. `injected`: StopInjected in workers, which use futures that others use too. Prints
what it has seen, as JSON.
"""

import asyncio
import concurrent.futures
import faulthandler
import gc
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
import types

import structlog

from supervisor import Ask, EscalationPolicy, Inject, Supervisor

from ..inside import ScopedLock

RLock = type(threading.RLock())

AT_ONCE = 100
"""Strikes between two looks at the locks."""

LIMIT = 20
"""Seconds that anything may take."""


def locks():
    """All of the library's, those of futures included."""
    found = {}
    for holder in gc.get_objects():
        if isinstance(holder, types.ModuleType):
            continue  # on 3.12 that of asyncio would show its list of free objects, and break when it is let go of
        found.update((id(lock), lock) for lock in gc.get_referents(holder) if isinstance(lock, ScopedLock))
    return found.values()


def left_taken():
    """Names those that this thread, which is done with all of them, cannot take."""
    taken = []
    for lock in locks():
        if RLock.acquire(lock, timeout=LIMIT):
            RLock.release(lock)
        else:
            taken.append(type(lock).__name__)
    return taken


class Tally:
    def __init__(self, wanted):
        self.wanted = wanted
        self.strikes = 0
        self.left = []
        self.ignored = []
        self.seen = 0

    def look(self):
        with concurrent.futures.ThreadPoolExecutor(1) as other:  # the locks are reentrant
            self.left += other.submit(left_taken).result()
        self.seen += 1

    @property
    def over(self):
        return self.strikes >= self.wanted or bool(self.left)


def use(ex, sup, futures):
    """Takes the library's locks, as often as can be, and seldom waits."""
    future = ex.submit(int)
    futures.append(future)
    for _ in range(20):
        future.cancelled()
        future.add_done_callback(id)
        ex.submit(int).cancel()
    sup.workers()
    sup.statistics()
    future.result(LIMIT)


# ------------------------------------------------------------------------------------------------ interrupted


class Interrupts:
    """A signal comes at any moment, and strikes."""

    def __init__(self, tally):
        self._armed = False
        self._tally = tally
        signal.signal(signal.SIGALRM, self._strike)
        sys.unraisablehook = self._ignored

    def _arm(self):
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, 1e-6 + random.random() * 0.001)  # noqa: S311

    def _strike(self, *_):
        if self._armed:
            self._armed = False
            raise KeyboardInterrupt

    def _ignored(self, unraisable):
        if unraisable.exc_type is KeyboardInterrupt:
            self._tally.ignored.append(unraisable.err_msg or repr(unraisable.object))
            self._arm()
        else:
            sys.__unraisablehook__(unraisable)

    def during(self, function, tally):
        """Calls it until it is struck."""
        try:
            self._arm()
            while True:
                function()
        except KeyboardInterrupt:
            pass
        except RuntimeError as error:
            if "un-acquired lock" not in str(error):  # a wait of the standard library's, which was struck on its way in
                raise
        tally.strikes += 1


def interrupted(tally):
    loop = asyncio.new_event_loop()
    interrupts, futures = Interrupts(tally), []

    async def here(ex, sup):
        """On the event loop's thread."""
        for _ in range(AT_ONCE):
            interrupts.during(lambda: use(ex, sup, futures), tally)
            await asyncio.sleep(0)

    async def open_():
        sup = Supervisor(max_threads=2)
        await sup.__aenter__()
        return sup, sup.executor()

    sup, ex = loop.run_until_complete(open_())
    while not tally.over:
        loop.run_until_complete(here(ex, sup))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        for _ in range(AT_ONCE):
            interrupts.during(lambda: use(ex, sup, futures), tally)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        tally.look()
        futures.clear()
    loop.run_until_complete(sup.shutdown())


# ------------------------------------------------------------------------------------------------ injected


def injected(tally):
    asyncio.run(inject(tally))


async def inject(tally):
    sys.setswitchinterval(1e-5)
    policy = EscalationPolicy(Ask(0), Inject(LIMIT, every=0.001))
    async with Supervisor(policy=policy, max_threads=4) as sup:
        ex = sup.executor()
        shared = [ex.submit(time.sleep, 0.0) for _ in range(20)]
        while not tally.over:
            for _ in range(AT_ONCE // 2):
                workers = [await sup.start(use_endlessly, ex, shared, name=f"w{number}") for number in range(2)]
                await asyncio.sleep(random.random() * 0.002)  # noqa: S311
                outcomes = await asyncio.gather(*(worker.stop() for worker in workers))
                tally.strikes += sum(outcome.ended == "injected" for outcome in outcomes)
            tally.look()
            shared[:] = [ex.submit(time.sleep, 0.0) for _ in range(20)]


def use_endlessly(ctx, ex, shared):
    for number in itertools.count():
        future = shared[number % len(shared)]
        future.cancelled()
        future.add_done_callback(id)
        if number % 50 == 0:
            future.result(LIMIT)
            concurrent.futures.wait(shared[:3])
            shared[number % len(shared)] = ex.submit(int)


def main():
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    tally = Tally(int(sys.argv[2]))
    faulthandler.dump_traceback_later(
        250 if tally.wanted < 1000 else 3000, exit=True
    )  # a lock that is left holds it up
    {"interrupted": interrupted, "injected": injected}[sys.argv[1]](tally)
    found = {"strikes": tally.strikes, "looks": tally.seen, "left taken": tally.left, "ignored": tally.ignored}
    print(json.dumps(found), flush=True)
    # As it exits, 3.12 was seen to collect for ever: a list of freed iterators in its _asyncio had become a ring.
    os._exit(0)


if __name__ == "__main__":
    main()
