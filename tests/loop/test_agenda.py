"""An agenda: commands are carried out in order, and none is lost where an interrupt strikes."""

import linecache
import sys

import pytest

from .. import inside
from ..inside import Agenda


class Loop:
    """Takes what is to be called soon, and calls it."""

    def __init__(self):
        self.soon = []

    def call_soon(self, callback, *args):
        self.soon.append((callback, args))

    def turn(self):
        soon, self.soon = self.soon, []
        for callback, args in soon:
            callback(*args)


@pytest.fixture
def loop():
    return Loop()


def test_commands_are_carried_out_in_their_order_for_their_owner(loop):
    agenda, done = Agenda(), []
    agenda.todo += [1, 2, 3]
    agenda.work(loop.call_soon, lambda owner, command: done.append((owner, command)), "owner")
    assert done == [("owner", 1), ("owner", 2), ("owner", 3)]
    assert not agenda.todo
    assert not loop.soon


def test_a_command_that_leads_here_again_is_finished_before_the_next_one_begins(loop):
    agenda, story = Agenda(), []

    def carry_out(command):
        story.append(f"{command} begins")
        if command == 1:
            agenda.todo += [3]
            agenda.work(loop.call_soon, carry_out)
        story.append(f"{command} ends")

    agenda.todo += [1, 2]
    agenda.work(loop.call_soon, carry_out)
    assert story == ["1 begins", "1 ends", "2 begins", "2 ends", "3 begins", "3 ends"]


def test_a_long_chain_of_commands_that_lead_to_each_other_needs_no_stack(loop):
    agenda, done = Agenda(), []

    def carry_out(command):
        done.append(command)
        if command < 10 * sys.getrecursionlimit():
            agenda.todo += [command + 1]
            agenda.work(loop.call_soon, carry_out)

    agenda.todo += [1]
    agenda.work(loop.call_soon, carry_out)
    assert len(done) == 10 * sys.getrecursionlimit()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_after_an_interrupt_the_loop_goes_on_with_the_command_that_was_interrupted(loop, interrupt):
    agenda, done, strikes = Agenda(), [], [interrupt]

    def carry_out(command):
        done.append(command)
        if command == 2 and strikes:
            raise strikes.pop()

    agenda.todo += [1, 2, 3]
    with pytest.raises(interrupt):
        agenda.work(loop.call_soon, carry_out)
    assert done == [1, 2]
    assert repr(agenda) == "<Agenda: [2, 3]>"
    loop.turn()
    assert done == [1, 2, 2, 3]
    assert not loop.soon


def test_an_error_reaches_whoever_had_it_done_and_the_rest_waits_for_the_next_one(loop):
    agenda, done, errors = Agenda(), [], [ValueError("2 failed")]

    def carry_out(command):
        done.append(command)
        if command == 2 and errors:
            raise errors.pop()

    agenda.todo += [1, 2, 3]
    with pytest.raises(ValueError, match="2 failed"):
        agenda.work(loop.call_soon, carry_out)
    assert not loop.soon
    agenda.work(loop.call_soon, carry_out)
    assert done == [1, 2, 2, 3]


class Striker:
    """Raises KeyboardInterrupt at the n-th line that is executed in `Agenda.work`, once."""

    def __init__(self, strike_at):
        self.strike_at = strike_at
        self.struck = None

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_):
        sys.settrace(self._before)

    def _trace(self, frame, event, _):
        return self._line if frame.f_code is inside.IN_AN_AGENDA.code else None

    def _line(self, frame, event, _):
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        # At the `try` itself, and at a plain store, the interpreter does not look for signals.
        if event == "line" and self.struck is None and not line.startswith(("try:", "self._busy = ")):
            self.strike_at -= 1
            if self.strike_at == 0:
                self.struck = line
                raise KeyboardInterrupt
        return self._line


def test_an_interrupt_at_any_line_loses_no_command():
    strike_at, where, missed = 0, set(), False
    while not missed:
        strike_at += 1
        loop, agenda, done = Loop(), Agenda(), []

        def carry_out(command, loop=loop, agenda=agenda, done=done):
            if command == 1 and 4 not in done and 4 not in agenda.todo:
                agenda.todo += [4]
                agenda.work(loop.call_soon, carry_out)
            done.append(command)

        agenda.todo += [1, 2, 3]
        with Striker(strike_at) as striker:
            try:
                agenda.work(loop.call_soon, carry_out)
            except KeyboardInterrupt:
                if not loop.soon:  # it struck before the first command: whoever had called hears of that, as always
                    assert not done
                    agenda.work(loop.call_soon, carry_out)
                loop.turn()
        missed = striker.struck is None
        where.add(striker.struck)
        assert not agenda.todo, f"struck at {striker.struck}"
        assert list(dict.fromkeys(done)) == [1, 2, 3, 4]
        assert len(done) <= 5, f"struck at {striker.struck}: only one command may be carried out twice"
        assert "at work" not in repr(agenda)
    assert len(where) > 4, "the interrupts did not strike"
