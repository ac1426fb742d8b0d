"""Owners that fork in another thread while they launch a process: the copy holds nothing of it."""

import contextlib
import os
import select
import subprocess
import threading
import time

import pytest

from supervisor import Supervisor

from .faults import sound

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def links():
    """The pipes, sockets and other things without a name of which this process has an end."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {link for link in found if link.startswith(("pipe:", "socket:", "/memfd:", "anon_inode:[pidfd]"))}


class Sibling:
    """A copy of this process, made in a thread of its own, that lives until this process lets go of it."""

    def __init__(self):
        self.found = set()
        self.pid = 0
        self.thread = threading.Thread(target=self.fork)

    def fork(self):
        reading, writing = os.pipe()
        living, self.life = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.life)
                os.write(writing, "\n".join(links()).encode())
                os.close(writing)
                select.select([living], [], [], 100)  # not for ever: the launch may wait for this process to end
            finally:
                os._exit(0)
        os.close(writing)
        os.close(living)
        with os.fdopen(reading) as file:
            self.found = set(file.read().splitlines())

    def end(self):
        self.thread.join()
        os.close(self.life)
        os.waitpid(self.pid, 0)


@pytest.mark.parametrize("moment", ["Popen", "_fork_exec"])
async def test_a_thread_forks_during_a_launch(monkeypatch, moment):
    launching = getattr(subprocess, moment)
    sibling = Sibling()

    def forks_meanwhile(*args, **kwargs):
        sibling.thread.start()
        sibling.thread.join(0.2)  # it forks now, or waits until this is over
        return launching(*args, **kwargs)

    async with sound(), Supervisor(max_processes=1, process_start_timeout=200) as sup:
        await sup.run(abs, -1)  # what it needs besides processes is there
        known = links()
        began = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, moment, forks_meanwhile)
            worker = await sup.start(waits, kind="process")
        took = time.monotonic() - began
        sibling.end()
        of_the_worker = links() - known
        assert took < 90  # it has not waited for the sibling
        assert (await worker.stop()).ended == "stopped"
    assert any(link.startswith("pipe:") for link in of_the_worker)
    assert not of_the_worker & sibling.found


def waits(ctx):
    ctx.stop.wait()
