"""Patterns that match nothing are told, with what was perhaps meant."""

import asyncio
import pickle

import pytest

from supervisor import Supervisor
from supervisor.config import load


def wait(ctx):
    ctx.stop.wait()


def parse():
    return None


def configured(*patterns):
    return load({"workers": {pattern: {"policy": {"ask": 1}} for pattern in patterns}}, environ={})


def unmatched(events):
    return [
        (event["level"], event["patterns"], event["reason"].partition(": ")[2])
        for event in events
        if event["event"] == "supervisor.patterns_unmatched"
    ]


async def test_patterns_that_have_matched_nothing_are_told_at_the_end_with_what_is_near_them(events):
    config = configured("web", "wbe", "fed/*", "*-raeder", "reader", "int-*", "named", "zzz", "parse-??")
    async with Supervisor(config=config) as sup:
        await sup.start(wait, name="web")
        await sup.group("feeds").start(wait, name="reader")
        await sup.start(wait, name="log-reader")
        await sup.run(int)
        await sup.run(parse, name="named")
        await asyncio.get_running_loop().run_in_executor(sup.executor(), parse)
        assert unmatched(events) == []
    ((level, patterns, text),) = unmatched(events)
    assert (level, patterns) == ("warning", ["wbe", "fed/*", "*-raeder", "reader", "zzz"])
    assert text == (
        "'wbe' (near it: 'web'), 'fed/*' (near it: 'feeds/reader'), "
        "'*-raeder' (near it: 'log-reader', 'feeds/reader'), 'reader' (near it: 'feeds/reader'), 'zzz'"
    )
    assert events[-1]["event"] == "supervisor.stopped"


async def test_it_is_not_told_where_all_have_matched_or_there_is_none(events):
    async with Supervisor(config=configured("int-*")) as sup:
        await sup.run(int)
    async with Supervisor(config=load({}, environ={})) as sup:
        await sup.run(int)
    async with Supervisor() as sup:
        await sup.run(int)
    assert unmatched(events) == []


async def test_of_supervisors_that_share_a_configuration_the_last_one_tells_it(events):
    config = configured("web", "api", "wbe")
    async with Supervisor(config=config) as first:
        async with Supervisor(config=config) as second:
            await first.start(wait, name="api")
            await second.start(wait, name="web")
        assert unmatched(events) == []
    assert [patterns for _, patterns, _ in unmatched(events)] == [["wbe"]]


async def test_names_are_still_guarded_once_all_patterns_have_matched_in_another_supervisor(quiet):
    config = configured("web")
    async with Supervisor(config=config) as first, Supervisor(config=config) as second:
        await first.start(wait, name="web")
        await second.start(wait, name="int-2")
        assert await second.run(int) == 0
        with pytest.raises(ValueError, match="a live worker"):
            await second.run(int, name="int-2")


async def test_only_some_are_named_of_many(events):
    async with Supervisor(config=configured(*(f"nobody-{number}" for number in range(2000)))) as sup:
        await asyncio.gather(*(sup.run(int, name=f"call-{number}") for number in range(300)))
    ((_, patterns, text),) = unmatched(events)
    assert len(patterns) == 5
    assert text.endswith("; and 1995 more")


def test_a_configuration_is_pickled_as_it_was_loaded():
    config = configured("web")
    config.unmatched(["web"])
    assert pickle.loads(pickle.dumps(config)) == config
