"""The example and the benchmark run as they stand there."""

import re
import shutil
import sys

import pytest

from tests.programs import ROOT, run_program

pytest.importorskip("celery")


@pytest.mark.timeout(300)
@pytest.mark.skipif(not shutil.which("redis-server"), reason="needs redis-server")
def test_the_example_ends_tasks_that_never_end(service):
    done = run_program(sys.executable, ROOT / "examples" / "celery_app.py", timeout=280, BROKER=service["BROKER"])
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["add: 3", "careful: cleaned up"]
    assert "TimeLimitExceeded" in lines[2]
    found = re.fullmatch(r"the worker has ended after (\d+) s", lines[-1])
    assert found is not None, done.stdout
    assert int(found[1]) <= 30


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("redis-server"), reason="needs redis-server")
@pytest.mark.timeout(600)
def test_as_many_tasks_a_second_as_by_the_pools_of_celery():
    done = run_program(sys.executable, "-m", "benchmarks.celery_pool", "--rounds", "1", "--tasks", "2000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"the goal is", done.stdout)) == 2
