"""What the tests of processes ask of the system, and the five checks that follow each fault."""

import contextlib
import gc
import os
import time
from pathlib import Path

from ... import inside
from ...waiting import LIMIT, until


def look(pid):
    """A process's state letter, parent and group; None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[2])


def everybody():
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdecimal() and (found := look(entry)) is not None:
            yield int(entry), *found


def alive(pid):
    """Whether it still does anything: a zombie that its new parent has not reaped is dead."""
    found = look(pid)
    return found is not None and found[0] not in "ZX"


def rests(pid, seconds=0.05):
    """Whether it sleeps, and goes on doing so: it has got to where it waits."""
    before = ran(pid)
    time.sleep(seconds)
    return look(pid)[0] == "S" and ran(pid) == before


def ran(pid):
    """How much of a processor's time it has had."""
    return Path(f"/proc/{pid}/schedstat").read_text().split()[0]


def members(group):
    """The processes of a group that are alive."""
    return {pid for pid, state, _, its_group in everybody() if its_group == group and state not in "ZX"}


def children(parent=None):
    """The child processes, zombies included."""
    parent = parent or os.getpid()
    return {pid for pid, _, its_parent, _ in everybody() if its_parent == parent}


def files():
    return len(os.listdir("/proc/self/fd"))


def wait_until(condition, seconds=LIMIT):
    """The same, without a loop."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.001)
    return time.monotonic() - began


@contextlib.asynccontextmanager
async def sound(seconds=120):
    """Whatever happens in the block, afterwards these hold.

    It took a bounded time; every call that was put into the list has resolved; no process of any worker's group is
    left; no child is left as a zombie; no more files are open than before.
    """
    groups, calls = set(), []
    gc.collect()
    before, parented, began = files(), children(), time.monotonic()
    with inside.launches(lambda process: groups.add(process.pid)):
        yield calls
    took = time.monotonic() - began
    assert took < seconds, f"took {took:.2f} s"
    assert all(call.done() for call in calls), "a call has not resolved"
    for call in calls:
        call.cancelled() or call.exception()
    try:
        await until(lambda: not any(members(group) for group in groups))  # SIGKILL takes its moment
    except AssertionError:
        raise AssertionError(f"orphans: { {group: members(group) for group in groups} }") from None
    try:
        await until(lambda: not children() - parented)  # what SIGKILL had not ended in time, a thread reaps
    except AssertionError:
        raise AssertionError(f"children or zombies: {children() - parented}") from None
    gc.collect()
    try:
        await until(lambda: files() <= before)
    except AssertionError:
        raise AssertionError(f"{files() - before} files more") from None
