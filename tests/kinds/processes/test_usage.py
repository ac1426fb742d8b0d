"""What processes use, as the kernel counts it: of real processes, and of those that they have started."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.inside import Census, rss, share, usage
from tests.kinds.processes.usages import MIB
from tests.programs import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what processes use is known on Linux alone")

PARTS = """
import os, time
from tests.kinds.processes.usages import MIB, burn, hold

def fork(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid

def wait():
    os.write(1, b"there %d\\n" % os.getpid())
    time.sleep(60)
"""


@contextlib.contextmanager
def process(program, lines=1):
    """A process in a session of its own, and the numbers that it and its descendants have written."""
    command = [sys.executable, "-c", PARTS + program]
    started = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, text=True)
    said = []
    try:
        said = [int(started.stdout.readline().split()[1]) for _ in range(lines)]
        yield started.pid, said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        for pid in said:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        started.stdout.close()
        started.wait()


def used(pid, census=None, **options):
    census = census or Census()
    census.look()
    return usage(pid, census, **options)


def test_says_how_much_a_process_has_resident():
    with process("wait()") as (small, _), process("block = hold(64); wait()") as (large, _):
        assert 60 * MIB < rss(large) - rss(small) < 70 * MIB


def test_counts_what_the_descendants_have_resident():
    program = """
def grandchild():
    block = hold(48)
    wait()

def child():
    block = hold(32)
    fork(grandchild)
    wait()

fork(child)
wait()
"""
    with process(program, lines=3) as (pid, _):
        alone = rss(pid)
        assert used(pid).rss - alone > 32 * MIB + 48 * MIB


def test_counts_a_descendant_whose_parent_has_ended():
    program = """
def orphan():
    block = hold(48)
    wait()

os.waitpid(fork(lambda: fork(orphan)), 0)
wait()
"""
    with process(program, lines=2) as (pid, _):
        assert used(pid).rss > rss(pid) + 48 * MIB


def test_goes_on_counting_a_descendant_that_has_left_the_session_when_its_parent_ends():
    program = """
def escaped():
    os.setsid()
    block = hold(48)
    wait()

def parent():
    fork(escaped)
    wait()

child = fork(parent)
wait()
"""
    with process(program, lines=3) as (pid, said):
        census = Census()
        assert used(pid, census).rss > rss(pid) + 48 * MIB
        [parent] = [each for each in census.descendants(pid) if os.getsid(each) == pid]
        os.kill(parent, signal.SIGKILL)
        wait_until(lambda: (census.look(), len(census.descendants(pid)) == 1 or is_zombie(parent))[1])
        assert used(pid, census).rss > rss(pid) + 48 * MIB
        assert said


def test_counts_memory_that_descendants_share_once_where_much_is_used():
    program = """
block = hold(64)
for _ in range(3):
    fork(wait)
wait()
"""
    with process(program, lines=4) as (pid, _):
        assert used(pid).rss > 4 * 64 * MIB
        assert 64 * MIB < used(pid, shared_from=128 * MIB).rss < 128 * MIB
        assert used(pid, shared_from=1 << 40).rss > 4 * 64 * MIB


def test_counts_the_cpu_of_all_of_them_and_of_children_that_were_waited_for():
    program = """
def child():
    burn(0.3)
    wait()

burn(0.2)
os.waitpid(fork(lambda: burn(0.3)), 0)
fork(child)
wait()
"""
    with process(program, lines=2) as (pid, _):
        assert 0.75 < used(pid).cpu_seconds < 2


def test_a_process_that_vanishes_uses_nothing():
    census = Census()
    with process("fork(wait); fork(wait); wait()", lines=3) as (pid, said):
        census.look()
        first, second = sorted(census.descendants(pid))
        with_both = usage(pid, census).rss
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: is_zombie(first))
        assert 0 < usage(pid, census).rss < with_both
        assert second in said
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_zombie(pid))
        assert usage(pid, census) is None
    assert usage(pid, census) is None
    assert rss(pid) is None
    census.look()
    assert census.descendants(pid) == set()


def test_a_census_forgets_who_has_gone():
    census = Census()
    census.look()
    before = size_of(census)
    for _ in range(3):
        with process("fork(wait); fork(lambda: (os.setsid(), fork(wait), wait())); wait()", lines=4) as (pid, _):
            census.look()
            assert len(census.descendants(pid)) == 3
    wait_until(lambda: (census.look(), size_of(census) <= before + 3)[1])  # others may have come meanwhile


def test_a_name_with_brackets_and_blanks_is_read_past():
    with process("open('/proc/self/comm', 'w').write(') R 1 (x'); wait()") as (pid, _):
        assert abs(used(pid).rss - rss(pid)) < MIB


def test_looking_at_a_process_is_cheap():
    census = Census()
    census.look()
    began = time.process_time()
    for _ in range(100):
        census.look()
        usage(os.getpid(), census)
    assert (time.process_time() - began) / 100 < 0.01


def size_of(census):
    return len(vars(census)["_parents"])


def is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_what_a_process_shared_that_dies_at_this_moment_is_not_counted_twice():
    """The others have it: what it had when it was looked at first is not to be added to that."""
    program = "print('it is up', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        assert share(child.pid) > MIB
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert share(child.pid) == 0
    finally:
        child.kill()
        child.communicate()
    assert share(child.pid) == 0
