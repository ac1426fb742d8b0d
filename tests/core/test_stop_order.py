"""By when each worker must have ended, as plain numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor._core.stop_order import deadlines


def reserved(after, left, budgets):
    """The deadlines of workers, each of which comes after others, where all have so many seconds from now on."""
    budgets = dict(reversed(list(enumerate(budgets))))
    found = deadlines(budgets, 100.0, 100.0 + left, after.__getitem__)
    return [round(found[number] - 100.0, 6) for number in range(len(after))]


def test_without_an_order_all_have_the_whole_time():
    assert reserved([(), (), ()], 20.0, [5, 7, math.inf]) == [20, 20, 20]


def test_the_ladders_that_come_later_are_reserved():
    assert reserved([(), (0,), (1,)], 20.0, [3, 4, 5]) == [20, 17, 13]


def test_the_longest_path_counts():
    assert reserved([(), (), (0, 1)], 20.0, [3, 8, 5]) == [20, 20, 12]


def test_where_the_longest_path_does_not_fit_all_shrink_by_one_factor():
    assert reserved([(), (0,)], 10.0, [10, 10]) == [10, 5]
    assert reserved([(), (0,), (1,)], 4.0, [4, 2, 2]) == [4, 2, 1]


def test_an_infinite_grace_counts_as_the_time_that_is_left():
    assert reserved([(), (0,)], 10.0, [math.inf, 5]) == [10, pytest.approx(10 / 3)]
    assert reserved([(), (0,)], math.inf, [3, 4]) == [math.inf, math.inf]


def test_without_time_nobody_has_any():
    assert reserved([(), (0,), (1,)], 0.0, [5, 5, 5]) == [0, 0, 0]
    assert reserved([(), (0,)], -3.0, [0, 0]) == [-3, -3]


def test_a_ladder_of_nothing_needs_no_time():
    assert reserved([(), (0,)], 10.0, [0, 5]) == [10, 10]


def test_what_is_not_stopped_itself_needs_no_time_but_leads_on():
    later = {"web": ["a group"], "a group": ["db", "cache"], "db": [], "cache": []}
    found = deadlines({"web": 1, "db": 2, "cache": 3}, 0.0, 10.0, later.__getitem__)
    assert found == {"web": 7.0, "db": 10.0, "cache": 10.0}


def test_the_order_costs_in_proportion_to_the_workers():
    web = [f"web {number}" for number in range(500)]
    base = [f"base {number}" for number in range(500)]
    looks = []

    def later(key):
        looks.append(key)
        return ["the base"] if key in web else base if key == "the base" else []

    found = deadlines(dict.fromkeys(web + base, 1.0), 0.0, 10.0, later)
    assert {found[key] for key in web} == {9.0}
    assert {found[key] for key in base} == {10.0}
    assert len(looks) < 2 * 1001


def test_a_long_chain_needs_no_stack():
    after = [(), *((number,) for number in range(20_000))]
    assert reserved(after, 20_001.0, [1] * 20_001)[-1] == 1.0


seconds = st.floats(0, 100) | st.just(math.inf)
orders = st.integers(1, 8).flatmap(
    lambda number: st.tuples(*(st.sets(st.integers(0, own - 1)) if own else st.just(set()) for own in range(number)))
)


@given(orders, st.floats(0, 100), st.data())
def test_whatever_the_order_each_keeps_the_same_share_of_its_time(after, left, data):
    budgets = {number: data.draw(seconds) for number in range(len(after))}
    found = deadlines(budgets, 0.0, left, lambda number: sorted(after[number]))
    needed = {}
    for number, others in enumerate(after):
        needed[number] = min(budgets[number], left) + max((needed[other] for other in others), default=0.0)
    longest = max(needed.values())
    share = min(1.0, left / longest) if longest else 1.0
    for number, others in enumerate(after):
        assert -1e-6 < found[number] <= left
        for other in others:
            assert found[other] - found[number] >= share * min(budgets[other], left) - 1e-6
