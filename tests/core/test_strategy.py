"""How the workers of a group restart together, as plain calls, and as random stories."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor._core.strategy import (
    Anew,
    Begun,
    Due,
    Emptied,
    End,
    EndAsked,
    Ending,
    Failed,
    Gone,
    Ready,
    Restarting,
    Sibling,
    Start,
    Steady,
    Waits,
    decide_group,
)

UP = [Sibling(number, revived=True, up=True) for number in range(5)]


def failed(number, siblings=UP):
    return Failed(number, tuple(sibling for sibling in siblings if sibling.number != number))


def test_alone_each_worker_comes_up_as_soon_as_it_is_due():
    assert decide_group(Steady(), failed(2), "one_for_one") == (Steady(), ())
    assert decide_group(Steady(), Due(2), "one_for_one") == (Steady(), (Start(2),))


def test_one_for_all_takes_everybody_down():
    state, commands = decide_group(Steady(), failed(2), "one_for_all")
    assert state == Restarting(frozenset(range(5)))
    assert commands == (Anew(0), Anew(1), Anew(3), Anew(4))


def test_rest_for_one_takes_down_those_that_were_started_later():
    state, commands = decide_group(Steady(), failed(2), "rest_for_one")
    assert state == Restarting(frozenset({2, 3, 4}))
    assert commands == (Anew(3), Anew(4))


def test_who_is_not_restarted_ends_with_the_group_and_who_is_down_already_is_let_be():
    siblings = [Sibling(0, revived=False, up=True), Sibling(1, revived=True, up=False)]
    state, commands = decide_group(Steady(), Failed(2, tuple(siblings)), "one_for_all")
    assert (state, commands) == (Restarting(frozenset({0, 2})), (End(0),))


def test_all_are_down_before_the_first_comes_up_and_each_is_ready_before_the_next():
    state, _ = decide_group(Steady(), failed(0, UP[:3]), "one_for_all")
    for number in (1, 0):
        state, commands = decide_group(state, Due(number), "one_for_all")
        assert commands == ()
    state, commands = decide_group(state, Due(2), "one_for_all")
    assert commands == (Start(0),)
    assert decide_group(state, Ready(1), "one_for_all") == (state, ())
    for number in (0, 1):
        state, commands = decide_group(state, Ready(number), "one_for_all")
        assert commands == (Start(number + 1),)
    assert decide_group(state, Ready(2), "one_for_all") == (Steady(), ())


def test_one_that_ends_for_good_holds_nobody_up():
    state, _ = decide_group(Steady(), failed(0, UP[:2]), "one_for_all")
    state, _ = decide_group(state, Due(1), "one_for_all")
    state, commands = decide_group(state, Gone(0), "one_for_all")
    assert commands == (Start(1),)
    assert decide_group(state, Gone(1), "one_for_all") == (Steady(), ())


def test_a_failure_on_the_way_up_begins_it_again():
    state, _ = decide_group(Steady(), failed(0, UP[:2]), "one_for_all")
    for number in (0, 1):
        state, commands = decide_group(state, Due(number), "one_for_all")
    state, commands = decide_group(state, Ready(0), "one_for_all")
    assert commands == (Start(1),)
    state, commands = decide_group(state, failed(1, UP[:2]), "one_for_all")
    assert (state, commands) == (Restarting(frozenset({0, 1})), (Anew(0),))


GOING_UP = Restarting(frozenset(), frozenset({2}), 1)
COMING_DOWN = Restarting(frozenset({1, 2}))


@pytest.mark.parametrize("state", [Steady(), COMING_DOWN, GOING_UP, Ending()])
def test_a_group_that_is_to_end_starts_nobody_again(state):
    ending, commands = decide_group(state, EndAsked(), "one_for_all")
    assert (ending, commands) == (Ending(), ())
    for event in (failed(1), Due(1), Ready(1), Waits(1), Gone(1)):
        assert decide_group(ending, event, "one_for_all") == (ending, ())
    assert decide_group(ending, Emptied(), "one_for_all") == (Steady(), ())


@pytest.mark.parametrize("state", [Steady(), COMING_DOWN, GOING_UP])
def test_a_group_that_was_not_to_end_stays_where_it_is_when_it_is_empty(state):
    assert decide_group(state, Emptied(), "one_for_all") == (state, ())


def test_a_group_that_is_started_again_comes_up_one_after_the_other_whatever_its_strategy():
    state, commands = decide_group(Steady(), Begun(frozenset({2, 1})), "one_for_one")
    assert (state, commands) == (Restarting(frozenset(), frozenset({2}), 1, whole=True), (Start(1),))
    state, commands = decide_group(state, Ready(1), "one_for_one")
    assert (state, commands) == (Restarting(frozenset(), frozenset(), 2, whole=True), (Start(2),))
    assert decide_group(state, Ready(2), "one_for_one") == (Steady(), ())


def test_a_failure_on_the_way_up_leaves_it_a_start_of_the_whole_group():
    state, _ = decide_group(Steady(), Begun(frozenset({1, 2})), "one_for_all")
    state, commands = decide_group(state, failed(1, UP[1:3]), "one_for_all")
    assert (state, commands) == (Restarting(frozenset({1, 2}), whole=True), (Anew(2),))


def test_a_group_without_members_is_up_as_soon_as_it_is_started():
    assert decide_group(Steady(), Begun(frozenset()), "one_for_all") == (Steady(), ())


@given(
    st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    st.lists(st.booleans(), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["fail", "down", "ready", "end", "fail"])), max_size=60),
)
def test_whatever_happens_nobody_runs_twice_order_holds_and_nobody_is_forgotten(strategy, revived, story):
    """A small world: each worker is up (starting or ready), coming down, down (and due), or gone."""
    world = dict.fromkeys(range(len(revived)), "ready")
    state, coming_for_good = Steady(), set()

    def tell(event):
        nonlocal state
        state, commands = decide_group(state, event, strategy)
        for command in commands:
            number = command.number
            match command:
                case Anew() | End():
                    assert world[number] in ("starting", "ready")
                    world[number] = "coming down"
                    if isinstance(command, End):
                        coming_for_good.add(number)
                case Start():
                    assert world[number] == "down"
                    if strategy != "one_for_one":
                        assert "coming down" not in world.values() or isinstance(state, Steady)
                    world[number] = "starting"

    for number, what in story:
        if number not in world or world[number] == "gone":
            continue
        if what == "fail" and world[number] in ("starting", "ready") and revived[number]:
            world[number] = "coming down"  # its pause
            siblings = tuple(
                Sibling(other, revived[other], place in ("starting", "ready"))
                for other, place in world.items()
                if other != number and place != "gone"
            )
            tell(Failed(number, siblings))
        elif what == "down" and world[number] == "coming down":
            if number in coming_for_good:
                world[number] = "gone"
                tell(Gone(number))
            else:
                world[number] = "down"
                tell(Due(number))
        elif what == "ready" and world[number] == "starting":
            world[number] = "ready"
            tell(Ready(number))
        elif what == "end":
            world[number] = "gone"
            tell(Gone(number))
    for _ in range(3 * len(world) + 3):  # whatever is on its way arrives
        for number, place in list(world.items()):
            if place == "coming down":
                world[number] = "gone" if number in coming_for_good else "down"
                tell(Gone(number) if number in coming_for_good else Due(number))
            elif place == "starting":
                world[number] = "ready"
                tell(Ready(number))
    assert set(world.values()) <= {"ready", "gone"}
    assert state == Steady()


@pytest.mark.parametrize("event", [Due(9), Ready(9), Gone(9)])
def test_events_of_strangers_change_nothing_that_matters(event):
    state = Restarting(frozenset({1}), frozenset({2}), None)
    after, commands = decide_group(state, event, "one_for_all")
    assert after.down == state.down
    assert not commands


def test_who_comes_down_before_it_is_ready_is_started_again_when_it_is_due():
    rising = Restarting(frozenset(), frozenset({2, 3}), 1)
    assert decide_group(rising, Due(1), "one_for_one") == (Restarting(frozenset(), frozenset({2, 3}), 1), (Start(1),))


def test_who_waits_for_what_it_comes_after_does_not_hold_up_the_others():
    rising = Restarting(frozenset(), frozenset({2, 3}), 1)
    assert decide_group(rising, Waits(1), "one_for_all") == (Restarting(frozenset(), frozenset({3}), 2), (Start(2),))
