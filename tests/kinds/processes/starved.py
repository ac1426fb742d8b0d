"""A program in a control group that has too little memory: `python -m tests.kinds.processes.starved CGROUP_PROCS`."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from supervisor import Supervisor, WorkerDied

from .greedy import allocate
from .tasks import kills_itself

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(str(os.getpid()))  # before there is any process of ours


async def main():
    async with Supervisor(max_processes=1) as sup:
        for fn, arg in ((allocate, 400), (kills_itself, signal.SIGKILL), (allocate, 400)):
            try:
                await sup.run(fn, arg, kind="process")
            except WorkerDied as error:
                outcome = error.outcome
                print(json.dumps({"text": str(error), **outcome.to_dict()}))


if __name__ == "__main__":
    asyncio.run(main())
