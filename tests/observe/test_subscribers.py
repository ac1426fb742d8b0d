"""Who receives what a supervisor publishes: added and removed from any thread."""

import sys
import threading

from ..inside import Subscribers


def test_none_is_lost_where_threads_add_and_remove_at_once():
    subscribers, interval = Subscribers(), sys.getswitchinterval()

    lost = []

    def come_and_go(number):
        def mine(notice):
            return number

        for _ in range(2000):
            subscribers.subscribe(mine, watch=False)
            if mine not in subscribers.unwatching:
                lost.append(number)
            subscribers.unsubscribe(mine)
        subscribers.subscribe(mine, watch=False)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not lost
    assert sorted(subscriber(None) for subscriber in subscribers.each()) == [0, 1, 2, 3]
