"""Streams that fail: that ends their process and resolves its call, is logged once, and costs nobody else anything."""

import asyncio
import errno
import resource
import socket
import sys
import textwrap
import time
from pathlib import Path

import pytest

from supervisor import Supervisor, WorkerDied

from ... import inside, inside_child
from ...programs import run_program
from . import tasks
from .faults import sound, until
from .test_deaths import call

ROOT = Path(__file__).parents[3]
NOT_BEFORE_MORE_COMES = ("half a frame",)
FRAMES = sorted(inside_child.broken_frames())


def failures(events):
    return [event for event in events if event["event"] == "worker.stream_failed"]


@pytest.mark.parametrize("which", ["data", "control"])
@pytest.mark.parametrize("name", FRAMES)
async def test_what_is_no_message_ends_its_process_alone(board, events, which, name):
    how = "return" if name in NOT_BEFORE_MORE_COMES and which == "data" else "wait"
    if name in NOT_BEFORE_MORE_COMES and which == "control":
        pytest.skip("nothing more comes there, and the call is not harmed")
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        assert await sup.run(int, "4", kind="process") == 4
        calls.append(call(sup, tasks.writes_into_its_socket, which, name, how, board, name="w"))
        neighbour = call(sup, int, "5")
        calls.append(neighbour)
        with pytest.raises(WorkerDied):
            await calls[0]
        assert await neighbour == 5
    (failed,) = failures(events)
    assert (failed["level"], failed["worker"], failed["attempt"]) == ("error", "w", 1)
    assert failed["reason"]


@pytest.mark.parametrize("name", FRAMES)
async def test_what_is_no_message_before_a_process_leaves(board, name):
    """The loop does not spin, and the call resolves."""
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        calls.append(call(sup, tasks.writes_into_its_socket, "data", name, "leave", board))
        with pytest.raises(WorkerDied):
            await calls[0]
        assert await sup.run(int, "5", kind="process") == 5


async def test_of_an_idle_process_the_next_call_goes_to_another():
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        await sup.run(int, kind="process")
        (process,) = inside.idle_processes(sup)
        inside.failing_sends(process, OSError(errno.ENOBUFS, "no room"))
        calls.append(call(sup, int, "5"))
        assert await calls[0] == 5  # nothing of it had been read
        await until(lambda: process.reaped)


@pytest.mark.parametrize("error", [OSError(errno.EPIPE, "gone"), OSError(errno.ENOMEM, "no memory"), MemoryError()])
async def test_a_call_that_could_not_be_sent_goes_to_another_process(monkeypatch, error):
    inside.patch(monkeypatch, LEAVE_TIMEOUT=0.05)
    async with sound() as calls, Supervisor(max_processes=2) as sup:
        await sup.run(int, kind="process")
        (process,) = inside.idle_processes(sup)
        inside.failing_sends(process, error)
        calls += [call(sup, tasks.length, bytes(3_000_000)), call(sup, int, "6")]
        assert await asyncio.gather(*calls) == [3_000_000, 6]
        await until(lambda: process.reaped)


async def test_a_function_that_closes_its_socket_ends_its_process(board, events, monkeypatch):
    inside.patch(monkeypatch, LEAVE_TIMEOUT=0.05)
    async with sound() as calls, Supervisor(max_processes=1) as sup:
        calls.append(call(sup, tasks.closes_its_socket, "data", board))
        with pytest.raises(WorkerDied):
            await calls[0]
        assert await sup.run(int, "5", kind="process") == 5
    assert len(failures(events)) == 1


SHORT_OF_MEMORY = """
import asyncio, resource, sys, time
from supervisor import Supervisor, WorkerDied
from tests.kinds.processes import tasks

async def main():
    async with Supervisor(max_processes=1) as sup:
        await sup.run(int, kind="process")
        await sup.run(int, kind="process")
        resource.setrlimit(resource.RLIMIT_AS, ({limit}, resource.getrlimit(resource.RLIMIT_AS)[1]))
        began = time.process_time()
        try:
            await sup.run(tasks.returns_beyond, {limit}, kind="process")
        except WorkerDied:
            print("died", file=sys.stderr)
        assert time.process_time() - began < 5, "it spun"
        resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
        assert await sup.run(int, "5", kind="process") == 5

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_result_for_which_the_owner_has_no_memory(tmp_path):
    """The children had been started before their owner was limited."""
    path = tmp_path / "short.py"
    path.write_text(textwrap.dedent(SHORT_OF_MEMORY).format(limit=600 << 20))
    done = run_program(sys.executable, path)
    assert (done.returncode, done.stderr) == (0, "died\n")


def test_no_more_is_made_room_for_than_what_has_arrived_gives_reason_to():
    """A claim of a terabyte."""
    head = inside.framed(b"")[0]
    claims = head[:4] + (1 << 40).to_bytes(8, "little") + head[12:]
    pieces = iter([claims])
    receiver = inside.Receiver(lambda view: _put(view, next(pieces)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert receiver.take() is None
    receiver.feed()
    assert receiver.take() is None
    assert receiver.room <= 1 << 26
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def _put(view, text):
    view[: len(text)] = text
    return len(text)


async def test_a_flood_of_small_messages_leaves_the_loop_its_turns():
    frame = inside.framed(b"x")[0]
    heard = []

    def endless(view):
        number = len(view) // len(frame)
        view[: number * len(frame)] = frame * number
        return number * len(frame)

    ours, theirs = socket.socketpair()
    with theirs:
        stream = inside.stream_that_receives(endless, ours, lambda *frame: heard.append(frame))
        began = time.monotonic()
        stream.read()
        first = len(heard)
        assert 0 < first <= 1000
        await asyncio.sleep(0.01)
        assert len(heard) > first  # it goes on by itself, although the socket has nothing to read
        assert time.monotonic() - began < 5
        stream.close()
