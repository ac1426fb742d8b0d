"""Calls one after the other find both sides awake; nobody else pays for that."""

import asyncio
import os
import socket
import threading
import time

import pytest

from supervisor import Supervisor

from ... import inside
from ...contract import functions as f
from .light import naps

CORES_MATTER = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="who may use which core is not known")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


@pytest.fixture
def lookout(two_cores):
    """The lookout of a process whose last call has come soon, and the socket of its owner."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = inside.Lookout(theirs.fileno())
        made.came(0.0)
        yield made, ours, theirs


def test_it_looks_until_a_call_has_come(lookout, monkeypatch):
    inside.patch(monkeypatch, PATIENCE=60)
    made, owner, _ = lookout
    looks = iter([[], [], [(0, 1)]])
    inside.let_look(made, lambda _: next(looks))
    owner.send(b"call")
    assert made.read(memoryview(bytearray(10))) == 4
    assert next(looks, None) is None


def test_it_sleeps_until_a_call_comes_that_comes_late(lookout):
    made, owner, _ = lookout
    late = threading.Timer(0.05, owner.send, [b"call"])
    late.start()
    began = time.thread_time()
    assert made.read(memoryview(bytearray(10))) == 4
    assert time.thread_time() - began < 0.03, "it has not slept"
    assert not made.soon
    late.join()


def test_it_does_not_look_where_no_call_has_come_soon(lookout):
    made, owner, _ = lookout
    made.came(1.0)
    inside.let_look(made, None)
    owner.send(b"call")
    assert made.read(memoryview(bytearray(10))) == 4


def test_the_end_of_an_owner_that_has_not_read_all_is_an_end(lookout):
    made, owner, theirs = lookout
    theirs.send(b"an answer")
    owner.close()
    assert made.read(memoryview(bytearray(10))) == 0


def test_nobody_stays_awake_on_a_single_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    made = inside.Wakeful()
    made.came(0.0)
    assert not made.soon


def test_where_it_is_always_in_vain_it_is_seldom_tried(two_cores):
    made = inside.Wakeful()
    tried = 0
    for _ in range(10_000):
        if made.is_due():
            tried += 1
            made.was_in_vain()
    assert 10 < tried < 30


def test_once_it_has_paid_it_is_tried_each_time(two_cores):
    made = inside.Wakeful()
    for _ in range(5):
        made.was_in_vain()
    while not made.is_due():
        pass
    made.paid()
    assert all(made.is_due() for _ in range(10))


async def test_the_loop_stays_awake_until_the_answer_is_there(two_cores):
    vigil = inside.Vigil(asyncio.get_running_loop())
    vigil.answered(0.0)
    vigil.sent(time.monotonic() + 100)  # so that the moment does not pass while nobody looks
    for _ in range(20):
        await asyncio.sleep(0)
        assert inside.is_awake(vigil)
    vigil.answered(0.0)
    await asyncio.sleep(0)
    assert not inside.is_awake(vigil)


async def test_the_loop_goes_to_sleep_where_no_answer_comes(two_cores):
    vigil = inside.Vigil(asyncio.get_running_loop())
    vigil.answered(0.0)
    vigil.sent(time.monotonic())
    async with asyncio.timeout(10):
        while inside.is_awake(vigil):
            await asyncio.sleep(0)
    vigil.sent(time.monotonic())
    assert not inside.is_awake(vigil), "it was in vain"


async def test_an_interrupt_of_a_turn_leaves_the_loop_free_to_stay_awake_again(two_cores, monkeypatch):
    loop = asyncio.get_running_loop()
    vigil = inside.Vigil(loop)
    vigil.answered(0.0)
    vigil.sent(time.monotonic() + 100)
    with monkeypatch.context() as patch:
        patch.setattr(inside.aside, "call_soon", interrupted)
        with pytest.raises(KeyboardInterrupt):
            inside.turn_of(vigil)()
    vigil.sent(time.monotonic() + 100)
    assert inside.is_awake(vigil)
    vigil.answered(0.0)


@CORES_MATTER
async def test_after_many_calls_one_after_the_other_neither_side_uses_a_core():
    async with Supervisor(max_processes=1) as sup:
        for _ in range(200):
            await sup.run(int, kind="process")
        (process,) = inside.processes_for_calls(sup)
        await asyncio.sleep(0.05)
        before, theirs = time.process_time(), cpu_seconds(process.pid)
        await asyncio.sleep(0.5)
        assert cpu_seconds(process.pid) - theirs < 0.1
        assert time.process_time() - before < 0.2


@CORES_MATTER
async def test_a_call_that_takes_its_time_is_waited_for_asleep():
    async with Supervisor(max_processes=1) as sup:
        for _ in range(200):
            await sup.run(int, kind="process")
        before = time.process_time()
        await sup.run(naps, 0.5, kind="process")
        assert time.process_time() - before < 0.2


async def test_calls_one_after_the_other_on_whatever_there_is():
    async with Supervisor(max_processes=2) as sup:
        values = [await sup.run(f.same, number, kind="process") for number in range(500)]
        assert values == list(range(500))
