"""The queue of a pool's threads: nobody waits in it beside a call, and few are woken for many calls."""

import threading
from queue import Empty

import pytest

from ... import inside

LIMIT = 20
OVER = object()


def in_threads(number, work):
    threads = [threading.Thread(target=work, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    return threads


def test_calls_come_in_their_order():
    queue = inside.run_queue()
    for number in range(5):
        queue.put(number)
    assert [queue.get() for _ in range(4)] == [0, 1, 2, 3]
    assert queue.get_nowait() == 4
    for get in (queue.get_nowait, lambda: queue.get(0), lambda: queue.get(0.01)):
        with pytest.raises(Empty):
            get()


def test_many_calls_wake_one_thread_and_that_one_wakes_others():
    queue = inside.run_queue()
    for number in range(10):
        queue.put(number)
    assert inside.calls_for_threads(queue) == 1
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


def test_threads_that_wait_all_come_for_calls_that_take_long():
    queue, go = inside.run_queue(), threading.Event()
    began = threading.Semaphore(0)

    def carry_out():
        while queue.get() is not OVER:
            began.release()
            go.wait(LIMIT)

    threads = in_threads(8, carry_out)
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
def test_no_call_is_left_whoever_puts_it_and_whoever_takes_it(takers):
    queue, seen = inside.run_queue(), []
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


def test_an_interrupt_of_who_puts_a_call_has_nobody_wait_for_ever():
    queue = inside.run_queue()
    with inside.interrupted_once_as_it_wakes(queue), pytest.raises(KeyboardInterrupt):
        queue.put(1)
    assert queue.get(LIMIT) == 1
    queue.put(2)
    assert inside.calls_for_threads(queue) >= 1


def test_who_is_woken_and_ends_without_a_look_has_another_one_roused():
    queue, seen = inside.run_queue(), []
    queue.put(1)
    inside.wake_and_end(queue)
    thread = in_threads(1, lambda: seen.append((queue.get(LIMIT), queue.get(LIMIT))))[0]
    queue.rouse()
    queue.put(2)
    thread.join(LIMIT)
    assert seen == [(1, 2)]
