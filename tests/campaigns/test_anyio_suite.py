"""anyio's own tests of `to_thread` and `from_thread`, with the supervisor's threads in place of anyio's.

They are those of the installed release, got from the package index; without it there is nothing to run.
"""

import os
import re
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

OF_ITS_THREADS = (
    "test_asyncio_worker_reused_after_cancelled_call",  # replaces a method of the thread's own queue
    "test_asyncio_worker_thread_loop_closed_during_result_report",  # waits for the thread in call_soon_threadsafe
)
"""Tests of how anyio's threads are made inside, and not of what they do."""


def pip(*args):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *args],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"pip cannot get what is needed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")


@pytest.fixture
def suite(tmp_path):
    """The folder of anyio's tests, and one of packages that they need."""
    pip("download", "--no-deps", "--no-binary", "anyio", "--dest", tmp_path, f"anyio=={metadata.version('anyio')}")
    pip("install", "--no-deps", "--target", tmp_path / "needed", "pytest-mock")
    (sdist,) = tmp_path.glob("anyio-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = (path for path in tmp_path.glob("anyio-*") if path.is_dir())
    return folder, tmp_path / "needed"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_anyio_is_content_with_our_threads(suite):
    folder, needed = suite
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "anyio_plugin", "-p", "no:cacheprovider"),
            *("-p", "no:asyncio", "-p", "no:supervisor", "-o", "addopts="),
            *("--deselect=tests/test_to_thread.py::" + name for name in OF_ITS_THREADS),
            *("tests/test_to_thread.py", "tests/test_from_thread.py"),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE, needed)))},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 250  # 279 on Python 3.11
    assert int(re.search(r"for (\d+) calls", done.stdout)[1]) > 200
