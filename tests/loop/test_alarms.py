"""The alarms by themselves."""

import asyncio
import time

import pytest

from .. import inside
from ..inside import Alarms


class Target:
    over = False


def test_alarms_ring_in_order_whatever_is_set_while_they_ring(virtual):
    """An alarm that is set while another rings must not keep an earlier one waiting."""
    rang = []

    async def main(time):
        began, first, second = time.now, Target(), Target()

        def ring(target):
            rang.append((round(time.now - began, 3), "first" if target is first else "second"))
            if target is first and len(rang) == 1:
                alarms.set(began + 1.0, first)

        alarms = Alarms(asyncio.get_running_loop(), time, ring)
        alarms.set(began + 0.10, first)
        alarms.set(began + 0.11, second)
        for _ in range(12):
            await time.advance(0.1)
        alarms.close()

    virtual(main)
    assert rang == [(0.1, "first"), (0.11, "second"), (1.0, "first")]


def test_alarms_of_what_is_over_do_not_ring_and_are_forgotten(virtual):
    rang = []

    async def main(time):
        alarms = Alarms(asyncio.get_running_loop(), time, rang.append)
        targets = [Target() for _ in range(1000)]
        for target in targets:
            alarms.set(time.now + 1000, target)
        for target in targets[:-1]:
            target.over = True
            alarms.forget()
        assert inside.alarms_in(alarms) < 200
        await time.advance(1500)
        return targets[-1]

    last = virtual(main)
    assert rang == [last]


async def test_an_alarm_that_is_overdue_is_not_put_off_by_what_is_set_for_later():
    """A turn of the loop has taken long, and what comes in before the timer's turn sets alarms of its own."""
    loop, rung = asyncio.get_running_loop(), []
    alarms = Alarms(loop, loop.time, rung.append)
    due, later = Target(), Target()
    alarms.set(loop.time() + 0.001, due)
    time.sleep(0.01)
    for _ in range(3):
        alarms.set(loop.time() + 1000, later)
        await asyncio.sleep(0)
    assert rung == [due]
    alarms.close()


def test_an_alarm_whose_ringing_was_interrupted_rings_again(virtual):
    rang = []

    async def main(time):
        target = Target()

        def ring(target):
            rang.append(target)
            if len(rang) == 1:
                raise KeyboardInterrupt

        alarms = Alarms(asyncio.get_running_loop(), time, ring)
        alarms.set(time.now, target)
        with pytest.raises(KeyboardInterrupt):
            inside.ring_alarms(alarms)
        await time.advance(0)

    virtual(main)
    assert len(rang) == 2
