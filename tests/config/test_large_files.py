"""Configurations that are large, deep, or wrong in many places: the right lines, and never long."""

import os
import time
import tomllib

import pytest

from supervisor import EscalationPolicy, PolicyError
from supervisor.config import ConfigError, load
from supervisor.config.sources import Document

from .refusals import refused

TRICKY = [
    'a = "]"\nb = 1',
    'a = """\nb = 1\n\\"" ] ""x\n"""\nb = 1',
    "a = '''\nb = 1\n''''\nb = 2",
    'a = """"quoted""""\nb = 1',
    "a = [\n  [1, 2], # ] b = 1\n  {b = 1},\n]\nb.c = 1\n[b.d]\nc = 1",
    "[[a]]\nb = 1\n[[a]]\nb = 2\n[c]\nb = 3",
    'x = {a = {b = [{a = 1}, 2], "c.d" = 1}, e.f = 1979-05-27T07:32:00Z}\n[ y . "z#" ] # [q]\n"a\\u0062" = 1.5',
    "'a.b' = 1\na.b = 2\n3.14 = 3\n\"\" = 4",
    '[a]\r\nb = "\\\\"\r\nc = 1\r\n\r\n[a.d]\r\ne = 1',
]


def paths_in(table, around=()):
    for name, value in table.items():
        yield (*around, name)
        if isinstance(value, dict):
            yield from paths_in(value, (*around, name))


def stands(path, table):
    for name in path:
        if not isinstance(table, dict) or name not in table:
            return False
        table = table[name]
    return True


def line_by_parsing(path, lines):
    """The line after the last one up to which the text can be parsed and has no such key."""
    without = 0
    for number in range(len(lines) + 1):
        try:
            if stands(path, tomllib.loads("\n".join(lines[:number]))):
                return without + 1
            without = number
        except ValueError:
            pass
    return None


@pytest.mark.parametrize("text", TRICKY)
def test_the_line_of_a_key_is_that_which_the_parser_finds(text):
    paths = list(paths_in(tomllib.loads(text)))
    lines = text.replace("\r\n", "\n").split("\n")
    assert Document("policy.toml", {}, text).lines(paths) == {path: line_by_parsing(path, lines) for path in paths}


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"k{number} = 1" for number in range(20_000)),
        "\n".join(f'[workers."w{number}".policy]\nask = -1' for number in range(20_000)),
        'bad = """\n' + "x\n" * 200_000 + '"""\n',
    ],
    ids=["keys", "workers", "lines"],
)
def test_a_file_that_is_wrong_in_many_places_is_refused_in_a_time_that_grows_with_it_and_no_faster(written, text):
    path = written(text)
    began = time.process_time()
    tomllib.loads(text)
    parsing = time.process_time() - began
    assert refused(path)[-1].line is not None
    assert time.process_time() - began < 10 + 20 * parsing  # it took minutes


@pytest.mark.parametrize("deep", ["[" * 20_000, "{a=" * 20_000, "[" * 20_000 + "]" * 20_000])
def test_what_is_nested_too_deeply_is_refused_by_name(written, deep):
    path = written(f"policy = {deep}")
    assert [str(problem) for problem in refused(path, environ={"STOPLADDER_RESTART": deep})] == [
        "policy.toml: is not TOML: its arrays or tables are nested too deeply",
        (
            'STOPLADDER_RESTART: is not what could stand to the right of "=" in TOML: '
            "its arrays or tables are nested too deeply"
        ),
    ]


def test_plain_data_that_is_nested_too_deeply_is_refused_by_name():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PolicyError, match=r"policy: 'ask': Ask\(grace=<list>\): must be a number of seconds"):
        EscalationPolicy.from_config({"ask": deep})
    assert refused({"policy": {"ask": deep}})[0].reason.endswith("not an array")


def test_what_is_no_configuration_is_not_read_to_its_end():
    [problem] = refused("/dev/zero")
    assert problem.reason == "is longer than 4000000 characters: no configuration is"


def test_what_a_message_shows_of_a_file_breaks_no_line_and_can_be_written(tmp_path):
    environ = {"STOPLADDER_X\x1b[31m\udcff": "1", "STOPLADDER_RESTART": '{when = "\x7f\u2028"}'}
    with pytest.raises(ConfigError) as caught:
        load({"pol\u202eicy\x9b\nforged: fine": 1}, environ=environ)
    text = str(caught.value)
    assert len(text.splitlines()) == 4
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.encode()
    [problem] = refused(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n"))
    assert str(problem).encode()
    assert len(str(problem).splitlines()) == 1
