"""`python -m supervisor`: what it prints, and its exit status."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import supervisor

from ..inside import command_line as main

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "policy.toml"


NO_INJECT = "stuck, it cannot be replaced: without inject nothing ends a thread that does not stop when it is asked"
ENDLESS = "outside of a shutdown, one that does not obey is waited for without end"
DOCKER = "gives 10 s (--stop-timeout, or stop_grace_period)"


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Runs `check` on a text; returns the exit status, and the lines of both streams."""
    monkeypatch.chdir(tmp_path)

    def run(text, *arguments):
        Path("policy.toml").write_text(text)
        status = main(["check", "policy.toml", *arguments])
        streams = capsys.readouterr()
        return status, streams.out.splitlines(), streams.err.splitlines()

    return run


def python_m_supervisor(*arguments, **environ):
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "supervisor", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environ},
    )


def test_it_prints_each_ladder_with_its_times(check):
    text = """
        shutdown_timeout = 15
        [platform]
        kubernetes = 30
        reserve = 2.5
        [policy]
        ask = 5
        inject = { grace = 1.5, every = 0.5 }
        terminate = 3
        [restart]
        when = "failure"
        [workers."feeds/*"]
        policy = { ask = inf }
        [workers.clean.policy]
        kill = 1
        [workers.clean.restart]
        when = "always"
        max_restarts = 5
        within = 60
        [workers.tail.restart]
        when = "never"
    """
    status, out, err = check(text)
    assert (status, err) == (0, [])
    assert (
        out
        == """\
policy.toml
shutdown_timeout: 15 s
platform: kubernetes 30 s; 2.5 s in reserve

all other workers
  restart: failure, 3 times within 5 s; after 0.2 s, doubled up to 30 s, give or take 50%
  thread: 6.5 s
    ask       grace      5 s   from      0 s   to      5 s
    inject    grace    1.5 s   from      5 s   to    6.5 s   every 0.5 s
    NOTE: left out: terminate; a thread has no such step
  process: 11.5 s
    ask       grace      5 s   from      0 s   to      5 s
    inject    grace    1.5 s   from      5 s   to    6.5 s   every 0.5 s
    terminate grace      3 s   from    6.5 s   to    9.5 s
    kill      grace      2 s   from    9.5 s   to   11.5 s

feeds/*
  restart: as another pattern says, or as for all other workers
  thread: inf s
    ask       grace    inf s   from      0 s   to    inf s
    a shutdown shrinks it to 15 s
    NOTE: outside of a shutdown, one that does not obey is waited for without end: ask is infinite
  process: inf s
    ask       grace    inf s   from      0 s   to    inf s
    kill      grace      2 s   from    inf s   to    inf s
    a shutdown shrinks it to 15 s
    NOTE: outside of a shutdown, one that does not obey is waited for without end: ask is infinite

clean
  restart: always, 5 times within 60 s; after 0.2 s, doubled up to 30 s, give or take 50%
  thread: 0 s
    no step is for a thread: given up at once
    NOTE: left out: kill; a thread has no such step
    NOTE: stuck, it cannot be replaced: without inject nothing ends a thread that does not stop when it is asked
  process: 1 s
    kill      grace      1 s   from      0 s   to      1 s

tail
  restart: never
  ladder: as another pattern says, or as for all other workers

all ladders fit
""".splitlines()
    )


def test_where_nothing_is_said_it_prints_the_defaults(check):
    status, out, err = check("")
    assert (status, err) == (0, [])
    assert out[:4] == ["policy.toml", "shutdown_timeout: 20 s", "", "all workers"]
    assert [line for line in out if line.startswith("  ") and not line.startswith("    ")] == [
        "  restart: never",
        "  thread: 7 s",
        "  process: 12 s",
    ]
    assert out[-1] == "no platform is given to compare with"


def test_it_says_which_ladders_take_longer_than_the_platform_gives(check):
    text = "platform.docker = 10\npolicy.ask = 9\nworkers.slow.policy.ask = 12\nworkers.quick.policy = {ask=1, kill=1}"
    status, out, _ = check(text)
    assert status == 1
    assert [line for line in out if "TOO LONG" in line] == [
        f"    TOO LONG: a process's ladder may take 11.25 s, but docker {DOCKER}",
        f"    TOO LONG: a thread's ladder may take 12.25 s, but docker {DOCKER}",
        f"    TOO LONG: a process's ladder may take 14.25 s, but docker {DOCKER}",
    ]
    assert out[-1] == "3 ladders take longer than the platform gives"


def test_it_can_be_asked_for_one_kind_one_worker_and_another_platform(check):
    text = "platform.docker = 5\npolicy.ask = 9\nworkers.slow.policy.ask = 12\nrestart.when = 'always'"
    platform = ("--platform", "docker=10", "--platform", "systemd=60")
    assert check(text, *platform)[0] == 1
    assert check(text, *platform, "--kind", "thread", "--worker", "web")[0] == 0
    status, out, _ = check(text, *platform, "--kind", "thread", "--worker", "slow")
    assert status == 1
    assert out[2:] == [
        "platform: docker 10 s, systemd 60 s",
        "",
        "slow",
        "  from: workers.slow.policy, restart",
        "  restart: always, 3 times within 5 s; after 0.2 s, doubled up to 30 s, give or take 50%",
        "  thread: 12 s",
        "    ask       grace     12 s   from      0 s   to     12 s",
        f"    TOO LONG: a thread's ladder may take 12.25 s, but docker {DOCKER}",
        f"    NOTE: {NO_INJECT}",
        "",
        "1 ladder takes longer than the platform gives",
    ]


def test_it_reads_the_environment_over_the_file_and_names_its_variables(check, monkeypatch):
    monkeypatch.setenv("STOPLADDER_POLICY", "{ask = 3}")
    monkeypatch.setenv("MYAPP_SHUTDOWN_TIMEOUT", "4")
    _, out, _ = check("policy.ask = 9", "--kind", "thread")
    assert out[:2] == ["policy.toml, STOPLADDER_POLICY", "shutdown_timeout: 20 s"]
    assert "  thread: 3 s" in out
    _, out, _ = check("policy.ask = 9", "--kind", "thread", "--prefix", "MYAPP_")
    assert out[:2] == ["policy.toml, MYAPP_SHUTDOWN_TIMEOUT", "shutdown_timeout: 4 s"]
    assert "  thread: 9 s" in out


def test_a_pattern_that_the_environment_repeats_is_printed_once(check, monkeypatch):
    monkeypatch.setenv("STOPLADDER_WORKERS", '{"a*".policy.ask = 3, "*".restart.when = "always"}')
    _, out, _ = check("workers.'a*' = {policy.ask = 9, restart.when = 'never'}", "--kind", "thread")
    assert [line for line in out[2:] if not line.startswith("    ")] == [
        "",
        "all other workers",
        "  restart: always, 3 times within 5 s; after 0.2 s, doubled up to 30 s, give or take 50%",
        "  thread: 7 s",
        "",
        "a*",
        "  restart: never",
        "  thread: 3 s",
        "",
        "no platform is given to compare with",
    ]


def notes(out):
    return [line.strip().removeprefix("NOTE: ") for line in out if "NOTE: " in line]


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("policy = {ask=5}", "thread", []),  # never restarted: it may be abandoned
        ("policy = {ask=5}\nrestart.when = 'failure'", "thread", [NO_INJECT]),
        ("policy = {ask=5}\nrestart.when = 'failure'", "process", []),  # it is killed at last
        ("policy = {ask=5, inject=1}\nrestart.when = 'always'", "thread", []),
        ("policy = {terminate=1, kill=1}", "thread", ["left out: terminate, kill; a thread has no such step"]),
        (
            "policy = {ask=inf, kill=1}",
            "process",
            [f"{ENDLESS}: ask is infinite"],
        ),
        (
            "policy = {ask=1, inject=inf}\nrestart.when = 'always'",
            "process",
            [f"{ENDLESS}: inject is infinite"],
        ),
    ],
)
def test_it_says_what_a_ladder_does_not_do_for_a_kind(check, text, kind, found):
    status, out, _ = check(text, "--kind", kind)
    assert (status, notes(out)) == (0, found)


def test_a_ladder_of_a_pattern_is_judged_by_the_restart_that_holds_for_it(check):
    _, out, _ = check(
        "restart.when = 'always'\nworkers.a.policy = {ask=1}\nworkers.b = {policy = {ask=1}, restart = {when='never'}}"
    )
    assert notes(out[out.index("a") : out.index("b")]) == [NO_INJECT]
    assert notes(out[out.index("b") :]) == []


def test_a_restart_is_judged_by_the_ladder_that_holds_for_it(check):
    text = "workers.a.restart.when = 'always'\nworkers.b.restart.when = 'never'\nworkers.'a*' = {policy = {inject=1}}"
    _, out, _ = check(text)
    assert notes(out) == []
    _, out, _ = check(text.replace("inject", "ask"))
    assert notes(out) == [f"thread: {NO_INJECT}"]


def test_it_says_which_keys_hold_for_a_worker_and_which_patterns_are_near_its_name(check):
    text = "restart.when = 'always'\nworkers.'feeds/*' = {policy = {ask=1}}\nworkers.web.restart = {when = 'never'}"
    _, out, _ = check(text, "--worker", "feeds/reader", "--worker", "web", "--worker", "wbe", "--worker", "other")
    assert [line for line in out if line.startswith("  from: ")] == [
        '  from: workers."feeds/*".policy, restart',
        "  from: the default policy, workers.web.restart",
        "  from: the default policy, restart, no pattern matches it (near it: 'web')",
        "  from: the default policy, restart, no pattern matches it",
    ]


EVIL = "x\n2026-11-28 [critical ] root shell opened\r\x1b[31m\x9b2J\u2028\u202e\udcff"


def test_nothing_that_it_is_given_can_forge_what_it_prints(tmp_path, capsys, monkeypatch):
    path = tmp_path / f"{EVIL}.toml"
    path.write_text("workers.web.policy = {ask = 1}")
    assert main(["check", str(path), "--worker", EVIL]) == 0
    assert main(["check", f"{EVIL}.toml"]) == 2
    monkeypatch.setenv(f"STOPLADDER_{EVIL}", EVIL)
    assert main(["check", str(path)]) == 2
    monkeypatch.delenv(f"STOPLADDER_{EVIL}")
    monkeypatch.setenv("STOPLADDER_POLICY", f'{{"{EVIL}" = 1}}')
    assert main(["check", str(path), "--platform", f"{EVIL}=1"]) == 2
    for arguments in (["check", "file", EVIL], [EVIL], ["check", "file", "--kind", EVIL]):
        with pytest.raises(SystemExit):
            main(arguments)
    streams = capsys.readouterr()
    lines = (streams.out + streams.err).split("\n")
    assert [line for line in lines if not line.isprintable() or line.startswith("2026")] == []
    assert sum(r"\n2026-11-28 [critical ]" in line for line in lines) >= 8


def test_what_is_wrong_goes_to_stderr_line_by_line(check, monkeypatch):
    monkeypatch.setenv("STOPLADDER_PLATFORM", "10")
    status, out, err = check("[policy]\nask = -1\naks = 2\n")
    assert (status, out) == (2, [])
    assert err == [
        "policy.toml:2: policy.ask: must be a number of seconds, 0 or more; not -1",
        "policy.toml:3: policy.aks: is no key; the keys here are ask, inject, terminate and kill",
        "STOPLADDER_PLATFORM: platform: must be a table; not 10",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "required: COMMAND"),
        (["check"], "required: file"),
        (["check", "policy.toml", "--kind", "fiber"], "--kind: invalid choice: 'fiber'"),
        (["check", "policy.toml", "--platform", "docker"], "--platform: 'docker' is not like kubernetes=30"),
        (["check", "policy.toml", "--platform", "docker=10s"], "'docker=10s' is not like kubernetes=30"),
        (["check", "policy.toml", "--prefix", ""], "--prefix: must not be empty"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, says, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ as a process


def test_the_example_is_checked_by_the_command():
    done = python_m_supervisor("check", str(EXAMPLE))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nall ladders fit\n")
    assert "\ningest/*\n" in done.stdout


def test_the_exit_status_tells_what_was_found(tmp_path):
    too_long = python_m_supervisor("check", str(EXAMPLE), "--platform", "docker=10")
    assert (too_long.returncode, too_long.stderr) == (1, "")
    refused = python_m_supervisor("check", str(EXAMPLE), STOPLADDER_X="1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("STOPLADDER_X: is no variable of the configuration")
    missing = python_m_supervisor("check", str(tmp_path / "missing.toml"))
    assert missing.stderr == f"{tmp_path / 'missing.toml'}: cannot be read: No such file or directory\n"


def test_it_prints_the_schema_that_the_package_has(capsys):
    assert main(["schema"]) == 0
    printed = capsys.readouterr().out
    assert printed == (Path(supervisor.__file__).parent / "policy.schema.json").read_text()
    assert json.loads(printed)["properties"]["workers"]


def test_a_reader_that_has_had_enough_ends_it_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "supervisor", "schema"]
    with os.fdopen(writer, "wb") as nobody:
        ended = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, timeout=120, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")


def test_it_prints_what_is_logged_as_slow(check):
    text = """
        slow_after = 30
        stall_after = 0.5
        [pools.mail]
        slow_after = inf
    """
    status, out, _ = check(text)
    assert (status, out[1:4]) == (0, ["shutdown_timeout: 20 s", "slow_after: 30 s", "stall_after: 0.5 s"])
    assert out[out.index("pool mail") + 1] == "  slow_after: inf"


def test_it_prints_the_drain_and_counts_it(check):
    text = """
        drain = 5
        [platform]
        docker = 10
    """
    status, out, _ = check(text)
    assert (status, out[1:4]) == (1, ["shutdown_timeout: 20 s", "drain: 5 s", "platform: docker 10 s"])
    assert any(
        "a thread's ladder, after a drain of 5 s, may take 12.25 s, but docker gives 10 s" in line for line in out
    )
