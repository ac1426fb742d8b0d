"""The life of a run, as plain calls: the table first, then what must hold on every path."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from supervisor import Ask, EscalationPolicy, Inject, Kill, Terminate
from supervisor._core.ladder import (
    KILL_LEAST,
    LAST_LEAST,
    Abandon,
    Abandoned,
    Command,
    Conclude,
    EndedState,
    Entered,
    Event,
    Exited,
    GraceAsked,
    NoteLateEnd,
    Perform,
    Queued,
    Rules,
    Running,
    Starting,
    State,
    StopAsked,
    Stopping,
    TimePassed,
    WakeAt,
    decide,
    hurried,
)
from supervisor._core.policy import LADDER, STEPS, Step

RULES = Rules((Ask(5), Inject(2, every=1)), (Ask(5),), patience=20)

EVENTS: list[Event] = [
    Entered(),
    StopAsked("stop"),
    TimePassed(),
    GraceAsked(3),
    Exited(returned=True),
    Exited(returned=False),
    Abandoned(),
]


def stopping(now: float = 0.0, rules: Rules = RULES, **stop: object) -> tuple[Stopping, tuple[Command, ...]]:
    state, commands = decide(Running(), StopAsked(**{"cause": "stop", **stop}), now, rules)  # type: ignore[arg-type]
    assert isinstance(state, Stopping)
    return state, commands


STOPPING = stopping()[0]
STATES: list[State] = [Queued(), Starting(), Running(), STOPPING, EndedState("returned"), EndedState("abandoned")]


@pytest.mark.parametrize("event", EVENTS, ids=repr)
@pytest.mark.parametrize("state", STATES, ids=repr)
def test_every_state_answers_every_event(state: State, event: Event) -> None:
    after, commands = decide(state, event, 1.0, RULES)
    concluded = [command for command in commands if isinstance(command, Conclude)]
    assert len(concluded) == (isinstance(after, EndedState) and not isinstance(state, EndedState))


@pytest.mark.parametrize("state", [Queued(), Starting()])
def test_before_it_is_entered_a_stop_is_the_end(state: State) -> None:
    assert decide(state, Entered(), 0, RULES) == (Running(), ())
    assert decide(state, StopAsked("cancel"), 0, RULES) == (EndedState("cancelled"), (Conclude("cancelled"),))
    assert decide(state, Exited(returned=False), 0, RULES) == (EndedState("failed"), (Conclude("failed"),))


def test_running_to_its_own_end() -> None:
    assert decide(Running(), Exited(returned=True), 0, RULES) == (EndedState("returned"), (Conclude("returned"),))
    assert decide(Running(), Exited(returned=False), 0, RULES) == (EndedState("failed"), (Conclude("failed"),))


def test_the_ladder_step_by_step() -> None:
    state: State
    state, commands = stopping(now=100)
    assert commands == (Perform(Ask(5)), WakeAt(105))
    state, commands = decide(state, TimePassed(), 104.9, RULES)  # too early: set the alarm again
    assert commands == (WakeAt(105),)
    state, commands = decide(state, TimePassed(), 105, RULES)
    assert commands == (Perform(Inject(2)), WakeAt(106))
    state, commands = decide(state, TimePassed(), 106, RULES)
    assert commands == (Perform(Inject(2), again=True), WakeAt(107))
    state, commands = decide(state, TimePassed(), 107, RULES)
    assert commands == (Abandon(inject=True),)
    state, commands = decide(state, Abandoned(), 107, RULES)
    assert commands == (Conclude("abandoned", "inject"),)
    state, commands = decide(state, Exited(returned=True), 3600, RULES)
    assert (state, commands) == (EndedState("abandoned", "inject"), (NoteLateEnd(),))


def test_an_end_is_named_by_the_highest_step_that_had_begun() -> None:
    rules = Rules(EscalationPolicy().steps, (), 20)
    state: State = stopping(rules=rules)[0]
    seen = []
    for at in (0, 5, 7, 10):
        state, _ = decide(state, TimePassed(), at, rules)
        assert isinstance(state, Stopping)
        seen.append(decide(state, Exited(returned=True), at, rules)[1])
    assert seen == [
        (Conclude("stopped", "ask"),),
        (Conclude("injected", "inject"),),
        (Conclude("terminated", "terminate"),),
        (Conclude("killed", "kill"),),
    ]


def test_a_calls_own_cancellation_has_its_own_ladder() -> None:
    state, _ = stopping(cause="cancel")
    assert decide(state, TimePassed(), 5, RULES)[1] == (Abandon(inject=False),)


def test_a_shutdown_brings_the_whole_ladder_to_a_call_that_was_cancelled() -> None:
    state: State = stopping(cause="cancel")[0]
    state, commands = decide(state, StopAsked("shutdown", deadline=3.5), 0, RULES)
    assert commands == (WakeAt(2.5),)
    state, commands = decide(state, TimePassed(), 2.5, RULES)
    assert commands == (Perform(Inject(1.0)), WakeAt(3.5))


def test_zero_graces_climb_at_once() -> None:
    rules = Rules((Ask(0), Inject(0)), (), 20)
    assert stopping(rules=rules)[1] == (Perform(Ask(0)), Perform(Inject(0)), Abandon(inject=True))


def test_an_infinite_grace_waits_but_not_beyond_a_deadline() -> None:
    rules = Rules((Ask(math.inf), Inject(2)), (), 20)
    state, commands = stopping(rules=rules)
    assert commands == (Perform(Ask(math.inf)),)
    _, commands = decide(state, StopAsked("shutdown", deadline=9), 1, rules)
    assert commands == (WakeAt(1 + 8 * 0.8),)


def test_a_deadline_shrinks_all_graces_by_one_factor() -> None:
    state, commands = stopping(deadline=3.5)
    assert commands == (Perform(Ask(5)), WakeAt(2.5))
    assert state.later == (Inject(1.0),)


def test_a_deadline_that_has_passed_climbs_at_once() -> None:
    state, _ = stopping()
    _, commands = decide(state, StopAsked("shutdown", deadline=-1), 0, RULES)
    assert commands == (Perform(Inject(0)), Abandon(inject=True))


def test_a_far_deadline_changes_nothing() -> None:
    assert stopping(deadline=100)[1] == (Perform(Ask(5)), WakeAt(5))


def test_a_second_deadline_can_only_be_nearer() -> None:
    state, _ = stopping(deadline=3.5)
    after, _ = decide(state, StopAsked("shutdown", deadline=100), 0, RULES)
    assert after == state


def test_nobody_is_given_up_without_having_been_asked() -> None:
    assert stopping(rules=Rules((), (), 20))[1] == (Perform(Ask(0)), Abandon(inject=False))


def extended(state: Stopping, seconds: float, now: float = 0.0) -> float:
    after, commands = decide(state, GraceAsked(seconds), now, RULES)
    assert isinstance(after, Stopping)
    assert commands == ()
    return after.ends_at - state.ends_at


def test_an_extension_outside_a_shutdown_is_bounded_by_patience() -> None:
    assert extended(STOPPING, 3) == 3
    assert extended(STOPPING, 1000) == 20 - 5 - 2


def test_an_extension_never_eats_later_graces_nor_the_deadline() -> None:
    state, _ = stopping(deadline=10)
    assert extended(state, 1000) == 3
    shrunk, _ = stopping(deadline=3.5)
    assert extended(shrunk, 1000) == 0


def test_an_extension_of_an_infinite_grace_changes_nothing() -> None:
    rules = Rules((Ask(math.inf),), (), 20)
    state, _ = stopping(rules=rules)
    assert decide(state, GraceAsked(5), 0, rules)[0] == state


steps = st.builds(
    lambda chosen, graces: tuple(
        step(grace) for step, grace in zip(LADDER, graces, strict=True) if LADDER.index(step) in chosen
    ),
    st.sets(st.integers(0, 3)),
    st.lists(st.one_of(st.floats(0, 50), st.just(math.inf)), min_size=4, max_size=4),
)


@given(steps.filter(len), st.floats(0, 100), st.floats(0, 100))
def test_a_shrunk_ladder_visits_every_step_by_the_deadline(ladder: tuple[Step, ...], now: float, left: float) -> None:
    rules = Rules(ladder, ladder, 20)
    deadline = now + left
    state, commands = stopping(now, rules, deadline=deadline)
    visited: list[type[Step]] = []
    finite = math.fsum(step.grace for step in ladder)
    while True:
        visited += [type(command.step) for command in commands if isinstance(command, Perform) and not command.again]
        if any(isinstance(command, Abandon) for command in commands):
            break
        (at,) = [command.at for command in commands if isinstance(command, WakeAt)]
        assert at <= deadline + 1e-6
        after, commands = decide(state, TimePassed(), at, rules)
        assert isinstance(after, Stopping)
        assert after.later == state.later or len(after.later) < len(state.later)
        state, now = after, at
    assert visited == [type(step) for step in ladder]
    assert now <= deadline + 1e-6 or now <= finite


@pytest.mark.parametrize(
    ("last", "left", "kept"),
    [
        (Inject(2), 0.2, LAST_LEAST),
        (Inject(2), 0.06, 0.03),  # half of what is left, so that the others have something too
        (Inject(0.01), 0.2, 0.01),
        (Inject(2), 10, 10 * 2 / 62),  # its share, where that is more
        (Kill(2), 0.5, KILL_LEAST),
        (Kill(0), 0.5, KILL_LEAST),
    ],
)
def test_the_last_step_keeps_a_moment_within_the_deadline(last: Step, left: float, kept: float) -> None:
    rules = Rules((Ask(60), last), (last,), 20)
    state, commands = stopping(10.0, rules, deadline=10 + left)
    assert isinstance(state, Stopping)
    assert commands == (Perform(Ask(60)), WakeAt(pytest.approx(10 + left - kept)))
    state, _ = decide(state, TimePassed(), state.ends_at, rules)
    assert isinstance(state, Stopping)
    assert isinstance(state.step, type(last))
    assert state.ends_at == pytest.approx(10 + left)


@pytest.mark.parametrize(("last", "least"), [(Inject(2), LAST_LEAST), (Kill(2), KILL_LEAST), (Inject(0.01), 0.01)])
def test_the_last_step_has_its_moment_also_where_the_loop_was_late(last: Step, least: float) -> None:
    rules = Rules((Ask(60), last), (last,), 20)
    state, _ = stopping(10.0, rules, deadline=11)
    late, _ = decide(state, TimePassed(), 12.0, rules)
    assert isinstance(late, Stopping)
    assert late.ends_at == pytest.approx(12 + least)
    again, _ = decide(late, StopAsked("shutdown", deadline=11.0), 12 + least / 2, rules)
    assert again == late, "asked again, it is not cut short"


def test_the_kernel_has_time_to_kill_whatever_the_policy_says() -> None:
    state, commands = stopping(10.0, Rules((Kill(0),), (Kill(0),), 20))
    assert state.ends_at == 10 + KILL_LEAST
    assert not any(isinstance(command, Abandon) for command in commands)


class WorkerNode(RuleBasedStateMachine):
    """Feeds a run with everything in any order; time never goes back."""

    def __init__(self) -> None:
        super().__init__()
        self.state: State = Queued()
        self.now = 0.0
        self.given = RULES
        self.concluded: list[Conclude] = []
        self.ranks: list[int] = []
        self.alarm = math.inf
        self.gone = False
        self.late = 0
        self.deadline = math.inf

    def feed(self, event: Event) -> None:
        self.state, commands = decide(self.state, event, self.now, self.given)
        for command in commands:
            match command:
                case Conclude():
                    self.concluded.append(command)
                case Perform(step=step, again=again):
                    rank = LADDER.index(type(step))
                    assert rank >= max(self.ranks, default=-1), "steps only rise"
                    assert again == (rank in self.ranks), "each step begins once"
                    self.ranks.append(rank)
                case WakeAt(at=at):
                    self.alarm = at
                case Abandon():
                    self.gone = True
                case NoteLateEnd():
                    self.late += 1
        if self.gone and isinstance(self.state, Stopping):
            self.feed(Abandoned())

    @rule(policy=steps, own=steps)
    @precondition(lambda self: isinstance(self.state, Queued | Starting | Running))
    def other_rules(self, policy: tuple[Step, ...], own: tuple[Step, ...]) -> None:
        self.given = Rules(policy, own, 20)

    @rule()
    def entered(self) -> None:
        self.feed(Entered())

    @rule(
        cause=st.sampled_from(["cancel", "timeout", "stop", "shutdown"]),
        left=st.one_of(st.floats(0, 60), st.just(math.inf)),
    )
    def stop(self, cause: str, left: float) -> None:
        self.deadline = min(self.deadline, self.now + left)
        self.feed(StopAsked(cause, self.now + left))  # type: ignore[arg-type]

    @rule(seconds=st.floats(0, 30))
    def extend(self, seconds: float) -> None:
        before = self.state
        self.feed(GraceAsked(seconds))
        if isinstance(before, Stopping) and isinstance(self.state, Stopping):
            assert before.ends_at <= self.state.ends_at
            assert replace(self.state, ends_at=before.ends_at) == before

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.feed(TimePassed())

    @rule()
    def wait_for_the_alarm(self) -> None:
        if self.alarm < math.inf:
            self.now = max(self.now, self.alarm)
            self.feed(TimePassed())

    @rule(returned=st.booleans())
    @precondition(lambda self: not self.concluded or self.concluded[0].ended == "abandoned")
    def exit(self, returned: bool) -> None:
        stopped_on = self.state.step.name if isinstance(self.state, Stopping) else None
        self.feed(Exited(returned))
        if stopped_on is not None:
            assert self.concluded == [Conclude(STEPS[stopped_on].ended, stopped_on)]

    @invariant()
    def concludes_exactly_once(self) -> None:
        assert len(self.concluded) == isinstance(self.state, EndedState)

    @invariant()
    def the_end_of_a_stop_is_in_sight(self) -> None:
        if isinstance(self.state, Stopping) and self.deadline < math.inf:
            remaining = max(0.0, self.state.ends_at - self.now) + math.fsum(step.grace for step in self.state.later)
            assert self.now + remaining <= max(self.deadline, self.now) + KILL_LEAST + 1e-6

    def teardown(self) -> None:
        """A stop always ends: from wherever it is, its alarms lead to the end."""
        self.feed(Entered())
        self.feed(StopAsked("shutdown", self.now + 10))
        for _ in range(500):
            if isinstance(self.state, EndedState):
                break
            self.wait_for_the_alarm()
        assert isinstance(self.state, EndedState)
        assert len(self.concluded) == 1


TestLife = WorkerNode.TestCase


def test_terminate_and_kill_are_steps_of_the_same_table() -> None:
    rules = Rules((Terminate(1), Kill(1)), (), 20)
    state, commands = stopping(rules=rules)
    assert commands == (Perform(Terminate(1)), WakeAt(1))
    assert decide(state, TimePassed(), 1, rules)[1] == (Perform(Kill(1)), WakeAt(2))


def test_a_step_that_is_performed_before_its_time_is_the_one_on_which_it_has_ended() -> None:
    state, _ = stopping(rules=Rules((Ask(5), Terminate(1), Kill(1)), (), 20))
    assert isinstance(state, Stopping)
    for step in (Terminate(1), Kill(1)):
        state = hurried(state)
        assert state.step == step
        assert decide(state, TimePassed(), 1000, RULES) == (state, ())
    assert state.later == ()
    assert hurried(state) == state
    assert decide(state, Exited(False), 1000, RULES)[1] == (Conclude("killed", "kill"),)
