"""The queue of a pool's threads: nobody waits in it beside a call, and few are woken for many calls."""

import os
import sys
import threading
import time
from queue import Empty

import pytest

from ... import inside
from ...stepper import CheckPoints

LIMIT = 20
OVER = object()


@pytest.fixture(params=["pipe", "timed", "no files"])
def make_queue(request, monkeypatch):
    if request.param == "no files":

        def pipe():
            raise OSError

        monkeypatch.setattr(os, "pipe", pipe)
    return lambda: inside.run_queue(timed=request.param == "timed")


def soon(condition):
    until = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def in_threads(number, work):
    threads = [threading.Thread(target=work, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    return threads


def test_calls_come_in_their_order(make_queue):
    queue = make_queue()
    for number in range(5):
        queue.put(number)
    assert [queue.get() for _ in range(4)] == [0, 1, 2, 3]
    assert queue.get_nowait() == 4
    with pytest.raises(Empty):
        queue.get_nowait()


def test_who_waits_for_some_time_gets_what_comes_meanwhile_and_does_not_count_as_asleep_afterwards():
    queue = inside.run_queue(timed=True)
    for seconds in (0, 0.01):
        with pytest.raises(Empty):
            queue.get(seconds)
    assert inside.sleepers(queue) == 0
    seen = []
    thread = in_threads(1, lambda: seen.append(queue.get(LIMIT)))[0]
    soon(lambda: inside.sleepers(queue) == 1)
    queue.put(1)
    thread.join(LIMIT)
    assert seen == [1]


def test_calls_wake_nobody_where_nobody_sleeps(make_queue):
    queue = make_queue()
    for number in range(10):
        queue.put(number)
    assert inside.calls_for_threads(queue) == 0
    for _ in range(10):
        queue.get()
    inside.fall_asleep(queue)
    for number in range(10):
        queue.put(number)
    assert inside.calls_for_threads(queue) == 1
    assert inside.sleepers(queue) == 0


def test_where_others_compute_the_interpreter_is_kept_as_threads_are_woken_and_let_go_of_again_later(monkeypatch):
    queue = inside.run_queue()
    clock, lost = inside.lose_the_interpreter(monkeypatch)

    def wake():
        inside.fall_asleep(queue)
        queue.put(1)
        inside.wake_up(queue)
        assert queue.get() == 1

    for _ in range(10):
        wake()
    assert len(lost) == 1
    clock.now += 1
    for _ in range(10):
        wake()
    assert len(lost) == 2


def test_who_is_called_as_it_finds_a_call_by_itself_hears_that_it_was_called(make_queue):
    queue = make_queue()
    inside.put_as_one_falls_asleep(queue, 1)
    assert queue.get() == 1
    assert inside.calls_for_threads(queue) == 0
    assert inside.sleepers(queue) == 0


def test_many_calls_wake_one_thread_and_that_one_wakes_others(make_queue):
    queue = make_queue()
    for number in range(10):
        queue.put(number)
    began, go = threading.Semaphore(0), threading.Event()

    def carry_out():
        queue.get()
        began.release()
        go.wait(LIMIT)

    threads = in_threads(10, carry_out)
    for _ in range(10):
        assert began.acquire(timeout=LIMIT), "a thread waits beside a call"
    go.set()
    for thread in threads:
        thread.join(LIMIT)


def test_threads_that_wait_all_come_for_calls_that_take_long(make_queue):
    queue = make_queue()
    go = threading.Event()
    began = threading.Semaphore(0)

    def carry_out():
        while queue.get() is not OVER:
            began.release()
            go.wait(LIMIT)

    threads = in_threads(8, carry_out)
    soon(lambda: inside.sleepers(queue) == 8)
    for number in range(8):
        queue.put(number)
    for _ in range(8):
        assert began.acquire(timeout=LIMIT), "a thread waits beside a call"
    go.set()
    for _ in threads:
        queue.put(OVER)
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


@pytest.mark.parametrize("takers", [1, 2, 8])
def test_no_call_is_left_whoever_puts_it_and_whoever_takes_it(make_queue, takers):
    queue = make_queue()
    seen = []
    each, puts = 2000, 4

    def take():
        while (number := queue.get()) is not OVER:
            seen.append(number)

    def put():
        for number in range(each):
            queue.put(number)
            if number % 7 == 0:
                threading.Event().wait(0.00001)  # those who take have time to fall asleep

    taking, putting = in_threads(takers, take), in_threads(puts, put)
    for thread in putting:
        thread.join(LIMIT)
    for _ in taking:
        queue.put(OVER)
    for thread in taking:
        thread.join(LIMIT)
        assert not thread.is_alive(), "it waits beside a call"
    assert sorted(seen) == sorted(list(range(each)) * puts)
    assert inside.sleepers(queue) == 0  # nobody is called who has found a call by himself
    assert inside.calls_for_threads(queue) == 0


def test_an_interrupt_of_who_puts_a_call_has_nobody_wait_for_ever(make_queue):
    queue = make_queue()
    seen = []
    thread = in_threads(1, lambda: seen.append(queue.get()))[0]
    soon(lambda: inside.sleepers(queue) == 1)
    with inside.interrupted_once_as_it_wakes(queue), pytest.raises(KeyboardInterrupt):
        queue.put(1)
    thread.join(LIMIT)
    assert seen == [1]


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="nothing strikes twice there")
def test_two_interrupts_of_who_puts_a_call_have_nobody_wait_for_ever(make_queue):
    struck = set()
    for first in range(1, 12):
        for second in range(1, 12):
            queue = make_queue()
            inside.fall_asleep(queue)
            with CheckPoints(inside.CODE_OF_QUEUES, first, first + second) as points:
                try:
                    queue.put(1)
                except KeyboardInterrupt:
                    pass
            struck.add(points.struck)
            queue.put(2)  # undisturbed: if the one before has woken nobody, this one does
            assert inside.calls_for_threads(queue) > 0, f"nobody is woken after interrupts at {points.places}"
            queue.close()
    assert struck == {0, 1, 2}


def test_who_is_woken_and_ends_without_a_look_has_another_one_roused(make_queue):
    queue = make_queue()
    seen = []
    inside.fall_asleep(queue)
    queue.put(1)
    inside.wake_and_end(queue)
    thread = in_threads(1, lambda: seen.append((queue.get(), queue.get())))[0]
    queue.rouse()
    queue.put(2)
    thread.join(LIMIT)
    assert seen == [(1, 2)]


def test_no_file_is_left_open():
    queue = inside.run_queue()
    files = inside.files_of(queue)
    assert files
    queue.close()
    queue.put(1)  # late, and it harms nobody
    for file in files:
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(file)


def test_an_interrupt_as_one_file_is_closed_leaves_the_other_one_not_open(monkeypatch):
    queue = inside.run_queue()
    files = inside.files_of(queue)
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: dropped.append(raised.exc_type))

    def strike(frame, event, function):
        if event == "c_return" and function is os.close:  # where the interpreter looks for signals
            raise KeyboardInterrupt

    previous = sys.getprofile()
    sys.setprofile(strike)  # until it raises
    try:
        queue.close()
    finally:
        sys.setprofile(previous)
    assert dropped == [KeyboardInterrupt]
    for file in files:
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(file)
