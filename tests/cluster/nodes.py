"""A real cluster of Dask for the tests: a scheduler and nodes, each a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ..programs import ROOT
from ..waiting import LIMIT

DIES_WITH_US = """
import ctypes, signal
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: also where the tests are killed
"""

SCHEDULER = """
import sys, asyncio
from distributed import Scheduler
async def main():
    async with Scheduler(host={host!r}, port={port}, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()
asyncio.run(main())
"""

NODE = """
import sys, asyncio, json
from distributed import Worker
async def main():
    async with Worker({address!r}, dashboard=False, **{options!r}) as worker:
        print(worker.address, flush=True)
        await worker.finished()
asyncio.run(main())
"""

NURSED = """
import sys, asyncio
from distributed import Nanny
async def main():
    async with Nanny({address!r}, **{options!r}) as nanny:
        print(nanny.worker_address, flush=True)
        await nanny.finished()
asyncio.run(main())
"""
"""A node whose process Dask starts again where it has ended."""


class Process:
    """A process of the cluster, which says its address."""

    def __init__(self, code, folder, environment=(), within=()):
        self.errors = tempfile.TemporaryFile(dir=folder)
        self.process = subprocess.Popen(
            [*within, sys.executable, "-W", "ignore", "-c", DIES_WITH_US + code],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "DASK_DISTRIBUTED__ADMIN__TICK__LIMIT": "1h",
                **dict(environment),
            },
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            start_new_session=True,
        )
        self._address = None

    @property
    def address(self):
        if self._address is None:
            self._address = self.process.stdout.readline().strip()
            assert self._address, self.said()
        return self._address

    @property
    def pid(self):
        return self.process.pid

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def kill(self, number=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def wait(self, seconds=LIMIT):
        return self.process.wait(seconds)

    def abandon(self):
        """Kills it alone."""
        self.kill()
        self.wait()
        self.let_go()

    def end(self):
        """Kills it, with what is left of what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT)
        self.let_go()

    def let_go(self):
        self.process.stdout.close()
        self.errors.close()


class Nodes:
    """A cluster: `nodes.address` is the scheduler's; `nodes.add("a", resources={"GPU": 1})` adds a node.

    Args:
        environment: Variables of all of its processes.
        host: Where the scheduler listens.
    """

    def __init__(self, environment=(), host="127.0.0.1"):
        self._folder = tempfile.TemporaryDirectory(prefix="sl-nodes-")
        self._environment = environment
        self._host = host
        self.scheduler = self._new_scheduler(0)
        self.nodes = {}
        self.left_behind = []

    @property
    def address(self):
        return self.scheduler.address

    def replace_scheduler(self):
        """Kills the scheduler, and starts another one at its address; the nodes are left to themselves."""
        port = self.address.rpartition(":")[2]
        self.scheduler.abandon()
        self.left_behind += self.nodes.values()
        self.nodes = {}
        self.scheduler = self._new_scheduler(port)

    def _new_scheduler(self, port):
        return Process(SCHEDULER.format(host=self._host, port=port), self._folder.name, self._environment)

    def add(self, name, nthreads=2, within=(), code=NODE, environment=(), **options):
        """Starts a node, as an argument of the command `within`; does not wait for it."""
        own = {"name": name, "nthreads": nthreads, "host": "127.0.0.1", "local_directory": self._folder.name}
        code = code.format(address=self.address, options={**own, **options})
        environment = {**dict(self._environment), **dict(environment)}
        node = self.nodes[name] = Process(code, self._folder.name, environment, within)
        return node

    def name_of(self, pids):
        """Returns the name of the node that has one of these processes."""
        (name,) = [name for name, node in self.nodes.items() if node.pid in pids]
        return name

    def wait(self):
        """Waits until all nodes are up."""
        for node in self.nodes.values():
            assert node.address

    def end(self):
        for process in (*self.nodes.values(), *self.left_behind, self.scheduler):
            process.end()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def until_dead(pid, seconds=LIMIT):
    """Waits until a process has ended; returns how long that took."""
    began = time.monotonic()
    while is_alive(pid):
        assert time.monotonic() - began < seconds, f"process {pid} lives on"
        time.sleep(0.005)
    return time.monotonic() - began
