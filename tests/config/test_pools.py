"""What a configuration says of pools: the file wins over the code."""

from __future__ import annotations

import json
import pickle

import pytest

from supervisor import Ask, EscalationPolicy, Limits, Supervisor
from supervisor.config import ConfigError, PoolLayer, load

from .. import inside
from ..inside import command_line as main

GPU = {"size": 2, "max_queued": 7, "warm": 1, "idle_timeout": 60, "max_lifetime": 3600, "max_tasks": 5}


def test_each_setting_can_be_said_but_what_is_for_the_code_alone():
    said = {**GPU, "max_rss": 1 << 30, "policy": {"ask": 3}, "limits": {"rss": 1 << 20, "cpu_seconds": 2}}
    config = load({"pools": {"gpu": said}}, environ={})
    assert config.pools == (
        PoolLayer(
            name="gpu",
            size=2,
            max_queued=7,
            warm=1,
            idle_timeout=60.0,
            max_lifetime=3600.0,
            max_tasks=5,
            max_rss=1 << 30,
            policy=EscalationPolicy(Ask(3)),
            limits=Limits(rss=1 << 20, cpu_seconds=2),
        ),
    )
    assert config.pool("cpu").said() == {}
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("pools", "problem"),
    [
        ({"gpu": {"size": 0}}, "pools.gpu.size: must be an integer, 1 or more; not 0"),
        ({"gpu": {"size": 1.5}}, "pools.gpu.size: must be an integer"),
        ({"gpu": {"warm": True}}, "pools.gpu.warm: must be an integer, 0 or more"),
        ({"gpu": {"max_lifetime": 0}}, "pools.gpu.max_lifetime: must be a number of seconds, more than 0"),
        ({"gpu": {"limits": {"rss": 0}}}, "pools.gpu.limits.rss: must be an integer, 1 or more"),
        ({"gpu": {"policy": {"ask": -1}}}, "pools.gpu.policy.ask: must be"),
        ({"gpu": {"initializer": "f"}}, "pools.gpu.initializer: is for the code alone"),
        ({"gpu": {"kind": "thread"}}, "pools.gpu.kind: is for the code alone"),
        ({"gpu": {"sise": 1}}, "pools.gpu.sise: is no key; the keys here are size, max_queued"),
        ({"a/b": {"size": 1}}, 'pools."a/b": is no name of a pool'),
        ({"": {}}, 'pools."": is no name of a pool'),
        ({"gpu": 3}, "pools.gpu: must be a table"),
        (3, "pools: must be a table of tables, each named by a pool"),
    ],
)
def test_what_is_wrong_is_refused_with_its_key(pools, problem):
    with pytest.raises(ConfigError) as refused:
        load({"pools": pools}, environ={})
    assert problem in str(refused.value)


def test_the_environment_replaces_the_whole_table_of_a_pool():
    config = load(
        {"pools": {"gpu": {"size": 2, "warm": 1}, "mail": {"size": 3}}},
        environ={"STOPLADDER_POOLS": "{ gpu = { size = 4 } }"},
    )
    assert config.pool("gpu").said() == {"size": 4}
    assert config.pool("mail").said() == {"size": 3}


def test_the_file_wins_over_the_code():
    config = load({"pools": {"gpu": GPU, "thread": {"size": 3}, "process": {"max_tasks": 9}}}, environ={})
    sup = Supervisor(config=config, max_threads=8, max_processes=2, max_tasks=1)
    pools = inside.settings(sup).pools
    assert (pools["thread"].size, pools["process"].size, pools["process"].max_tasks) == (3, 2, 9)
    gpu = sup.pool("gpu", kind="process", size=8, max_queued=1, max_rss=1 << 30)
    assert gpu.size == 2
    assert (pools["gpu"].max_queued, pools["gpu"].warm, pools["gpu"].max_rss) == (7, 1, 1 << 30)
    assert sup.pool("thread", kind="thread", size=5, max_queued=2).size == 3
    assert pools["thread"].max_queued == 2
    assert sup.pool("mail", kind="thread", size=5).size == 5


def test_what_does_not_go_together_with_the_code_is_refused_and_says_that_it_is_the_files():
    config = load({"pools": {"gpu": {"size": 2, "max_rss": 5}}}, environ={})
    with pytest.raises(ValueError, match=r"warm=3: must not be more than size=2") as refused:
        Supervisor(config=config).pool("gpu", kind="process", size=4, warm=3)
    assert refused.value.__notes__ == ["the configuration says of the pool 'gpu': size, max_rss"]
    with pytest.raises(ValueError, match="max_rss=5: cannot be kept by a pool of threads"):
        Supervisor(config=config).pool("gpu", kind="thread")


async def test_a_pool_of_the_file_that_nobody_makes_is_logged_with_what_is_near_it(events):
    config = load({"pools": {"gpu": {"size": 1}, "gup": {"size": 1}, "thread": {"size": 1}}}, environ={})
    async with Supervisor(config=config) as sup:
        sup.pool("gpu", kind="thread")
    [event] = [event for event in events if event["event"] == "supervisor.pools_unmatched"]
    assert (event["level"], event["pools"]) == ("warning", ["gup"])
    assert event["reason"] == "no pool has had one of these names: 'gup' (near it: 'gpu')"


def test_the_command_shows_pools_and_their_ladders(tmp_path, capsys):
    file = tmp_path / "policy.toml"
    file.write_text(
        "[platform]\ndocker = 10\n[policy]\nask = 1\n[pools.gpu]\nsize = 2\nlimits = { rss = 1000 }\n"
        "[pools.thread.policy]\nask = 30\n"
    )
    assert main(["check", str(file)]) == 1
    shown = capsys.readouterr().out
    assert "pool gpu\n  size: 2\n  rss: 1000\n" in shown
    assert "pool thread\n  thread: 30 s\n" in shown
    assert shown.count("TOO LONG") == 1
    assert "1 ladder takes longer" in shown
    assert main(["check", str(file), "--worker", "web"]) == 0
    assert "\npool " not in capsys.readouterr().out


def test_the_schema_has_pools_by_name(capsys):
    assert main(["schema"]) == 0
    pools = json.loads(capsys.readouterr().out)["properties"]["pools"]
    assert pools["additionalProperties"]["properties"]["size"]["minimum"] == 1
    assert "/" not in pools["propertyNames"]["pattern"].replace("[^/", "")


def test_the_ladder_of_a_pool_counts_for_what_the_platform_gives():
    pools = {"thread": {"policy": {"ask": 30}}}
    config = load({"platform": {"docker": 10}, "policy": {"ask": 1}, "pools": pools}, environ={})
    assert [over.pattern for over in config.over_budget("thread")] == ["pools.thread"]
    assert config.over_budget("process") == ()
