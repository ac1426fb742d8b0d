"""A small program that does what programs do with a supervisor, once for each fault; and what is judged of it.

It runs in an interpreter of its own, on the instrumented copy of the library: `python -m tests.campaigns.faults.program
FILE`, with a fault in each line of the file. It prints a line of JSON for each of them.
"""

import asyncio
import contextlib
import faulthandler
import gc
import json
import os
import resource
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import structlog
import supervisor_strikes as strikes

from supervisor import Ask, EscalationPolicy, Inject, Kill, Restart, Supervisor, Terminate

from . import work

POLICY = EscalationPolicy(Ask(0.05), Inject(0.05, every=0.02), Terminate(0.05), Kill(0.2))

TIMEOUT = 0.6
"""Seconds that the shutdown has."""

LATE = 0.25 + float(os.environ["SUPERVISOR_LATE"])
"""Seconds that it may need beyond: what is promised, and what a machine under load may add."""

LIMIT = 15
"""Seconds after which whatever is awaited passes for lost."""

HANGS = 120
"""Seconds after which the program ends by force, and says where it stands."""


class Signals:
    """Whatever says that something has gone wrong."""

    def __init__(self):
        self.seen = []
        self.events = []
        structlog.configure(processors=[self._capture])
        sys.unraisablehook = lambda raised: self.seen.append(f"unraisable: {raised.exc_value!r} in {raised.object!r}")
        threading.excepthook = lambda raised: self.seen.append(f"thread: {raised.exc_value!r}")

    def _capture(self, logger, method, event):
        self.events.append(event["event"])
        if method in ("warning", "error", "critical"):
            self.seen.append(f"{event['event']}: {event.get('reason') or event.get('exc_info')!r}")
        raise structlog.DropEvent

    def from_loop(self, loop, context):
        self.seen.append(f"loop: {context.get('message')}: {context.get('exception')!r}")


class Scene:
    """One run of the program.

    Attributes:
        said: What came of each thing that was awaited, by its name.
    """

    def __init__(self, loop, kind):
        self.loop = loop
        self.kind = kind
        self.said = {}
        self.tasks = {}
        self.took = 0.0
        self.sup = Supervisor("s", policy=POLICY, max_threads=3, max_processes=2, shutdown_timeout=TIMEOUT)
        self.release = threading.Event()

    def act(self, name, start, /, *args, **kwargs):
        """Awaits something as a task of its own, and notes what comes of it."""

        async def awaited():
            try:
                value = await start(*args, **kwargs)
            except BaseException as error:
                self.said[name] = type(error).__name__
                raise
            self.said[name] = told(value)
            return value

        task = self.loop.create_task(awaited(), name=name)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.tasks[name] = task
        return task

    def drive(self, phase):
        """Runs a phase to its end, whatever interrupts come."""
        task = self.loop.create_task(phase())
        while not task.done():
            try:
                self.loop.run_until_complete(task)
            except KeyboardInterrupt:
                self.said.setdefault("interrupted", True)
            except Exception as error:  # what a phase itself calls
                self.said[f"phase {phase.__name__}"] = type(error).__name__
        task.cancelled() or task.exception()

    async def settled(self, *names):
        """Waits for what was begun, so long as may be."""
        tasks = [self.tasks[name] for name in names or self.tasks if name in self.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=LIMIT)

    # ------------------------------------------------------------------------------------ the phases

    async def begin(self):
        self.act("groups", self._group)
        await self.settled("groups")
        start, kind = self.sup.start, self.kind
        self.act("listener", start, work.listen, kind=kind, name="listener", heartbeat=30, ready_timeout=20)
        self.act("fails once", start, work.fail_once, 1, kind=kind, name="fails-once", restart=self.restart)
        for name in ("a", "b"):
            self.act(name, self.group.start, work.listen, kind=kind, name=name)
        self.act("transitions", self._transitions)
        await self.settled("listener", "fails once", "a", "b")

    restart = Restart("failure", max_restarts=3, backoff=0.01)

    async def _group(self):
        self.group = self.sup
        self.group = self.sup.group("g", strategy="one_for_all", restart=self.restart)

    async def _transitions(self):
        async with contextlib.aclosing(self.sup.transitions()) as transitions:
            async for _ in transitions:
                pass

    async def calls(self):
        run, kind = self.sup.run, self.kind
        self.act("value", run, work.add, 1, 2, kind=kind)
        self.act("error", run, work.fail, kind=kind)
        self.act("large", run, work.echo, bytes(300_000), kind=kind)
        self.act("buffer", run, work.echo, bytearray(100_000), kind=kind)
        self.act("shielded", run, work.shielded_sleep, kind=kind)
        self.act("loop call", run, work.call_the_loop, kind=kind)
        self.act("log", run, work.log, "something", kind=kind)
        self.act("executor", self._submitted, work.add, 3)
        self.act("executor fails", self._submitted, work.fail)
        self.act("map", self._mapped)
        self.act("in the group", self.group.run, work.add, 5, kind=kind)
        if kind == "process":
            self.act("cannot be sent", run, work.cannot_be_sent, kind=kind)
        await self.settled(*(name for name in self.tasks if name != "transitions"))
        self.act("timeout", run, work.obey, kind=kind, timeout=0.1)
        self.act("within", run, work.obey, kind=kind, within=0.3)
        self.act("cancelled", run, work.obey, kind=kind)
        self.act("looked at", self._looked_at)
        await asyncio.sleep(0.05)
        self.tasks["cancelled"].cancel()
        self.act("stopped", self._of_worker, "listener", "stop")
        self.act("restarted", self._of_worker, "a", "restart")
        await self.settled("timeout", "within", "cancelled", "stopped", "restarted", "looked at")

    async def _submitted(self, fn, *args):
        return await asyncio.wrap_future(self.sup.executor(self.kind).submit(fn, *args))

    async def _mapped(self):
        executor = self.sup.executor(self.kind)
        with ThreadPoolExecutor(1) as pool:
            return await self.loop.run_in_executor(pool, lambda: list(executor.map(work.add, range(4), chunksize=2)))

    async def _of_worker(self, name, what):
        worker = self.tasks[name].result()
        return await getattr(worker, what)()

    async def _looked_at(self):
        self.sup.stacks()
        self.sup.statistics()
        self.sup.health()
        self.sup.workers()
        return "looked at"

    async def shutdown(self):
        if "left" not in self.tasks:
            self.act("left", self.sup.run, work.obey, kind=self.kind)
            self.act("deaf", self.sup.run, self._block if self.kind == "thread" else work.swallow, kind=self.kind)
            self.act("left to an executor", self._submitted, work.obey)
            await asyncio.sleep(0.03)
        began = time.monotonic()
        self.tasks.pop("shutdown", None)
        self.act("shutdown", self.sup.shutdown)
        await self.settled("shutdown")
        self.took = time.monotonic() - began
        await self.settled()

    def _block(self):
        while not self.release.wait(SECONDS):
            pass


SECONDS = work.SECONDS


def told(value):
    """Returns what is to be the same each time."""
    if isinstance(value, (bytes, bytearray)):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, (str, int, list)) or value is None:
        return value
    return type(value).__name__


# ------------------------------------------------------------------------------------------------ what is judged


def files():
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def children():
    found = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as file:
            found += file.read().split()
    return found


def within(condition, seconds):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


GOES = 10
"""Seconds that threads and processes have to end."""


def left_behind(before):
    """What is there that was not there before."""
    threads, open_files, names = before
    if not within(lambda: set(threading.enumerate()) <= threads, GOES):
        yield f"threads: {sorted(thread.name for thread in set(threading.enumerate()) - threads)}"
    if not within(lambda: not children(), GOES):
        states = []
        for pid in children():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
                states.append(f"{pid} {file.read().rpartition(') ')[2][0]}")
        yield f"processes: {states}"
    gc.collect()
    now = files()
    if len(now) > len(open_files):
        yield f"files: {sorted(f'{fd} {name}' for fd, name in now.items() if open_files.get(fd) != name)}"
    if set(os.listdir(tempfile.gettempdir())) - names:
        yield f"temporary files: {set(os.listdir(tempfile.gettempdir())) - names}"


def one(fault, kind, signals):
    """Runs the program with a fault; returns what was seen."""
    signals.seen.clear()
    signals.events.clear()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        struck = os.path.join(folder, "struck")
        if fault is not None:
            os.environ[strikes.PLAN] = "|".join((*map(str, fault), struck))
        before = set(threading.enumerate()), files(), set(os.listdir(tempfile.gettempdir()))
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(signals.from_loop)
        scene = Scene(loop, kind)
        strikes.arm()
        scene.drive(scene.begin)
        scene.drive(scene.calls)
        for _ in range(3):
            scene.drive(scene.shutdown)
            if scene.sup.report is not None:
                break
        os.environ.pop(strikes.PLAN, None)
        strikes.arm()
        found = []
        if scene.sup.report is None:
            found.append("unbounded: no report")
        elif scene.took > TIMEOUT + LATE:
            found.append(f"unbounded: the shutdown took {scene.took:.2f} s")
        pending = [name for name, task in scene.tasks.items() if not task.done()]
        if pending:
            found.append(f"unresolved: {pending}")
            for task in asyncio.all_tasks(loop):
                task.cancel()
        scene.release.set()
        loop.run_until_complete(asyncio.sleep(0.02))
        said = scene.said
        del scene
        gc.collect()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        found += [f"leaked: {what}" for what in left_behind(before)]
        stack = ""
        if os.path.exists(struck):
            with open(struck) as file:
                stack = file.read()
        result = {"found": found, "said": said, "seen": [each[:300] for each in signals.seen], "stack": stack}
        return result | {"work.done": signals.events.count("work.done")}


def main():
    kind, path = sys.argv[1:]
    with open(path) as file:
        faults = json.load(file)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ[strikes.OWNER] = str(os.getpid())
    signals = Signals()
    out = os.fdopen(os.dup(1), "w")
    for fault in faults:
        print(json.dumps({"begun": fault}), file=out, flush=True)
        faulthandler.dump_traceback_later(HANGS, exit=True)
        began = time.monotonic()
        result = one(fault, kind, signals)
        faulthandler.cancel_dump_traceback_later()
        result |= {"fault": fault, "took": round(time.monotonic() - began, 2)}
        print(json.dumps(result), file=out, flush=True)
        if result["found"]:
            sys.exit(3)  # what comes next is to begin clean


if __name__ == "__main__":
    main()
