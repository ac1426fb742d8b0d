"""An example as a process of its own that serves until a signal comes."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT = 100.0
"""Seconds that a step of a test may take: far more than any needs, so that a busy machine fails none."""


PATIENT = """
import os, runpy, sys, structlog, supervisor
from supervisor import Ask, EscalationPolicy, Inject, Terminate

OBEYS, IS_INJECTED = EscalationPolicy(Ask(15)), EscalationPolicy(Ask(0.3), Inject(15))
LADDERS = {
    **dict.fromkeys(("poller", "store", "flag", "event"), OBEYS),
    **dict.fromkeys(("spinner", "endless-loop", "exception_by_ctypes"), IS_INJECTED),
    "terminate": EscalationPolicy(Ask(0.3), Inject(0.3), Terminate(15)),
}
start = supervisor.Supervisor.start

def patient(sup, *args, name=None, **options):
    if name in LADDERS:
        options["policy"] = LADDERS[name]
    return start(sup, *args, name=name, **options)

supervisor.Supervisor.start = patient
"""
"""Gives each worker of an example that can be ended the time for that, on any machine; the others have their graces."""

LOGGED = """
structlog.configure()
"""
"""Has an example log all."""

AS_IT_IS = """
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def example(path: Path, *args: str | Path, before: str = "") -> tuple[str | Path, ...]:
    """Returns the arguments with which Python runs an example, after this code."""
    return ("-c", PATIENT + before + AS_IT_IS, path, *args)


class Server:
    """A running example. What it writes goes to a file, so that it never waits for its reader."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, written: IO[bytes]) -> None:
        self.process = process
        self.port = port
        self._written = written

    @property
    def output(self) -> str:
        size = os.fstat(self._written.fileno()).st_size
        return os.pread(self._written.fileno(), size, 0).decode(errors="backslashreplace")

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition, as long as the process runs."""
        end = time.monotonic() + LIMIT
        while not condition():
            assert self.process.poll() is None, f"ended meanwhile:\n{self.output}"
            assert time.monotonic() < end, f"it does not come:\n{self.output}"
            time.sleep(0.01)

    def until_written(self, pattern: str) -> None:
        self.until(lambda: self.has_line(pattern))

    def has_line(self, pattern: str) -> bool:
        return re.search(pattern, self.output, re.MULTILINE) is not None

    # -------------------------------------------------------------------------------- requests

    def request(self, path: str) -> http.client.HTTPConnection:
        """Sends a request, whose response need not be waited for."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request("GET", path)
        except BaseException:
            connection.close()
            raise
        return connection

    def get(self, path: str) -> tuple[int, bytes]:
        with closing(self.request(path)) as connection:
            return answer(connection)

    def workers(self) -> dict[str, str]:
        """What the service itself tells of its workers; none before it serves."""
        try:
            status, body = self.get("/workers")
        except ConnectionRefusedError:
            return {}
        assert status == 200
        return json.loads(body)

    # -------------------------------------------------------------------------------- signals and the end

    def awaits_signals(self) -> bool:
        """Whether the main thread has a handler for SIGTERM, and sleeps."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = int(re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)[1], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1) and "\nState:\tS" in status

    def send(self, number: signal.Signals) -> None:
        assert self.process.poll() is None, f"ended too early:\n{self.output}"
        self.process.send_signal(number)

    def end(self) -> int:
        """Returns the exit status, once the process has ended by itself; it has left nothing behind."""
        try:
            status = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.output}") from None
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return status
        raise AssertionError("a process of its group has stayed")


def answer(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    """Returns the status and the body of a response, once it has come."""
    with connection.getresponse() as response:
        return response.status, response.read()


@contextmanager
def started(*command: str | Path, loop: str = "asyncio") -> Iterator[Server]:
    """Starts Python with a command line, on a port and an event loop of one's choice."""
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "LOOP": loop}
    with (
        tempfile.TemporaryFile() as written,
        subprocess.Popen(
            [sys.executable, *command],
            stdout=written,
            stderr=subprocess.STDOUT,
            cwd=EXAMPLES,
            env=environment,
            process_group=0,
        ) as process,
    ):
        try:
            yield Server(process, port, written)
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
