"""The gRPC example, a process of its own with real signals and a real client."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import TYPE_CHECKING

import pytest

from tests.examples.servers import EXAMPLES, LIMIT, LOGGED, example, started
from tests.examples.test_frameworks import CALL, STUCK, WITH_THE_CALL, WORKERS, assert_report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from signal import Signals

    from tests.examples.servers import Server

pytestmark = pytest.mark.timeout(180)

CLIENT = Path(__file__).with_name("grpc_client.py")


def client(server: Server, method: str, request: float | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(CLIENT), str(server.port), method, json.dumps(request)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def answer(client: subprocess.Popen[bytes]) -> object:
    with client:
        try:
            written, _ = client.communicate(timeout=LIMIT)
        finally:
            client.kill()
    return json.loads(written)


@contextmanager
def serving() -> Iterator[Server]:
    with started(*example(EXAMPLES / "grpc_server.py", before=LOGGED)) as server:
        server.until(lambda: answer(client(server, "List", None)) == WORKERS)
        server.until(server.awaits_signals)
        yield server


@pytest.mark.parametrize("number", [SIGTERM, SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_the_server_after_the_calls_in_flight(number: Signals) -> None:
    with serving() as server:
        call = client(server, "Nap", 1)
        server.until_written(CALL)
        server.send(number)
        assert answer(call) == {}
        assert server.end() == 0
        assert_report(server)
        assert "Traceback" not in server.output


def test_a_call_that_is_stuck_is_cancelled_and_reported() -> None:
    with serving() as server:
        call = client(server, "Nap", 3600)
        server.until_written(CALL)
        server.send(SIGTERM)
        assert answer(call) in {"CANCELLED", "UNAVAILABLE"}
        assert server.end() == 0
        assert server.has_line(f"^sleep-4 +thread +{STUCK} ")
        assert_report(server, WITH_THE_CALL)
