"""The comparison of two revisions works: each path in its quick mode, and the table; nothing is left behind."""

import subprocess
import tempfile

import pytest

from benchmarks import compare
from benchmarks.compare import PATHS, ROOT, main

pytestmark = pytest.mark.timeout(180)

HAS_HISTORY = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the git repository")


@pytest.mark.parametrize("name", PATHS)
def test_each_path_has_a_figure(name):
    assert compare._measured(name, ROOT, quick=True, cpu=False) > 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the copies are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@HAS_HISTORY
@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--cpu"]])
def test_a_row_has_both_medians_their_ratio_and_three_quartiles(options, folder, capsys):
    assert main(["HEAD", "run", "--rounds", "2", "--quick", *options]) == 0
    text = capsys.readouterr().out
    assert text.startswith("old: ")
    row = text.splitlines()[-1].split()
    old, ratio, *quartiles = (float(row[place]) for place in (-8, -4, -3, -2, -1))
    assert old > 0
    assert ratio > 0
    assert sorted(quartiles) == quartiles
    assert not list(folder.iterdir())


@HAS_HISTORY
def test_the_checkouts_take_turns_and_the_first_round_does_not_count(folder, capsys, monkeypatch):
    measured = []

    def figure(name, home, *, quick, cpu):
        assert (home / "supervisor" / "__init__.py").exists()
        measured.append(home.name)
        return (100 if len(measured) <= 2 else 2) * (3 if home.name == "new" else 1)

    monkeypatch.setattr(compare, "_measured", figure)
    assert main(["HEAD", "run", "--rounds", "3"]) == 0
    assert measured == ["old", "new", "new", "old"] * 2
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.split()[-8:] == ["2", "µs", "6", "µs", "3.000", "3.000", "3.000", "3.000"]


@HAS_HISTORY
def test_a_path_that_fails_costs_no_other(folder, capsys, monkeypatch):
    def figure(name, home, *, quick, cpu):
        if name == "run" and home.name == "old":
            raise subprocess.CalledProcessError(1, "python", stderr=b"Traceback:\nAttributeError: no such name\n")
        if name == "start":
            raise subprocess.TimeoutExpired("python", 120)
        return 1.0

    monkeypatch.setattr(compare, "_measured", figure)
    assert main(["HEAD", "run", "start", "stop", "--rounds", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert lines[0].endswith("failed, old: AttributeError: no such name")
    assert "timed out after 120 seconds" in lines[1]
    assert lines[2].endswith("1.000   1.000  1.000  1.000")


@HAS_HISTORY
def test_an_interrupt_leaves_no_copies(folder, monkeypatch):
    def figure(name, home, *, quick, cpu):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "_measured", figure)
    with pytest.raises(KeyboardInterrupt):
        main(["HEAD", "run"])
    assert not list(folder.iterdir())


@HAS_HISTORY
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["no-such-revision"], "Needed a single revision"),
        (["HEAD", "runn"], "unknown: runn; the paths are: run, runs, "),
        (["HEAD", "--rounds", "1"], "there is no spread below 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, problem, folder, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert problem in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_a_package_that_stands_elsewhere_is_not_measured(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as failed:
        compare._measured("run", tmp_path, quick=True, cpu=False)
    assert f"not {tmp_path}".encode() in failed.value.stderr
