"""`ps`, `stack`: what services have, also where one of them does not answer, or its loop is blocked."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ..inside_shown import CLI
from ..programs import ROOT
from .conftest import PATIENCE, environment
from .fakes import answers, row, survey


def test_it_shows_each_worker_with_its_state_below_a_line_about_its_supervisor(serve, cli):
    service = serve("ingest", "-", "--workers", 1, "--calls", 1)
    done = cli("ps")
    assert (done.returncode, done.stderr) == (0, "")
    head, groups, titles, *rows = done.stdout.splitlines()
    assert head.startswith(f"ingest  pid {service.pid}  running  ready  3 workers and calls  thread 1/")
    assert groups == "  groups:  feeds running (1 worker)"
    assert titles.split() == ["NAME", "KIND", "STATE", "POOL", "AGE", "STEP", "NEXT", "PID"]
    assert [line.split()[:4] for line in rows] == [
        ["feeds/reader", "thread", "running", "-"],
        ["worker-0", "thread", "running", "-"],
        ["call-0", "thread", "running", "thread"],
    ]


def test_it_shows_nodes_where_any_worker_has_one(fake, cli):
    fake(answers(survey(row("here"), row("there", node="gpu-1"))))
    _, titles, here, there = cli("ps").stdout.splitlines()
    assert titles.split()[-1] == "NODE"
    assert (here.split()[-1], there.split()[-1]) == ("-", "gpu-1")


def test_it_is_narrowed_sorted_and_cut(serve, cli):
    serve("ingest", "-", "--workers", 12)

    def names(*arguments):
        (service,) = json.loads(cli("ps", "--json", *arguments).stdout)["services"]
        return [worker["name"] for worker in service["workers"]]

    assert names("--match", "worker-1*") == ["worker-1", "worker-10", "worker-11"]
    assert names("--state", "queued") == []
    assert names("--limit", "2") == ["feeds/reader", "worker-0"]
    assert names("--sort", "name", "--limit", "4") == ["feeds/reader", "worker-0", "worker-1", "worker-10"]
    assert cli("ps", "--limit", "2").stdout.endswith("\nand 11 more\n")


def test_all_workers_come_though_they_take_several_answers(serve, cli):
    serve("ingest", "-", "--workers", 1200)
    (service,) = json.loads(cli("ps", "--json", "--patience", 40).stdout)["services"]
    assert len({worker["name"] for worker in service["workers"]}) == 1201


def test_all_services_of_the_user_are_shown_and_one_by_its_process_or_socket(serve, cli, folder):
    first, second = serve("first"), serve("second", folder.parent / "own.sock")
    serve("third")
    by_all, by_pid = (json.loads(cli("ps", "--json", *more).stdout) for more in ((), ("--pid", first.pid)))
    assert {service["supervisor"] for service in by_all["services"]} == {"first", "third"}  # one is elsewhere
    assert [service["supervisor"] for service in by_pid["services"]] == ["first"]
    (by_socket,) = json.loads(cli("ps", "--json", "--socket", folder.parent / "own.sock").stdout)["services"]
    assert (by_socket["supervisor"], by_socket["pid"]) == ("second", second.pid)


def test_the_last_failures_and_stops_are_shown_where_they_are_asked_for(fake, cli):
    incident = {"worker": "poller", "kind": "thread", "attempt": 2, "ended": "failed", "reason": None, "step": None}
    fake(answers(incidents=[{**incident, "error": "ValueError: no\nat all", "elapsed": 192.0, "at": time.time()}]))
    done = cli("ps", "--incidents")
    titles, line = done.stdout.splitlines()[1:]
    assert titles.split() == ["WHEN", "NAME", "KIND", "ENDED", "STEP", "RAN", "REASON", "ERROR"]
    assert line.split()[1:] == ["poller", "(run", "2)", "thread", "failed", "-", "3m12s", "-", "ValueError:", "no"]
    assert json.loads(cli("ps", "--incidents", "--json").stdout)["services"][0]["incidents"][0]["worker"] == "poller"


# ------------------------------------------------------------------------------------------------ stacks


def test_the_stack_of_a_worker_names_its_line_and_those_of_all_are_shown_without_a_name(serve, cli):
    service = serve("ingest", "-", "--workers", 1)
    one = cli("stack", "feeds/reader")
    assert one.returncode == 0
    assert one.stdout.startswith(f"feeds/reader  ingest, pid {service.pid}\n")
    assert "in wait\n    ctx.stop.wait()\n" in one.stdout
    assert "worker-0" not in one.stdout
    assert "\nworker-0  ingest" in cli("stack").stdout
    by_pattern = json.loads(cli("stack", "w*", "--json").stdout)["services"][0]
    assert [stack["name"] for stack in by_pattern["stacks"]] == ["worker-0"]


def test_a_name_that_no_service_has_is_an_error_of_its_own(serve, cli):
    serve("ingest")
    done = cli("stack", "missing")
    assert (done.returncode, done.stdout) == (1, "")
    assert "'missing'" in done.stderr


def test_a_service_whose_loop_is_blocked_answers(serve, cli):
    serve("ingest", "-", "--blocked", 600, "--workers", 1)
    began = time.monotonic()
    assert "feeds/reader" in cli("ps").stdout
    assert "ctx.stop.wait()" in cli("stack", "worker-0").stdout
    assert time.monotonic() - began < 30


# ------------------------------------------------------------------------------------------------ who does not answer


def test_no_service_is_an_exit_status_of_its_own(cli):
    done = cli("ps")
    assert (done.returncode, done.stdout) == (3, "")
    assert "Supervisor(control=True)" in done.stderr
    assert cli("ps", "--pid", 1).returncode == 3
    missing = cli("ps", "--socket", "/nowhere/at/all")
    assert missing.returncode == 3
    assert missing.stderr.count("/nowhere/at/all") == 1


@pytest.mark.parametrize(
    "says",
    [None, b"garbage\n", b"[1]\n", b'{"id": null, "ok": false, "error": {"code": "bad_request", "message": "v2"}}\n'],
    ids=["nothing", "garbage", "a list", "another version"],
)
def test_a_service_that_does_not_answer_as_it_should_does_not_hold_up_the_others(says, serve, fake, cli):
    serve("ingest")
    fake(says, "1.odd.sock")
    done = cli("ps", "--patience", 5)
    assert done.returncode in {3, 4}
    assert "feeds/reader" in done.stdout
    assert done.stderr.count("1.odd.sock") == 1
    both = json.loads(cli("ps", "--patience", 5, "--json").stdout)
    assert [len(both["services"]), len(both["unreached"])] == [1, 1]


def test_many_that_hang_are_waited_for_at_the_same_time(fake, cli):
    for number in range(12):
        fake(None, f"{number}.hangs.sock")
    began = time.monotonic()
    done = cli("ps", "--patience", 3)
    assert time.monotonic() - began < 30
    assert (done.returncode, done.stderr.count("\n")) == (3, 12)


def test_the_socket_of_a_dead_service_is_no_service(serve, cli):
    service = serve("ingest")
    service.send_signal(signal.SIGKILL)
    service.wait()
    done = cli("ps")
    assert (done.returncode, done.stdout) == (3, "")


# ------------------------------------------------------------------------------------------------ hostile texts

EVIL = "\x1b]0;gone\x07\x1b[2J\r\n\u202ereversed\x9b31m"


@pytest.mark.parametrize(
    "arguments", [("ps",), ("ps", "--incidents"), ("stack",), ("stack", "any"), ("watch",)], ids="-".join
)
def test_nothing_that_a_service_says_reaches_the_terminal_as_more_than_text(arguments, fake, cli):
    event = {"event": "worker.running", "worker": EVIL, "new": "running", "reason": EVIL, "supervisor": EVIL}
    report = {"reason": EVIL, "seconds": 1, "clean": True, "counts": {EVIL: 1}, "outcomes": [], "earlier": []}
    outcome = {"worker": EVIL, "kind": EVIL, "ended": "abandoned", "error": EVIL, "stack": EVIL}
    fake(
        answers(
            survey(row(EVIL, pool=EVIL, state=EVIL, step=EVIL, pid=EVIL), supervisor=EVIL, pid=EVIL),
            stack=EVIL,
            events=[{"event": event}, {"report": {**report, "outcomes": [outcome]}}],
            incidents=[{"worker": EVIL, "error": EVIL, "ended": EVIL, "at": EVIL}],
        )
    )
    done = cli(*arguments)
    assert done.returncode == 0
    assert "reversed" in done.stdout
    for character in "\x1b\x07\r\u202e\x9b":
        assert character not in done.stdout + done.stderr


def test_the_error_of_a_service_is_text_too(fake, cli):
    fake({"hello": RuntimeError(EVIL)})
    done = cli("stack")
    assert done.returncode == 4
    assert "reversed" in done.stderr
    assert "\x1b" not in done.stderr
    json.loads(cli("stack", "--json").stdout)


def test_a_terminal_that_is_no_utf_8_gets_escapes(fake, cli):
    fake(answers(survey(row("日本語"))))
    done = cli("ps", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u65e5\\u672c\\u8a9e" in done.stdout


# ------------------------------------------------------------------------------------------------ as a program


@pytest.mark.parametrize(
    "arguments",
    [
        ("ps", "--state", "asleep"),
        ("ps", "--limit", "-1"),
        ("ps", "--sort", "size"),
        ("ps", "--pid", "x"),
        ("ps", "--patience", "nan"),
        ("stack", "a", "b"),
        ("stop",),
        ("shutdown", "--timeout", "-1"),
        ("top", "--interval", "0"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_refused(arguments, cli):
    done = cli(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: " in done.stderr


def test_a_reader_that_has_had_enough_ends_it_quietly(fake):
    fake(answers(survey(*[row(f"worker-{number}") for number in range(20_000)])))
    command = f"{sys.executable} -m supervisor ps {' '.join(PATIENCE)} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.stdout.splitlines()[1] == str(128 + signal.SIGPIPE)
    assert done.stderr == ""


def test_an_interrupt_ends_it_quietly(serve):
    serve("ingest")
    watch = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "watch", "--json", *PATIENCE],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with watch:
        while not connected(watch.pid):  # it prints nothing by which one could know that it listens
            time.sleep(0.01)
        watch.send_signal(signal.SIGINT)
        out, error = watch.communicate(timeout=30)
    assert (watch.returncode, out, error) == (130, b"", b"")


def connected(pid):
    """Whether a process has a socket."""
    files = f"/proc/{pid}/fd"
    try:
        return any(os.readlink(f"{files}/{number}").startswith("socket:") for number in os.listdir(files))
    except OSError:  # one that it has closed meanwhile
        return False


def test_it_needs_neither_asyncio_nor_what_paints(fake):
    fake(answers())
    script = f"""if True:
        import sys
        from {CLI} import main
        main(["ps"])
        heavy = ("asyncio", "anyio", "structlog", "rich", "textual", "tomllib", "supervisor.config")
        print([name for name in heavy if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.stdout.endswith("\n[]\n"), done.stderr


def test_who_runs_it_without_a_runtime_directory_finds_the_services_all_the_same(serve, cli, folder, monkeypatch):
    service = serve("ingest")
    path = next(folder.iterdir())
    assert path.name == f"{service.pid}.ingest.sock"
    done = cli("ps", "--socket", os.path.relpath(path, ROOT), XDG_RUNTIME_DIR="")
    assert "feeds/reader" in done.stdout
