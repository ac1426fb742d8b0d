"""Steps and policies: what they hold, what they refuse, and how a kind reads them."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import Ask, EscalationPolicy, Inject, Kill, PolicyError, Terminate

STEPS = (Ask, Inject, Terminate, Kill)
graces = st.floats(min_value=0, max_value=1e6)


def test_the_default_ladder() -> None:
    assert EscalationPolicy().steps == (Ask(5), Inject(2, every=1), Terminate(3), Kill(2))


def test_a_thread_has_the_first_two_steps_and_a_process_all() -> None:
    policy = EscalationPolicy()
    assert policy.for_kind("thread") == (Ask(5), Inject(2))
    assert policy.for_kind("process") == policy.steps
    assert (policy.budget("thread"), policy.budget("process")) == (7, 12)


def test_a_process_gets_a_kill_where_the_policy_has_none() -> None:
    assert EscalationPolicy(Ask(1)).for_kind("process") == (Ask(1), Kill(2))
    assert EscalationPolicy(Kill(9)).for_kind("process") == (Kill(9),)
    assert EscalationPolicy(Kill(9)).for_kind("thread") == ()


def test_an_infinite_grace_makes_an_infinite_budget() -> None:
    assert EscalationPolicy(Ask(math.inf)).budget("thread") == math.inf


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("grace", [-1, -0.001, math.nan, "5", None, True, 1j, [1], 10**400])
def test_a_grace_that_is_no_number_of_seconds_is_refused_by_name(step: type, grace: object) -> None:
    with pytest.raises(PolicyError, match=rf"^{step.__name__}\(grace="):
        step(grace)


@pytest.mark.parametrize("every", [0, -1, math.nan, "1", None, False])
def test_an_interval_that_is_no_time_is_refused_by_name(every: object) -> None:
    with pytest.raises(PolicyError, match=r"^Inject\(every="):
        Inject(1, every=every)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ((Inject(), Ask()), "cannot come after"),
        ((Ask(), Ask()), "at most once"),
        ((Ask(), Kill(), Terminate()), "Terminate"),
        ((5,), "argument 1 is 5, not a step"),
        ((Ask(), "inject"), "argument 2 is 'inject'"),
        ((Ask,), "not a step"),
    ],
)
def test_a_ladder_that_does_not_rise_is_refused(steps: tuple[object, ...], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        EscalationPolicy(*steps)  # type: ignore[arg-type]


def test_policies_are_values() -> None:
    policy = EscalationPolicy(Ask(1), Inject(2))
    assert policy == EscalationPolicy(Ask(1.0), Inject(2.0))
    assert len({policy, EscalationPolicy(Ask(1), Inject(2))}) == 1
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert eval(repr(policy)) == policy
    with pytest.raises(AttributeError):
        policy.steps = ()  # type: ignore[misc]
    with pytest.raises(AttributeError):
        policy.steps[0].grace = 3  # type: ignore[misc]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind='fiber'"):
        EscalationPolicy().for_kind("fiber")  # type: ignore[arg-type]


def test_a_policy_from_plain_data() -> None:
    data = {"kill": 2, "ask": 5, "inject": {"grace": 2, "every": 0.5}, "terminate": {"grace": 3}}
    assert EscalationPolicy.from_config(data) == EscalationPolicy(Ask(5), Inject(2, 0.5), Terminate(3), Kill(2))
    assert EscalationPolicy.from_config({}) == EscalationPolicy()
    assert EscalationPolicy.from_config({"inject": {}}) == EscalationPolicy(Inject())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"aks": 5}, "unknown step 'aks'"),
        ({"ask": "5"}, "'ask'.*must be a number"),
        ({"ask": None}, "'ask'"),
        ({"ask": True}, "'ask'"),
        ({"ask": {"every": 1}}, "'ask' has no field 'every'"),
        ({"inject": {"grace": 1, "name": "x"}}, "'inject' has no field 'name'"),
        ({"inject": {"every": 0}}, "'inject'.*more than 0"),
        ({1: 5}, "unknown step 1"),
    ],
)
def test_data_that_makes_no_policy_is_refused_by_key(data: dict[str, object], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        EscalationPolicy.from_config(data)


@pytest.mark.parametrize("data", [None, 5, "ask", ["ask"]])
def test_a_policy_comes_from_a_mapping_only(data: object) -> None:
    with pytest.raises(TypeError, match="mapping"):
        EscalationPolicy.from_config(data)  # type: ignore[arg-type]


@given(st.sets(st.sampled_from(STEPS)), st.lists(graces, min_size=4, max_size=4))
def test_every_rising_ladder_is_allowed_and_read_in_order(chosen: set[type], times: list[float]) -> None:
    steps = [step(grace) for step, grace in zip(STEPS, times, strict=True) if step in chosen]
    policy = EscalationPolicy(*steps)
    assert policy.steps == (tuple(steps) or EscalationPolicy().steps)
    assert policy.budget("process") == math.fsum(step.grace for step in policy.for_kind("process"))
