"""The fault matrix: which call is to fail, and with which error; and the campaign that has them fail, one by one."""

import collections
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ... import inside
from . import strikes
from .instrumented import instrument

ROOT = Path(__file__).parents[3]

CANNOT_FAIL = (
    "_asyncio.Future.done",
    "_asyncio.Task.",
    "_asyncio._get_running_loop",
    "_asyncio.get_running_loop",
    "_asyncio.Future.result",
    "_asyncio.Future.exception",
    "_contextvars.Context.run",
    "_thread.get_ident",
    "_thread.lock.",
    "_thread.RLock.",
    "asyncio.base_events.BaseEventLoop.is_closed",
    "asyncio.base_events.BaseEventLoop.time",
    "asyncio.base_events.BaseEventLoop.get_task_factory",
    "asyncio.events.TimerHandle.cancel",
    "asyncio.selector_events.BaseSelectorEventLoop.remove_",
    "builtins.",
    "collections.deque.clear",
    "collections.deque.popleft",
    "collections.deque.rotate",
    "_queue.SimpleQueue.qsize",
    "concurrent.futures._base.Future.done",
    "concurrent.futures._base.Future.exception",
    "concurrent.futures._base.Future.result",
    "math.",
    "posix.getpid",
    "posix.getpgrp",
    "posix._exit",
    "posix.waitid",
    "posix.waitstatus_to_exitcode",
    "random.",
    "_signal.getsignal",
    "_signal.valid_signals",
    "socket.socket.fileno",
    "_io.FileIO.fileno",
    "structlog._config.is_configured",
    "sys.getswitchinterval",
    "tests.",
    "threading.current_thread",
    "threading.get_ident",
    "time.",
    "typing.",
    "supervisor.",
)
"""What does not fail: it makes nothing, takes nothing from the system; or it is looked at by the calls within it."""

BUT = ("builtins.open", "builtins.__import__", inside.ASIDE)

FILES = ("EMFILE", "ENOMEM")
MOVES = ("ENOBUFS", "EPIPE", "ENOMEM")
ERRORS = (
    ("posix.open", FILES),
    ("posix.pipe", FILES),
    ("posix.dup", FILES),
    ("posix.eventfd_", ("ENOMEM", "EINTR")),
    ("posix.eventfd", FILES),
    ("posix.memfd_create", (*FILES, "EPERM")),
    ("posix.pidfd_open", (*FILES, "EPERM")),
    ("socket.socketpair", (*FILES, "ENOBUFS")),
    ("socket.socket.close", ("EIO",)),
    ("socket.socket.send", MOVES),
    ("socket.socket.recv", MOVES),
    ("socket.socket.", ("ENOBUFS",)),
    ("posix.read", MOVES),
    ("posix.write", MOVES),
    ("posix.close", ("EIO",)),
    ("_io.FileIO.close", ("EIO",)),
    ("posix.waitpid", ("ECHILD",)),
    ("posix.kill", ("EPERM",)),
    ("posix.register_at_fork", ("MemoryError",)),
    ("posix.", ("ENOMEM",)),
    ("_signal.", ("ENOMEM",)),
    ("fcntl.", ("ENOMEM",)),
    ("select.", ("ENOMEM", "MemoryError")),
    ("io.", FILES),
    ("_io.open", FILES),
    ("_io.", ("EIO", "MemoryError")),
    ("os.fdopen", ("ENOMEM", "MemoryError")),
    ("tempfile.", FILES),
    ("subprocess.Popen", ("EMFILE", "ENOMEM", "EAGAIN", "MemoryError")),
    ("_thread.start_new_thread", ("RuntimeError", "MemoryError")),
    (f"{inside.ASIDE}.start", ("RuntimeError", "MemoryError")),
    (f"{inside.ASIDE}.add_", ("ENOSPC", "MemoryError")),
    ("structlog.", ("RuntimeError", "MemoryError")),
    ("", ("MemoryError",)),
)
"""The errors of each function, by how its name begins: the first that fits counts."""

LASTING = ("structlog.", "_pickle.", "subprocess.", "_thread.start_new_thread", f"{inside.ASIDE}.start")
"""Where memory may be short for longer than a moment: what asks for little of it comes through then."""

LIMIT = 600
"""Seconds that a batch may take, after which it passes for one that hangs."""


def errors_of(name):
    if name.startswith(CANNOT_FAIL) and not name.startswith(BUT):
        return ()
    return next(errors for beginning, errors in ERRORS if name.startswith(beginning))


class Campaign:
    """Has the calls of the library fail, one after another.

    Args:
        folder: Where the instrumented copy is made.
        late: Seconds that a shutdown may take beyond what is promised.

    Attributes:
        findings: What was not as it is promised, with the fault.
    """

    def __init__(self, folder, say=print, late=0.75):
        self.folder = folder
        self.late = late
        self.say = say
        self.findings = []
        self.injected = 0
        self.unreached = 0
        self.shown = 0
        self.usual = {}
        self.unconfirmed = []
        instrument(folder)

    # ------------------------------------------------------------------------------------ what can fail

    def faults(self, kind):
        """Counts the calls, and returns all faults for them: role, site, number, error, how long."""
        record = self.folder / f"calls-{kind}"
        with self._batch(kind, [None, None], {strikes.RECORD: str(record)}) as results:
            self.usual[kind] = next(result["said"] for result in results if "said" in result)
        most = {}
        for line in record.read_text().splitlines():
            role, site, name, number = line.split()
            key = role, site, name
            most[key] = max(most.get(key, 0), int(number))
        for (role, site, name), calls in sorted(most.items()):
            for error in errors_of(name):
                for number in {1, 2, calls}:
                    if number <= calls:
                        yield role, site, number, error, "once"
                if error != "MemoryError" or name.startswith(LASTING):
                    yield role, site, 1, error, "lasts"
            if role == "owner" and (errors_of(name) or name.startswith("supervisor.")):
                yield role, site, 1, "KeyboardInterrupt", "once"

    # ------------------------------------------------------------------------------------ the campaign

    def run(self, plan, side_by_side=3, size=25, until=None):
        """Injects the faults of a plan, which has the kind of workers before each."""
        batches = []
        for kind in ("thread", "process"):
            mine = [fault for which, fault in plan if which == kind]
            batches += [(kind, mine[at : at + size]) for at in range(0, len(mine), size)]
        random.Random(0).shuffle(batches)
        with ThreadPoolExecutor(side_by_side) as pool:
            list(pool.map(lambda batch: self._all_of(*batch, until), batches))
        again, self.findings = self.findings, []
        for kind, fault, found in again:  # alone: others may have kept it from being in time
            before = len(self.findings)
            self._all_of(kind, [fault], None, counted=False)
            if len(self.findings) == before:
                self.unconfirmed.append((kind, fault, found))

    def figures(self, planned):
        """Returns what the campaign has come to, in one line."""
        kinds = collections.Counter(each.partition(":")[0] for _, _, found in self.findings for each in found[:1])
        found = (
            ", ".join(f"{number} {what}" for what, number in kinds.items()) or "nothing unresolved, leaked or unbounded"
        )
        return (
            f"{planned} faults are possible, {self.injected} were injected, {self.unreached} were not reached; "
            f"{self.shown} show in the log. Found: {found}; {len(self.unconfirmed)} times only beside others"
        )

    def _all_of(self, kind, faults, until, *, counted=True):
        while faults and (until is None or time.monotonic() < until):
            with self._batch(kind, faults) as results:
                begun = 0
                for result in results:
                    if "begun" in result:
                        begun += 1
                    else:
                        self._judge(kind, result, counted)
                if not results or "begun" in results[-1]:
                    what = f"unbounded: it hangs, or has crashed: {results.errors[-4000:]}"
                    self._find(kind, faults[max(0, begun - 1)], [what])
                    begun = max(1, begun)
                if results.left:
                    self._find(kind, faults[begun - 1], [f"leaked: after the end {results.left}"])
            faults = faults[begun:]

    def _judge(self, kind, result, counted):
        found = result["found"]
        struck = bool(result["stack"])
        if counted:
            self.injected += struck
            self.unreached += not struck
        usual = result["said"] == self.usual[kind] and result["work.done"] == 1
        error = result["fault"][3]
        shows = [
            each for each in result["seen"] if any(word in each for word in (error, "on purpose", "Error", "lost"))
        ]
        self.shown += bool(struck and shows)
        says = any(
            said != self.usual[kind].get(name) and isinstance(said, str) and said[0].isupper()
            for name, said in result["said"].items()
        )
        if struck and not usual and not (shows or says) and error != "KeyboardInterrupt":
            found.append(f"silent: {result['said']} {result['work.done']}")
        if found:
            self._find(kind, result["fault"], [*found, result["stack"], *result["seen"]])

    def _find(self, kind, fault, found):
        self.findings.append((kind, fault, found))
        self.say("\n    ".join((" ".join(map(str, (kind, *fault))), *map(str, found))), flush=True)

    @contextlib.contextmanager
    def _batch(self, kind, faults, more=None):
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            path = Path(folder) / "faults"
            path.write_text(json.dumps(faults))
            scratch = Path(folder) / "tmp"
            scratch.mkdir()
            environ = {name: value for name, value in os.environ.items() if not name.startswith("COV_CORE")}
            environ |= {"PYTHONPATH": f"{self.folder}:{ROOT}", "TMPDIR": str(scratch), **(more or {})}
            environ["SUPERVISOR_LATE"] = str(self.late)
            program = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.campaigns.faults.program", kind, str(path)],
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                out, errors = program.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                program.kill()
                out, errors = program.communicate()
            results = Results(json.loads(line) for line in out.splitlines() if line.startswith("{"))
            results.errors = errors
            results.left = workers_of(program.pid)
            yield results


class Results(list):
    """What a batch has printed.

    Attributes:
        errors: Its standard error.
        left: The processes of it that were there after its end.
    """


def workers_of(owner, seconds=10.0):
    """Returns what is left of the worker processes of an owner that has ended, after a moment."""
    mark = f"{strikes.OWNER}={owner}\0".encode()
    until = time.monotonic() + seconds
    while True:
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdecimal() and mark in Path("/proc", entry, "environ").read_bytes():
                    found.append(entry)
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.01)


def main():
    """Runs a part of the campaign: `python -m tests.campaigns.faults.matrix [PART OF A SITE] [AT MOST] [SEED]`."""
    part, most, seed = (*sys.argv[1:], *("", "400", "1")[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        campaign = Campaign(Path(folder))
        plan = [(kind, fault) for kind in ("thread", "process") for fault in campaign.faults(kind)]
        print(len(plan), "faults in all")
        plan = [(kind, fault) for kind, fault in plan if part in "|".join(map(str, fault))]
        plan = random.Random(int(seed)).sample(plan, min(int(most), len(plan)))
        began = time.monotonic()
        campaign.run(plan)
        print(campaign.figures(len(plan)))
        print(f"{time.monotonic() - began:.0f} s")
        print("#" * 30, "confirmed")
        for kind, fault, found in campaign.findings:
            print(kind, *fault, found[0][:200])
        print("#" * 30, "not confirmed")
        for kind, fault, found in campaign.unconfirmed:
            print(kind, *fault, found[:2])


if __name__ == "__main__":
    main()
