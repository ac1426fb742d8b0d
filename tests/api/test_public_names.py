"""The exported names, and what importing the package costs."""

import os
import shutil
import subprocess
import sys
from importlib import metadata

import pytest

import supervisor
from supervisor import testing

NAMES = {
    "Ask",
    "Control",
    "EscalationPolicy",
    "Health",
    "Incident",
    "Inject",
    "Iteration",
    "Kill",
    "Limits",
    "NodeStatistics",
    "Outcome",
    "PolicyError",
    "Pool",
    "PoolStatistics",
    "RemoteError",
    "Restart",
    "RestartLimitExceeded",
    "ShutdownReport",
    "Statistics",
    "StopEvent",
    "StopInjected",
    "StopRequested",
    "Supervisor",
    "SupervisorBusy",
    "SupervisorClosed",
    "SupervisorError",
    "Terminate",
    "Transition",
    "Transitions",
    "Worker",
    "WorkerContext",
    "WorkerDied",
    "WorkerExit",
    "WorkerFailed",
    "WorkerOverLimit",
    "WorkerStopped",
    "WorkerTimeout",
    "current_context",
}


def test_exactly_the_public_names_are_exported():
    assert set(supervisor.__all__) == NAMES
    assert set(dir(supervisor)) >= NAMES
    for name in NAMES:
        assert getattr(supervisor, name).__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'Superviser'"):
        _ = supervisor.Superviser


def test_every_public_name_has_an_example():
    missing = [name for name in NAMES if ">>>" not in (getattr(supervisor, name).__doc__ or "")]
    assert missing == []


def test_exactly_the_public_names_for_tests_are_exported():
    assert set(testing.__all__) == {"QUICK_LADDER", "FakeRun", "FakeWorkers", "LeakCheck", "VirtualTime"}
    for name in set(testing.__all__) - {"QUICK_LADDER"}:
        assert getattr(testing, name).__doc__, f"{name} has no docstring"


def test_what_a_worker_function_needs_is_imported_without_the_rest():
    script = """if True:
        import sys
        from supervisor import StopRequested, WorkerContext, current_context
        print([name for name in ("asyncio", "structlog", "anyio", "ctypes") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "[]\n"


def test_the_version_is_that_of_the_distribution():
    assert supervisor.__version__ == metadata.version("stopladder")
    done = subprocess.run(
        [sys.executable, "-m", "supervisor", "--version"], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == f"stopladder {supervisor.__version__}\n"


def test_a_folder_that_has_supervisords_files_too_is_refused(tmp_path):
    package = tmp_path / "supervisor"
    package.mkdir()
    shutil.copy(supervisor.__file__, package)
    (package / "supervisord.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", "from supervisor import Supervisor"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "ImportError: stopladder and supervisord (the distribution `supervisor`) are both installed in"
    )
    assert str(package) in last
    assert "pip uninstall" in last
