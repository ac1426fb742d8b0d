"""An owner of worker processes, to be killed: `python -m tests.kinds.processes.owner STATE BOARD`."""

import asyncio
import os
import sys
import time

from supervisor import Supervisor

from ... import inside
from ...contract import functions as f
from . import tasks
from .faults import look, until

STATES = {
    "waiting": f.wait_for_stop,
    "sleeping": tasks.sleeps,
    "spinning": tasks.spins,
    "holding the interpreter": tasks.sums,
    "ignoring SIGTERM": tasks.ignores_sigterm,
    "blocking all signals": tasks.blocks_signals,
    "stopped": tasks.stops_itself,
    "with grandchildren": tasks.has_grandchildren,
}


async def main(state, board):
    sup = Supervisor("owner", max_processes=2)
    if state in STATES:
        fn = STATES[state]
        if fn is f.wait_for_stop:
            await sup.start(fn, board, kind="process")
        else:
            task = asyncio.ensure_future(sup.run(fn, board, kind="process"))
            task.add_done_callback(asyncio.Task.exception)
        pid = int(await board.posted("entered") or 0)
        if state == "stopped":
            await until(lambda: look(pid)[0] == "T")
    elif state == "starting":
        tasks_ = [asyncio.ensure_future(sup.run(tasks.pid_of, kind="process")) for _ in range(2)]
        await asyncio.sleep(0)
        del tasks_
    else:
        await sup.run(tasks.pid_of, kind="process")
        if state == "mid-argument":
            (process,) = inside.idle_processes(sup)
            os.kill(process.pid, 19)
            task = asyncio.ensure_future(sup.run(tasks.length, bytes(50_000_000), kind="process"))
            await until(lambda: inside.is_sending(process))
            os.kill(process.pid, 18)
            assert not task.done()
        if state == "with a forked sibling" and os.fork() == 0:
            board.post("sibling", str(os.getpid()))
            time.sleep(30)
            os._exit(0)
        if state == "with a forked sibling":
            await board.posted("sibling")
    pids = [process.pid for process in inside.processes(sup)]
    board.post("pids", " ".join(map(str, pids)))
    if state == "leaving without a shutdown":
        return
    if state == "exiting":
        sys.exit(0)
    if state == "exiting hard":
        os._exit(0)
    time.sleep(30)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], f.Board(sys.argv[2])))
