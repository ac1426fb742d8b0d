"""A runtime directory of its own for each test, with services in it, and the command line."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ..programs import ROOT
from .fakes import FakeService

PATIENCE = ["--patience", "40"]


@pytest.fixture
def folder(monkeypatch):
    """Where the sockets are: a short path, as those of sockets must be."""
    runtime = tempfile.mkdtemp(prefix="cli-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    sockets = Path(runtime, "stopladder")
    sockets.mkdir(mode=0o700)
    yield sockets
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture
def serve(folder):
    """Starts a service, and waits until it is up."""
    started = []

    def begin(name, control="-", *options):
        command = [sys.executable, "-m", "tests.cli.service", name, str(control), *map(str, options)]
        service = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
        started.append(service)
        assert service.stdout.readline() == "up\n"
        return service

    yield begin
    for service in started:
        service.kill()
        service.wait()
        service.stdout.close()


@pytest.fixture
def fake(folder):
    """Starts a service that says what it is told to."""
    services = []

    def begin(says, name="99.fake.sock"):
        services.append(FakeService(folder / name, says))
        return services[-1]

    yield begin
    for service in services:
        service.close()


@pytest.fixture
def cli(folder):
    """Runs a command, which has the patience that a busy machine needs; returns how it ended, and what it printed."""

    def run(*arguments, **environ):
        patience = [] if "--patience" in arguments else PATIENCE
        return subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-m", "supervisor", *map(str, arguments), *patience],
            cwd=ROOT,
            env={**environment(), **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
