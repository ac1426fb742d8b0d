"""The life of a worker across its runs, as plain calls: restarts, limits and pauses without a clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import PolicyError, Restart
from supervisor._core.lifecycle import (
    BackingOff,
    Finish,
    Over,
    RestartAsked,
    RunEnded,
    StartRun,
    StopAsked,
    StopRun,
    TimePassed,
    Up,
    WakeAt,
    decide_life,
)

ALWAYS = Restart("always", jitter=0)
FAILURE = Restart("failure", jitter=0)
NEVER = Restart()
ENDINGS = ("returned", "failed", "stopped", "injected", "terminated", "killed", "abandoned", "died", "cancelled")


@pytest.mark.parametrize("ended", ENDINGS)
def test_which_endings_are_followed_by_another_run(ended):
    def restarted(restart):
        return not isinstance(decide_life(Up(0.0), RunEnded(ended), 1.0, restart)[0], Over)

    assert not restarted(NEVER)
    assert restarted(FAILURE) == (ended in ("failed", "died"))
    assert restarted(ALWAYS) == (ended in ("failed", "died", "returned"))


@pytest.mark.parametrize("ended", ["stopped", "injected", "killed", "returned"])
def test_a_stuck_run_is_a_failure_however_it_ended(ended):
    assert isinstance(decide_life(Up(0.0), RunEnded(ended, stuck=True), 1.0, FAILURE)[0], BackingOff)
    assert decide_life(Up(0.0), RunEnded(ended, stuck=True), 1.0, NEVER) == (Over(), (Finish(),))


def test_an_error_that_bars_restarts_ends_the_worker():
    assert decide_life(Up(0.0), RunEnded("failed", barred=True), 1.0, ALWAYS) == (Over(), (Finish(),))


def test_the_pause_doubles_up_to_its_limit_and_begins_anew_after_a_long_run():
    restart = Restart("failure", max_restarts=100, within=5, backoff=1, max_backoff=5, jitter=0)
    state, now, pauses = Up(0.0), 0.0, []
    for _ in range(5):
        state, commands = decide_life(state, RunEnded("failed"), now, restart)
        assert commands == (WakeAt(state.due_at),)
        pauses.append(state.due_at - now)
        now = state.due_at
        state, commands = decide_life(state, TimePassed(), now, restart)
        assert commands == (StartRun(),)
    assert pauses == [1, 2, 4, 5, 5]
    state, _ = decide_life(state, RunEnded("failed"), now + 5, restart)
    assert state.due_at - now - 5 == 1


def test_without_backoff_there_is_no_pause():
    state, commands = decide_life(Up(0.0), RunEnded("failed"), 1.0, Restart("failure", backoff=0))
    assert (state, commands) == (Up(1.0, (1.0,), 1), (StartRun(),))


def test_one_restart_too_many_within_the_window_exhausts():
    restart = Restart("failure", max_restarts=3, within=10, backoff=0)
    state = Up(0.0)
    for now in (1.0, 2.0, 3.0):
        state, commands = decide_life(state, RunEnded("failed"), now, restart)
        assert commands == (StartRun(),)
    assert decide_life(state, RunEnded("failed"), 10.9, restart) == (Over(), (Finish(exhausted=True),))


def test_failures_that_are_spaced_wider_than_the_window_never_exhaust():
    restart = Restart("failure", max_restarts=1, within=10, backoff=0)
    state = Up(0.0)
    for turn in range(1000):
        state, commands = decide_life(state, RunEnded("failed"), turn * 10.0, restart)
        assert commands == (StartRun(),)


def test_no_restart_at_all_is_a_limit_too():
    restart = Restart("always", max_restarts=0)
    assert decide_life(Up(0.0), RunEnded("died"), 1.0, restart)[1] == (Finish(exhausted=True),)


def test_a_stop_beats_a_restart():
    asked, commands = decide_life(Up(0.0), StopAsked(), 1.0, ALWAYS)
    assert commands == (StopRun(),)
    assert decide_life(asked, RunEnded("failed"), 2.0, ALWAYS) == (Over(), (Finish(),))
    assert decide_life(BackingOff(9.0, (), 0), StopAsked(), 1.0, ALWAYS) == (Over(), (Finish(),))
    again, _ = decide_life(Up(0.0), RestartAsked(), 1.0, ALWAYS)
    asked, _ = decide_life(again, StopAsked(), 1.0, ALWAYS)
    assert decide_life(asked, RunEnded("stopped"), 2.0, ALWAYS) == (Over(), (Finish(),))
    assert decide_life(asked, RestartAsked(), 2.0, ALWAYS)[0] == asked


def test_a_restart_on_request_waits_for_nothing_and_counts_for_nothing():
    restart = Restart("never", max_restarts=0)
    again, commands = decide_life(Up(0.0), RestartAsked(), 1.0, restart)
    assert commands == (StopRun(),)
    assert decide_life(again, RunEnded("injected"), 2.0, restart) == (Up(2.0), (StartRun(),))
    assert decide_life(BackingOff(9.0, (1.0,), 1), RestartAsked(), 2.0, restart) == (Up(2.0, (1.0,), 1), (StartRun(),))


def test_there_is_no_second_run_beside_one_that_was_given_up():
    again, _ = decide_life(Up(0.0), RestartAsked(), 1.0, ALWAYS)
    for state, event in ((again, RunEnded("abandoned")), (Up(0.0), RunEnded("abandoned", stuck=True))):
        assert decide_life(state, event, 2.0, ALWAYS) == (Over(), (Finish(exhausted=True),))


def test_an_alarm_that_rings_early_is_set_again():
    waiting = BackingOff(9.0, (), 0)
    assert decide_life(waiting, TimePassed(), 8.9, ALWAYS) == (waiting, (WakeAt(9.0),))


events = st.one_of(
    st.builds(RunEnded, st.sampled_from(ENDINGS), st.booleans(), st.booleans(), st.floats(0, 1)),
    st.just(StopAsked()),
    st.just(RestartAsked()),
    st.just(TimePassed()),
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


@given(restarts, st.lists(st.tuples(events, st.floats(0, 20)), max_size=40))
def test_whatever_happens_a_worker_runs_once_at_a_time_ends_once_and_keeps_its_limit(restart, story):
    state, now, running, over, counted = Up(0.0), 0.0, True, False, []
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
                case StartRun():
                    assert not running
                    assert not over
                    running = True
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
        assert not (over and running)


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
