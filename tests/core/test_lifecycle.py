"""The life of a worker across its runs, as plain calls: restarts, limits and pauses without a clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import PolicyError, Restart
from supervisor._core.lifecycle import (
    AskTurn,
    BackingOff,
    Finish,
    Held,
    NoteRestart,
    Over,
    Past,
    Readied,
    RestartAsked,
    RunEnded,
    StartRun,
    StopAsked,
    StopRun,
    TimePassed,
    TurnCame,
    Up,
    WakeAt,
    decide_life,
)

ALWAYS = Restart("always", jitter=0)
FAILURE = Restart("failure", jitter=0)
NEVER = Restart()
ENDINGS = ("returned", "failed", "stopped", "injected", "terminated", "killed", "abandoned", "died", "cancelled")

PAST = Past(attempt=1, started=True)
UP = Up(0.0, PAST)
OVER = (Over(PAST), (Finish(),))
EXHAUSTED = (Over(PAST), (Finish(exhausted=True),))


def restarted_at(state, now, restart, event=None):
    """Has a run fail, lets the pause pass, and gives the worker its turn; returns its state and how long that took."""
    state, commands = decide_life(state, event or RunEnded("failed"), now, restart)
    assert commands[0] == NoteRestart(failed=True)
    due_at = now
    if isinstance(state, BackingOff):
        due_at = state.due_at
        assert commands[1:] == (WakeAt(due_at),)
        state, commands = decide_life(state, TimePassed(), due_at, restart)
    assert commands[-1] == AskTurn()
    state, commands = decide_life(state, TurnCame(), due_at, restart)
    assert commands == (StartRun(),)
    return state, due_at - now


@pytest.mark.parametrize("ended", ENDINGS)
def test_which_endings_are_followed_by_another_run(ended):
    def restarted(restart):
        return not isinstance(decide_life(UP, RunEnded(ended), 1.0, restart)[0], Over)

    assert not restarted(NEVER)
    assert restarted(FAILURE) == (ended in ("failed", "died"))
    assert restarted(ALWAYS) == (ended in ("failed", "died", "returned"))


@pytest.mark.parametrize("ended", ["stopped", "injected", "killed", "returned"])
def test_a_stuck_run_is_a_failure_however_it_ended(ended):
    assert isinstance(decide_life(UP, RunEnded(ended, stuck=True), 1.0, FAILURE)[0], BackingOff)
    assert decide_life(UP, RunEnded(ended, stuck=True), 1.0, NEVER) == OVER


def test_an_error_that_bars_restarts_ends_the_worker():
    assert decide_life(UP, RunEnded("failed", barred=True), 1.0, ALWAYS) == OVER


@pytest.mark.parametrize("ended", ENDINGS)
def test_a_first_start_that_fails_is_not_tried_again(ended):
    first = Up(0.0, Past(attempt=1))
    assert decide_life(first, RunEnded(ended), 1.0, ALWAYS) == (Over(first.past), (Finish(),))
    ready, commands = decide_life(first, Readied(), 0.5, ALWAYS)
    assert (ready, commands) == (UP, ())


def test_a_first_start_that_its_group_has_stopped_is_tried_again():
    first, _ = decide_life(Up(0.0, Past(attempt=1)), RestartAsked(), 1.0, NEVER)
    held, commands = decide_life(first, RunEnded("stopped"), 2.0, NEVER)
    assert (held, commands) == (Held(Past(attempt=1)), (NoteRestart(failed=False), AskTurn()))
    again, _ = decide_life(held, TurnCame(), 3.0, ALWAYS)
    assert decide_life(again, RunEnded("failed"), 4.0, ALWAYS) == (Over(Past(attempt=2)), (Finish(),))


def test_the_pause_doubles_up_to_its_limit_and_begins_anew_after_a_long_run():
    restart = Restart("failure", max_restarts=100, within=5, backoff=1, max_backoff=5, jitter=0)
    state, now, pauses = UP, 0.0, []
    for _ in range(5):
        state, pause = restarted_at(state, now, restart)
        pauses.append(pause)
        now += pause
    assert pauses == [1, 2, 4, 5, 5]
    _, pause = restarted_at(state, now + 5, restart)
    assert pause == 1


def test_a_run_that_waited_for_its_turn_is_no_long_one():
    restart = Restart("failure", max_restarts=100, within=5, backoff=1, jitter=0)
    held = Held(Past(1, (0.0,), streak=1, started=True))
    state, _ = decide_life(held, TurnCame(), 100.0, restart)
    assert restarted_at(state, 101.0, restart)[1] == 2


def test_without_backoff_there_is_no_pause():
    state, commands = decide_life(UP, RunEnded("failed"), 1.0, Restart("failure", backoff=0))
    assert (state, commands) == (Held(Past(1, (1.0,), 1, started=True)), (NoteRestart(failed=True), AskTurn()))


def test_whose_turn_has_come_runs_once_more():
    held = Held(Past(3, (1.0,), 1, started=True))
    up, commands = decide_life(held, TurnCame(), 2.0, ALWAYS)
    assert (up, commands) == (Up(2.0, Past(4, (1.0,), 1, started=True)), (StartRun(),))
    assert decide_life(up, TurnCame(), 3.0, ALWAYS) == (up, ())


def test_one_restart_too_many_within_the_window_exhausts():
    restart = Restart("failure", max_restarts=3, within=10, backoff=0)
    state = UP
    for now in (1.0, 2.0, 3.0):
        state, _ = restarted_at(state, now, restart)
    assert decide_life(state, RunEnded("failed"), 10.9, restart) == (Over(state.past), (Finish(exhausted=True),))


def test_failures_that_are_spaced_wider_than_the_window_never_exhaust():
    restart = Restart("failure", max_restarts=1, within=10, backoff=0)
    state = UP
    for turn in range(1000):
        state, _ = restarted_at(state, turn * 10.0, restart)
    assert state.past.attempt == 1001


def test_no_restart_at_all_is_a_limit_too():
    restart = Restart("always", max_restarts=0)
    assert decide_life(UP, RunEnded("died"), 1.0, restart) == EXHAUSTED


def test_a_stop_beats_a_restart():
    asked, commands = decide_life(UP, StopAsked(), 1.0, ALWAYS)
    assert commands == (StopRun(),)
    assert decide_life(asked, RunEnded("failed"), 2.0, ALWAYS) == OVER
    again, _ = decide_life(UP, RestartAsked(), 1.0, ALWAYS)
    asked, _ = decide_life(again, StopAsked(), 1.0, ALWAYS)
    assert decide_life(asked, RunEnded("stopped"), 2.0, ALWAYS) == OVER
    assert decide_life(asked, RestartAsked(), 2.0, ALWAYS)[0] == asked


@pytest.mark.parametrize("state", [BackingOff(9.0, PAST), Held(PAST)])
def test_a_stop_between_two_runs_ends_the_worker_at_once(state):
    assert decide_life(state, StopAsked(), 1.0, ALWAYS) == (Over(PAST), (Finish(between_runs=True),))


def test_a_restart_on_request_waits_for_nothing_but_its_turn_and_counts_for_nothing():
    restart = Restart("never", max_restarts=0)
    past = Past(1, (1.0,), 1, started=True)
    again, commands = decide_life(Up(0.0, past), RestartAsked(), 1.0, restart)
    assert commands == (StopRun(),)
    held = Held(Past(1, (1.0,), 0, started=True))
    assert decide_life(again, RunEnded("injected"), 2.0, restart) == (held, (NoteRestart(failed=False), AskTurn()))
    assert decide_life(BackingOff(9.0, past), RestartAsked(), 2.0, restart) == (Held(past), (AskTurn(),))
    assert decide_life(held, RestartAsked(), 2.0, restart) == (held, ())


def test_there_is_no_second_run_beside_one_that_was_given_up():
    again, _ = decide_life(UP, RestartAsked(), 1.0, ALWAYS)
    for state, event in ((again, RunEnded("abandoned")), (UP, RunEnded("abandoned", stuck=True))):
        assert decide_life(state, event, 2.0, ALWAYS) == EXHAUSTED


def test_whom_a_group_has_stopped_to_start_it_again_is_given_up_where_it_goes_on():
    kept, commands = decide_life(UP, StopAsked(kept=True), 1.0, NEVER)
    assert commands == (StopRun(),)
    assert decide_life(kept, RunEnded("stopped"), 2.0, NEVER)[1] == (Finish(kept=True),)
    assert decide_life(kept, RunEnded("abandoned"), 2.0, NEVER)[1] == (Finish(exhausted=True, kept=True),)
    stopped, _ = decide_life(UP, StopAsked(), 1.0, NEVER)
    assert decide_life(stopped, RunEnded("abandoned"), 2.0, NEVER) == OVER


def test_an_alarm_that_rings_early_is_set_again():
    waiting = BackingOff(9.0, PAST)
    assert decide_life(waiting, TimePassed(), 8.9, ALWAYS) == (waiting, (WakeAt(9.0),))


@pytest.mark.parametrize("state", [BackingOff(9.0, PAST), Held(PAST), Over(PAST)])
@pytest.mark.parametrize("event", [RunEnded("failed"), Readied()])
def test_what_is_told_of_a_run_when_there_is_none_changes_nothing(state, event):
    assert decide_life(state, event, 1.0, ALWAYS) == (state, ())


events = st.one_of(
    st.builds(RunEnded, st.sampled_from(ENDINGS), st.booleans(), st.booleans(), st.floats(0, 1)),
    st.builds(StopAsked, st.booleans()),
    st.just(RestartAsked()),
    st.just(TimePassed()),
    st.just(TurnCame()),
    st.just(Readied()),
)
restarts = st.builds(
    Restart,
    st.sampled_from(["never", "failure", "always"]),
    max_restarts=st.integers(0, 4),
    within=st.floats(0.1, 100),
    backoff=st.floats(0, 2),
    max_backoff=st.floats(2, 50),
    jitter=st.floats(0, 1),
)


@given(restarts, st.booleans(), st.lists(st.tuples(events, st.floats(0, 20)), max_size=40))
def test_whatever_happens_a_worker_runs_once_at_a_time_ends_once_and_keeps_its_limit(restart, started, story):
    state, now, running, asked, over, runs, counted = Up(0.0, Past(1, started=started)), 0.0, True, False, False, 1, []
    for event, pause in story:
        now += pause
        if isinstance(event, RunEnded):
            if not running:
                continue
            running = False
        before = state
        state, commands = decide_life(state, event, now, restart)
        for command in commands:
            match command:
                case NoteRestart(failed=failed):
                    assert isinstance(event, RunEnded)
                    assert failed == (not before.again)
                case AskTurn():
                    assert not running
                    assert not asked
                    asked = True
                case StartRun():
                    assert asked
                    assert not running
                    assert not over
                    running, asked, runs = True, False, runs + 1
                case StopRun():
                    assert running
                case WakeAt(at=at):
                    assert now <= at <= now + 2 * restart.max_backoff
                case Finish():
                    assert not over
                    over = True
        if isinstance(before, Up) and isinstance(event, RunEnded) and not before.again and not isinstance(state, Over):
            counted.append(now)
            assert sum(now - at < restart.within for at in counted) <= restart.max_restarts
        assert over == isinstance(state, Over)
        assert running == isinstance(state, Up)
        assert state.past.attempt == runs
        assert state.past.started >= before.past.started


@given(events, st.sampled_from([UP, BackingOff(3.0, PAST), Held(PAST), Over(PAST)]), st.floats(0, 6))
def test_what_was_asked_to_stop_never_runs_again(event, state, now):
    state, commands = decide_life(state, StopAsked(), 0.0, ALWAYS)
    after, more = decide_life(state, event, now, ALWAYS)
    assert StartRun() not in commands + more
    assert AskTurn() not in commands + more
    assert isinstance(after, Over) or (isinstance(after, Up) and after.asked)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"when": "sometimes"}, "when"),
        ({"max_restarts": -1}, "max_restarts"),
        ({"max_restarts": 1.5}, "max_restarts"),
        ({"max_restarts": True}, "max_restarts"),
        ({"within": 0}, "within"),
        ({"within": "5"}, "within"),
        ({"backoff": -1}, "backoff"),
        ({"backoff": math.inf}, "backoff"),
        ({"max_backoff": 0.1}, "max_backoff"),
        ({"jitter": 1.1}, "jitter"),
        ({"jitter": math.nan}, "jitter"),
        ({"never_on": (ValueError, 3)}, "never_on"),
        ({"never_on": int}, "never_on"),
    ],
)
def test_a_restart_that_cannot_be_is_refused_by_name(arguments, field):
    with pytest.raises(PolicyError, match=rf"^Restart\({field}="):
        Restart(**arguments)


def test_a_single_exception_type_will_do():
    assert Restart(never_on=ValueError).never_on == (ValueError,)
