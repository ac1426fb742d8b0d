"""Whether it was the kernel's out-of-memory killer: in a control group that has too little memory, and by counts."""

import json
import os
import pickle
import sys
from pathlib import Path

import pytest

from supervisor import Outcome, WorkerDied

from ...inside import OomKills, folders_of_groups
from ...programs import run_program

LIMIT = 160 << 20
"""Bytes that a group has: enough for the program, and not for what a worker takes."""

COUNTS = ("memory.events", "memory.oom_control")


def own_folder():
    try:
        folders = [Path(folder) for folder in folders_of_groups("memory")]
    except (OSError, ValueError):
        return None
    own = [folder for folder in folders if any((folder / file).exists() for file in COUNTS)]
    return own[-1] if own and os.access(own[-1], os.W_OK) else None


@pytest.fixture
def small_group():
    """A control group that has little memory; the test is left out where there can be none."""
    folder = own_folder()
    if folder is None:
        pytest.skip("no control group is ours to make others in")
    group = folder / f"small-{os.getpid()}"
    try:
        group.mkdir()
        bound = group / "memory.limit_in_bytes"
        (bound if bound.exists() else group / "memory.max").write_text(str(LIMIT))
    except OSError:
        if group.exists():
            group.rmdir()
        pytest.skip("no control group for memory can be made")
    yield group
    group.rmdir()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no such killer")
def test_what_it_has_taken_is_told_apart_from_what_was_killed_by_hand(small_group):
    done = run_program(sys.executable, "-m", "tests.kinds.processes.starved", small_group / "cgroup.procs")
    assert done.returncode == 0, done.stderr
    taken, by_hand, again = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    for found in (taken, again):
        assert found["oom_killed"]
        assert found["text"].endswith("died: SIGKILL, most likely by the kernel's out-of-memory killer")
    assert not by_hand["oom_killed"]
    assert by_hand["text"].endswith("died: SIGKILL")
    assert taken["exit_code"] == by_hand["exit_code"] == -9


# ------------------------------------------------------------------------------------------------ its counts


def machine(root, *, groups="", mounts="", **files):
    """A folder that has what the kernel of some machine says."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text(mounts)
    (root / "proc/vmstat").write_text("pgfault 5\noom_kill 7\n")
    for name, count in files.items():
        file = root / name.replace("__", "/").replace("_DOT_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"low 0\noom_kill {count}\n")
    return OomKills(str(root))


V2 = "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n"
V1 = "30 23 0:26 / /cg/memory rw - cgroup cgroup rw,memory\n31 23 0:27 / /cg/cpu rw - cgroup cgroup rw,cpu\n"


@pytest.mark.parametrize(
    ("what", "count"),
    [
        ({"groups": "0::/app\n", "mounts": V2, "cg__app__memory_DOT_events": 3}, 3),
        ({"groups": "0::/app/sub\n", "mounts": V2, "cg__app__memory_DOT_events": 3}, 3),
        ({"groups": "4:memory:/app\n1:cpu:/x\n", "mounts": V1, "cg__memory__app__memory_DOT_oom_control": 4}, 4),
        ({"groups": "0::/\n", "mounts": V2}, 7),  # the root has no count of its own
        ({"groups": "", "mounts": ""}, 7),
    ],
)
def test_the_count_is_that_of_the_nearest_group_or_else_of_the_machine(tmp_path, what, count):
    assert machine(tmp_path, **what).so_far() == count


def test_where_nobody_counts_nothing_is_known(tmp_path):
    kills = OomKills(str(tmp_path))
    assert kills.so_far() is None
    assert not kills.took_one(None)


def test_each_that_was_taken_is_said_once(tmp_path):
    kills = machine(tmp_path)
    before = kills.so_far()
    assert not kills.took_one(before)
    (tmp_path / "proc/vmstat").write_text("oom_kill 9\n")
    assert [kills.took_one(before) for _ in range(3)] == [True, True, False]
    assert not kills.took_one(kills.so_far())
    (tmp_path / "proc/vmstat").write_text("oom_kill 10\n")
    assert kills.took_one(9)


def test_the_error_says_it_and_survives_pickling():
    error = WorkerDied(Outcome("w", "process", ended="died", exit_code=-9, oom_killed=True))
    assert "out-of-memory killer" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert error.outcome.to_dict()["oom_killed"] is True
    assert "memory" not in str(WorkerDied(Outcome("w", "process", ended="died", exit_code=-9)))
