"""`watch`, `stop`, `restart` and `shutdown`."""

import json
import subprocess
import sys
import threading

from ..programs import ROOT
from .conftest import PATIENCE, environment
from .fakes import answers, survey


def test_a_worker_is_stopped_and_started_again_by_name(serve, cli):
    serve("ingest", "-", "--write", "--workers", 1)
    again = cli("restart", "feeds/reader")
    assert (again.returncode, again.stdout) == (0, "feeds/reader is being started again\n")
    stopped = cli("stop", "worker-0", "--reason", "too old", "--json")
    assert json.loads(stopped.stdout)["services"][0]["name"] == "worker-0"

    def rows():
        (service,) = json.loads(cli("ps", "--json").stdout)["services"]
        return {worker["name"]: worker["attempt"] for worker in service["workers"]}

    for _ in range(50):
        if rows() == {"feeds/reader": 2}:
            break
    assert rows() == {"feeds/reader": 2}


def test_what_changes_things_is_refused_by_a_service_that_can_only_be_looked_at(serve, cli):
    serve("ingest")
    for command in (("stop", "feeds/reader"), ("restart", "feeds/reader"), ("shutdown",)):
        done = cli(*command)
        assert (done.returncode, done.stdout) == (4, ""), command
        assert 'control="write"' in done.stderr


def test_a_name_that_nobody_has_is_an_error(serve, cli):
    serve("ingest", "-", "--write")
    done = cli("stop", "feeds/*")  # no pattern: what is stopped has that name
    assert (done.returncode, done.stdout) == (1, "")
    assert "'feeds/*'" in done.stderr


def test_of_several_services_one_must_be_named(serve, cli):
    first, second = serve("first", "-", "--write"), serve("second", "-", "--write")
    for command in (("stop", "feeds/reader"), ("shutdown",)):
        done = cli(*command)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"--pid {first.pid} " in done.stderr
        assert f"--pid {second.pid} " in done.stderr
    assert cli("stop", "feeds/reader", "--pid", second.pid).returncode == 0
    assert cli("stop", "feeds/reader").returncode == 0  # only the first has it now
    assert cli("shutdown", "--all").returncode == 0
    assert (first.wait(30), second.wait(30)) == (0, 0)


def test_a_name_with_the_characters_of_patterns_is_taken_as_it_is(fake, cli):
    service = fake({**answers(survey(matching=1)), "stop": {"name": "a[b]*?"}})
    assert cli("stop", "a[b]*?").returncode == 0
    asked = {request["do"]: request for request in service.asked}
    assert asked["survey"]["matching"] == "a[[]b][*][?]"
    assert asked["stop"]["name"] == "a[b]*?"


def test_a_shutdown_is_shown_as_it_climbs_and_its_report_at_the_end(serve, cli):
    service = serve("ingest", "-", "--write", "--stubborn")
    done = cli("shutdown", "--reason", "deploy")
    said = done.stdout
    assert done.returncode == 1, done.stderr
    steps = [said.index(f"stubborn  {state}") for state in ("stopping: ask", "stopping: inject", "ended: abandoned")]
    assert steps == sorted(steps)
    assert "shutdown (deploy) took " in said
    assert "1 stopped, 1 abandoned" in said
    assert "stubborn was last seen at:\n  File" in said
    assert service.wait(30) == 0


def test_a_clean_shutdown_ends_with_0_and_as_json_it_is_the_report(serve, cli):
    service = serve("ingest", "-", "--write")
    done = cli("shutdown", "--json", "--timeout", 30, "--drain", 0)
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["report"]["counts"] == {"stopped": 1}
    assert service.wait(30) == 0


class Reader:
    """Reads what a program prints, so that nobody waits for a line that does not come."""

    def __init__(self, program):
        self._program = program
        self._lines = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        for line in self._program.stdout:
            self._lines.append(line)

    def has(self, text):
        return any(text in line for line in self._lines)

    def end(self):
        """Ends the program, if it has not ended, and returns all that it has printed."""
        self._program.kill()
        self._program.wait(30)
        self._thread.join(30)
        for pipe in (self._program.stdout, self._program.stderr):
            if pipe is not None:
                pipe.close()
        return "".join(self._lines)


def test_a_watch_shows_each_transition_and_ends_with_the_reports(serve, cli):
    services = [serve(name, "-", "--write") for name in ("first", "second")]
    command = [sys.executable, "-m", "supervisor", "watch", *PATIENCE]
    plain, lines = (
        subprocess.Popen([*command, *more], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
        for more in ((), ("--json", "--match", "feeds/*"))
    )
    readers = [Reader(plain), Reader(lines)]
    try:
        while not all(reader.has("first") and reader.has("second") for reader in readers):  # until both listen to both
            cli("restart", "feeds/reader", "--all")
        assert cli("shutdown", "--all", "--reason", "enough").returncode == 0
        assert (plain.wait(30), lines.wait(30)) == (0, 0)
    finally:
        said, as_json = (reader.end() for reader in readers)
    assert "  first  feeds/reader (run " in said
    assert "ended: stopped" in said
    assert said.count("shutdown (enough) took") == 2
    found = [json.loads(line) for line in as_json.splitlines()]
    assert sorted(line["report"]["reason"] for line in found if "report" in line) == ["enough", "enough"]
    assert {line["event"]["worker"] for line in found if line.get("event", {}).get("worker")} == {"feeds/reader"}
    assert [service.wait(30) for service in services] == [0, 0]


def test_a_service_that_is_killed_while_it_is_watched_is_no_clean_end(serve, cli):
    service = serve("ingest", "-", "--write")
    command = [sys.executable, "-m", "supervisor", "watch", *PATIENCE]
    watch = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    reader = Reader(watch)
    try:
        while not reader.has("feeds/reader"):  # until it listens
            cli("restart", "feeds/reader")
        service.kill()
        assert watch.wait(30) == 3
        error = watch.stderr.read()
    finally:
        reader.end()
    assert "ingest.sock: " in error
