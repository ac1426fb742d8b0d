"""The ingest service, as a process of its own: what its log tells, and that it ends in time and in order."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.examples.servers import EXAMPLES, LIMIT, Server, example, started

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

pytestmark = pytest.mark.timeout(180)

EXAMPLE = EXAMPLES / "ingest_service.py"


UNHURRIED = """
import asyncio

LADDERS["writer"] = EscalationPolicy(Ask(50))
rows = []
init, run = supervisor.Supervisor.__init__, supervisor.Supervisor.run
request = supervisor.Supervisor.request_shutdown

def unhurried(sup, *args, **options):
    init(sup, *args, **{**options, "policy": EscalationPolicy(Ask(0.5), Inject(50)), "shutdown_timeout": 100})

async def unhurried_run(sup, *args, **options):
    quick = EscalationPolicy(Ask(0.5), Inject(0.5))
    rows.append(await run(sup, *args, **{**options, "policy": quick, "timeout": 50}))
    return rows[-1]

def once_a_row_is_there(sup, reason=""):
    if rows:
        request(sup, reason)
    else:
        asyncio.get_running_loop().call_later(0.05, once_a_row_is_there, sup, reason)

supervisor.Supervisor.__init__, supervisor.Supervisor.run = unhurried, unhurried_run
supervisor.Supervisor.request_shutdown = once_a_row_is_there
"""
"""Gives each worker and each call the time that it needs on a slow machine, and no end before a file has been read."""


def serving(*options: str) -> AbstractContextManager[Server]:
    return started(*example(EXAMPLE, *options, before=UNHURRIED))


def report_of(server: Server) -> list[str]:
    """Returns the lines of the report that name workers, after looking at what surrounds them."""
    assert "Traceback" not in server.output, server.output
    stacks = r"(?:\n(?:.*\n)*?)?"  # of those that had to be abandoned, where a machine is too busy for them
    late = r"(?:\[.*\n)*"  # what is logged once these have ended after all
    found = re.search(
        rf"^(shutdown .*)\n(worker .*)\n((?:.+\n)+?){stacks}{late}0 rows lost\n{late}(\d+) rows stored\n\Z",
        server.output,
        re.MULTILINE,
    )
    assert found, server.output
    return found[3].splitlines()


def test_without_faults_it_reads_and_stores_and_ends_by_itself():
    with serving("--seconds", "6") as server:
        assert server.end() == 0
        rows = report_of(server)
        assert rows[-1].startswith("writer")
        assert {"feeds/asyncio", "feeds/email", "feeds/unittest"} <= {row.split()[0] for row in rows}
        assert int(re.search(r"^(\d+) rows stored$", server.output, re.MULTILINE)[1]) > 0
        assert "shutdown (time is up) took" in server.output


def test_with_faults_its_log_is_their_story():
    with serving("--faults") as server:
        server.until_written(r"worker\.restarting .*worker=feeds/\w+ .*ConnectionError")
        server.until_written(r"worker\.ended .*worker=feeds/\w+:\w+\.py .*ended=died")
        server.until_written(r"worker\.stuck .*no heartbeat for 4 s.* at=('while fault == \"hang\":'|pass)")
        server.until_written(r"worker\.escalated .*no heartbeat")
        server.until_written(r"worker\.restarting .*ended=injected .*no heartbeat")
        server.send(signal.SIGTERM)
        assert server.end() == 0
        assert report_of(server)[-1].startswith("writer")


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(r"worker\.running .*worker=writer", id="while it comes up"),
        pytest.param(r"worker\.running .*worker=feeds/asyncio", id="while the feeds come up"),
        pytest.param(r"worker\.restarting", id="while a feed waits for its restart"),
        pytest.param(r"ended=died", id="while a parser has died"),
        pytest.param(r"worker\.running .*worker=feeds/asyncio attempt=2", id="while a reader hangs"),
        pytest.param(r"worker\.stuck", id="while a reader that hangs is stopped"),
        pytest.param(r"worker\.escalated", id="while a reader is injected"),
    ],
)
def test_a_signal_at_a_bad_moment_ends_it_in_time_and_the_writer_last(moment):
    with serving("--faults") as server:
        server.until_written(moment)
        server.send(signal.SIGTERM)
        began_at = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began_at < LIMIT / 2, "it had 100 s"
        assert report_of(server)[-1].startswith("writer")
        assert re.search(r"^shutdown \(SIGTERM\) took \d\.\d+ s: ", server.output, re.MULTILINE)


IN_NO_HURRY = """
init = supervisor.Supervisor.__init__

def unhurried(sup, *args, **options):
    policy = EscalationPolicy(Ask(50), Inject(50))
    init(sup, *args, **{**options, "policy": policy, "shutdown_timeout": 100})

supervisor.Supervisor.__init__ = unhurried
"""
"""Has it take its time at the first signal: else it may have ended before the second one, on a machine that is slow."""


def test_a_second_signal_hurries_it():
    with started(*example(EXAMPLE, "--faults", before=IN_NO_HURRY)) as server:
        server.until_written(r"worker\.stuck")
        server.send(signal.SIGINT)
        server.until_written(r"supervisor\.stopping")
        server.send(signal.SIGINT)
        assert server.end() == 0
        workers = [
            row for row in report_of(server) if ":" not in row.split()[0]
        ]  # a call that is killed may come later
        assert workers[-1].startswith("writer")
        took = re.search(r"^shutdown \(SIGINT\) took (\d+)\.\d+ s: ", server.output, re.MULTILINE)
        assert took is not None, server.output
        assert int(took[1]) < LIMIT, "it had 100 s"
