"""How many CPUs a supervisor counts with: affinity, and the quotas of control groups, over trees of files."""

from __future__ import annotations

import math
import os
import sys

import pytest

from supervisor import Supervisor

from .. import inside

V1 = "33 31 0:30 {shown} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_OTHER = "34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime shared:10 - cgroup cgroup rw,cpuset"
V2 = "30 23 0:26 {shown} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
OTHERS = ["22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw", "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755"]


@pytest.fixture
def machine(tmp_path):
    """Makes the files of a machine, and returns the folder that has them."""

    def make(groups, mounts, files):
        proc = tmp_path / "proc/self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text("".join(f"{line}\n" for line in groups))
        (proc / "mountinfo").write_text("".join(f"{line}\n" for line in [*OTHERS, *mounts]))
        for name, text in files.items():
            file = tmp_path / "sys/fs/cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "quota"),
    [
        pytest.param(["0::/"], [V2.format(shown="/")], {"cpu.max": "150000 100000"}, 1.5, id="v2, a container"),
        pytest.param(["0::/"], [V2.format(shown="/")], {"cpu.max": "max 100000"}, math.inf, id="v2, no quota"),
        pytest.param(["0::/"], [V2.format(shown="/")], {}, math.inf, id="v2, the root group"),
        pytest.param(["0::/"], [V2.format(shown="/")], {"cpu.max": "junk"}, math.inf, id="v2, junk"),
        pytest.param(
            ["0::/app.slice/web.service"],
            [V2.format(shown="/")],
            {"app.slice/cpu.max": "100000 100000", "app.slice/web.service/cpu.max": "300000 100000"},
            1.0,
            id="v2, the smallest of those around it",
        ),
        pytest.param(
            ["0::/app.slice/web.service"],
            [V2.format(shown="/")],
            {"app.slice/cpu.max": "max 100000", "app.slice/web.service/cpu.max": "25000 50000"},
            0.5,
            id="v2, its own",
        ),
        pytest.param(
            ["0::/docker/1f2e/init"],
            [V2.format(shown="/docker/1f2e")],
            {"cpu.max": "400000 100000", "init/cpu.max": "200000 100000"},
            2.0,
            id="v2, the part that is shown",
        ),
        pytest.param(
            ["0::/docker/1f2e"],
            [V2.format(shown="/docker/1f2e")],
            {"cpu.max": "400000 100000"},
            4.0,
            id="v2, the top of what is shown",
        ),
        pytest.param(
            ["0::/../other"], [V2.format(shown="/")], {"cpu.max": "400000 100000"}, 4.0, id="v2, out of sight"
        ),
        pytest.param(
            ["0::/docker/1f2e99"],
            [V2.format(shown="/docker/1f2e")],
            {"cpu.max": "400000 100000"},
            4.0,
            id="v2, a group with a similar name",
        ),
        pytest.param(
            ["4:cpu,cpuacct:/docker/1f2e", "2:cpuset:/"],
            [V1.format(shown="/docker/1f2e"), V1_OTHER],
            {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            2.5,
            id="v1, a container",
        ),
        pytest.param(
            ["4:cpu,cpuacct:/user", "2:cpuset:/"],
            [V1.format(shown="/"), V1_OTHER],
            {"cpu,cpuacct/user/cpu.cfs_quota_us": "-1", "cpu,cpuacct/user/cpu.cfs_period_us": "100000"},
            math.inf,
            id="v1, no quota",
        ),
        pytest.param(
            ["4:cpu,cpuacct:/user", "0::/user"],
            [V1.format(shown="/"), HYBRID],
            {"cpu,cpuacct/user/cpu.cfs_quota_us": "50000", "cpu,cpuacct/user/cpu.cfs_period_us": "100000"},
            0.5,
            id="both versions",
        ),
        pytest.param([], [], {}, math.inf, id="none"),
        pytest.param(["junk"], ["junk"], {}, math.inf, id="junk"),
    ],
)
def test_the_quota_is_that_of_the_nearest_bound(machine, groups, mounts, files, quota):
    assert inside.cpu_quota(str(machine(groups, mounts, files))) == quota


def test_a_path_with_spaces_is_read_as_it_is_escaped(machine):
    mount = r"30 23 0:26 / /sys/fs/cgroup/with\040space rw - cgroup2 cgroup2 rw"
    assert inside.cpu_quota(str(machine(["0::/"], [mount], {"with space/cpu.max": "100000 100000"}))) == 1


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert inside.cpu_quota(str(tmp_path)) == math.inf


def test_a_part_of_a_cpu_is_worth_one(machine, monkeypatch):
    name = "process_cpu_count" if sys.version_info >= (3, 13) else "sched_getaffinity"
    monkeypatch.setattr(os, name, lambda *_: 8 if name == "process_cpu_count" else set(range(8)))
    root = machine(["0::/"], [V2.format(shown="/")], {"cpu.max": "150000 100000"})
    assert inside.usable_cpus(str(root)) == 2
    (root / "sys/fs/cgroup/cpu.max").write_text("5000 100000")
    assert inside.usable_cpus(str(root)) == 1
    (root / "sys/fs/cgroup/cpu.max").write_text("1600000 100000")
    assert inside.usable_cpus(str(root)) == 8


def test_pools_whose_size_nobody_says_have_that_of_the_cpus(monkeypatch):
    monkeypatch.setattr(inside.cpus, "cpu_quota", lambda root: 1.5)
    monkeypatch.setattr(inside.cpus, "_runs_on", lambda: 8)
    sup = Supervisor()
    pools = inside.settings(sup).pools
    assert (pools["thread"].size, pools["process"].size) == (6, 2)
    assert sup.pool("a", kind="thread").size == 6
    assert sup.pool("b", kind="process").size == 2
