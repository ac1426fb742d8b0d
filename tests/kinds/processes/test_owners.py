"""No worker process outlives its owner, however that one ends, and whatever the worker does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .faults import alive, members, wait_until
from .owner import STATES

ROOT = Path(__file__).parents[3]


def own(state, board, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.kinds.processes.owner", state, str(board.path)], cwd=ROOT, text=True, **options
    )


def gone(pids):
    return not any(alive(pid) or members(pid) for pid in pids)


@pytest.mark.parametrize("state", [*STATES, "starting", "idle", "mid-argument", "with a forked sibling"])
def test_the_owner_is_killed(board, state):
    with own(state, board) as owner:
        board.wait("pids", 60)  # a program and its processes start
        pids = [int(pid) for pid in board.read("pids").split()]
        assert pids
        assert all(map(alive, pids))
        if board.has("grandchildren"):
            pids += map(int, board.read("grandchildren").split())
            assert all(map(alive, pids))
        owner.kill()
        owner.wait()
        try:
            wait_until(lambda: gone(pids))
        finally:
            if board.has("sibling"):
                os.kill(int(board.read("sibling")), signal.SIGKILL)


@pytest.mark.parametrize("state", ["leaving without a shutdown", "exiting", "exiting hard"])
def test_the_owner_leaves_without_a_shutdown(board, state):
    with own(state, board, stderr=subprocess.PIPE) as owner:
        board.wait("pids", 60)  # a program and its processes start
        pids = [int(pid) for pid in board.read("pids").split()]
        assert owner.wait(30) == 0
        assert owner.stderr.read() == ""
    wait_until(lambda: gone(pids))


SCRIPT_OF_CTRL_C = """
import asyncio, os, sys
from supervisor import Supervisor
from tests.contract import functions as f

async def main(board):
    async with Supervisor() as sup:
        task = asyncio.create_task(sup.run(f.obey_and_return, board, kind="process"))
        await board.posted("entered")
        waiting = asyncio.ensure_future(sup.wait_for_signal())
        await asyncio.sleep(0)  # now the handlers are there
        board.post("pids", str(sup.workers()[0].pid))
        print(await waiting, flush=True)
        assert not task.done()
    print(task.result(), sup.report.counts())

asyncio.run(main(f.Board(sys.argv[1])))
"""


def test_ctrl_c_on_the_foreground_group_goes_by_the_ladder(board):
    """A terminal sends it to everybody in the group: the workers leave it to their owner to stop them."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT_OF_CTRL_C, str(board.path)],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        board.wait("pids", 60)  # a program and its processes start
        os.killpg(owner.pid, signal.SIGINT)
        output, _ = owner.communicate(timeout=30)
    assert output.split() == ["2", "value", "{'stopped':", "1}"] or "value {'stopped': 1}" in output
    assert owner.returncode == 0
    wait_until(lambda: gone([int(board.read("pids"))]))
