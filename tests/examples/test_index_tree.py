"""The first example, as a process of its own: it finishes, it stops at any moment, and it goes on where it stopped."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from supervisor import Supervisor
from tests.examples.servers import example

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(180)

EXAMPLE = Path(__file__).parents[2] / "examples" / "index_tree.py"
FILES = 300
SHORT = ("--grace", "0.1")
SLOW = ("--hold", "0.6")  # with 32 threads at most, the tree takes more than five seconds

Rows = dict[bytes, tuple[int, int, str]]


class Job:
    """A run of the example, whose lines can be waited for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output = ""

    def wait_for(self, pattern: str) -> str:
        """Reads on until a line matches; what follows is read by `end`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if re.search(pattern, line):
                return line
        raise AssertionError(f"ended without {pattern!r}:\n{self.output}")

    def end(self) -> int:
        """Returns the exit status, once all the output has been read."""
        assert self.process.stdout is not None
        self.output += self.process.stdout.read()
        return self.process.wait()

    def count(self, what: str) -> int:
        """Returns a number of the last line that tells how far it has come."""
        return int(re.findall(rf"(\d+) {what}", self.output)[-1])


@contextmanager
def started(*args: str | Path) -> Iterator[Job]:
    command = [sys.executable, *example(EXAMPLE, *args)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="backslashreplace"
    ) as process:
        try:
            yield Job(process)
        finally:
            process.kill()


def run(*args: str | Path) -> tuple[int, Job]:
    with started(*args) as job:
        return job.end(), job


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store" / "index.sqlite3"


@pytest.fixture
def tree(tmp_path: Path, store: Path) -> Path:
    """A tree with all that is awkward in one: links in a circle, a FIFO, names that are no text."""
    store.parent.mkdir()
    top = tmp_path / "tree"
    for number in range(FILES - 4):
        path = top / f"d{number % 7}" / f"e{number % 3}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % number * number)
    (top / "empty").touch()
    (top / "large").write_bytes(b"large" * 1_000_000)
    (top / "two\nlines").write_text("and a name with a line break")
    Path(os.fsdecode(os.fsencode(top) + b"/not-\xff-utf8")).write_text("nor need a name be text")
    (top / "d0" / "circle").symlink_to(top)
    (top / "dangling").symlink_to("nowhere")
    (top / "linked").symlink_to("large")
    os.mkfifo(top / "fifo")
    return top


def on_disk(tree: Path) -> Rows:
    """What a complete index of the tree holds."""
    found = {}
    for directory, _, names in os.walk(os.fsencode(tree)):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                status = os.stat(path)
                content = Path(os.fsdecode(path)).read_bytes()
                found[path] = (status.st_size, status.st_mtime_ns, hashlib.sha256(content).hexdigest())
    return found


def stored(store: Path) -> Rows:
    with closing(sqlite3.connect(store)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {path: tuple(rest) for path, *rest in db.execute("SELECT path, size, mtime_ns, sha256 FROM files")}


def has_line(job: Job, pattern: str) -> bool:
    return re.search(pattern, job.output, re.MULTILINE) is not None


# ------------------------------------------------------------------------------------------------ to the end


def test_it_indexes_everything_and_reports_who_did_not_listen(tree: Path, store: Path) -> None:
    status, job = run(tree, "--store", store, *SHORT)

    assert status == 0
    assert f"into the store {store}\n" in job.output
    assert has_line(job, rf"^finished: {FILES} found, {FILES} hashed, 0 skipped, 0 unreadable, 0 forgotten$")
    assert has_line(job, r"^shutdown \(all is indexed\) took \d\.\d+ s: ")
    assert has_line(job, r"^store +thread +stopped +ask ")
    assert has_line(job, r"^endless-loop +thread +injected +inject ")
    assert has_line(job, r"^blocked-in-c +thread +abandoned +inject ")
    assert has_line(job, r"^blocked-in-c was last seen at:$")
    assert has_line(job, r"^ +SimpleQueue\(\)\.get\(\)")
    assert stored(store) == on_disk(tree)


def test_the_next_run_hashes_only_what_has_changed_and_forgets_what_has_gone(tree: Path, store: Path) -> None:
    run(tree, "--store", store, *SHORT)
    status, job = run(tree, "--store", store, *SHORT)
    assert status == 0
    assert has_line(job, rf"^finished: {FILES} found, 0 hashed, {FILES} skipped, 0 unreadable, 0 forgotten$")

    (tree / "large").write_text("smaller")
    (tree / "two\nlines").write_text((tree / "two\nlines").read_text().swapcase())  # as long as before
    (tree / "new").write_text("new")
    (tree / "empty").unlink()
    status, job = run(tree, "--store", store, *SHORT)

    assert status == 0
    assert has_line(job, rf"^finished: {FILES} found, 3 hashed, {FILES - 3} skipped, 0 unreadable, 1 forgotten$")
    assert stored(store) == on_disk(tree)


def test_the_store_holds_several_trees_but_not_itself(tree: Path) -> None:
    store = tree / "index"  # other files and directories may begin with its name
    (tree / "index.html").write_text("one more")
    status, _ = run(tree, "--store", store, *SHORT)
    assert status == 0
    assert len(stored(store)) == FILES + 1

    status, job = run(tree / "d0", "--store", store, *SHORT)
    assert status == 0
    assert (job.count("hashed"), job.count("forgotten")) == (0, 0)
    status, job = run(tree.parent / "store", "--store", store, *SHORT)
    assert (status, job.count("found"), job.count("forgotten")) == (0, 0, 0)
    assert len(stored(store)) == FILES + 1


# ------------------------------------------------------------------------------------------------ signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_half_way_stops_it_and_the_next_run_goes_on_from_there(
    tree: Path, store: Path, number: signal.Signals
) -> None:
    with started(tree, "--store", store, *SHORT, *SLOW) as job:
        job.wait_for(r", [1-9]\d* hashed")
        job.process.send_signal(number)
        status = job.end()

    assert status == 128 + number
    assert has_line(job, "^stopped; start it again to go on: ")
    assert has_line(job, rf"^shutdown \({number.name}\) took \d\.\d+ s: ")
    assert has_line(job, r"^endless-loop +thread +injected +inject ")
    assert has_line(job, r"^blocked-in-c +thread +abandoned +inject ")
    assert "Traceback" not in job.output
    half, whole = stored(store), on_disk(tree)
    assert 0 < job.count("hashed") <= len(half) < FILES
    assert half.items() <= whole.items()

    status, job = run(tree, "--store", store, *SHORT)
    assert status == 0
    assert (job.count("skipped"), job.count("hashed")) == (len(half), FILES - len(half))
    assert stored(store) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_very_start_stops_it(tree: Path, store: Path, number: signal.Signals) -> None:
    with started(tree, "--store", store, *SHORT) as job:
        job.wait_for("^indexing ")
        job.process.send_signal(number)
        assert job.end() == 128 + number
    assert has_line(job, rf"^shutdown \({number.name}\) took \d\.\d+ s: ")
    assert "Traceback" not in job.output


def test_more_signals_during_the_shutdown_change_nothing(tree: Path, store: Path) -> None:
    with started(tree, "--store", store, *SLOW) as job:
        job.wait_for(r"[1-9]\d* found")
        job.process.send_signal(signal.SIGTERM)
        job.wait_for("supervisor.stopping")
        job.process.send_signal(signal.SIGINT)
        job.wait_for("worker.escalated .* worker=blocked-in-c")
        job.process.send_signal(signal.SIGINT)
        assert job.end() == 128 + signal.SIGTERM
    assert has_line(
        job, r"^shutdown \(SIGTERM\) took ([2-9]|1\d)\.\d+ s: "
    )  # the graces as they are by default: 1 s + 1 s
    assert "Traceback" not in job.output


def test_signals_when_all_is_indexed_come_too_late(tree: Path, store: Path) -> None:
    with started(tree, "--store", store, *SHORT) as job:
        job.wait_for("supervisor.stopping .*reason='all is indexed'")
        while job.process.poll() is None:  # to the very end, while the interpreter goes down as well
            job.process.send_signal(signal.SIGINT)
            time.sleep(0.001)
        assert job.end() == 0
    assert has_line(job, "^finished: ")
    assert "Traceback" not in job.output


def test_whatever_ends_it_at_whatever_moment_the_store_is_sound(tree: Path, store: Path) -> None:
    chance = random.Random(1)
    whole = on_disk(tree)
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM) * 3:
        with started(tree, "--store", store, *SHORT, "--hold", "0.05") as job:
            time.sleep(chance.uniform(0.0, 0.8))
            job.process.send_signal(number)
            status = job.end()
        assert "cannot use the store" not in job.output
        if status == 0:
            assert has_line(job, "^finished: ")
        elif number == signal.SIGKILL:
            assert status == -number
        elif "indexing" in job.output:  # else Python itself was interrupted, before the example had begun
            assert status == 128 + number, job.output
            assert has_line(job, "^shutdown "), job.output
            assert "Traceback" not in job.output

    status, _ = run(tree, "--store", store, *SHORT)
    assert status == 0
    assert stored(store) == whole


def test_on_a_terminal_it_shows_a_bar_and_ctrl_c_leaves_the_cursor_visible(tree: Path, store: Path) -> None:
    master, slave = os.openpty()
    command: list[str | Path] = [sys.executable, EXAMPLE, tree, "--store", store, *SHORT, *SLOW]
    terminal = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    output = b""
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=terminal) as process:
        os.close(slave)
        try:
            with open(master, "rb", buffering=0) as screen:
                while b" worker.ended" not in output.replace(b"\x1b[1m", b""):
                    output += screen.read(4096)
                    if re.search(rb"[1-9]\d* hashed", output) and process.poll() is None:
                        process.send_signal(signal.SIGINT)
                while chunk := read_terminal(screen):
                    output += chunk
            assert process.wait() == 128 + signal.SIGINT
        finally:
            process.kill()
    assert "━".encode() in output
    assert output.rindex(b"\x1b[?25h") > output.rindex(b"\x1b[?25l")
    assert b"shutdown (SIGINT) took" in output
    assert b"Traceback" not in output


def read_terminal(screen: Any) -> bytes:
    try:
        return bytes(screen.read(4096))
    except OSError:  # the other side is closed
        return b""


# ------------------------------------------------------------------------------------------------ what can go wrong


def test_a_path_that_is_no_directory_is_refused(tree: Path, store: Path) -> None:
    for path in (tree / "missing", tree / "large"):
        status, job = run(path, "--store", store)
        assert status == 2
        assert f"error: no such directory: {path}\n" in job.output
    assert not store.exists()


def test_a_store_that_cannot_be_used_is_refused(tree: Path, store: Path) -> None:
    for path, why in (
        (store / "missing", "unable to open database file"),
        (store.parent, "unable to open database file"),
        (tree / "large", "file is not a database"),
    ):
        status, job = run(tree, "--store", path, *SHORT)
        assert status == 2
        assert f"cannot use the store {path}: {why}\n" in job.output
        assert "Traceback" not in job.output
    assert (tree / "large").read_bytes() == b"large" * 1_000_000


def test_a_second_run_on_the_same_store_is_refused_while_the_first_runs(tree: Path, store: Path) -> None:
    with started(tree, "--store", store, *SHORT, "--hold", "1000") as first:
        first.wait_for(r"[1-9]\d* found")
        status, second = run(tree, "--store", store, *SHORT)
        assert status == 2
        assert f"cannot use the store {store}: database is locked\n" in second.output
        first.process.send_signal(signal.SIGTERM)
        assert first.end() == 128 + signal.SIGTERM
    assert has_line(first, "^store +thread +stopped +ask ")  # though it had nothing to do but to wait


def test_a_store_that_fails_on_the_way_ends_the_run(tree: Path, store: Path) -> None:
    code = (  # no file of this process may grow beyond 20 kB
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command: list[str | Path] = [sys.executable, "-c", code, EXAMPLE, tree, "--store", store, *SHORT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"cannot use the store {store}: " in done.stderr
    assert re.search(r"worker\.ended +ended=failed worker=store$", done.stderr, re.MULTILINE)
    assert re.search(r"^blocked-in-c +thread +abandoned ", done.stdout, re.MULTILINE)
    assert stored(store).items() <= on_disk(tree).items()


async def test_a_file_that_vanishes_or_changes_meanwhile_is_passed_over(
    tree: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = load()
    list_directory = example.list_directory

    def listed_too_early(path: bytes, but_not: frozenset[bytes]) -> Any:
        listing = list_directory(path, but_not)
        if path == os.fsencode(tree):
            listing.files[:] = [file._replace(size=1) if b"large" in file.path else file for file in listing.files]
            listing.files.append(example.File(path + b"/vanished", 1, 1))
            listing.directories.append(path + b"/vanished-too")
        return listing

    monkeypatch.setattr(example, "list_directory", listed_too_early)
    for deaf in ("blocked_in_c", "endless_loop"):
        monkeypatch.setattr(example, deaf, lambda ctx: ctx.stop.wait())
    sup = Supervisor()
    index = example.Index(sup, str(tree), str(store), 0.0)
    await index.serve()

    assert index.finished
    assert dict(index.counts) == {
        "found": FILES + 1,
        "hashed": FILES - 1,
        "skipped": 0,
        "unreadable": 3,
        "forgotten": 0,
    }
    assert "vanished" in index.problem or "large" in index.problem
    assert stored(store).keys() == on_disk(tree).keys() - {os.fsencode(tree / "large")}
    assert sup.report is not None
    assert sup.report.clean


def load() -> Any:
    spec = importlib.util.spec_from_file_location("index_tree", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
