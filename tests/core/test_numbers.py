"""An immutable set of numbers is a set of numbers."""

from hypothesis import given
from hypothesis import strategies as st

from supervisor._core.numbers import Numbers

NUMBERS = st.sets(st.integers(0, 10_000))


@given(NUMBERS, NUMBERS)
def test_it_has_what_a_set_has(some, others):
    numbers = Numbers(some)
    assert numbers == some
    assert set(numbers | others) == some | others
    assert set(numbers - others) == some - others
    assert len(numbers - others) == len(some - others)
    assert all(number in numbers for number in some)
    assert not any(number in numbers for number in others - some)
    assert set(numbers) == some, "it has not changed"
    assert hash(numbers) == hash(Numbers(sorted(some)))
    if some:
        assert numbers.least == min(some)
