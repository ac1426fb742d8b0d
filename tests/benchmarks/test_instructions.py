"""The count of instructions: what is compared with what, and that it fails where a path takes more."""

import pytest

from benchmarks import instructions
from benchmarks.instructions import BUILD, PATHS, VERSION, main

FOUND = {path.name: 2.0 for path in PATHS[1:]}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Keeps counts in a file of the test's own, and finds others."""

    def keep(counts, *found, build=BUILD):
        file = tmp_path / "kept.json"
        file.write_text(instructions.json.dumps({VERSION: {"build": build, "counts": counts}}))
        results = iter(found)
        monkeypatch.setattr(instructions, "KEPT", file)
        monkeypatch.setattr(instructions, "counted", lambda: next(results))
        monkeypatch.setattr(instructions.shutil, "which", lambda _: "valgrind")
        monkeypatch.setattr(instructions.sys, "argv", ["instructions"])

    return keep


def test_each_count_is_in_units_of_the_first_path():
    counts = [path.number * (100 if place else 50) for place, path in enumerate(PATHS)]
    assert instructions._in_units(counts) == FOUND


def test_as_many_as_are_kept_are_well(kept, capsys):
    kept(FOUND, FOUND)
    assert main() == 0
    assert "1.000 of 2.000" in capsys.readouterr().out


def test_a_path_that_takes_more_twice_fails(kept, capsys):
    name = PATHS[1].name
    more = {**FOUND, name: 2.2}
    kept(FOUND, more, more)
    assert main() == 1
    assert f"{name}: takes more" in capsys.readouterr().out


def test_of_two_counts_the_lower_one_counts(kept):
    kept(FOUND, {**FOUND, PATHS[1].name: 2.2}, FOUND)
    assert main() == 0


def test_another_build_fails_nobody(kept, capsys):
    kept(FOUND, {**FOUND, PATHS[1].name: 3.0}, build="another")
    assert main() == 0
    assert "nothing is kept for this build" in capsys.readouterr().out


def test_without_valgrind_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(instructions.shutil, "which", lambda _: None)
    monkeypatch.setattr(instructions.sys, "argv", ["instructions"])
    assert main() == 0
    assert "there is no valgrind" in capsys.readouterr().out
