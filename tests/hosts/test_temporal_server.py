"""The example of a Temporal worker against Temporal's own development server, where its command line is installed."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..foreign import EXAMPLES

pytest.importorskip("temporalio", reason="temporalio cannot be imported here")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("temporal") is None, reason="Temporal's command line is not installed"),
]

CLIENT = Path(__file__).with_name("temporal_client.py")


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["temporal", "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        wait_for(port)
        yield f"127.0.0.1:{port}"
        server.terminate()


def wait_for(port):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            time.sleep(1)  # it listens a little before it answers
            return


def test_activities_end_in_time_and_the_worker_within_its_shutdown(address):
    command = [sys.executable, CLIENT, address, EXAMPLES / "temporal_worker.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
