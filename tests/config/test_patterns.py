"""Patterns of worker names: which one counts, how long that takes, and which ones match nobody."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import Ask, EscalationPolicy, Restart
from supervisor.config import Config, Layer, load


@pytest.mark.parametrize(
    ("patterns", "name", "best"),
    [
        (["*", "feeds/*", "feeds/slow*"], "feeds/slow-1", "feeds/slow*"),
        (["feeds/slow*", "feeds/*", "*"], "feeds/slow-1", "feeds/slow*"),
        (["feeds/slow", "feeds/slo*", "feeds/slow*"], "feeds/slow", "feeds/slow"),
        (["*slow", "feed*"], "feeds/slow", "feed*"),
        (["feed*", "*slow"], "feeds/slow", "*slow"),  # as many characters: the later
        (["parse-?", "parse-*"], "parse-12", "parse-*"),
        (["parse-?"], "parse-1", "parse-?"),
        (["feeds/*"], "feeds/fast/reader", "feeds/*"),
        (["feeds/*"], "feeds", None),
        (["feeds"], "feeds/fast", None),
        (["a.c", "a[bc]"], "abc", None),  # nothing but * and ? is special
        (["a[bc]*"], "a[bc]-1", "a[bc]*"),
        (["Web"], "web", None),
        (["*-*-c", "**b-*"], "ab-b-c", "*-*-c"),
        (["a*b*c?e"], "abcabcde", "a*b*c?e"),
        (["*ab*ab*"], "ab", None),
        (["*ab*ab*"], "abab", "*ab*ab*"),
        (["a*a"], "a", None),
        (["?*?"], "a", None),
        (["?*?"], "ab", "?*?"),
    ],
)
def test_of_the_patterns_that_match_the_closest_counts(patterns, name, best):
    grace = {pattern: number for number, pattern in enumerate(patterns, 1)}
    config = load({"workers": {pattern: {"policy": {"ask": grace[pattern]}} for pattern in patterns}}, environ={})
    expected = None if best is None else EscalationPolicy(Ask(grace[best]))
    assert config.policy_for(name) == expected


def test_a_closer_pattern_that_says_nothing_of_it_lets_others_speak():
    workers = {"feeds/*": {"policy": {"ask": 1}}, "feeds/slow": {"restart": {"when": "always"}}, "feeds/s*": {}}
    config = load({"workers": workers}, environ={})
    assert config.policy_for("feeds/slow") == EscalationPolicy(Ask(1))
    assert config.restart_for("feeds/slow") == Restart("always")


@pytest.mark.parametrize("pattern", ["*-*-*-*-x", "?*-?*-?*-?*x", "*" * 50 + "x", "*-" * 100 + "x"])
def test_a_pattern_takes_no_time_to_speak_of_however_long_the_name_is(pattern):
    config = load({"workers": {pattern: {"policy": {"ask": 1}}}}, environ={})
    assert config.policy_for("-" * 10_000) is None
    assert config.policy_for("-" * 10_000 + "x") == EscalationPolicy(Ask(1))


def test_names_that_stand_in_the_file_are_looked_up_and_not_compared_one_by_one(monkeypatch):
    names = [f"worker-{number}" for number in range(10_000)]
    config = load({"workers": {name: {"policy": {"ask": 1}} for name in names}}, environ={})
    compared = []
    monkeypatch.setattr(Layer, "matches", lambda self, name: compared.append(name))
    assert all(config.policy_for(name) for name in names)
    assert compared == []


texts = st.text("ab*?", max_size=8)


@given(pattern=texts, name=st.text("ab", max_size=8))
def test_a_pattern_matches_what_its_simple_expression_does(pattern, name):
    simple = "".join({"*": ".*", "?": "."}.get(character, character) for character in pattern)
    assert Layer(pattern).matches(name) == bool(re.fullmatch(simple, name))


def test_patterns_that_match_none_of_the_names_are_told():
    patterns = ["web", "feeds/*", "*", "parse-?", "wbe", "fed/*"]
    config = load({"workers": {pattern: {} for pattern in patterns}}, environ={})
    assert config.unmatched([]) == tuple(patterns)
    assert config.unmatched(["web", "feeds/reader", "parse-12"]) == ("parse-?", "wbe", "fed/*")
    assert Config().unmatched(["web"]) == ()
