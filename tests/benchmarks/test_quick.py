"""The benchmarks work: each section in its quick mode, and the report that is written from what was measured."""

import json
import math
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import PROFILE, SECTIONS, main
from benchmarks.measure import Goal, Table

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parents[2]
QUICK = {"latency", "streams", "workers"}
"""Those that every run of the tests tries; the long campaigns try all."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SECTIONS]
)
def test_a_section_has_figures_a_floor_and_the_figures_that_its_goals_are_for(name):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks", name, "--quick", "--in-this-process"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "BENCHMARKS_QUICK": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stderr
    if name == "deaths":  # the peers, and asyncio, say what they like of their processes that were killed
        said = "".join(line for line in said.splitlines() if "supervisor" in line)
    assert not said
    tables = [Table.from_data(data) for data in json.loads(done.stdout)]
    assert tables
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.figures.values())
        assert all(value is None or not math.isnan(value) for row in table.figures.values() for value in row)
        assert all(table.reached(goal) > 0 for goal in table.goals)
    assert any(row.startswith(("floor", "off", "no page")) for table in tables for row in table.figures)


RESULTS = {
    "quick": False,
    "machine": {
        "cpu": "A CPU",
        "cores": 2,
        "system": "Linux 6",
        "python": "CPython 3.13.0",
        "switch_interval": 0.005,
        "packages": {"anyio": "4"},
        "date": "2026-01-01",
    },
    "sections": [],
}
TABLE = Table(
    "One call",
    "µs",
    ["asyncio", "uvloop"],
    {"floor: bare": [10.0, 8.0], "peer": [100.0, None], "ours": [60.0, 20.0]},
    beside="peer",
    goals=[
        Goal("ours", "asyncio", 0.75, "peer"),
        Goal("ours", "asyncio", 50),
        Goal("ours", "uvloop", 0.4, "floor: bare"),
    ],
    pinned=True,
)


def results():
    section = {"title": "Calls", "machine": RESULTS["machine"], "tables": [TABLE.as_data()]}
    return {**RESULTS, "sections": [json.loads(json.dumps(section))]}


def test_the_report_has_each_target_with_what_was_reached_and_a_verdict():
    text = report.page(results())
    assert f"| One call, asyncio: ours | 0.60 {report.TIMES} peer | ≤ 0.75 | met |" in text
    assert "| One call, asyncio: ours | 60 µs | ≤ 50 | **missed** |" in text
    assert f"| One call, uvloop: ours | 2.5 {report.TIMES} bare | ≤ 0.4 | **missed** |" in text
    assert f"| ours | 60 (0.60); ≤ 0.75: met; ≤ 50: **missed** | 20; ≤ 0.4 {report.TIMES} bare: **missed** |" in text
    assert "| floor: bare | 10 (0.10) | 8 |" in text
    assert "Pinned to one core." in text
    assert report.missed(results()) == 2


def test_the_report_of_the_quick_mode_judges_nothing():
    text = report.page({**results(), "quick": True})
    assert "say nothing about speed" in text
    assert "missed" not in text.partition("## Targets")[2]


def test_the_report_tells_what_was_measured_on_and_not_where():
    text = report.page({**results(), "machine": report.machine()})
    assert "Python" in text
    assert str(ROOT) not in text
    assert platform.node() not in text


@pytest.mark.slow
def test_a_run_of_one_section_keeps_what_an_earlier_run_has_measured(tmp_path, capsys):
    kept, text = tmp_path / "results.json", tmp_path / "report.md"
    for name in ("crowd", "path"):
        assert main([name, "--quick", "--results", str(kept), "--report", str(text)]) == 0
    assert json.loads(kept.read_text())["names"] == ["crowd", "path"]
    assert "## Short-lived workers" in text.read_text()
    assert "## The fast path" in text.read_text()


def test_a_section_that_fails_costs_no_other(tmp_path, capsys, monkeypatch):
    kept, text = tmp_path / "results.json", tmp_path / "report.md"
    arguments = ["--quick", "--results", str(kept), "--report", str(text)]
    assert main(["crowd", *arguments]) == 0
    before = json.loads(kept.read_text())["sections"][0]
    monkeypatch.setattr("benchmarks.__main__._measured", fails_for("crowd"))
    assert main(["crowd", "path", *arguments]) == 1
    assert "crowd ... failed, and stays as it was: exit code 3" in capsys.readouterr().err
    after = json.loads(kept.read_text())
    assert after["names"] == ["crowd", "path"]
    assert after["sections"][0] == before
    assert "## Short-lived workers" in text.read_text()


def fails_for(bad):
    def measured(name, *, quick):
        if name == bad:
            raise subprocess.CalledProcessError(3, "python")
        return [Table("T", "ms", ["c"], {"floor": [1.0]}).as_data()]

    return measured


def test_an_interrupt_loses_nothing_that_was_measured(tmp_path, monkeypatch):
    kept = tmp_path / "results.json"

    def measured(name, *, quick):
        if name == "path":
            raise KeyboardInterrupt
        return [Table("T", "ms", ["c"], {"floor": [1.0]}).as_data()]

    monkeypatch.setattr("benchmarks.__main__._measured", measured)
    with pytest.raises(KeyboardInterrupt):
        main(["crowd", "path", "--quick", "--results", str(kept), "--report", str(tmp_path / "r.md")])
    assert json.loads(kept.read_text())["names"] == ["crowd"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"quick": true, "sec', "is no file of results"),
        ('{"quick": false, "names": [], "sections": []}', "has the results of full runs"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_and_kept(tmp_path, text, problem):
    kept = tmp_path / "results.json"
    kept.write_text(text)
    with pytest.raises(SystemExit, match=problem):
        main(["crowd", "--quick", "--results", str(kept)])
    assert kept.read_text() == text


def test_a_section_from_elsewhere_says_so():
    data = results()
    data["sections"][0]["machine"] = {**data["machine"], "cpu": "Another One"}
    assert "Measured apart from the rest: cpu Another One." in report.page(data)


def test_an_unknown_section_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["latencies"])
    assert "unknown: latencies; the sections are: latency, " in capsys.readouterr().err


def test_the_page_about_the_fast_path_has_a_place_for_its_figures():
    text = PROFILE.read_text(encoding="utf-8")
    changed = report.profile_page(text, results()["sections"][0])
    assert "### One call" in changed
    assert changed.partition(report.BEGIN)[0] == text.partition(report.BEGIN)[0]
    assert changed.partition(report.END)[2] == text.partition(report.END)[2]
    assert report.profile_page(changed, results()["sections"][0]) == changed
