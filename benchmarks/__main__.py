"""`python -m benchmarks [SECTION ...] [--quick]`: measures, keeps what was measured, and writes the report."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from subprocess import CalledProcessError, TimeoutExpired
from time import monotonic
from typing import TYPE_CHECKING, Any

# Absolute: anyio's processes load this file by its path, and wait for ever where that fails.
from benchmarks.report import machine, missed, page, profile_page

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
REPORT = ROOT / "docs" / "benchmarks.md"
PROFILE = ROOT / "docs" / "explanation" / "fast-path.md"

SECTION_TIMEOUT = 600.0
"""Seconds after which a section is given up."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the suite, which has a process of its own: a function of a module, which returns tables."""

    title: str
    module: str
    function: str


SECTIONS = {
    "latency": Section("One call in a thread", "calls", "latency"),
    "throughput": Section("Many calls in threads", "calls", "throughput"),
    "linearity": Section("Ever more calls", "calls", "linearity"),
    "memory": Section("Memory of queued calls", "memory", "memory"),
    "logging": Section("Logs", "calls", "logging"),
    "metrics": Section("Metrics", "metrics", "counting"),
    "processes": Section("Calls in processes", "processes", "calls"),
    "streams": Section("Items of generators", "streams", "items"),
    "deaths": Section("Deaths of processes", "processes", "deaths"),
    "starts": Section("Starts of processes", "processes", "starts"),
    "waiters": Section("Stops of many", "stops", "waiters"),
    "ends": Section("Stops of few", "stops", "ends"),
    "busy": Section("A busy interpreter", "stops", "busy"),
    "lanes": Section("A slow lane beside a quick one", "lanes", "lanes"),
    "backlogs": Section("Backlogs", "backlogs", "backlogs"),
    "workers": Section("Long-lived workers", "supervision", "workers"),
    "burst": Section("Workers that are started at once", "supervision", "burst"),
    "crowd": Section("Short-lived workers", "supervision", "crowd"),
    "page": Section("A page that is open", "page", "page"),
    "cluster": Section("On a cluster", "cluster", "cluster"),
    "imports": Section("Imports", "imports", "imports"),
    "path": Section("The fast path, taken to pieces", "path", "path"),
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; none: all of them")
    parser.add_argument("--quick", action="store_true", help="all in small, in seconds: the figures mean nothing")
    parser.add_argument("--results", type=Path, help="where what was measured is kept, for a later run to add to")
    parser.add_argument("--report", type=Path, help="where the report goes, as Markdown")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; the sections are: {', '.join(SECTIONS)}")
    if options.in_this_process:
        print(json.dumps(_measure(SECTIONS[options.sections[0]])))
        return 0
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    results_file = options.results or (None if options.quick else RESULTS)
    report_file = options.report or (None if options.quick else REPORT)
    sections = _kept(results_file, quick=options.quick)
    about = machine()
    failed = []
    for name in options.sections or SECTIONS:
        began_at = monotonic()
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        try:
            tables = _measured(name, quick=options.quick)
        except (CalledProcessError, TimeoutExpired) as error:
            failed.append(name)
            how = f"exit code {error.returncode}" if isinstance(error, CalledProcessError) else str(error)
            print(f"failed, and stays as it was: {how}", file=sys.stderr)
            continue
        print(f"{monotonic() - began_at:.0f} s", file=sys.stderr, flush=True)
        sections[name] = {"title": SECTIONS[name].title, "machine": about, "tables": tables}
        if results_file is not None:  # now, so that an interrupt loses nothing
            names = [name for name in SECTIONS if name in sections]
            kept = {"quick": options.quick, "names": names, "sections": [sections[name] for name in names]}
            _write(results_file, json.dumps(kept, indent=1) + "\n")
    results = {
        "quick": options.quick,
        "machine": about,
        "sections": [sections[name] for name in SECTIONS if name in sections],
    }
    if report_file is None:
        print(page(results))
    else:
        _write(report_file, page(results))
        print(f"written: {report_file}", file=sys.stderr)
    measured = [name for name in options.sections or SECTIONS if name not in failed]
    if options.report is None and not options.quick and "path" in measured:
        _write(PROFILE, profile_page(PROFILE.read_text(encoding="utf-8"), sections["path"]))
        print(f"written: {PROFILE}", file=sys.stderr)
    if not options.quick:
        number = missed(results)
        print(f"{number} targets missed" if number else "all targets met", file=sys.stderr)
    return 1 if failed else 0


def _write(file: Path, text: str) -> None:
    """Writes a file, all of it or nothing."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)


def _kept(file: Path | None, *, quick: bool) -> dict[str, Any]:
    """Returns what earlier runs have measured, by the sections' names."""
    if file is None or not file.exists():
        return {}
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        kept = dict(zip(results["names"], results["sections"], strict=True))
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"--results {file}: is no file of results ({error!r}); give another one, or delete it")
    if results["quick"] != quick:
        sys.exit(f"--results {file}: has the results of {'quick' if not quick else 'full'} runs; give another one")
    return kept


def _measured(name: str, *, quick: bool) -> list[dict[str, Any]]:
    """Measures a section in a process of its own, so that none poisons another."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *_paths()])}
    environment.pop("BENCHMARKS_QUICK", None)
    if quick:
        environment["BENCHMARKS_QUICK"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--in-this-process"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        timeout=SECTION_TIMEOUT,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def _paths() -> list[str]:
    given = os.environ.get("PYTHONPATH")
    return [given] if given else []


def _measure(section: Section) -> list[dict[str, Any]]:
    tables = getattr(import_module(f"benchmarks.{section.module}"), section.function)()
    return [table.as_data() for table in tables]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
