"""Configuration: what a file and the environment say, for whom, and everything for which they are refused."""

import inspect
import json
import math
import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

import supervisor
from supervisor import Ask, EscalationPolicy, Inject, Kill, PolicyError, Restart, Supervisor
from supervisor.config import Config, ConfigError, Layer, Platform, Problem, load
from supervisor.config.schema import CONFIG, PLATFORMS, json_schema

from .refusals import refused

SCHEMA = Path(supervisor.__file__).parent / "policy.schema.json"

GOOD = """
shutdown_timeout = 12

[policy]
kill = 1
ask = 5
inject = { grace = 2, every = 0.5 }

[restart]
when = "failure"
max_restarts = 5

[workers."feeds/*"]
policy = { ask = 1 }

[workers."feeds/slow".policy]
ask = inf

[workers."feeds/slow".restart]
when = "always"
backoff = 1
"""


# ------------------------------------------------------------------------------------------------ what is said


def test_a_file_says_what_holds_for_all_workers_and_for_some(written):
    config = load(written(GOOD), environ={})
    assert config.shutdown_timeout == 12
    assert config.policy_for("web") == EscalationPolicy(Ask(5), Inject(2, 0.5), Kill(1))
    assert config.policy_for("feeds/fast") == EscalationPolicy(Ask(1))
    assert config.policy_for("feeds/slow") == EscalationPolicy(Ask(math.inf))
    assert config.restart_for("web") == config.restart_for("feeds/fast") == Restart("failure", max_restarts=5)
    assert config.restart_for("feeds/slow") == Restart("always", backoff=1)


def test_a_mapping_is_read_as_a_file_is(written):
    as_mapping = {
        "shutdown_timeout": 12,
        "policy": {"kill": 1, "ask": 5, "inject": {"grace": 2, "every": 0.5}},
        "restart": {"when": "failure", "max_restarts": 5},
        "workers": {
            "feeds/*": {"policy": {"ask": 1}},
            "feeds/slow": {"policy": {"ask": math.inf}, "restart": {"when": "always", "backoff": 1}},
        },
    }
    assert load(as_mapping, environ={}) == load(written(GOOD), environ={})


def test_where_nothing_is_said_nothing_holds(written):
    config = load(written(""), environ={})
    assert config == Config() == load(environ={})
    assert config.policy_for("web") is None
    assert config.restart_for("web") is None
    assert config.shutdown_timeout is None


def test_an_empty_ladder_is_the_default_one():
    config = load({"policy": {"ask": 1}, "workers": {"web": {"policy": {}}}}, environ={})
    assert config.policy_for("web") == EscalationPolicy()


def test_errors_after_which_there_is_no_restart_are_added_in_code():
    configured = load({"restart": {"when": "failure", "backoff": 1}}, environ={}).restart_for("web")
    assert replace(configured, never_on=(OSError,)) == Restart("failure", backoff=1, never_on=OSError)


# ------------------------------------------------------------------------------------------------ the environment


def test_the_environment_goes_over_the_file_key_by_key(written):
    environ = {
        "STOPLADDER_POLICY": "{ask = 3}",
        "STOPLADDER_SHUTDOWN_TIMEOUT": "4.5",
        "STOPLADDER_WORKERS": '{"feeds/*" = {policy = {ask = 7}}, web.restart.when = "always"}',
        "HOME": "/root",
        "SUPERVISOR_ENABLED": "1",  # supervisord's own
    }
    config = load(written(GOOD), environ=environ)
    assert config.shutdown_timeout == 4.5
    assert config.policy_for("web") == EscalationPolicy(Ask(3))  # a whole ladder: nothing of the file's is left
    assert config.policy_for("feeds/fast") == EscalationPolicy(Ask(7))
    assert config.policy_for("feeds/slow") == EscalationPolicy(Ask(math.inf))  # its name is still closer
    assert config.restart_for("other") == Restart("failure", max_restarts=5)
    assert config.restart_for("web") == Restart("always")


def test_the_environment_is_that_of_the_process_unless_another_is_given(monkeypatch):
    monkeypatch.setenv("STOPLADDER_POLICY", "{ask = 3}")
    monkeypatch.setenv("MYAPP_POLICY", "{ask = 4}")
    assert load().policy == EscalationPolicy(Ask(3))
    assert load(prefix="MYAPP_").policy == EscalationPolicy(Ask(4))
    assert load(environ={}).policy is None


def test_the_argument_platform_goes_over_both():
    environ = {"STOPLADDER_PLATFORM": "{docker = 9}"}
    assert load({"platform": {"systemd": 90}}, environ=environ).platform == Platform(docker=9)
    config = load({"platform": {"systemd": 90}}, environ=environ, platform={"kubernetes": 30, "reserve": 5})
    assert config.platform == Platform(kubernetes=30, reserve=5)
    assert refused(None, platform={"vax": 3})[0].source == "the argument"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("STOPLADDER_POLICY_ASK", "5", "is no variable of the configuration; these are: STOPLADDER_POLICY,"),
        ("STOPLADDER_policy", "{ask = 5}", "is no variable"),
        ("STOPLADDER_POLICY", "", "is not what could stand to the right"),
        ("STOPLADDER_POLICY", "{ask = ", "is not what could stand to the right"),
        ("STOPLADDER_RESTART", "{when = always}", "is not what could stand to the right"),
        ("STOPLADDER_POLICY", "{}\nshutdown_timeout = 3", "more than one value"),
        ("STOPLADDER_POLICY", "5", "policy: must be a table; not 5"),
        ("STOPLADDER_POLICY", "{ask = -1}", "policy.ask: must be a number of seconds, 0 or more; not -1"),
    ],
)
def test_a_variable_that_is_wrong_is_refused_by_name(variable, value, says):
    [problem] = refused(None, environ={variable: value})
    assert problem.source == variable
    assert says in str(problem)
    assert "line" not in str(problem)  # it is not in a file


# ------------------------------------------------------------------------------------------------ what is refused

CONFIG_KEYS = (
    *("POLICY", "RESTART", "SHUTDOWN_TIMEOUT", "DRAIN", "SLOW_AFTER", "STALL_AFTER", "PLATFORM", "WORKERS", "POOLS"),
)
VARIABLES = ", ".join(f"STOPLADDER_{name}" for name in CONFIG_KEYS)

WRONG = """\
shutdown_timeout = "20"
[policy]
ask = -1
aks = 3
inject = { grace = 1, every = 0, x = 2 }
[restart]  # no `when`
backoff = inf

[workers."feeds/*"]
restart = { when = "always", backoff = 3, max_backoff = 2 }
policy = [
    1,
]
[workers."/x"]
[workers.y.restart]
when = "sometimes"
max_restarts = 1.5
never_on = ["OSError"]
jitter = 2
"""


def test_everything_that_is_wrong_is_told_at_once_with_file_line_key_and_reason(written):
    environ = {"STOPLADDER_RESTART": "{when = 3}", "STOPLADDER_X": "1"}
    path = written(WRONG)
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ)
    lines = str(caught.value).replace(str(path), "policy.toml").splitlines()
    assert lines == [
        "the configuration is refused, for 16 reasons:",
        'policy.toml:1: shutdown_timeout: must be a number of seconds, 0 or more; not "20"',
        "policy.toml:3: policy.ask: must be a number of seconds, 0 or more; not -1",
        "policy.toml:4: policy.aks: is no key; the keys here are ask, inject, terminate and kill",
        "policy.toml:5: policy.inject.every: must be a number of seconds, more than 0; not 0",
        "policy.toml:5: policy.inject.x: is no key; the keys here are grace and every",
        'policy.toml:6: restart: lacks the key "when"',
        "policy.toml:7: restart.backoff: must be a finite number of seconds, 0 or more; not inf",
        'policy.toml:10: workers."feeds/*".restart: Restart(max_backoff=2): must not be less than backoff=3',
        'policy.toml:11: workers."feeds/*".policy: must be a table; not an array',
        'policy.toml:14: workers."/x": matches no worker: a name has no empty part before, after or between "/"',
        'policy.toml:16: workers.y.restart.when: must be "never", "failure" or "always"; not "sometimes"',
        "policy.toml:17: workers.y.restart.max_restarts: must be an integer, 0 or more; not 1.5",
        "policy.toml:18: workers.y.restart.never_on: is for the code alone: it takes exception types",
        "policy.toml:19: workers.y.restart.jitter: must be a number from 0 to 1; not 2",
        'STOPLADDER_RESTART: restart.when: must be "never", "failure" or "always"; not 3',
        f"STOPLADDER_X: is no variable of the configuration; these are: {VARIABLES}",
    ]
    assert len(caught.value.problems) == 16


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_the_line_is_that_of_the_key_however_it_is_written(written, ends):
    text = ends.join(
        ["# a comment", "", 'workers."a*".policy.ask = 1', "[workers.b]", 'policy."ask" = """', "x", '"""', "", "z = 1"]
    )
    assert [(problem.key, problem.line) for problem in refused(written(text))] == [
        ("workers.b.policy.ask", 5),
        ("workers.b.z", 9),
    ]


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("[policy]\nask == 5\n", "is not TOML: ", 2),
        ("[policy]\nask = 5\nask = 6\n", "is not TOML: ", 3),  # a step that stands twice
        ("[policy]\nask = 5\n[policy]\n", "is not TOML: ", 3),
        ("[policy]\nask = [", "is not TOML: ", None),  # the parser says: at the end
        ("a = " + "1" * 5000, "is not TOML: ", None),  # more digits than Python reads
        (b"name = '\xff'", "is not UTF-8", None),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_its_line(written, text, says, line):
    [problem] = refused(written(text))
    assert problem.reason.startswith(says)
    assert problem.line == line
    assert " (at " not in problem.reason


def test_what_is_under_a_wrong_pattern_is_looked_at_too():
    wrong = refused({"workers": {"/a": {"restart": {"when": "never", "x": 1}}}})
    assert [problem.key for problem in wrong] == ['workers."/a"', 'workers."/a".restart.x']


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path):
    path = tmp_path / "policy.toml"
    assert str(refused(path)[0]) == "policy.toml: cannot be read: No such file or directory"
    assert str(refused(tmp_path)[0]).endswith(": cannot be read: Is a directory")
    both = refused(path, environ={"STOPLADDER_X": "1"})
    assert [problem.source for problem in both] == ["policy.toml", "STOPLADDER_X"]


@pytest.mark.parametrize(
    ("data", "key", "says"),
    [
        ({1: 2}, "1", "is no key"),
        ({"policy": None}, "policy", "must be a table; not None"),
        ({"policy": {"ask": True}}, "policy.ask", "not true"),
        ({"policy": {"ask": math.nan}}, "policy.ask", "not nan"),
        ({"policy": {"ask": 10**400}}, "policy.ask", "not 1000"),
        ({"policy": {"ask": {"grace": "x" * 100}}}, "policy.ask.grace", f'not "{"x" * 59}...'),
        ({"policy": {"ask": {"every": 1}}}, "policy.ask.every", "the keys here are grace"),
        ({"restart": {"when": ["always"]}}, "restart.when", "not an array"),
        ({"restart": {"when": "always", "within": 0}}, "restart.within", "more than 0"),
        ({"restart": {"when": "always", "max_restarts": -1}}, "restart.max_restarts", "an integer, 0 or more; not -1"),
        ({"workers": 3}, "workers", "must be a table of tables"),
        ({"workers": {"web": 3}}, "workers.web", "must be a table; not 3"),
        ({"workers": {"/a": {"restart": {"when": "never"}}}}, 'workers."/a"', "matches no worker"),
        ({"workers": {"": {}}}, 'workers.""', "matches no worker"),
        ({"workers": {3: {}}}, "workers.3", "matches no worker"),
        ({"workers": {"a\nb": {}}}, r'workers."a\nb"', "matches no worker: a name has no line breaks"),
        ({"workers": {"a\x1b*": {}}}, r'workers."a\u001b*"', "matches no worker: a name has no line breaks"),
        ({"workers": {"\u202e": {}}}, 'workers."\u202e"', "matches no worker: a name has no line breaks"),
        ({"workers": {"\ud800": {}}}, 'workers."\ud800"', "matches no worker: a name has no line breaks"),
        ({"workers": {"a": {"shutdown_timeout": 3}}}, "workers.a.shutdown_timeout", "is no key"),
        ({"platform": {"docker": "10s"}}, "platform.docker", 'not "10s"'),
        ({"platform": {"reserve": -1}}, "platform.reserve", "not -1"),
    ],
)
def test_what_cannot_be_is_refused_by_key(data, key, says):
    [problem] = refused(data)
    assert problem.key == key
    assert says in problem.reason
    assert len(problem.reason) < 200


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"source": 5}, TypeError, "source=5"),
        ({"prefix": 5}, TypeError, "prefix=5"),
        ({"prefix": ""}, ValueError, "prefix=''"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(options, error, says):
    with pytest.raises(error, match=says):
        load(**options)


def test_the_error_survives_pickling():
    problems = (Problem("policy.toml", "policy.ask", "must be", 3),)
    copy = pickle.loads(pickle.dumps(ConfigError(problems)))
    assert copy.problems == problems
    assert str(copy) == "the configuration is refused, for 1 reason:\npolicy.toml:3: policy.ask: must be"


# ------------------------------------------------------------------------------------------------ the platform


def over(document, kind="thread", **options):
    return [
        (found.pattern, found.platform, found.seconds)
        for found in load(document, environ={}).over_budget(kind, **options)
    ]


def test_a_ladder_that_takes_longer_than_a_platform_gives_is_found():
    document = {
        "policy": {"ask": 5, "terminate": 6},
        "platform": {"docker": 10, "kubernetes": 30},
        "workers": {"slow": {"policy": {"ask": 40}}, "quick": {"policy": {"ask": 1}}, "other": {}},
    }
    assert over(document) == [("slow", "kubernetes", 40.25), ("slow", "docker", 40.25)]
    assert over(document, "process") == [
        ("*", "docker", 13.25),  # Kill(2) is added
        ("slow", "kubernetes", 42.25),
        ("slow", "docker", 42.25),
    ]


def test_the_reserve_is_taken_off_what_the_platform_gives():
    document = {"policy": {"ask": 5}, "platform": {"docker": 10}}
    document["platform"]["reserve"] = 4.75
    assert over(document) == []
    document["platform"]["reserve"] = 4.76
    assert over(document) == [("*", "docker", 5.25)]


def test_an_infinite_ladder_counts_as_the_shutdown_takes_and_a_longer_one_as_it_is():
    document = {"policy": {"ask": math.inf}, "platform": {"other": 20}, "shutdown_timeout": 19}
    assert over(document) == []
    assert over({**document, "shutdown_timeout": 21}) == [("*", "other", 21.25)]
    assert over({**document, "policy": {"ask": 30}}) == [("*", "other", 30.25)]
    [found] = load({**document, "policy": {"ask": 30}}, environ={}).over_budget("thread")
    assert str(found).endswith("; a shutdown shrinks the ladder to 19 s")


def test_a_ladder_of_calls_begins_after_the_drain():
    document = {"policy": {"ask": 5}, "platform": {"docker": 10}}
    assert over({**document, "drain": 4}) == over(document, drain=4) == []
    assert over({**document, "drain": 5}) == over(document, drain=5) == [("*", "docker", 10.25)]
    assert over({**document, "drain": 0}, drain=5) == []
    assert over({**document, "drain": 100, "shutdown_timeout": 6}) == []  # of which it has 4.5
    [found] = load({**document, "drain": 5}, environ={}).over_budget("thread")
    assert str(found).startswith("a thread's ladder, after a drain of 5 s, may take 10.25 s, but docker gives 10 s")


def test_where_nothing_is_said_the_supervisors_own_arguments_count():
    document = {"platform": {"docker": 10, "reserve": 1}}
    assert over(document) == []
    assert over(document, policy=EscalationPolicy(Ask(9))) == [("*", "docker", 9.25)]
    infinite = EscalationPolicy(Ask(math.inf))
    assert over(document, policy=infinite) == [("*", "docker", 20.25)]
    assert over(document, policy=infinite, shutdown_timeout=8) == []


def test_a_ladder_for_every_name_takes_the_place_of_the_general_one():
    document = {"policy": {"ask": 50}, "platform": {"docker": 10}, "workers": {"*": {"policy": {"ask": 1}}}}
    assert over(document) == []


# ------------------------------------------------------------------------------------------------ the schema


def test_the_schema_in_the_package_is_that_of_the_description():
    assert SCHEMA.read_text() == json.dumps(json_schema(), indent=2) + "\n", (
        "run `python -m supervisor schema > supervisor/policy.schema.json`"
    )
    Draft7Validator.check_schema(json.loads(SCHEMA.read_text()))


def test_the_description_has_every_field_of_what_it_describes():
    restart = inspect.signature(Restart).parameters
    assert {*CONFIG.keys["restart"].keys, "never_on"} == set(restart)
    for name, key in CONFIG.keys["restart"].keys.items():
        assert name == "when" or key.default == restart[name].default
    assert {*PLATFORMS, "reserve"} == set(CONFIG.keys["platform"].keys) == {field.name for field in fields(Platform)}
    assert tuple(CONFIG.keys["workers"].each.keys) == Layer.SAYS
    for step in EscalationPolicy().steps:
        described = CONFIG.keys["policy"].keys[step.name].keys
        assert {name: key.default for name, key in described.items()} == {
            field.name: getattr(step, field.name) for field in fields(step)
        }
    timeout = inspect.signature(Supervisor).parameters["shutdown_timeout"].default
    assert CONFIG.keys["shutdown_timeout"].default == timeout == Config().shutdown_in()


numbers = st.sampled_from([-1, 0, 0.5, 1, 2, 3, 1.0, math.inf, "5", True, None, []])
steps = numbers | st.dictionaries(st.sampled_from(["grace", "every", "x"]), numbers, max_size=3)
policies = st.dictionaries(st.sampled_from(["ask", "inject", "terminate", "kill", "aks"]), steps, max_size=4)
restarts = st.fixed_dictionaries(
    {},
    optional={
        "when": st.sampled_from(["never", "failure", "always", "sometimes", 3]),
        "max_restarts": st.sampled_from([-1, 0, 3, 2.5, True]),
        "within": numbers,
        "backoff": st.sampled_from([-1, 0, 0.1, "1"]),
        "max_backoff": st.sampled_from([-1, 0.1, 30, math.inf]),  # the order of these two is not the schema's affair
        "jitter": st.sampled_from([-1, 0, 0.5, 1, 1.5, "1"]),
        "x": numbers,
    },
)
layers = st.fixed_dictionaries({}, optional={"policy": policies, "restart": restarts, "x": numbers})
documents = st.fixed_dictionaries(
    {},
    optional={
        "policy": policies | numbers,
        "restart": restarts,
        "shutdown_timeout": numbers,
        "drain": numbers,
        "platform": st.dictionaries(st.sampled_from([*PLATFORMS, "reserve", "vax"]), numbers, max_size=2),
        "workers": st.dictionaries(st.sampled_from(["a", "a/*", "*", "/a", ""]), layers | numbers, max_size=2),
        "x": numbers,
    },
)


@given(documents)
def test_the_schema_refuses_what_load_refuses(document):
    said = Draft7Validator(json_schema())
    try:
        load(document, environ={})
        wrong = set()
    except ConfigError as error:
        wrong = {problem.key for problem in error.problems if "must not be less than backoff" not in problem.reason}
    assert said.is_valid(document) == (not wrong), f"the schema says otherwise: {wrong}"


@given(policies)
def test_a_ladder_is_read_as_from_config_reads_it(data):
    try:
        expected = EscalationPolicy.from_config(data)
    except PolicyError:
        expected = None
    try:
        found = load({"policy": data}, environ={}).policy
    except ConfigError:
        found = None
    assert found == expected
